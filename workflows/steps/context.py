"""What a running step may ask of the engine."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from workflows.model.states import is_terminal

if TYPE_CHECKING:
    from sqlalchemy import Connection


@dataclass(frozen=True, slots=True)
class SubRun:
    """A run that a step has started, as it stands.

    Attributes:
        outputs: What its workflow declares; empty before its end.
        error: Why it did not succeed.
    """

    run_id: str
    workflow: str
    status: str
    outputs: dict[str, Any]
    error: str | None

    @property
    def is_ended(self) -> bool:
        """Whether its state is final."""
        return is_terminal(self.status)


class StepContext(Protocol):
    """Handed to every step as its second argument.

    Attributes:
        run_id: Public id of the run.
        step_id: Id of the step within its workflow.
        item_key: Key of the call within a map; None for a step without `for_each`.
        attempt: Number of this try, from 1; a try that a crash ended counts.
        idempotency_key: `run_id/step_id[/item]`: the same for every try, so that a remote side can refuse doubles.
        round_key: `idempotency_key` and what changes it after a failure or a retry by hand: the same for tries that a
            crash, an outage or `park` ended.
        started_at: When this try was claimed, in seconds since 1970 of the database's clock.
        parked_since: When the step was parked first, on the same clock; None when it was not since its last failure.
        log: Logger whose records are kept with the run (`celeriac logs`).
    """

    run_id: str
    step_id: str
    item_key: str | None
    attempt: int
    idempotency_key: str
    round_key: str
    started_at: float
    parked_since: float | None
    log: logging.LoggerAdapter[logging.Logger]

    def progress(self, done: int, total: int) -> None:
        """Say how far this step is, in units of the step's own; written at most once a second."""
        ...

    def check_cancelled(self) -> None:
        """Raise `StepCancelledError` when the run has been cancelled; asks the database at most once a second."""
        ...

    def rate_limit(self, name: str, default: str | None = None) -> None:
        """Wait for the next start of a limit under the definition's `rate_limits`: one for each request, say.

        `default` is the rate when the definition declares none of that name, as in `1/3s`.

        The limit is shared with all other workers and runs. The worker waits, however long; while it does, a cancel of
        the run raises `StepCancelledError`.
        """
        ...

    def park(self, seconds: float) -> NoReturn:
        """Leave the worker, and be called again from the beginning after so long; what the step has done stays done.

        The step is WAITING meanwhile and holds no slot. It counts as a try in `attempts` and uses up none of `retry`.
        Calls of a map cannot be parked.
        """
        ...

    def run_workflow(self, workflow: str, params: Mapping[str, Any]) -> SubRun:
        """The run of another workflow that is a part of this step: started at the first call, found by later ones.

        A step has one. Called again after a retry by hand, it goes on with what has failed. When it has ended, a step
        that is parked meanwhile is called at once; when the step is revoked or fails, it is cancelled.

        Raises:
            PermanentError: the workers know no such workflow, or it does not take these params.
        """
        ...

    def transaction(self) -> AbstractContextManager[Connection]:
        """The transaction that completes this step or call of a map: what it writes is committed with the result.

        Enter it last and keep it short; only SQL inside. It refuses to open when another worker has the step by now.
        May be entered once; the step must return right after it.
        """
        ...

    def read(self) -> AbstractContextManager[Connection]:
        """A connection for reading, outside of the completing transaction."""
        ...

    def write(self) -> AbstractContextManager[Connection]:
        """A transaction of its own, committed at exit: for idempotent writes before the step is complete."""
        ...
