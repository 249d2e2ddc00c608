# shellcheck shell=bash
# Sourced by start_dev.sh and run_tests.sh: `set_up runtime|dev` makes .venv what the hashed locks say.
# There is one .venv. The development lock holds the runtime lock whole, so a development .venv serves both and
# is never shrunk again. A stamp makes the call quick when nothing changed.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
UV="$ROOT/.tools/bin/uv"
STAMP="$ROOT/.venv/.celeriac-stamp"

# As pip does, uv trusts the certificates of the system; it never fetches an interpreter of its own.
export UV_SYSTEM_CERTS="${UV_SYSTEM_CERTS:-1}" UV_PYTHON_DOWNLOADS="${UV_PYTHON_DOWNLOADS:-never}" UV_NO_PROGRESS="${UV_NO_PROGRESS:-1}"

VERSION='import sys; print(sys.version)'
CHECK='import sys; sys.exit(sys.version_info < (3, 11))'

say() { printf '%s\n' "$*" >&2; }

die() {
  say "error: $1"
  [ $# -lt 2 ] || say "  how to mend it: $2"
  exit 2
}

# The first interpreter that is new enough: $PYTHON, python3, then by version.
find_python() {
  local candidate
  for candidate in "${PYTHON:-python3}" ${PYTHON:-python3.13 python3.12 python3.11}; do
    if "$candidate" -c "$CHECK" 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  die "${PYTHON:-python3} is not Python 3.11 or later" "install it (Debian, Ubuntu: apt-get install python3 python3-pip), or name it: PYTHON=/path/to/python3 $0"
}

checksum() {
  if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi | cut -c1-64
}

# Changes with anything that decides what .venv must hold, and where it lies (a .venv cannot be moved).
fingerprint() {
  {
    printf '%s\n' "$ROOT"
    "$1" -c "$VERSION"
    cat "$ROOT"/requirements.lock "$ROOT"/requirements-dev.lock "$ROOT"/pyproject.toml "$ROOT"/scripts/setup.sh "$ROOT"/scripts/bootstrap.lock
  } | checksum
}

ensure_pip() {
  "$1" -m pip --version >/dev/null 2>&1 && return
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "pip is missing: installing python3-pip"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends python3-pip; } >&2 ||
      die "python3-pip could not be installed" "install pip for $1 by hand"
  fi
  "$1" -m pip --version >/dev/null 2>&1 ||
    die "$1 has no pip" "install it (Debian, Ubuntu: sudo apt-get install python3-pip; elsewhere: $1 -m ensurepip)"
}

# pip and uv read different settings: where pip has a package index of its own configured, uv shall use it too.
adopt_pip_index() {
  local index
  [ -z "${UV_DEFAULT_INDEX:-}${UV_INDEX_URL:-}" ] || return 0
  index="${PIP_INDEX_URL:-$("$1" -m pip config get global.index-url 2>/dev/null || true)}"
  [ -z "$index" ] || export UV_DEFAULT_INDEX="$index"
}

# Makes "$UV" ready to fetch. It takes an interpreter that has pip, which that of .venv has not.
prepare_uv() {
  local python
  python=$(find_python) || exit 2
  ensure_uv "$python"
  adopt_pip_index "$python"
}

# uv goes to a folder of its own: neither the system's packages nor the user's are touched.
ensure_uv() {
  local want
  want=$(sed -n 's/^uv==\([^ ;]*\).*/\1/p' "$ROOT/scripts/bootstrap.lock")
  case "$("$UV" --version 2>/dev/null || true)" in "uv $want"*) return ;; esac
  ensure_pip "$1"
  say "Installing uv $want into .tools"
  "$1" -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-cache-dir --upgrade \
    --target "$ROOT/.tools" --require-hashes -r "$ROOT/scripts/bootstrap.lock" >&2 ||
    die "uv $want could not be installed" "see pip's message above; is the package registry reachable?"
}

