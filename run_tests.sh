#!/usr/bin/env bash
# The door for checking Celeriac: sets up, lints, tests. CI opens the same door.
#
#   ./run_tests.sh                        lint, then every test
#   ./run_tests.sh lint                   ruff, mypy, import contracts, deptry, vulture, codespell, news fragments
#   ./run_tests.sh unit|integration|e2e   one floor of the tests (unit: what needs no server)
#   ./run_tests.sh PATH|OPTION...         pytest with these arguments, in one process
#
# TEST_REDIS_URL and TEST_DATABASE_URL name servers to use instead of private ones; both must be throw-away.
# CELERIAC_TEST_WORKERS sets the number of processes (default: the cores, at most 4).
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/scripts/setup.sh"

set_up dev
cd "$ROOT"
export PATH="$ROOT/.venv/bin:$PATH"

failed=()

check() {
  local name=$1 output
  shift
  if output=$("$@" 2>&1); then
    printf 'lint: %-14s ok\n' "$name"
  else
    printf 'lint: %-14s FAILED\n%s\n' "$name" "$output"
    failed+=("$name")
  fi
}

lint() {
  check ruff ruff check --quiet .
  check format ruff format --check --quiet .
  check mypy mypy --no-error-summary
  check lint-imports lint-imports --no-logo
  check deptry deptry .
  check vulture vulture
  check codespell codespell
  check towncrier towncrier build --draft --version 0.0.0
}

workers() {
  local cores
  cores=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
  echo "${CELERIAC_TEST_WORKERS:-$((cores < 4 ? cores : 4))}"
}

run_pytest() {
  python -m pytest --numprocesses "$(workers)" --dist worksteal "$@" || failed+=(pytest)
}

case "${1-all}" in all | integration | e2e) ensure_test_programs ;; esac

case "${1-all}" in
  all)
    lint
    run_pytest
    ;;
  lint) lint ;;
  unit) run_pytest tests --ignore tests/integration --ignore tests/e2e "${@:2}" ;;
  integration | e2e) run_pytest "tests/$1" "${@:2}" ;;
  *) python -m pytest "$@" || failed+=(pytest) ;;
esac

if [ ${#failed[@]} -gt 0 ]; then
  say "FAILED: ${failed[*]}"
  exit 1
fi
