"""Limits that hold over all workers: the starts of a rate limit, the slots of a pool.

Both have a row in `limits`, which is locked by whoever decides on them. Of a rate limit it keeps until when starts are
booked. Of a pool it keeps nothing: its slots are the leased units that name it in `step_runs.limit_name`, counted.
"""

from __future__ import annotations

from dataclasses import dataclass

from workflows.db.database import Statement, Transaction
from workflows.db.lists import LEASED
from workflows.db.units import Claim, Unit
from workflows.model.policies import Rate

_ADD = Statement("INSERT INTO limits (name, booked_until) VALUES (:name, 0) ON CONFLICT (name) DO NOTHING")
_LOCK = {
    "sqlite": Statement("SELECT booked_until, {now} FROM limits WHERE name = :name"),
    "postgresql": Statement("SELECT booked_until, {now} FROM limits WHERE name = :name FOR UPDATE"),
}
_BOOK = Statement("UPDATE limits SET booked_until = :until WHERE name = :name")

_FREE = "lease_node = NULL, lease_pid = NULL, lease_until = NULL, deadline_at = NULL"
_PARK = Statement(f"""
    UPDATE step_runs SET status = 'WAITING', arrives_by = 'sql', limit_name = :name,
        not_before = {{now}} + CAST(:delay AS double precision),
        next_dispatch_at = {{now}} + CAST(:delay AS double precision),
        redispatches = 0, dispatch_wait_seconds = 0, parked_since = NULL, {_FREE}
    WHERE run_pk = :run AND ordinal = :ordinal AND part = :part AND status = 'PROGRESS' AND token = :token
    RETURNING {{now}}""")
_AHEAD = Statement("""
    SELECT count(*) FROM step_runs
    WHERE pending = 0 AND status = 'WAITING' AND limit_name = :name AND next_dispatch_at > {now}""")
_ENTER = Statement("""
    UPDATE step_runs SET limit_name = :name
    WHERE run_pk = :run AND ordinal = :ordinal AND part = :part AND status = 'PROGRESS' AND token = :token
    RETURNING token""")
_HOLDERS = Statement(f"""
    SELECT count(*) FROM step_runs WHERE {LEASED}
        AND limit_name = :name AND NOT (run_pk = :run AND ordinal = :ordinal AND part = :part)""")
_ON_THEIR_WAY = Statement("""
    SELECT count(*) FROM step_runs
    WHERE pending = 0 AND status = 'WAITING' AND limit_name = :name AND next_dispatch_at IS NOT NULL""")
_WAITING = Statement("""
    SELECT run_pk, ordinal, part, queue FROM step_runs
    WHERE pending = 0 AND status = 'WAITING' AND limit_name = :name AND next_dispatch_at IS NULL
    ORDER BY priority DESC, ready_at, run_pk, ordinal, part LIMIT :limit""")
_WAKE = Statement("""
    UPDATE step_runs SET next_dispatch_at = {now} + :redispatch, dispatch_wait_seconds = :redispatch,
        dispatched_at = {now}
    WHERE run_pk = :run AND ordinal = :ordinal AND part = :part AND pending = 0 AND status = 'WAITING'
    RETURNING ordinal""")
_POOLS_WAITED_FOR = Statement("""
    SELECT limit_name, min(run_pk) FROM step_runs
    WHERE pending = 0 AND status = 'WAITING' AND next_dispatch_at IS NULL AND limit_name IS NOT NULL
    GROUP BY limit_name""")


@dataclass(frozen=True, slots=True)
class Woken:
    """A unit that has waited for a slot of a pool and may try again: to be published after commit."""

    unit: Unit
    queue: str


def rate_name(name: str) -> str:
    """The row of a rate limit."""
    return f"rate:{name}"


def pool_name(name: str) -> str:
    """The row of a pool."""
    return f"pool:{name}"


def start(tx: Transaction, name: str, rate: Rate, patience_seconds: float) -> tuple[float, bool]:
    """Book the next start of a rate limit if it is not further away than that: `(wait_seconds, is_booked)`."""
    booked_until, now = _lock(tx, rate_name(name))
    wait, until = rate.next(booked_until, now)
    if wait > patience_seconds:
        return wait, False
    tx.run(_BOOK, {"name": rate_name(name), "until": until})
    return wait, True


def park_for_start(tx: Transaction, claim: Claim, name: str, rate: Rate, wait_seconds: float) -> float | None:
    """PROGRESS to WAITING until its turn is likely to have come; the time, None when the claim is lost.

    Nothing is booked for it: those that are parked already come first, each one interval after the other, and a run
    that is cancelled leaves no gap behind.
    """
    row = tx.row(_AHEAD, {"name": rate_name(name)})
    assert row is not None
    return park(tx, claim, rate_name(name), wait_seconds + int(row[0]) * rate.interval_seconds)


def enter_pool(tx: Transaction, claim: Claim, name: str, size: int) -> bool:
    """Take a slot of a pool for a claimed unit, until its lease ends; False when none is free, or the claim is lost."""
    _lock(tx, pool_name(name))
    # What the unit held before its last retry is not in its way.
    if _count(tx, _HOLDERS, name, claim.unit) >= size:
        return False
    return tx.row(_ENTER, {**claim.unit.key(), "token": claim.token, "name": pool_name(name)}) is not None


def park(tx: Transaction, claim: Claim, name: str, delay_seconds: float | None) -> float | None:
    """PROGRESS to WAITING, due after the delay, or when it is woken; the time, None when the claim is lost."""
    row = tx.row(_PARK, {**claim.unit.key(), "token": claim.token, "name": name, "delay": delay_seconds})
    return None if row is None else float(row[0])


def wake(tx: Transaction, name: str, size: int, redispatch_seconds: float) -> list[Woken]:
    """As many of those that wait for a pool as it has slots free, by priority, the longest waiting first."""
    _lock(tx, pool_name(name))
    nobody = Unit(0, 0)
    free = size - _count(tx, _HOLDERS, name, nobody) - _count(tx, _ON_THEIR_WAY, name, nobody)
    if free <= 0:
        return []
    found = []
    for run_pk, ordinal, part, queue in tx.rows(_WAITING, {"name": pool_name(name), "limit": free}):
        unit = Unit(run_pk, ordinal, part)
        if tx.row(_WAKE, {**unit.key(), "redispatch": redispatch_seconds}) is not None:
            found.append(Woken(unit, queue))
    return found


def pools_waited_for(tx: Transaction) -> list[tuple[str, int]]:
    """`(name, run_pk)`: pools that units wait for, and a run that has one of them."""
    prefix = pool_name("")
    return [(row[0].removeprefix(prefix), row[1]) for row in tx.rows(_POOLS_WAITED_FOR) if row[0].startswith(prefix)]


def _lock(tx: Transaction, name: str) -> tuple[float, float]:
    """Until the end of the transaction nobody else decides on this limit; until when it is booked, and the time."""
    row = tx.row(_LOCK[tx.dialect], {"name": name})
    if row is None:
        tx.run(_ADD, {"name": name})
        row = tx.row(_LOCK[tx.dialect], {"name": name})
        assert row is not None
    return float(row[0]), float(row[1])


def _count(tx: Transaction, statement: Statement, pool: str, but: Unit) -> int:
    row = tx.row(statement, {"name": pool_name(pool), **but.key()})
    assert row is not None
    return int(row[0])
