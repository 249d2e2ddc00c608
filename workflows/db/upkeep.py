"""What lease-keeper and reconciler read and write: heartbeats, leases, leadership, and what is due."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import psycopg

from workflows.db.database import Database, Statement, Transaction
from workflows.db.lists import AT_WORK, DUE, LEASED, OPEN_MAPS, READY, UNSTARTED
from workflows.db.units import Unit
from workflows.model.errors import DatabaseUnavailableError

_PROBE = Statement("SELECT node FROM workers LIMIT 1")
_BEAT = Statement("""
    INSERT INTO workers (node, hostname, pid, slots, queues, started_at, steady_since, seen_at)
    VALUES (:node, :hostname, :pid, :slots, :queues, {now}, {now}, {now})
    ON CONFLICT (node) DO UPDATE SET slots = excluded.slots, seen_at = {now}, is_leaving = :leaving,
        steady_since = CASE WHEN workers.seen_at < {now} - :gap THEN {now} ELSE workers.steady_since END""")
_GOODBYE = Statement("DELETE FROM workers WHERE node = :node")
_GONE = Statement("DELETE FROM workers WHERE seen_at < {now} - :silent RETURNING slots")
_STEADY = Statement(
    "SELECT 1 FROM workers WHERE node = :node AND seen_at > {now} - :gap AND steady_since < {now} - :gap"
)
_FREE_SLOTS = Statement(f"""
    SELECT (SELECT coalesce(sum(slots), 0) FROM workers WHERE seen_at > {{now}} - 15.0)
        - (SELECT count(*) FROM step_runs WHERE {LEASED} AND lease_until > {{now}})""")

_LEASES = Statement(f"""
    SELECT run_pk, ordinal, part, lease_pid, token, deadline_at IS NOT NULL AND deadline_at < {{now}},
        started_at
    FROM step_runs WHERE lease_node = :node AND {LEASED}""")
_RENEW = Statement("""
    UPDATE step_runs SET lease_until = {now} + :lease
    WHERE run_pk = :run AND ordinal = :ordinal AND part = :part AND status = 'PROGRESS' AND token = :token
        AND lease_until IS NOT NULL""")
_FREE_OF_LOCKS = Statement(f"""
    SELECT run_pk, ordinal, part FROM step_runs WHERE lease_node = :node AND {LEASED} FOR UPDATE SKIP LOCKED""")
_EXPIRED = f"""
    SELECT run_pk, ordinal, part FROM step_runs WHERE {LEASED} AND lease_until < {{now}} LIMIT 500"""
_EXPIRED_BY_DIALECT = {
    "sqlite": Statement(_EXPIRED),
    # A row that is locked belongs to a transaction that is about to end it, or is frozen and will be cut off.
    "postgresql": Statement(f"{_EXPIRED} FOR UPDATE SKIP LOCKED"),
}

_LEAD = Statement("""
    INSERT INTO leader_leases (name, holder, lease_until) VALUES (:name, :holder, {now} + :lease)
    ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, lease_until = excluded.lease_until
        WHERE leader_leases.holder = excluded.holder OR leader_leases.lease_until < {now}
    RETURNING holder""")
_RESIGN = Statement("DELETE FROM leader_leases WHERE name = :name AND holder = :holder")

_MARKER = "broker marker"
_FIND_MARKER = Statement("SELECT holder FROM leader_leases WHERE name = :name")
_ADD_MARKER = Statement("INSERT INTO leader_leases (name, holder, lease_until) VALUES (:name, :holder, 0)")

_DUE_RUNS = Statement(f"""
    SELECT id, dispatch_wait_seconds, created_at FROM job_runs WHERE {UNSTARTED} AND next_dispatch_at <= {{now}}
    ORDER BY next_dispatch_at LIMIT 200""")
_PUSH_RUN = Statement("""
    UPDATE job_runs SET next_dispatch_at = {now} + :wait, dispatch_wait_seconds = :wait,
        redispatches = redispatches + 1
    WHERE id = :run AND status = 'PENDING' AND next_dispatch_at <= {now} RETURNING id""")
_RUN_WAITS = Statement("""
    UPDATE job_runs SET next_dispatch_at = {now} + :wait, dispatch_wait_seconds = :wait
    WHERE id = :run AND status = 'PENDING' AND next_dispatch_at <= {now}""")
_LAST_STARTED_RUN = Statement("""
    SELECT created_at FROM job_runs WHERE created_at > :since AND status <> 'PENDING'
    ORDER BY created_at DESC LIMIT 1""")
_DUE_STEPS = Statement(f"""
    SELECT run_pk, ordinal, part, queue, dispatch_wait_seconds, dispatched_at FROM step_runs
    WHERE {DUE} AND next_dispatch_at <= {{now}} ORDER BY priority DESC, next_dispatch_at LIMIT 500""")
_PUSH_STEP = Statement(f"""
    UPDATE step_runs SET redispatches = redispatches + 1, arrives_by = 'sql', dispatched_at = {{now}},
        next_dispatch_at = {{now}} + :wait, dispatch_wait_seconds = :wait
    WHERE run_pk = :run AND ordinal = :ordinal AND part = :part AND {READY} AND next_dispatch_at <= {{now}}
    RETURNING ordinal""")
_UNSENT_STEP = Statement(f"""
    UPDATE step_runs SET next_dispatch_at = {{now}} + 1.0, dispatch_wait_seconds = 0
    WHERE run_pk = :run AND ordinal = :ordinal AND part = :part AND {READY}""")
_UNSENT_RUN = Statement("""
    UPDATE job_runs SET next_dispatch_at = {now} + 1.0, dispatch_wait_seconds = 0
    WHERE id = :run AND status = 'PENDING'""")
_COUNT_REDISPATCHES = Statement("UPDATE job_runs SET redispatches = redispatches + :count WHERE id = :run")
_STEP_WAITS = Statement(f"""
    UPDATE step_runs SET next_dispatch_at = {{now}} + :wait, dispatch_wait_seconds = :wait
    WHERE run_pk = :run AND ordinal = :ordinal AND part = :part AND {READY}""")
_LAST_CLAIMED_STEP = Statement(f"SELECT max(dispatched_at) FROM step_runs WHERE {LEASED} AND queue = :queue")
_DUE_MAPS = Statement(f"""
    SELECT run_pk, ordinal FROM step_runs WHERE {OPEN_MAPS} AND next_dispatch_at <= {{now}}
    ORDER BY next_dispatch_at LIMIT 200""")
_UNTURNED_RUNS = Statement(f"SELECT id FROM job_runs WHERE {AT_WORK} AND steps_open = turn_at LIMIT 50")
_OVERDUE_RUNS = Statement(f"""
    SELECT id FROM job_runs WHERE {AT_WORK} AND status = 'PROGRESS' AND deadline_at <= {{now}} LIMIT 50""")
_ALL_DUE_STEPS = Statement(f"""
    UPDATE step_runs SET next_dispatch_at = {{now}}, dispatch_wait_seconds = 0
    WHERE {DUE} AND next_dispatch_at IS NOT NULL AND (not_before IS NULL OR not_before <= {{now}})""")
_ALL_DUE_RUNS = Statement(f"""
    UPDATE job_runs SET next_dispatch_at = {{now}}, dispatch_wait_seconds = 0
    WHERE {UNSTARTED} AND next_dispatch_at IS NOT NULL""")
_OLDEST_DUE = Statement(f"""
    UPDATE step_runs SET next_dispatch_at = {{now}}, dispatch_wait_seconds = 0
    WHERE (run_pk, ordinal, part) IN (
        SELECT run_pk, ordinal, part FROM step_runs WHERE {DUE} AND next_dispatch_at IS NOT NULL
            AND (not_before IS NULL OR not_before <= {{now}}) ORDER BY dispatched_at LIMIT :limit)""")
_NEXT_DUE = Statement(f"""
    SELECT min(at) - {{now}} FROM (
        SELECT min(next_dispatch_at) AS at FROM step_runs WHERE {DUE}
        UNION ALL
        SELECT min(next_dispatch_at) FROM step_runs WHERE {OPEN_MAPS}
        UNION ALL
        SELECT min(next_dispatch_at) FROM job_runs WHERE {UNSTARTED}) AS dues""")


class Lease(NamedTuple):
    """A unit that a child of this node runs; `started_at` is when it was claimed."""

    run_pk: int
    ordinal: int
    part: int
    pid: int
    token: int
    is_over_time: bool
    started_at: float

    @property
    def unit(self) -> Unit:
        """Its key."""
        return Unit(self.run_pk, self.ordinal, self.part)


@dataclass(frozen=True, slots=True)
class DueStep:
    """A ready unit that nobody has claimed for longer than it should take.

    Attributes:
        wait_seconds: How long it was waited for last; 0 means that no message of it can be on its way.
    """

    unit: Unit
    queue: str
    wait_seconds: float
    dispatched_at: float


@dataclass(frozen=True, slots=True)
class DueRun:
    """An accepted run that nobody has started for longer than it should take; `wait_seconds` as of `DueStep`."""

    run_pk: int
    wait_seconds: float
    created_at: float


def has_tables(database: Database) -> bool:
    """Whether the engine's tables are there; quick, and True also when the database does not answer right now."""
    try:
        database.guarded(lambda tx: tx.rows(_PROBE), autocommit=True, patience_seconds=0.0)
    except DatabaseUnavailableError:
        return True
    except (sqlite3.OperationalError, psycopg.errors.UndefinedTable):
        return False
    return True


