"""The one who triggers and cancels runs, from a thread of its own: the system is disturbed, and he is patient."""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from benchmarks.havoc.works import Work, make_work
from tests.support.cluster import Cluster
from workflows.compile import compile_workflow
from workflows.engine import control, launch
from workflows.engine.launch import Submitted
from workflows.model.errors import DatabaseUnavailableError
from workflows.model.parser import parse_workflow

_log = logging.getLogger(__name__)


@dataclass
class Accepted:
    """A run that the system has promised to bring to its end.

    Attributes:
        run_ids: The answers to all of its submissions: there should be one run.
        cancelled_at: When its cancel was acknowledged; None: it was not cancelled.
    """

    work: Work
    run_pk: int
    run_id: str
    run_ids: tuple[str, ...]
    cancelled_at: float | None = None


@dataclass
class Client(threading.Thread):
    """Submits runs, at most `at_once` of them open, until there are enough or the time is over."""

    engine: Cluster
    seed: int
    runs: int
    at_once: int
    until: float
    open_runs: Callable[[], int]
    accepted: list[Accepted] = field(default_factory=list)
    _cancels: list[tuple[float, int, Accepted]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(name="chaos-client", daemon=True)
        self.stop = threading.Event()
        self.error: BaseException | None = None
        self._pool = ThreadPoolExecutor(3)

    __hash__ = threading.Thread.__hash__

    def run(self) -> None:
        """See `threading.Thread.run`."""
        try:
            for number in range(self.runs):
                while self.open_runs() >= self.at_once and not self.stop.is_set():
                    self._cancel_due()
                    self.stop.wait(0.05)
                if self.stop.is_set() or time.monotonic() > self.until:
                    break
                self._trigger(make_work(self.seed, number))
            while self._cancels and not self.stop.is_set():
                self._cancel_due()
                self.stop.wait(0.05)
        except BaseException as error:
            self.error = error
            raise

    def _trigger(self, work: Work) -> None:
        text = work.definition()
        plan = compile_workflow(parse_workflow(text))
        key = f"chaos-{self.seed}-{work.number}"

        def submit() -> Submitted:
            while True:
                try:
                    return launch.submit(self.engine.runtime, plan, text, {}, idempotency_key=key)
                except DatabaseUnavailableError as error:
                    _log.warning("submitted again: %s", error)

        answers = list(self._pool.map(lambda _: submit(), range(work.submissions)))
        run = Accepted(work, answers[0].run_pk, answers[0].run_id, tuple(answer.run_id for answer in answers))
        self.accepted.append(run)
        if work.cancel_after_seconds is not None:
            heapq.heappush(self._cancels, (time.monotonic() + work.cancel_after_seconds, work.number, run))

    def _cancel_due(self) -> None:
        while self._cancels and self._cancels[0][0] <= time.monotonic():
            run = self._cancels[0][2]
            try:
                control.cancel(self.engine.runtime, run.run_id)
            except DatabaseUnavailableError as error:
                _log.warning("cancelled again: %s", error)
                return
            run.cancelled_at = time.time()
            heapq.heappop(self._cancels)
