#!/usr/bin/env bash
# Installs the Debian packages that are missing. `tests` adds the SIP peers that the tests talk to,
# `linters` the Rust linters. Does nothing, and needs no root, when nothing is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
. setup/common.sh

PATH=$PATH:/usr/sbin:/sbin
missing=()

# need PACKAGE COMMAND...: the package is missing unless one of the commands is there.
need() {
  local package=$1 command
  shift
  for command in "$@"; do
    if have "$command"; then return 0; fi
  done
  missing+=("$package")
}

# need_kamailio PACKAGE MODULE: missing unless the Kamailio module is there.
need_kamailio() {
  compgen -G "/usr/lib/*/kamailio/modules/$2.so" >/dev/null || missing+=("$1")
}

has_libpython() {
  "$(find_venv_python)" - <<'PYTHON' 2>/dev/null
import pathlib
import sys
import sysconfig

name = sysconfig.get_config_var("LDLIBRARY")
places = map(sysconfig.get_config_var, ("LIBDIR", "LIBPL"))
sys.exit(not any(pathlib.Path(place, name).exists() for place in places))
PYTHON
}

need build-essential cc
need espeak-ng espeak-ng
need sox sox
need util-linux setpriv
# Debian's redis-tools holds the server too (redis-check-rdb under another name), without the
# system service that the package redis-server would enable on port 6379.
need redis-tools redis-server valkey-server redis-check-rdb
[[ -e /usr/share/zoneinfo/Asia/Shanghai ]] || missing+=(tzdata)
[[ -e /etc/ssl/certs/ca-certificates.crt ]] || missing+=(ca-certificates)
[[ -x .venv/bin/python || -n $(find_venv_python) ]] || missing+=(python3-venv)
[[ -n $(find_rust) ]] || missing+=(cargo-web rustc-web)
for group in "$@"; do
  case $group in
    tests)
      need sip-tester sipp
      need baresip-core baresip
      need linphone-cli linphonec
      need chromium chromium chromium-browser
      need_kamailio kamailio topoh
      need_kamailio kamailio-tls-modules tls
      need_kamailio kamailio-websocket-modules websocket
      # Debian's sipp speaks no TLS; socat wraps it.
      need socat socat
      need openssl openssl
      need dnsmasq-base dnsmasq
      # The crate's own tests are programs that link libpython.
      has_libpython || missing+=(libpython3-dev)
      ;;
    linters)
      rust=$(find_rust)
      [[ -x ${rust:-/usr/bin}/cargo-clippy ]] || missing+=(rust-web-clippy)
      [[ -x ${rust:-/usr/bin}/rustfmt ]] || missing+=(rustfmt-web)
      ;;
    *) die "unknown group of packages: $group" ;;
  esac
done

as_root=()
if ((EUID != 0)); then as_root=(sudo); fi

# Debian starts the service of a package as it is installed, and at each boot from then on. The tests
# need Kamailio's program only: nothing shall listen on this machine that nobody asked for.
policy=/usr/sbin/policy-rc.d

forbid_starts() {
  [[ ! -e $policy ]] || return 0
  trap '"${as_root[@]}" rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
  "${as_root[@]}" chmod 755 "$policy"
}

disable_service() {
  "${as_root[@]}" deb-systemd-helper disable "$1.service"
  "${as_root[@]}" update-rc.d "$1" disable
}

if ((${#missing[@]} > 0)); then
  by_hand="apt-get install --no-install-recommends ${missing[*]}"
  have apt-get || die "these Debian packages are missing: ${missing[*]}" \
    "install what they hold with this system's package manager"
  if ((EUID != 0)) && ! { have sudo && { sudo -n true 2>/dev/null || [[ -t 0 ]]; }; }; then
    die "packages are missing, and there is neither root nor sudo to install them" \
      "as root: $by_hand"
  fi
  apt=(env DEBIAN_FRONTEND=noninteractive apt-get -y -q -o DPkg::Lock::Timeout=120)
  logged "updating the package lists" "${as_root[@]}" "${apt[@]}" update ||
    die "apt-get update failed" "check the network and /etc/apt/sources.list"
  forbid_starts
  logged "installing ${missing[*]}" "${as_root[@]}" "${apt[@]}" \
    --no-install-recommends --no-remove install "${missing[@]}" ||
    die "apt-get install failed" "read the lines above, then: $by_hand"
  if [[ " ${missing[*]} " == *" kamailio "* ]]; then
    logged "leaving Kamailio's service off" disable_service kamailio ||
      die "Kamailio's service could not be switched off" "as root: systemctl disable --now kamailio"
  fi
  if [[ -z $(find_rust) ]]; then
    die "no Rust toolchain of 1.89 or later was found" "install one from the Rust project's site"
  fi
fi

# PostgreSQL refuses to run as root, so a platform started by root runs it as this user.
if ((EUID == 0)) && ! getent passwd cti95598 >/dev/null; then
  logged "adding the system user cti95598 for PostgreSQL" \
    useradd --system --user-group --no-create-home --home-dir /nonexistent \
    --shell /usr/sbin/nologin cti95598 || die "useradd failed" "add a system user cti95598"
fi
