"""The verb that answers an `approval` step, from any process."""

from __future__ import annotations

from dataclasses import dataclass

from workflows.db import approvals
from workflows.db.approvals import Decision
from workflows.db.database import Transaction
from workflows.db.units import Unit
from workflows.engine import dispatch
from workflows.engine.control import PATIENCE_SECONDS, find
from workflows.engine.launch import context_of
from workflows.engine.runtime import Runtime
from workflows.model.errors import ConflictError, NotFoundError

STEP = "approval"


@dataclass(frozen=True, slots=True)
class Answer:
    """What was decided; `is_new` is False when it had been before, in the same sense."""

    run_id: str
    step: str
    decision: Decision
    is_new: bool


def decide(
    runtime: Runtime,
    name: str,
    step_id: str,
    *,
    approved: bool,
    by: str | None,
    comment: str | None = None,
    patience_seconds: float = PATIENCE_SECONDS,
) -> Answer:
    """Approve or reject; may be repeated.

    Args:
        name: The run's id, the beginning of it, or `latest`.
        by: Who decides, as it is kept.

    Raises:
        NotFoundError: there is no such run, or no such step in it.
        ConflictError: the step asks for no approval, does not wait, or was decided otherwise.
    """
    run = find(runtime, name, patience_seconds=patience_seconds)
    context = context_of(runtime, run.run_pk)
    plan = runtime.plan(context.version_id)
    try:
        ordinal = plan.ordinal_of(step_id)
    except KeyError:
        raise NotFoundError(f"workflow '{run.workflow}' has no step '{step_id[:100]}'") from None
    if plan.steps[ordinal].uses != STEP:
        raise ConflictError(f"step '{step_id}' asks for no approval", "only steps with `uses: approval` do")
    redispatch = runtime.config.redispatch_seconds

    def work(tx: Transaction) -> tuple[Decision, bool] | Decision | None:
        decided = approvals.decide(
            tx, run.run_pk, ordinal, approved=approved, comment=comment, by=by, redispatch=redispatch
        )
        return decided or approvals.find(tx, run.run_pk, ordinal)

    found = runtime.database.retrying(work, patience_seconds=patience_seconds)
    match found:
        case (decision, is_ready):
            if is_ready:  # else the run is paused
                dispatch.publish_singly(runtime, plan, [Unit(run.run_pk, ordinal)])
            return Answer(run.run_id, step_id, decision, is_new=True)
        case Decision() if found.is_approved is approved:
            return Answer(run.run_id, step_id, found, is_new=False)
        case Decision():
            word = "approved" if found.is_approved else "rejected"
            raise ConflictError(f"step '{step_id}' was {word} before", f"by {found.decided_by or 'nobody'}")
        case None:
            raise ConflictError(
                f"step '{step_id}' does not wait for an approval now",
                "see `celeriac approvals`; try again when it does",
            )
