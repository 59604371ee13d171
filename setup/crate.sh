#!/usr/bin/env bash
# Builds the media crate into cti/_media and installs the package, editable, into .venv.
set -euo pipefail
cd "$(dirname "$0")/.."
. setup/common.sh

rust=$(find_rust)
[[ -n $rust ]] || die "no Rust toolchain of 1.89 or later was found" \
  "as root: apt-get install cargo-web rustc-web"
export PATH=$PWD/.venv/bin:$rust:$PATH VIRTUAL_ENV=$PWD/.venv
unset CONDA_PREFIX
logged "building the media crate with Rust $("$rust/rustc" --version | cut -d' ' -f2)" \
  maturin develop --release --locked ||
  die "the media crate could not be built" "read the lines above"
