#!/usr/bin/env bash
# Makes .venv and installs the pinned Python packages into it.
set -euo pipefail
cd "$(dirname "$0")/.."
. setup/common.sh

if ! .venv/bin/python -c 'import pip' 2>/dev/null; then
  python=$(find_venv_python)
  [[ -n $python ]] || die "no Python of 3.11 or later with venv was found" \
    "as root: apt-get install python3-venv"
  logged "creating .venv with $python" "$python" -m venv --clear .venv ||
    die "the virtual environment could not be made" "as root: apt-get install python3-venv"
fi
logged "installing the Python packages of requirements.lock" \
  .venv/bin/python -m pip --disable-pip-version-check install -q --no-deps -r requirements.lock ||
  die "pip failed" "check the network and pip's configuration, then run make setup again"

server=$(PATH=$PATH:/usr/sbin:/sbin; command -v redis-server valkey-server | head -n 1 || true)
if [[ -z $server ]]; then
  # The one program of redis-tools serves when it is called by the server's name.
  ln -sf "$(command -v redis-check-rdb)" .venv/bin/redis-server
fi
