# Shared by the set-up scripts: one line a step, the log of a step only when it fails.

say() { printf 'setup: %s\n' "$*"; }

die() {
  printf 'setup: error: %s\n' "$1" >&2
  shift
  for remedy in "$@"; do printf '       remedy: %s\n' "$remedy" >&2; done
  exit 1
}

# logged WORDS COMMAND...: says WORDS, runs the command quietly, shows its output if it fails.
logged() {
  local words=$1 log
  shift
  say "$words"
  log=$(mktemp)
  if ! "$@" >"$log" 2>&1; then
    tail -n 40 "$log" >&2
    rm -f "$log"
    return 1
  fi
  rm -f "$log"
}

have() { command -v "$1" >/dev/null 2>&1; }

# The first Python of 3.11 or later that can import the named modules, or nothing. The system's own
# comes before others on the PATH: Debian builds it with PGO and LTO, a sixth faster than without.
find_python() {
  local candidate imports
  imports=$(printf 'import %s\n' sys "$@")
  for candidate in "${PYTHON:-/usr/bin/python3}" python3.11 python3 python3.12 python3.13; do
    if "$candidate" -c "$imports"$'\nsys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
}

# The same, which can also make virtual environments.
find_venv_python() { find_python ensurepip venv; }

# The directory of the first cargo whose rustc is 1.89 or later, or nothing.
find_rust() {
  local directory version
  local -a directories
  IFS=: read -r -a directories <<<"$PATH:${HOME:-/nonexistent}/.cargo/bin:/usr/bin"
  for directory in "${directories[@]}"; do
    [[ -x $directory/cargo && -x $directory/rustc ]] || continue
    version=$("$directory/rustc" --version 2>/dev/null | cut -d' ' -f2) || continue
    if printf '1.89\n%s\n' "$version" | sort --version-sort --check=quiet; then
      printf '%s\n' "$directory"
      return
    fi
  done
}