def beat(
    tx: Transaction,
    node: str,
    hostname: str,
    pid: int,
    slots: int,
    queues: str,
    *,
    is_leaving: bool,
    gap_seconds: float,
) -> None:
    """This worker is alive.

    Args:
        is_leaving: It is being stopped: what it still runs may be killed, and that is no fault of the steps.
        gap_seconds: A silence longer than this breaks its `steady_since`.
    """
    tx.run(
        _BEAT,
        {
            "node": node,
            "hostname": hostname,
            "pid": pid,
            "slots": slots,
            "queues": queues,
            "leaving": is_leaving,
            "gap": gap_seconds,
        },
    )


def is_steady(tx: Transaction, node: str, gap_seconds: float) -> bool:
    """Whether this worker's heartbeat has come without a gap for so long: the database was there for all workers."""
    return tx.row(_STEADY, {"node": node, "gap": gap_seconds}) is not None


def say_goodbye(tx: Transaction, node: str) -> None:
    """This worker leaves in an orderly way."""
    tx.run(_GOODBYE, {"node": node})


def forget_gone(tx: Transaction, silent_seconds: float) -> int:
    """Remove the workers that have been silent for so long; the number of slots they had."""
    return sum(int(row[0]) for row in tx.rows(_GONE, {"silent": silent_seconds}))


