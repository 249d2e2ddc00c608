#!/usr/bin/env bash
# The door for running Celeriac from a checkout. See `./start_dev.sh help`.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/scripts/setup.sh"

usage() {
  cat <<'TEXT'
usage: ./start_dev.sh [COMMAND]

  dev [OPTION]...   set up, then start all services of a development machine; the same as no command at all
  setup [--dev]     make .venv from the hashed locks (--dev: with the test tools); quick when nothing changed
  demo [OPTION]...  set up, then run the demo workflow on an embedded broker, workers and SQLite
  lock [--upgrade]  regenerate requirements.lock and requirements-dev.lock from pyproject.toml
  help              this text

Without a command: set up, then start all services of a development machine.
Celeriac keeps its state in $CELERIAC_HOME, by default .celeriac/ in the working folder.
TEXT
}

# Broker, migrations, worker, Beat, Flower, API with reload; one Ctrl-C ends all of it.
start_all() {
  set_up runtime
  exec "$ROOT/.venv/bin/python" "$ROOT/manage_celery.py" dev "$@"
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
    start_all
    ;;
  dev)
    shift
    start_all "$@"
    ;;
  *)
    usage >&2
    die "there is no command '$1'"
    ;;
esac
