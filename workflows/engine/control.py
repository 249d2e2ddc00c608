"""The control verbs: what a person may do to a run from any process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from workflows.compile.plan import Plan
from workflows.db import interventions
from workflows.db.database import Statement, Transaction
from workflows.db.interventions import CancelAnswer
from workflows.db.queries import RunView, find_run
from workflows.engine import dispatch
from workflows.engine.launch import context_of
from workflows.engine.runtime import Runtime
from workflows.model.errors import ConflictError

T = TypeVar("T")

_OPEN = Statement(
    "SELECT ordinal FROM step_runs WHERE run_pk = :run AND part = 0 AND status = 'PENDING' ORDER BY ordinal"
)


PATIENCE_SECONDS = 20.0
"""How long a verb waits for a database that is away."""


class _RehearsedError(Exception):
    """Carries the answer of a dry run out of its transaction, which it thereby rolls back."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer


@dataclass(frozen=True, slots=True)
class RetryPreview:
    """What a retry would do.

    Attributes:
        steps: Ids of the steps that would run again, in topological order.
        ready: Those of them that would start at once.
    """

    steps: tuple[str, ...]
    ready: tuple[str, ...]


def find(runtime: Runtime, name: str, *, patience_seconds: float = PATIENCE_SECONDS) -> RunView:
    """The run named by its id, the beginning of it, or `latest`; `NotFoundError` when there is none."""
    return runtime.database.retrying(lambda tx: find_run(tx, name), autocommit=True, patience_seconds=patience_seconds)


def cancel(
    runtime: Runtime, name: str, *, dry_run: bool = False, patience_seconds: float = PATIENCE_SECONDS
) -> CancelAnswer:
    """Cancel a run; asked again, or of an ended run, it answers the final figures.

    Args:
        dry_run: Only say what a cancel would find.
    """
    context = context_of(runtime, find(runtime, name, patience_seconds=patience_seconds).run_pk)
    plan = runtime.plan(context.version_id)
    return _carry_out(runtime, lambda tx: interventions.cancel(tx, plan, context), dry_run, patience_seconds)


def retry(runtime: Runtime, name: str, *, patience_seconds: float = PATIENCE_SECONDS) -> RunView:
    """Go on with a run that failed or was cancelled: failed steps, failed calls of maps, and what waited for them.

    Raises:
        ConflictError: the run has not failed, or a step of it is still stopping.
    """
    run = find(runtime, name, patience_seconds=patience_seconds)
    plan, ready = _resume(runtime, run, False, patience_seconds)
    runtime.forget(run.run_pk)
    dispatch.publish_singly(runtime, plan, run.run_pk, ready[0])
    return find(runtime, run.run_id, patience_seconds=patience_seconds)


def preview_retry(runtime: Runtime, name: str, *, patience_seconds: float = PATIENCE_SECONDS) -> RetryPreview:
    """What `retry` would do; nothing is changed.

    Raises:
        ConflictError: as of `retry`.
    """
    run = find(runtime, name, patience_seconds=patience_seconds)
    plan, (ready, opened) = _resume(runtime, run, True, patience_seconds)
    return RetryPreview(
        tuple(plan.steps[ordinal].id for ordinal in opened), tuple(plan.steps[ordinal].id for ordinal in ready)
    )


def _resume(
    runtime: Runtime, run: RunView, dry_run: bool, patience_seconds: float
) -> tuple[Plan, tuple[list[int], list[int]]]:
    """The plan, the steps that are ready, and all that are open again."""
    version_id = context_of(runtime, run.run_pk).version_id
    plan = runtime.plan(version_id)

    def work(tx: Transaction) -> tuple[list[int], list[int]] | None:
        ready = interventions.resume(tx, plan, run.run_pk, version_id, runtime.config.redispatch_seconds)
        return None if ready is None else (ready, [row[0] for row in tx.rows(_OPEN, {"run": run.run_pk})])

    found = _carry_out(runtime, work, dry_run, patience_seconds)
    if found is None:
        raise ConflictError(
            f"run {run.run_id} is {run.status} and cannot be retried",
            "only a run in FAILURE or REVOKED whose last steps have stopped goes on; `celeriac run` starts a new one",
        )
    return plan, found


def _carry_out(runtime: Runtime, work: Callable[[Transaction], T], dry_run: bool, patience_seconds: float) -> T:
    """Do it; as a dry run do it in a transaction that is rolled back, so that the answer is the true one."""
    if not dry_run:
        return runtime.database.retrying(work, patience_seconds=patience_seconds)

    def rehearse(tx: Transaction) -> T:
        raise _RehearsedError(work(tx))

    try:
        return runtime.database.retrying(rehearse, patience_seconds=patience_seconds)
    except _RehearsedError as rehearsed:
        answer: T = rehearsed.answer
        return answer
