"""Taking units back from workers that are gone. The guarded update makes sure that a loss is counted once."""

from __future__ import annotations

import logging
from collections.abc import Callable

from workflows.compile.plan import Plan
from workflows.db import units
from workflows.db.database import Transaction
from workflows.db.runs import RunContext, Transition
from workflows.db.units import Lost, Unit, Worker
from workflows.engine import dispatch, mapping
from workflows.engine.outcomes import engine_failure
from workflows.engine.runtime import Runtime
from workflows.engine.settlement import Settlement, leave_worker
from workflows.model.errors import DatabaseUnavailableError
from workflows.model.states import State

_log = logging.getLogger(__name__)


def take_back_from_dead(runtime: Runtime, unit: Unit, pid: int, why: str) -> bool:
    """A child of this worker died over the unit; False when it did not own it (any more), or the database is away."""
    worker = Worker(runtime.node, pid)
    error = engine_failure("WorkerLostError", why).to_json()
    return _take_back(
        runtime,
        unit,
        worker,
        error,
        lambda tx: units.take_back_from_dead(tx, unit, worker, error),
    )


def take_back_expired(runtime: Runtime, unit: Unit) -> bool:
    """The lease of the unit ended without being renewed; False when somebody was quicker."""
    error = engine_failure("LeaseExpiredError", "the worker that ran this step is gone or frozen").to_json()
    return _take_back(runtime, unit, None, error, lambda tx: units.take_back_expired(tx, unit, error))


def _take_back(
    runtime: Runtime, unit: Unit, worker: Worker | None, error: str, take: Callable[[Transaction], Lost | None]
) -> bool:
    try:
        context = runtime.context(unit.run_pk)
        if context is None:
            return False
        plan = runtime.plan(context.version_id)
        settlement = runtime.database.retrying(
            lambda tx: _settle(tx, plan, context, unit, worker, error, runtime.config.redispatch_seconds, take),
            patience_seconds=5.0,
        )
    except DatabaseUnavailableError as away:
        _log.warning("%s; step %s will be taken back when its lease ends", away, unit)
        return False
    if settlement is None:
        return False
    dispatch.publish(runtime, plan, unit.run_pk, settlement)
    return True


def _settle(
    tx: Transaction,
    plan: Plan,
    context: RunContext,
    unit: Unit,
    worker: Worker | None,
    error: str,
    redispatch: float,
    take: Callable[[Transaction], Lost | None],
) -> Settlement | None:
    lost = take(tx)
    if lost is None:
        return None
    settlement = Settlement()
    units.record_lost_attempt(tx, unit, worker, lost, error)
    if lost.item_from is not None:
        mapping.take_back(tx, plan, unit, lost, redispatch, settlement)
    transition = Transition(unit.ordinal, unit.part, State.PENDING.value, {"crashes": lost.crashes})
    leave_worker(tx, plan, context, unit, lost.at, transition)
    return settlement
