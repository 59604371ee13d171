#!/usr/bin/env bash
# Generates the Python stubs of proto/ into cti95598/.
set -euo pipefail
cd "$(dirname "$0")/.."
. setup/common.sh

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
mapfile -t protos < <(cd proto && find . -name '*.proto' -printf '%P\n' | sort)
# protoc finds its plugins by PATH.
PATH=$PWD/.venv/bin:$PATH logged "generating the stubs of ${#protos[@]} proto files" \
  .venv/bin/python -m grpc_tools.protoc -I proto --python_out="$out" --grpc_python_out="$out" \
  --mypy_out="$out" --mypy_grpc_out="$out" "${protos[@]}" ||
  die "protoc refused a file of proto/" "correct the line named above"
find "$out/cti95598" -type d -exec touch {}/__init__.py \;
mkdir -p cti95598
cp -r "$out/cti95598/." cti95598/
