"""The condition of a step (`when`): evaluated by the worker that has claimed it, before anything of it runs.

The claim says that the dependencies are done, and keeps everybody else away until the decision is written.
"""

from __future__ import annotations

from workflows.db import units
from workflows.db.database import Transaction
from workflows.db.runs import STEP_PROGRESS, Transition
from workflows.engine.job import Job
from workflows.engine.scope import step_scope
from workflows.engine.settlement import Settlement, advance, spread
from workflows.model.errors import ValidationError
from workflows.model.expression_values import kind_of
from workflows.model.expressions import render
from workflows.model.states import SkipReason, State


def is_open(job: Job) -> bool:
    """Whether the condition is still to be decided: a step that has begun its work goes on with it."""
    claim = job.claim
    return job.step.when is not None and claim.item_from is None and not claim.failures and not claim.items_inserted


def holds(job: Job) -> bool:
    """Evaluate the condition.

    Raises:
        ExpressionError: it fails on the values of this run.
        ValidationError: it gives neither true nor false.
    """

    def read(tx: Transaction) -> object:
        return render(job.step.when, step_scope(tx, job))

    value = job.runtime.database.retrying(read, autocommit=True)
    if not isinstance(value, bool):
        raise ValidationError(f"'when' of step '{job.step.id}' gives {kind_of(value)}, neither true nor false")
    return value


def decline(job: Job) -> Settlement | None:
    """The condition does not hold: the step is skipped, and what follows from that. None when the claim is lost."""
    return job.runtime.database.retrying(lambda tx: _decline(tx, job))


def _decline(tx: Transaction, job: Job) -> Settlement | None:
    run_pk, ordinal = job.claim.unit.run_pk, job.step.ordinal
    at = units.decline(tx, job.claim)
    if at is None:
        return Settlement() if units.was_ended(tx, job.claim, State.SKIPPED) else None
    reason = {"reason": SkipReason.CONDITION.value}
    settlement = Settlement(ended=1, progress=STEP_PROGRESS)
    settlement.transitions.append(Transition(ordinal, 0, State.SKIPPED.value, reason))
    redispatch = job.runtime.config.redispatch_seconds
    spread(tx, job.plan, run_pk, ordinal, State.SKIPPED, redispatch, settlement)
    advance(tx, job.plan, job.context, at, job.step.id, settlement)
    return settlement
