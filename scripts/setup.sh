# Sourced by ./run and ./test: installs what is missing and says so first. POSIX shell.
# Everything that is built lands outside the checkout, so that a fresh clone starts warm.

CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$HOME/.cache/cairn/target}
export CARGO_TARGET_DIR
PATH=$HOME/.cargo/bin:$PATH
export PATH

say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null 2>&1; then
        sudo "$@"
    else
        die "installing packages needs root: run this as root, or install sudo"
    fi
}

# need_packages COMMAND:PACKAGE…: installs the packages whose command or file is missing.
need_packages() {
    missing=
    for pair in "$@"; do
        wanted=${pair%%:*}
        case $wanted in
            /*) [ -e "$wanted" ] && continue ;;
            *) command -v "$wanted" >/dev/null 2>&1 && continue ;;
        esac
        missing="$missing ${pair#*:}"
    done
    [ -n "$missing" ] || return 0
    command -v apt-get >/dev/null 2>&1 ||
        die "missing:$missing. This system has no apt-get: install them with its own package manager"
    say "installing Debian packages:$missing"
    as_root apt-get update -qq
    # shellcheck disable=SC2086  # a list of words
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null ||
        die "apt-get could not install:$missing"
}

# need_rust: cargo no older than the workspace's rust-version.
need_rust() {
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml" | head -n 1)
    found=$(cargo --version 2>/dev/null | cut -d' ' -f2 || true)
    if [ -n "$found" ] && [ "$(printf '%s\n%s\n' "$wanted" "$found" | sort -V | head -n 1)" = "$wanted" ]; then
        return 0
    fi
    if command -v rustup >/dev/null 2>&1; then
        say "Rust ${found:-none} is too old: updating to the stable toolchain (at least $wanted)"
        rustup toolchain install stable --profile minimal -c clippy -c rustfmt && rustup default stable
        return 0
    fi
    need_packages curl:curl /etc/ssl/certs/ca-certificates.crt:ca-certificates
    say "installing Rust (stable, at least $wanted) by its official installer into $HOME/.cargo"
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs |
        sh -s -- -y -q --profile minimal -c clippy -c rustfmt --no-modify-path ||
        die "Rust could not be installed: see https://rustup.rs"
}

need_build_tools() {
    need_packages cc:gcc make:make /usr/include/stdio.h:libc6-dev
    need_rust
}
