"""The control verbs: what a person may do to a run from any process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from workflows.compile.plan import Plan
from workflows.db import groups, interventions, pauses, sub_runs
from workflows.db.database import Statement, Transaction
from workflows.db.interventions import CancelAnswer
from workflows.db.pauses import PauseAnswer
from workflows.db.queries import RunView, find_run
from workflows.db.units import Unit
from workflows.engine import blocks, dispatch, pausing
from workflows.engine.launch import context_of
from workflows.engine.pausing import Resumed
from workflows.engine.runtime import Runtime
from workflows.engine.settlement import Settlement, turn
from workflows.model.errors import ConflictError
from workflows.model.states import State, is_terminal

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


@dataclass(frozen=True, slots=True)
class ResumeAnswer:
    """What a resume has set going.

    Attributes:
        ready: Ids of the steps that start at once, in topological order; none when the run was not paused.
    """

    status: str
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

    def work(tx: Transaction) -> tuple[CancelAnswer, Settlement]:
        settlement = Settlement()
        return blocks.cancel(tx, plan, context, settlement), settlement

    answer, settlement = _carry_out(runtime, work, dry_run, patience_seconds)
    if not dry_run:
        dispatch.publish(runtime, plan, context.run_pk, settlement)
        grace = runtime.config.cancel_grace_seconds
        runtime.database.retrying(
            lambda tx: interventions.limit_running(tx, context.run_pk, grace),
            autocommit=True,
            patience_seconds=patience_seconds,
        )
    return answer


def retry(runtime: Runtime, name: str, *, patience_seconds: float = PATIENCE_SECONDS) -> RunView:
    """Go on with a run that failed or was cancelled: failed steps, failed calls of maps, and what waited for them.

    Raises:
        ConflictError: the run has not failed, or a step of it is still stopping.
    """
    run = find(runtime, name, patience_seconds=patience_seconds)
    plan, ready = _resume(runtime, run, False, patience_seconds)
    runtime.forget(run.run_pk)
    dispatch.publish_singly(runtime, plan, [Unit(run.run_pk, ordinal) for ordinal in ready[0]])
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


def pause(
    runtime: Runtime, name: str, *, dry_run: bool = False, patience_seconds: float = PATIENCE_SECONDS
) -> PauseAnswer:
    """Nothing of the run starts any more, what runs goes on to its end; asked again, the figures as they are by then.

    Runs that its steps have started are paused by the reconciler.

    Args:
        dry_run: Only say what a pause would find.

    Raises:
        ConflictError: the run has ended, or is being cancelled.
    """
    run = find(runtime, name, patience_seconds=patience_seconds)
    answer = _carry_out(runtime, lambda tx: pauses.pause(tx, run.run_pk), dry_run, patience_seconds)
    if not answer.is_paused:
        waits = "waits for its concurrency group" if answer.status == State.PENDING else "is coming to its end"
        what = "has ended" if is_terminal(answer.status) else waits
        raise ConflictError(f"run {run.run_id} {what} ({answer.status}) and cannot be paused")
    return answer


def resume(
    runtime: Runtime, name: str, *, dry_run: bool = False, patience_seconds: float = PATIENCE_SECONDS
) -> ResumeAnswer:
    """A paused run goes on with what is ready; a run in progress is left as it is.

    Raises:
        ConflictError: the run has ended, or has not begun, or is a part of one that is paused.
    """
    run = find(runtime, name, patience_seconds=patience_seconds)
    context = context_of(runtime, run.run_pk)
    plan = runtime.plan(context.version_id)

    def work(tx: Transaction) -> Resumed | None:
        resumed = pausing.resume(tx, runtime, plan, context)
        parent = None if resumed is None else sub_runs.paused_parent(tx, run.run_pk)
        if parent is not None:
            raise ConflictError(f"run {run.run_id} is a part of run {parent}, which is paused", f"resume run {parent}")
        return resumed

    resumed = _carry_out(runtime, work, dry_run, patience_seconds)
    if resumed is None:
        now = find(runtime, run.run_id, patience_seconds=patience_seconds)
        if now.status != State.PROGRESS:
            raise ConflictError(
                f"run {run.run_id} is {now.status} and not paused",
                "`celeriac retry` goes on with a run that failed or was cancelled" if now.is_ended else "",
            )
        return ResumeAnswer(now.status, ())
    if not dry_run:
        pausing.publish(runtime, plan, run.run_pk, resumed)
    return ResumeAnswer(State.PROGRESS.value, tuple(plan.steps[ordinal].id for ordinal in resumed.ordinals))


def _resume(
    runtime: Runtime, run: RunView, dry_run: bool, patience_seconds: float
) -> tuple[Plan, tuple[list[int], list[int]]]:
    """The plan, the steps that are ready, and all that are open again."""
    context = context_of(runtime, run.run_pk)
    version_id = context.version_id
    plan = runtime.plan(version_id)

    def work(tx: Transaction) -> tuple[list[int], list[int]] | None:
        if plan.concurrency is not None and not groups.has_room(tx, run.run_pk, plan.concurrency.limit):
            raise ConflictError(
                f"run {run.run_id} cannot be retried: its concurrency group is full",
                "wait until another run of the group has ended, or cancel one",
            )
        ready = interventions.resume(tx, plan, run.run_pk, version_id, runtime.config.redispatch_seconds)
        if ready is None:
            return None
        opened = [row[0] for row in tx.rows(_OPEN, {"run": run.run_pk})]
        settlement = Settlement()
        turn(tx, plan, context, settlement)  # of the steps themselves nothing may be left to do
        return [*ready, *settlement.ready], opened

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
