"""Taking units back from workers that are gone. The guarded update makes sure that a loss is counted once."""

from __future__ import annotations

import logging
from collections.abc import Callable

from workflows.compile.plan import Plan
from workflows.db import units, upkeep
from workflows.db.database import Transaction
from workflows.db.runs import RunContext, Transition
from workflows.db.units import Lost, Unit, Worker
from workflows.engine import windows
from workflows.engine.outcomes import engine_failure
from workflows.engine.runtime import Runtime
from workflows.engine.settlement import leave_worker
from workflows.model.errors import DatabaseUnavailableError
from workflows.model.states import State

_log = logging.getLogger(__name__)


def take_back_from_dead(runtime: Runtime, unit: Unit, pid: int, why: str, *, is_counted: bool = True) -> bool:
    """A child of this worker died over the unit, or is about to.

    Returns:
        False when it did not own it (any more), or the database is away.
    """
    worker = Worker(runtime.node, pid)
    error = engine_failure("WorkerLostError", why).to_json()
    counted = is_counted and not runtime.is_leaving
    return _take_back(
        runtime,
        unit,
        worker,
        error,
        lambda tx: units.take_back_from_dead(tx, unit, worker, error, is_counted=counted),
    )


def take_back_all_from_dead(runtime: Runtime, pid: int, why: str) -> None:
    """A child of this worker died: whatever it held is given back."""
    try:
        held = runtime.database.guarded(lambda tx: upkeep.leases(tx, runtime.node), autocommit=True)
    except DatabaseUnavailableError as away:
        _log.warning("%s; what process %d ran will be taken back when its lease ends", away, pid)
        return
    for lease in held:
        if lease.pid == pid:
            take_back_from_dead(runtime, lease.unit, pid, why)


def take_back_expired(runtime: Runtime, unit: Unit) -> bool:
    """The lease of the unit ended without being renewed; False when somebody was quicker."""
    error = engine_failure("LeaseExpiredError", "the worker that ran this step is gone or frozen").to_json()
    return _take_back(runtime, unit, None, error, lambda tx: units.take_back_expired(tx, unit, error))


def _take_back(
    runtime: Runtime, unit: Unit, worker: Worker | None, error: str, take: Callable[[Transaction], Lost | None]
) -> bool:
    """Nothing is published here: the broker may hang, and the threads that come here must not. The reconciler sends."""
    try:
        context = runtime.context(unit.run_pk, patience_seconds=5.0)
        if context is None:
            return False
        plan = runtime.plan(context.version_id, patience_seconds=5.0)
        return runtime.database.guarded(lambda tx: _settle(tx, plan, context, unit, worker, error, take))
    except DatabaseUnavailableError as away:
        _log.warning("%s; step %s will be taken back when its lease ends", away, unit)
        return False


def _settle(
    tx: Transaction,
    plan: Plan,
    context: RunContext,
    unit: Unit,
    worker: Worker | None,
    error: str,
    take: Callable[[Transaction], Lost | None],
) -> bool:
    lost = take(tx)
    if lost is None:
        return False
    units.record_lost_attempt(tx, unit, worker, lost, error)
    if lost.item_from is not None:
        windows.dissolve(tx, unit, lost)
    transition = Transition(unit.ordinal, unit.part, State.PENDING.value, {"crashes": lost.crashes})
    leave_worker(tx, plan, context, unit, lost.at, transition)
    return True