def free_slots(tx: Transaction) -> int:
    """Slots of living workers that hold no lease."""
    row = tx.row(_FREE_SLOTS)
    return int(row[0]) if row else 0


def leases(tx: Transaction, node: str) -> list[Lease]:
    """What the children of this node run."""
    return [
        Lease(row[0], row[1], row[2], row[3], row[4], bool(row[5]), row[6]) for row in tx.rows(_LEASES, {"node": node})
    ]


def renew(tx: Transaction, node: str, held: list[Lease], lease_seconds: float) -> None:
    """Renew these leases. One whose row a transaction holds is left out: it was renewed when that began."""
    wanted = held
    if tx.dialect == "postgresql":
        free = {Unit(*row) for row in tx.rows(_FREE_OF_LOCKS, {"node": node})}
        wanted = [lease for lease in held if lease.unit in free]
    tx.many(_RENEW, [{**lease.unit.key(), "token": lease.token, "lease": lease_seconds} for lease in wanted])


def expired(tx: Transaction) -> list[Unit]:
    """Units whose lease is over."""
    return [Unit(*row) for row in tx.rows(_EXPIRED_BY_DIALECT[tx.dialect])]


def lead(tx: Transaction, name: str, holder: str, lease_seconds: float) -> bool:
    """Become, or stay, the leader; False while another one is."""
    return tx.row(_LEAD, {"name": name, "holder": holder, "lease": lease_seconds}) is not None


def resign(tx: Transaction, name: str, holder: str) -> None:
    """Stop leading, so that another worker takes over at once."""
    tx.run(_RESIGN, {"name": name, "holder": holder})


