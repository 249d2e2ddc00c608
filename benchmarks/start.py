"""How soon things are there: the help, the library, and a worker of the embedded stack."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from benchmarks.goals import Figure
from tests.support.cluster import PROJECT
from tests.support.waiting import wait_until
from workflows.db import queries
from workflows.db.database import Database
from workflows.model.errors import DatabaseUnavailableError
from workflows.settings import Config

HELP_SECONDS, IMPORT_SECONDS, WORKER_SECONDS = 0.25, 0.3, 3.0
POLL_SECONDS = 0.02
LIMIT_SECONDS = 60.0

DEFINITION = "{id: nothing, steps: {one: {uses: bench.noop}}}"


def measure(folder: Path, environment: dict[str, str], repeat: int) -> tuple[list[Figure], dict[str, list[float]]]:
    """Medians of `repeat` starts of each kind, and the seconds of every start. Python's caches of code are warm."""
    env = {**environment, "PYTHONPATH": str(PROJECT)}
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # or every start would compile all it imports
    python = sys.executable
    works: dict[str, tuple[float | None, Callable[[int], float]]] = {
        "celeriac --help": (HELP_SECONDS, lambda _: _seconds([str(Path(python).parent / "celeriac"), "--help"], env)),
        "import workflows": (IMPORT_SECONDS, lambda _: _seconds([python, "-c", "import workflows"], env)),
        "import workflows.steps, the step SDK": (
            None,
            lambda _: _seconds([python, "-c", "import workflows.steps"], env),
        ),
        "python -c pass, for comparison": (None, lambda _: _seconds([python, "-c", "pass"], env)),
        "celeriac worker, new home: the worker is ready": (
            WORKER_SECONDS,
            lambda number: _worker_seconds(folder / f"new-{number}", env),
        ),
        "celeriac worker, used home: the worker is ready": (
            WORKER_SECONDS,
            lambda _: _worker_seconds(folder / "used", env),
        ),
        "celeriac run of one step, used home: from the command to its end": (
            None,
            lambda _: _run_seconds(folder, env),
        ),
    }
    found = {}
    for what, (_, seconds) in works.items():
        seconds(0)  # writes what Python caches, and makes the home that is used
        found[what] = [seconds(number) for number in range(1, repeat + 1)]
    return [Figure(what, median(found[what]), "s", goal) for what, (goal, _) in works.items()], found


def _seconds(command: list[str], env: dict[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, env=env, cwd=PROJECT, stdout=subprocess.DEVNULL, check=True, timeout=LIMIT_SECONDS)
    return time.perf_counter() - began


def _run_seconds(folder: Path, env: dict[str, str]) -> float:
    definition = folder / "nothing.yaml"
    definition.write_text(DEFINITION)
    env = {**env, "CELERIAC_HOME": str(folder / "used"), "CELERIAC_STEP_MODULES": "benchmarks.steps"}
    return _seconds([sys.executable, "-m", "celeriac", "run", str(definition), "--json"], env)


def _worker_seconds(home: Path, env: dict[str, str]) -> float:
    """Until the database knows of a worker that lives: it says so when it takes from its queues."""
    env = {**env, "CELERIAC_HOME": str(home)}
    config = Config.from_env(env)
    before = _workers(config)
    began = time.perf_counter()
    with _worker(env, home) as process:
        wait_until(
            lambda: process.poll() is not None or _workers(config) - before, LIMIT_SECONDS, "the worker", POLL_SECONDS
        )
        seconds = time.perf_counter() - began
        assert process.stdout is not None
        told = process.stdout.readline()
        assert json.loads(told or "{}").get("embedded"), f"no worker came up; see {home}/logs and {home}.log"
    return seconds


@contextmanager
def _worker(env: dict[str, str], home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`celeriac worker` on the embedded stack; Ctrl-C must end all of it."""
    command = [sys.executable, "-m", "celeriac", "worker", "--concurrency", "2", "--json"]
    with home.with_name(f"{home.name}.log").open("wb") as errors:
        process = subprocess.Popen(command, env=env, cwd=PROJECT, stdout=subprocess.PIPE, stderr=errors)
    try:
        yield process
        process.send_signal(signal.SIGINT)
        process.wait(LIMIT_SECONDS)
    finally:
        if process.poll() is None:
            process.kill()
        if process.stdout is not None:
            process.stdout.close()


def _workers(config: Config) -> set[tuple[str, int, float]]:
    """Workers that the home's database has seen lately, each start of one by itself."""
    database = Database(config.database_url)
    if database.path is None or not database.path.exists():
        return set()
    try:
        seen = database.retrying(queries.live_workers, autocommit=True, patience_seconds=1.0)
        return {(worker.node, worker.pid, worker.started_at) for worker in seen}
    except (sqlite3.Error, DatabaseUnavailableError):
        return set()  # its tables are being made
    finally:
        database.close()
