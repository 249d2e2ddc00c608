"""The engine as it is deployed: a database, a broker, and worker processes that a test may kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from tests.support.nursery import Nursery
from tests.support.waiting import wait_until
from workflows.compile import compile_workflow
from workflows.db import queries
from workflows.db.database import Statement
from workflows.db.migrate import upgrade
from workflows.db.queries import RunReport, RunView
from workflows.engine import launch
from workflows.engine.launch import Submitted
from workflows.engine.runtime import Runtime
from workflows.engine.worker import make_runtime
from workflows.model.parser import parse_workflow
from workflows.settings import Config

PROJECT = Path(__file__).resolve().parents[2]
STEPS = "tests.support.ledger_steps"


@dataclass(frozen=True)
class Line:
    """A line of the ledger."""

    event: str
    node: str
    pid: int
    at: float
    details: tuple[str, ...]


class Worker:
    """A `celery worker` in a process of its own."""

    def __init__(self, process: psutil.Process, log: Path) -> None:
        self.process = process
        self.log = log

    def has_ended(self) -> bool:
        """Whether it is gone."""
        with suppress(psutil.NoSuchProcess):
            return bool(self.process.status() == psutil.STATUS_ZOMBIE)
        return True

    def children(self) -> list[int]:
        """Process ids of its pool."""
        return [child.pid for child in self.process.children()]

    def kill(self) -> None:
        """SIGKILL to the parent and its children, as a machine that loses power."""
        for member in [self.process, *self.process.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        self.process.wait(10)

    def stop(self) -> None:
        """SIGTERM, then wait."""
        if not self.has_ended():
            self.process.send_signal(signal.SIGTERM)
            try:
                # A child of billiard's pool waits up to 30 s for its parent to read its last result, which a parent
                # that is told to stop in that very moment never does.
                self.process.wait(45)
            except psutil.TimeoutExpired:
                self.kill()
                raise


@cache
def _nursery() -> Nursery:
    """Where this process's workers are born; it knows nothing of any deployment."""
    foreign = ("CELERY_", "CELERIAC_", "REDIS_", "DATABASE_URL", "LEDGER")
    return Nursery({name: value for name, value in os.environ.items() if not name.startswith(foreign)})


class Cluster:
    """Submit runs, start workers, read what happened."""

    def __init__(self, folder: Path, database_url: str, broker_url: str, **settings: str) -> None:
        self.folder = folder
        self.ledger_file = folder / "ledger"
        self.ledger_file.touch()
        temporary = folder / "tmp"  # A worker that is killed leaves files behind.
        temporary.mkdir(exist_ok=True)
        self.env = {
            **os.environ,
            "DATABASE_URL": database_url,
            "CELERY_BROKER_URL": broker_url,
            "CELERIAC_HOME": str(folder / "home"),
            "CELERIAC_STEP_MODULES": STEPS,
            "PYTHONPATH": str(PROJECT),
            "LEDGER": str(self.ledger_file),
            "TMPDIR": str(temporary),
            **settings,
        }
        self.runtime: Runtime = make_runtime(Config.from_env(self.env))
        upgrade(self.runtime.database)
        self.workers: list[Worker] = []

    def start_worker(
        self, slots: int = 2, prefix: Sequence[str] = (), *, fresh: bool = False, queues: str = "", **settings: str
    ) -> Worker:
        """A worker that is up: it has said so in the database.

        Args:
            slots: Processes of its pool.
            prefix: What stands before its command line.
            fresh: In an interpreter of its own, which costs three seconds of processor time.
            queues: What it consumes, separated by commas; all when empty.
            settings: More variables of its environment.
        """
        log = self.folder / f"worker-{len(self.workers)}.log"
        known = {w.node for w in self.live_workers()}
        env = {**self.env, **settings}
        arguments = [
            *("-A", "celery_app", "worker", "--loglevel", "info", "--concurrency", str(slots)),
            *("--without-mingle", "--without-gossip", "-n", f"w{len(self.workers)}@%h"),
            *(("--queues", queues) if queues else ()),
        ]
        if prefix or fresh:
            process: psutil.Process = psutil.Popen(
                [*prefix, sys.executable, "-m", "celery", *arguments],
                env=env, cwd=PROJECT, stdout=log.open("wb"), stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        else:
            process = _nursery().bear("celery", arguments, log, env).process
        worker = Worker(process, log)
        self.workers.append(worker)
        wait_until(lambda: worker.has_ended() or {w.node for w in self.live_workers()} - known, 90, "the worker")
        assert not worker.has_ended(), log.read_text()
        return worker

    def live_workers(self) -> list[queries.WorkerView]:
        """Workers that the database has seen lately."""
        return self.runtime.database.retrying(queries.live_workers, autocommit=True)

    def submit(self, definition: str, **params: Any) -> Submitted:
        """Accept a run of this YAML text."""
        plan = compile_workflow(parse_workflow(definition), chords=self.runtime.config.has_chords)
        return launch.submit(self.runtime, plan, definition, params)

    def run(self, definition: str, timeout: float = 30.0, **params: Any) -> RunReport:
        """Submit a run and wait until it has ended."""
        return self.wait(self.submit(definition, **params), timeout)

    def wait(self, accepted: Submitted, timeout: float = 30.0) -> RunReport:
        """The report of a run that has ended."""
        wait_until(lambda: self.view(accepted).is_ended, timeout, f"end of run {self.report(accepted)}")
        return self.report(accepted)

    def view(self, accepted: Submitted) -> RunView:
        """The run as it stands."""
        return self.runtime.database.retrying(lambda tx: queries.find_run(tx, accepted.run_id), autocommit=True)

    def report(self, accepted: Submitted) -> RunReport:
        """The run with its steps as they stand."""
        return self.runtime.database.retrying(
            lambda tx: queries.report(tx, queries.find_run(tx, accepted.run_id)), autocommit=True
        )

    def rows(self, sql: str, **params: Any) -> list[tuple[Any, ...]]:
        """Rows of a query of the test's own."""
        return self.runtime.database.retrying(lambda tx: tx.rows(Statement(sql), params), autocommit=True)

    def ledger(self, event: str = "", node: str = "") -> list[Line]:
        """What the steps have written."""
        lines = []
        for text in self.ledger_file.read_text().splitlines():
            found, name, pid, at, *details = text.split(" ")
            if event in ("", found) and node in ("", name):
                lines.append(Line(found, name, int(pid), float(at), tuple(details)))
        return lines

    def close(self) -> None:
        """Stop what still runs."""
        for worker in self.workers:
            if not worker.has_ended():
                worker.kill()
        self.runtime.database.close()
        self.runtime.app.close()


@contextmanager
def cluster(folder: Path, database_url: str, broker_url: str, **settings: str) -> Iterator[Cluster]:
    """A cluster without workers; all of it ends with the block."""
    made = Cluster(folder, database_url, broker_url, **settings)
    try:
        yield made
    finally:
        made.close()
