"""Waiting for the end of a run: reading it again and again, and answering Ctrl-C."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import suppress
from threading import Event
from typing import TYPE_CHECKING, Any, Self

from celeriac.backends import READ_PATIENCE_SECONDS

if TYPE_CHECKING:
    from types import FrameType

    from celeriac.progress import Display
    from workflows.db.database import Database
    from workflows.db.queries import RunReport, WorkerView

_QUICK_SECONDS = 0.05
_CALM_SECONDS = 0.25
_QUICK_FOR_SECONDS = 10.0
_TICK_SECONDS = 1.0
_SHOW_AT_MOST = 10
"""Share of the time that reading may take: one part in this many."""


class LeftError(Exception):
    """The person has left; the run goes on, or waits for a worker, without us."""


class Interrupts:
    """Ctrl-C while a run is followed: the first `warnings` of them are only answered, the next one leaves.

    SIGTERM leaves at once. Neither cancels the run.
    """

    def __init__(self, warnings: int) -> None:
        self._left = warnings
        self._answered = 0
        self._pressed = 0
        self._is_over = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        def press(signum: int, _frame: FrameType | None) -> None:
            self._pressed += 1
            self._is_over = self._is_over or signum == signal.SIGTERM or self._pressed > self._left

        for signum in (signal.SIGINT, signal.SIGTERM):
            self._before[signum] = signal.signal(signum, press)
        return self

    def __exit__(self, *_error: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def check(self, answer: Callable[[], None]) -> None:
        """Answer a new Ctrl-C, or raise `LeftError`."""
        if self._is_over:
            raise LeftError
        if self._pressed > self._answered:
            self._answered = self._pressed
            answer()


def read_report(database: Database, name: str, *, patience_seconds: float = READ_PATIENCE_SECONDS) -> RunReport:
    """The run of that id, prefix or `latest`, with its steps."""
    from workflows.db import queries

    return database.retrying(
        lambda tx: queries.report(tx, queries.find_run(tx, name)), patience_seconds=patience_seconds, autocommit=True
    )


def read_workers(database: Database) -> list[WorkerView]:
    """Workers that live on this database."""
    from workflows.db import queries

    return database.retrying(queries.live_workers, patience_seconds=READ_PATIENCE_SECONDS, autocommit=True)


def follow(
    database: Database,
    run_id: str,
    display: Display,
    *,
    tick: Callable[[RunReport], None],
    check: Callable[[], None],
) -> RunReport:
    """Show a run until it has ended.

    Args:
        display: What shows it; it has been entered.
        tick: Called about once a second with the last report.
        check: Called at every turn; raises `LeftError` to end the waiting.

    Returns:
        The report of the ended run.
    """
    pause = Event()
    began = time.monotonic()
    next_tick = began + _TICK_SECONDS
    while True:
        before = time.monotonic()
        report = read_report(database, run_id, patience_seconds=60.0)
        display.show(report)
        if report.run.is_ended:
            return report
        after = time.monotonic()
        if after >= next_tick:
            next_tick = after + _TICK_SECONDS
            tick(report)
        check()
        calm = _QUICK_SECONDS if after - began < _QUICK_FOR_SECONDS else _CALM_SECONDS
        with suppress(InterruptedError):
            pause.wait(max(calm, _SHOW_AT_MOST * (after - before)) if len(report.steps) > 50 else calm)


class Advice:
    """Says what is missing while a run waits in vain: a worker, or one that takes from the right queue."""

    def __init__(
        self, display: Display, database: Database, missing_worker: Callable[[], str], patience: float
    ) -> None:
        """Nothing is said before `patience` seconds without a worker have passed."""
        self._display = display
        self._database = database
        self._missing_worker = missing_worker
        self._patience = patience
        self._alone_since: float | None = None
        self._said: set[str] = set()

    def tick(self, report: RunReport) -> None:
        """Look at the workers of this database."""
        workers = read_workers(self._database)
        now = time.monotonic()
        if workers:
            self._alone_since = None
            self._said.discard("worker")
            self._look_at_queues(report, {queue for worker in workers for queue in worker.queues})
            return
        self._alone_since = self._alone_since or now
        if now - self._alone_since >= self._patience and "worker" not in self._said:
            self._said.add("worker")
            self._display.say(self._missing_worker())

    def _look_at_queues(self, report: RunReport, served: set[str]) -> None:
        for step in report.steps:
            is_ready = step.ready_at is not None and step.status in ("PENDING", "RETRY")
            if is_ready and step.queue not in served | self._said:
                self._said.add(step.queue)
                self._display.say(
                    f"step '{step.step_id}' waits in queue '{step.queue}', which no live worker takes from\n"
                    f"hint: start one with CELERIAC_QUEUES={step.queue} celeriac worker"
                )
