"""Stopping a run before its steps have ended: by a person, or because it has taken too long.

Both revoke what has not started of the block at work and let what runs see a flag. Blocks that come later are left
alone: `finally` runs whatever has happened.
"""

from __future__ import annotations

from workflows.compile.plan import Plan
from workflows.db import groups, interventions, sub_runs
from workflows.db.database import Transaction
from workflows.db.interventions import CancelAnswer
from workflows.db.runs import RunContext
from workflows.engine.settlement import Settlement, turn


def cancel(tx: Transaction, plan: Plan, context: RunContext, into: Settlement) -> CancelAnswer:
    """A person stops the run. Nothing changes once its `finally` is at work."""
    if interventions.request_cancel(tx, plan, context.run_pk):
        turn(tx, plan, context, into)
    if plan.concurrency is not None:
        into.runs.extend(groups.give_on(tx, context.run_pk))  # a run that never began has ended without a turn
    if context.has_parent:
        into.woken.extend(sub_runs.wake_parent(tx, context.run_pk))
    return interventions.cancel_answer(tx, plan, context.run_pk)


def time_out(tx: Transaction, plan: Plan, context: RunContext, into: Settlement) -> None:
    """The steps of the run have taken longer than its `timeout`: it is stopped and fails."""
    assert plan.timeout_seconds is not None
    error = f"the run took longer than its timeout of {plan.timeout_seconds:g} s"
    if interventions.time_out(tx, plan, context.run_pk, error):
        turn(tx, plan, context, into)
