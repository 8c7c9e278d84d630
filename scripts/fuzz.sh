#!/bin/sh
# scripts/fuzz.sh SECONDS [TARGET…]: builds the fuzz targets (fuzz/) with the stable compiler and runs each, or those named,
# for so many seconds, one on each core. What they find new grows a corpus beside the build and is where the next run begins.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
. "$root/scripts/setup.sh"
cd "$root"
usage='usage: scripts/fuzz.sh SECONDS [TARGET…]'
seconds=${1:?$usage}
shift
grown=$CARGO_TARGET_DIR/fuzz

# fuzz TARGET: one run. Prints a line; what libFuzzer says is kept in a log.
fuzz() {
    log=$grown/$1.log
    mkdir -p "$grown/corpus/$1" "$grown/crashes"
    dictionary=fuzz/dictionaries/$1.dict
    if [ -e "$dictionary" ]; then dictionary=-dict=$dictionary; else dictionary=; fi
    # shellcheck disable=SC2086  # no dictionary is no word
    if ! "$CARGO_TARGET_DIR/debug/$1" -max_total_time="$seconds" -max_len=4096 -timeout=30 -rss_limit_mb=2048 \
        -print_final_stats=1 -artifact_prefix="$grown/crashes/$1-" $dictionary \
        "$grown/corpus/$1" "fuzz/corpus/$1" >"$log" 2>&1
    then
        tail -n 40 "$log" >&2
        die "$1 failed: $(sed -n 's/.*Test unit written to //p' "$log"), log in $log"
    fi
    count=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    coverage=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
    printf '%-14s %10s executions, %6s branches covered\n' "$1" "$count" "$coverage"
}

if [ "${CAIRN_FUZZ_ONE-}" ]; then
    fuzz "$1"
    exit
fi
# shellcheck disable=SC2046  # names of targets have no spaces
[ $# -gt 0 ] || set -- $(sed -n 's|^path = "fuzz_targets/\(.*\)\.rs"|\1|p' fuzz/Cargo.toml)
need_build_tools
need_packages c++:g++
# The dependencies are those of the product.
cp Cargo.lock fuzz/Cargo.lock
RUSTC_WRAPPER=$root/scripts/fuzz-rustc.sh cargo build --quiet --manifest-path fuzz/Cargo.toml --bins
# Chains live in memory where they can.
TMPDIR=$(mktemp -d -p "$([ -d /dev/shm ] && echo /dev/shm || echo "${TMPDIR:-/tmp}")")
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
printf '%s\n' "$@" | CAIRN_FUZZ_ONE=1 xargs -n 1 -P "$(nproc)" "$0" "$seconds"
