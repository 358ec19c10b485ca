#!/usr/bin/env bash
# Check what a build needs before anything is downloaded: tools/toolchain.sh PYTHON. Each message says what to install.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${1:-python3}

windows="osstorchconnector does not run on Windows: install it in WSL, the Windows Subsystem for Linux"

fail() {
  printf 'error: %s\n' "$@" >&2
  exit 1
}

# The first installed interpreter that is new enough, as a hint.
newer_python() {
  local name
  for name in python3.14 python3.13 python3.12 python3.11; do
    # A shim of pyenv exists for versions that it does not run.
    if "$name" -c '' 2>/dev/null; then echo "$name" && return; fi
  done
  echo /path/to/python3.11
}

case $(uname -s) in
  MINGW* | MSYS* | CYGWIN* | Windows*) fail "$windows" ;;
esac
command -v "$python" >/dev/null ||
  fail "$python is not installed; install Python 3.11 or newer, or run make PYTHON=$(newer_python)"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  fail "$python is $("$python" --version 2>&1), but 3.11 or newer is needed; run make PYTHON=$(newer_python)"
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
  fail "$python cannot create virtual environments; install its venv module (on Debian and Ubuntu: python3-venv)"
command -v cargo >/dev/null ||
  fail "cargo is missing; install Rust with rustup (https://rustup.rs) or from your distribution, and open a new shell"
command -v cc >/dev/null ||
  fail "a C compiler is missing; Rust links with cc (on Debian and Ubuntu: apt install gcc; on macOS: xcode-select --install)"

needed=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
found=$(cargo --version | cut -d ' ' -f 2)
"$python" -c 'import sys; needed, found = (text.split(".") for text in sys.argv[1:])
sys.exit([int(number) for number in found[:2]] < [int(number) for number in needed[:2]])' "$needed" "$found" ||
  fail "cargo is $found, but Rust $needed or newer is needed; run rustup update, or install Rust with rustup"
