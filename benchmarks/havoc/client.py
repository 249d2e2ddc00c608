"""The one who triggers and cancels runs, from a thread of its own: the system is disturbed, and he is patient."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from benchmarks.havoc.web import GaveUpError, Web
from benchmarks.havoc.works import Work


@dataclass
class Accepted:
    """A run that the system has promised to bring to its end.

    Attributes:
        run_ids: The answers to all of its submissions: there should be one run.
        cancelled_at: When its cancel was acknowledged; None: it was not cancelled.
    """

    work: Work
    run_id: str
    run_ids: tuple[str, ...]
    cancelled_at: float | None = None


@dataclass
class Client(threading.Thread):
    """Submits runs, at most `at_once` of them open, until there are enough or the time is over."""

    web: Web
    make_work: Callable[[int], Work]
    runs: int
    at_once: int
    until: float
    open_runs: Callable[[], int]
    stop: threading.Event
    accepted: list[Accepted] = field(default_factory=list)
    _cancels: list[tuple[float, int, Accepted]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(name="chaos-client", daemon=True)
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
                self._trigger(self.make_work(number))
            while self._cancels and not self.stop.is_set():
                self._cancel_due()
                self.stop.wait(0.05)
        except GaveUpError:
            pass
        except BaseException as error:
            self.error = error
            raise

    def _trigger(self, work: Work) -> None:
        name = key = f"chaos-{work.number}"
        file = self.web.publish(name, work.definition())
        answers = tuple(self._pool.map(lambda _: self.web.trigger(name, key), range(work.submissions)))
        file.unlink()
        run = Accepted(work, answers[0], answers)
        self.accepted.append(run)
        if work.cancel_after_seconds is not None:
            heapq.heappush(self._cancels, (time.monotonic() + work.cancel_after_seconds, work.number, run))

    def _cancel_due(self) -> None:
        while self._cancels and self._cancels[0][0] <= time.monotonic():
            run = heapq.heappop(self._cancels)[2]
            self.web.cancel(run.run_id)
            run.cancelled_at = time.time()
