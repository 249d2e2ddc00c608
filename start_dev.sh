#!/usr/bin/env bash
# The door for running Celeriac from a checkout. See `./start_dev.sh help`.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/scripts/setup.sh"

usage() {
  cat <<'TEXT'
usage: ./start_dev.sh [COMMAND]

  setup [--dev]     make .venv from the hashed locks (--dev: with the test tools); quick when nothing changed
  demo [OPTION]...  set up, then run the demo workflow on an embedded broker, workers and SQLite
  lock [--upgrade]  regenerate requirements.lock and requirements-dev.lock from pyproject.toml
  help              this text

Without a command: set up, then start all services of a development machine.
Celeriac keeps its state in $CELERIAC_HOME, by default .celeriac/ in the working folder.
TEXT
}

case "${1-}" in
  setup)
    case "${2-}" in
      "") set_up runtime ;;
      --dev) set_up dev ;;
      *) die "setup does not know '$2'" "./start_dev.sh setup [--dev]" ;;
    esac
    ;;
  demo)
    shift
    set_up runtime
    exec "$ROOT/.venv/bin/celeriac" demo "$@"
    ;;
  lock)
    shift
    lock_environment "$@"
    ;;
  help | -h | --help) usage ;;
  "")
    if [ -f "$ROOT/manage_celery.py" ] && grep -q '"dev"' "$ROOT/manage_celery.py"; then
      set_up runtime
      exec "$ROOT/.venv/bin/python" "$ROOT/manage_celery.py" dev
    fi
    usage
    ;;
  *)
    usage >&2
    die "there is no command '$1'"
    ;;
esac