# The body of set_up, run under the lock.
install_environment() {
  local python=$1 kind=$2 want=$3 lock="$ROOT/requirements.lock" started=$SECONDS
  # Once a development environment, always one: shrinking it would only make the next test run grow it again.
  case "$(cat "$STAMP" 2>/dev/null || true)" in dev*) kind=dev ;; esac
  [ "$(cat "$STAMP" 2>/dev/null || true)" = "$kind $want" ] && return
  [ "$kind" = dev ] && lock="$ROOT/requirements-dev.lock"
  prepare_uv
  cd "$ROOT" || return
  if ! [ -x .venv/bin/python ] || [ "$(.venv/bin/python -c "$VERSION" 2>/dev/null)" != "$("$python" -c "$VERSION")" ]; then
    "$UV" venv --quiet --clear --python "$python" .venv || die ".venv could not be made" "see uv's message above"
  fi
  say "Installing the packages of ${lock##*/} into .venv"
  "$UV" pip sync --quiet --python .venv/bin/python --require-hashes "$lock" &&
    "$UV" pip install --quiet --python .venv/bin/python --no-deps -e . ||
    die "the packages could not be installed" "see uv's message above; is the package registry reachable?"
  printf '%s %s\n' "$kind" "$want" >"$STAMP"
  say "Ready after $((SECONDS - started)) s"
}

set_up() {
  local kind=$1 python want
  # An existing .venv keeps its interpreter: shells that find different ones must not rebuild it in turns.
  python="$ROOT/.venv/bin/python"
  "$python" -c "$CHECK" 2>/dev/null || { python= && rm -f "$STAMP"; }
  if [ -n "${PYTHON:-}" ] || [ -z "$python" ]; then python=$(find_python) || exit 2; fi
  want=$(fingerprint "$python")
  case "$(cat "$STAMP" 2>/dev/null || true)" in "dev $want" | "$kind $want") return ;; esac
  mkdir -p "$ROOT/.tools"
  (
    # Two set-ups at once: the second waits and finds the work done.
    if command -v flock >/dev/null; then flock 9; fi
    install_environment "$python" "$kind" "$want"
  ) 9>"$ROOT/.tools/.lock" || exit 2
}

# Servers and tools of the tests that no wheel brings: PROGRAM=PACKAGE of Debian.
TEST_PROGRAMS="rabbitmq-server=rabbitmq-server ip=iproute2 chromium=chromium"

# Installs what is missing of them, as root on a Debian; elsewhere it says what is missing, and the tests that need it fail.
ensure_test_programs() {
  local entry packages=()
  for entry in $TEST_PROGRAMS; do
    PATH="$PATH:/usr/sbin:/sbin" command -v "${entry%=*}" >/dev/null || packages+=("${entry#*=}")
  done
  [ ${#packages[@]} -gt 0 ] || return 0
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    say "missing, and needed by some tests: ${packages[*]} (Debian, Ubuntu: sudo apt-get install --no-install-recommends ${packages[*]})"
    return 0
  fi
  say "Installing ${packages[*]} for the tests"
  install_quietly "${packages[@]}" || say "${packages[*]} could not be installed; the tests that need them will fail"
}

# Debian starts a server that it installs, unless this program says 101.
POLICY=/usr/sbin/policy-rc.d

# The tests start servers of their own: the system's shall not run.
install_quietly() (
  if ! [ -e "$POLICY" ]; then
    trap 'rm -f "$POLICY"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$POLICY" && chmod 755 "$POLICY"
  fi
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@"; } >&2
)

# Regenerates the locks. No host of a package index is recorded; `lock --upgrade` takes the newest versions.
lock_environment() {
  local compile
  mkdir -p "$ROOT/.tools"
  prepare_uv
  cd "$ROOT" || exit 2
  compile=("$UV" pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate
    --python-version 3.11 --custom-compile-command "./start_dev.sh lock" "$@")
  "${compile[@]}" pyproject.toml -o requirements.lock &&
    "${compile[@]}" --constraint requirements.lock --extra test pyproject.toml -o requirements-dev.lock ||
    die "the locks could not be made" "see uv's message above"
}
