#!/bin/sh
# The compiler for fuzzing, as Cargo's RUSTC_WRAPPER: code that strangers' bytes reach tells libFuzzer which branches it
# takes, everything else is built as ever.
case ${CARGO_PKG_NAME-} in
    cairn-*) ;;
    *) exec "$@" ;;
esac
case " $* " in
    *" build_script_"*) exec "$@" ;;
esac
exec "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares
