#!/bin/sh
# Installs the bcoin node from npm, and prints the path of its program: BCOIND=$(scripts/bcoin.sh) ./test -E 'test(bcoin::)'
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
. "$root/scripts/setup.sh"

dir=$HOME/.cache/cairn/bcoin
program=$dir/node_modules/.bin/bcoin-node
need_packages node:nodejs npm:npm
mkdir -p "$dir"
# Its own version of leveldown builds with compilers of 2018 only; this one is as good, and comes built.
wanted='{ "private": true, "dependencies": { "bcoin": "1.0.2" }, "overrides": { "leveldown": "6.1.1" } }'
if [ ! -x "$program" ] || [ "$(cat "$dir/package.json")" != "$wanted" ]; then
    say "installing bcoin from npm into $dir"
    printf '%s\n' "$wanted" >"$dir/package.json"
    # Without scripts: what they would build is replaced by JavaScript (NODE_BACKEND=js).
    npm install --prefix "$dir" --ignore-scripts --no-audit --no-fund --silent >&2
fi
echo "$program"