def broker_marker(tx: Transaction, fresh: str) -> tuple[str, bool]:
    """Name of the key by which this database knows its broker again, and whether it is `fresh`, noted just now."""
    row = tx.row(_FIND_MARKER, {"name": _MARKER})
    if row is not None:
        return str(row[0]), False
    tx.run(_ADD_MARKER, {"name": _MARKER, "holder": fresh})
    return fresh, True


def due_runs(tx: Transaction) -> list[DueRun]:
    """Accepted runs to look at, the longest due first."""
    return [DueRun(*row) for row in tx.rows(_DUE_RUNS)]


def last_started_run(tx: Transaction, since: float) -> float | None:
    """When the newest of the runs that have started was accepted; None when none after `since` has."""
    row = tx.row(_LAST_STARTED_RUN, {"since": since})
    return None if row is None else float(row[0])


def push_run(tx: Transaction, run_pk: int, wait_seconds: float) -> bool:
    """Note that the run's message is sent again; False when it is no longer due."""
    return tx.row(_PUSH_RUN, {"run": run_pk, "wait": wait_seconds}) is not None


def wait_for_runs(tx: Transaction, waits: Sequence[tuple[DueRun, float]]) -> None:
    """Their messages are probably still in the queue: look at each again after its seconds."""
    tx.many(_RUN_WAITS, [{"run": run.run_pk, "wait": wait} for run, wait in waits])


def mark_unsent(tx: Transaction, units: Sequence[Unit]) -> None:
    """Their messages could not be sent: the reconciler sends them in a second, without asking for evidence."""
    tx.many(_UNSENT_STEP, [unit.key() for unit in units])


def mark_run_unsent(tx: Transaction, run_pk: int) -> None:
    """The same for the message that starts a run."""
    tx.run(_UNSENT_RUN, {"run": run_pk})


def due_steps(tx: Transaction) -> list[DueStep]:
    """Ready units to look at, the longest due first."""
    return [DueStep(Unit(*row[:3]), row[3], row[4], row[5] or 0.0) for row in tx.rows(_DUE_STEPS)]


def push_step(tx: Transaction, unit: Unit, wait_seconds: float) -> bool:
    """Note that the unit is sent again; False when it was claimed meanwhile."""
    return tx.row(_PUSH_STEP, {**unit.key(), "wait": wait_seconds}) is not None


def count_redispatches(tx: Transaction, run_pk: int, count: int) -> None:
    """Add to what the run's report shows as dispatches by the reconciler."""
    tx.run(_COUNT_REDISPATCHES, {"run": run_pk, "count": count})


def wait_for_steps(tx: Transaction, waits: Sequence[tuple[Unit, float]]) -> None:
    """Their messages are probably still in their queues: look at each again after its seconds."""
    tx.many(_STEP_WAITS, [{**unit.key(), "wait": wait} for unit, wait in waits])


def last_claimed_step(tx: Transaction, queue: str) -> float | None:
    """When the last dispatched of the units of a queue that run now was dispatched; None when none of it runs."""
    row = tx.row(_LAST_CLAIMED_STEP, {"queue": queue})
    return None if row is None or row[0] is None else float(row[0])


def due_maps(tx: Transaction) -> list[Unit]:
    """Open maps with calls whose next try is due."""
    return [Unit(row[0], row[1]) for row in tx.rows(_DUE_MAPS)]


def unturned_runs(tx: Transaction) -> list[int]:
    """Runs whose current block has ended, and that nobody has brought to the next one or to their end."""
    return [row[0] for row in tx.rows(_UNTURNED_RUNS)]


def overdue_runs(tx: Transaction) -> list[int]:
    """Runs that have taken longer than they may."""
    return [row[0] for row in tx.rows(_OVERDUE_RUNS)]


def make_all_due(tx: Transaction) -> None:
    """The broker has lost everything: every ready step and every run not started is sent again at once."""
    tx.run(_ALL_DUE_STEPS)
    tx.run(_ALL_DUE_RUNS)


def make_oldest_due(tx: Transaction, limit: int) -> None:
    """A worker that vanished may have held these messages: the ones that have waited longest."""
    tx.run(_OLDEST_DUE, {"limit": limit})


def seconds_to_next_due(tx: Transaction) -> float | None:
    """Seconds until something has to be looked at (negative: overdue); None when nothing is waited for."""
    row = tx.row(_NEXT_DUE)
    return None if row is None or row[0] is None else float(row[0])
