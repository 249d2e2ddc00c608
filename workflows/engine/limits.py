"""What a step needs besides a worker: a start of its rate limit, a slot of its pool.

Both are decided after the claim, under the lock of the limit. Who has to wait for less than a second waits in the
worker; who has to wait longer leaves it, and comes back when the turn is likely to have come, or when a slot is free.
"""

from __future__ import annotations

from workflows.compile.plan import Plan
from workflows.db import limits
from workflows.db.database import Transaction
from workflows.db.limits import Woken
from workflows.db.runs import Transition
from workflows.engine import dispatch
from workflows.engine.job import Job
from workflows.engine.outcomes import Outcome
from workflows.engine.runtime import Runtime
from workflows.engine.settlement import leave_worker
from workflows.model.policies import Rate
from workflows.model.states import State

PATIENCE_SECONDS = 1.0
"""Waits up to this long are spent in the worker."""


def enter(job: Job) -> Outcome | None:
    """Take what the claimed unit needs; None when it may run, otherwise it waits in SQL."""
    step = job.step
    if step.for_each is not None and job.claim.item_from is None:
        return None  # writing down the calls of a map uses nothing
    if step.pool is not None and not _has_entered(job, step.pool):
        return Outcome.IGNORE
    if step.rate_limit is None or step.for_each is not None:
        return None  # the calls of a map take their starts one by one
    rate = job.plan.rate_limits[step.rate_limit]
    wait = job.runtime.database.retrying(lambda tx: _start(tx, job, rate))
    if wait is None:
        return Outcome.IGNORE
    job.runtime.machine.sleep(wait)
    return None


def start_call(job: Job) -> tuple[float, bool]:
    """Book a start for the next call of a map: `(wait_seconds, is_booked)`; when it is booked, wait so long."""
    assert job.step.rate_limit is not None
    name, rate = job.step.rate_limit, job.plan.rate_limits[job.step.rate_limit]
    return job.runtime.database.retrying(lambda tx: limits.start(tx, name, rate, PATIENCE_SECONDS))


def leave(tx: Transaction, plan: Plan, pool: str, runtime: Runtime) -> list[Woken]:
    """A unit of a pool has ended, or begun to wait, in this transaction: those that may try now, to be published."""
    return limits.wake(tx, pool, plan.pools[pool], runtime.config.redispatch_seconds)


def _has_entered(job: Job, pool: str) -> bool:
    """Take a slot of the pool, or let the unit wait for one."""
    database, size = job.runtime.database, job.plan.pools[pool]
    if database.retrying(lambda tx: limits.enter_pool(tx, job.claim, pool, size)):
        return True

    def wait(tx: Transaction) -> list[Woken]:
        # Completions lock the run before the pool, so this is another transaction than the look at the pool, and
        # locks in their order. A slot may have become free in between: whoever waits is told, perhaps this very unit.
        _leave_worker(tx, job, limits.pool_name(pool), limits.park(tx, job.claim, limits.pool_name(pool), None))
        return leave(tx, job.plan, pool, job.runtime)

    dispatch.publish_woken(job.runtime, database.retrying(wait))
    return False


def _start(tx: Transaction, job: Job, rate: Rate) -> float | None:
    """Seconds to wait for the start that was booked; None when the unit was parked."""
    name = job.step.rate_limit
    assert name is not None
    wait, is_booked = limits.start(tx, name, rate, PATIENCE_SECONDS)
    if is_booked:
        return wait
    _leave_worker(tx, job, limits.rate_name(name), limits.park_for_start(tx, job.claim, name, rate, wait))
    return None


def _leave_worker(tx: Transaction, job: Job, waits_for: str, at: float | None) -> None:
    if at is not None:
        parked = Transition(job.step.ordinal, job.claim.unit.part, State.WAITING.value, {"waits_for": waits_for})
        leave_worker(tx, job.plan, job.context, job.claim.unit, at, parked)
