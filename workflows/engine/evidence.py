"""What tells the reconciler whether a message is on its way or lost."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any

from workflows.db import upkeep
from workflows.db.database import Transaction
from workflows.db.upkeep import DueRun, DueStep
from workflows.engine.broker import BrokerMemory
from workflows.engine.canvas import RUN_QUEUE

OVERTAKEN_SECONDS = 1.0
"""Messages that were sent this close to each other may change places on their way."""


class Evidence:
    """For one tick of the reconciler: each question is asked once, however many units it concerns.

    A message is lost when its queue is empty although slots are free, or when one that was sent later has arrived.

    Args:
        ask: Runs a query.
        due: The runs to be judged.
    """

    def __init__(
        self, ask: Callable[[Callable[[Transaction], Any]], Any], broker: BrokerMemory, due: Iterable[DueRun] = ()
    ) -> None:
        self._ask = ask
        self._broker = broker
        self._since = min((run.created_at for run in due), default=0.0)
        self._idle: dict[str, bool] = {}
        self._claimed: dict[str, float | None] = {}

    def is_run_lost(self, run: DueRun) -> bool:
        """Whether no message that would start this run can be on its way."""
        return (
            run.wait_seconds <= 0 or self._is_idle(RUN_QUEUE) or _is_overtaken(run.created_at, self._last_started_run)
        )

    def is_step_lost(self, step: DueStep) -> bool:
        """Whether no message of this unit can be on its way."""
        if step.wait_seconds <= 0 or self._is_idle(step.queue):
            return True
        if step.queue not in self._claimed:
            self._claimed[step.queue] = self._ask(lambda tx: upkeep.last_claimed_step(tx, step.queue))
        return _is_overtaken(step.dispatched_at, self._claimed[step.queue])

    def _is_idle(self, queue: str) -> bool:
        """Whether the queue is empty although slots are free: nothing of it is waiting anywhere."""
        if queue not in self._idle:
            self._idle[queue] = self._broker.queue_length(queue) == 0 and self._ask(upkeep.free_slots) > 0
        return self._idle[queue]

    @cached_property
    def _last_started_run(self) -> float | None:
        found: float | None = self._ask(lambda tx: upkeep.last_started_run(tx, self._since))
        return found


def _is_overtaken(sent_at: float, last_arrived: float | None) -> bool:
    return last_arrived is not None and last_arrived > sent_at + OVERTAKEN_SECONDS
