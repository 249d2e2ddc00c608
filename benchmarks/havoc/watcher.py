"""Looks at runs all the time, as anybody may read them, and remembers: what was final stays, progress only grows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from random import Random

from benchmarks.havoc.client import Accepted
from benchmarks.havoc.violations import Violation
from workflows.db import queries
from workflows.db.database import Database
from workflows.db.queries import RunReport
from workflows.model.errors import DatabaseUnavailableError
from workflows.model.states import is_terminal

INTERVAL_SECONDS = 0.25
RUNS_A_ROUND = 12


class Watcher(threading.Thread):
    """Runs until `stop()`."""

    def __init__(self, database: Database, accepted: Callable[[], Sequence[Accepted]]) -> None:
        super().__init__(name="chaos-watcher", daemon=True)
        self.violations: list[Violation] = []
        self.looks = 0
        self._database = database
        self._accepted = accepted
        self._ended = threading.Event()
        self._runs: dict[str, tuple[str, int]] = {}
        self._steps: dict[tuple[str, str], str] = {}
        self._random = Random(0)

    def stop(self) -> None:
        """End it."""
        self._ended.set()
        self.join()

    def open_runs(self) -> int:
        """Accepted runs that have not been seen to end."""
        return len(self.open())

    def open(self) -> list[Accepted]:
        """Those runs."""
        return [run for run in list(self._accepted()) if not self._has_ended(run)]

    def _has_ended(self, run: Accepted) -> bool:
        return is_terminal(self._runs.get(run.run_id, ("PENDING", 0))[0])

    def run(self) -> None:
        """See `threading.Thread.run`."""
        while not self._ended.wait(INTERVAL_SECONDS):
            still_open = self.open()
            ended = [run for run in list(self._accepted()) if self._has_ended(run)]
            some = self._random.sample(still_open, min(RUNS_A_ROUND, len(still_open)))
            for run in some + self._random.sample(ended, min(2, len(ended))):
                try:
                    self.look(run)
                except DatabaseUnavailableError:
                    continue

    def look(self, run: Accepted) -> RunReport:
        """Read a run with its steps and compare it with what was seen before."""
        found = self._database.retrying(
            lambda tx: queries.report(tx, queries.find_run(tx, run.run_id)), autocommit=True, patience_seconds=30.0
        )
        self.looks += 1
        status, progress = self._runs.get(run.run_id, ("PENDING", 0))
        if is_terminal(status) and found.run.status != status:
            self._tell(run, "terminal state changed", f"the run was {status} and is {found.run.status}")
        if found.run.progress < progress:
            self._tell(run, "progress went back", f"from {progress} to {found.run.progress}")
        if found.run.progress > 100:
            self._tell(run, "progress went back", f"beyond the end, to {found.run.progress}")
        self._runs[run.run_id] = (found.run.status, found.run.progress)
        for step in found.steps:
            key = (run.run_id, step.step_id)
            before = self._steps.get(key, "PENDING")
            if is_terminal(before) and step.status != before:
                self._tell(run, "terminal state changed", f"step {step.step_id} was {before} and is {step.status}")
            self._steps[key] = step.status
        return found

    def _tell(self, run: Accepted, law: str, text: str) -> None:
        self.violations.append(Violation(law, run.work.number, run.run_id, text))
