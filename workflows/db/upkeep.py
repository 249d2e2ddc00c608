"""What lease-keeper and reconciler read and write: heartbeats, leases, leadership, and what is due."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import NamedTuple

from workflows.db.database import Statement, Transaction
from workflows.db.units import Unit, quoted
from workflows.model.states import CLAIMABLE

_READY = f"pending = 0 AND status IN ({quoted(CLAIMABLE)})"

_BEAT = Statement("""
    INSERT INTO workers (node, hostname, pid, slots, queues, started_at, seen_at)
    VALUES (:node, :hostname, :pid, :slots, :queues, {now}, {now})
    ON CONFLICT (node) DO UPDATE SET seen_at = {now}, slots = excluded.slots""")
_GOODBYE = Statement("DELETE FROM workers WHERE node = :node")
_GONE = Statement("""
    DELETE FROM workers WHERE seen_at < {now} - :silent RETURNING node, slots, queues""")
_FREE_SLOTS = Statement("""
    SELECT (SELECT coalesce(sum(slots), 0) FROM workers WHERE seen_at > {now} - 15.0)
        - (SELECT count(*) FROM step_runs WHERE status = 'PROGRESS' AND lease_until IS NOT NULL)""")

_LEASES = Statement("""
    SELECT run_pk, ordinal, part, lease_pid, token, deadline_at IS NOT NULL AND deadline_at < {now}
    FROM step_runs WHERE lease_node = :node AND status = 'PROGRESS' AND lease_until IS NOT NULL""")
_RENEW = Statement("""
    UPDATE step_runs SET lease_until = {now} + :lease
    WHERE lease_node = :node AND status = 'PROGRESS' AND lease_until IS NOT NULL AND lease_pid IN :pids[]""")
_EXPIRED = Statement("""
    SELECT run_pk, ordinal, part FROM step_runs
    WHERE status = 'PROGRESS' AND lease_until IS NOT NULL AND lease_until < {now} LIMIT 500""")

_LEAD = Statement("""
    INSERT INTO leader_leases (name, holder, lease_until) VALUES (:name, :holder, {now} + :lease)
    ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, lease_until = excluded.lease_until
        WHERE leader_leases.holder = excluded.holder OR leader_leases.lease_until < {now}
    RETURNING holder""")
_RESIGN = Statement("DELETE FROM leader_leases WHERE name = :name AND holder = :holder")

_MARKER = "broker marker"
_FIND_MARKER = Statement("SELECT holder FROM leader_leases WHERE name = :name")
_ADD_MARKER = Statement("INSERT INTO leader_leases (name, holder, lease_until) VALUES (:name, :holder, 0)")

_DUE_RUNS = Statement("""
    SELECT id FROM job_runs WHERE status = 'PENDING' AND next_dispatch_at <= {now}
    ORDER BY next_dispatch_at LIMIT 200""")
_PUSH_RUN = Statement("""
    UPDATE job_runs SET next_dispatch_at = {now} + :redispatch, redispatches = redispatches + 1
    WHERE id = :run AND status = 'PENDING' AND next_dispatch_at <= {now} RETURNING id""")
_DUE_STEPS = Statement(f"""
    SELECT run_pk, ordinal, part, queue, dispatch_wait_seconds, ready_at FROM step_runs
    WHERE {_READY} AND next_dispatch_at <= {{now}} ORDER BY next_dispatch_at LIMIT 500""")
_PUSH_STEP = Statement(f"""
    UPDATE step_runs SET redispatches = redispatches + 1, arrives_by = 'sql', next_dispatch_at = {{now}} + :wait,
        dispatch_wait_seconds = :wait
    WHERE run_pk = :run AND ordinal = :ordinal AND part = :part AND {_READY} AND next_dispatch_at <= {{now}}
    RETURNING ordinal""")
_COUNT_REDISPATCHES = Statement("UPDATE job_runs SET redispatches = redispatches + :count WHERE id = :run")
_WAIT_LONGER = Statement(f"""
    UPDATE step_runs SET next_dispatch_at = {{now}} + :wait, dispatch_wait_seconds = :wait
    WHERE run_pk = :run AND ordinal = :ordinal AND part = :part AND {_READY}""")
_OVERTAKEN = Statement("""
    SELECT 1 FROM step_runs WHERE status = 'PROGRESS' AND lease_until IS NOT NULL AND queue = :queue
        AND ready_at > :ready_at + 1.0 LIMIT 1""")
_DUE_MAPS = Statement("""
    SELECT run_pk, ordinal FROM step_runs WHERE status = 'PROGRESS' AND lease_until IS NULL
        AND next_dispatch_at <= {now} ORDER BY next_dispatch_at LIMIT 200""")
_UNENDED_RUNS = Statement("SELECT id, steps_failed FROM job_runs WHERE status = 'PROGRESS' AND steps_open = 0 LIMIT 50")
_ALL_DUE_STEPS = Statement(f"""
    UPDATE step_runs SET next_dispatch_at = {{now}}, dispatch_wait_seconds = 0
    WHERE {_READY} AND next_dispatch_at IS NOT NULL AND (not_before IS NULL OR not_before <= {{now}})""")
_ALL_DUE_RUNS = Statement("UPDATE job_runs SET next_dispatch_at = {now} WHERE status = 'PENDING'")
_OLDEST_DUE = Statement(f"""
    UPDATE step_runs SET next_dispatch_at = {{now}}, dispatch_wait_seconds = 0
    WHERE (run_pk, ordinal, part) IN (
        SELECT run_pk, ordinal, part FROM step_runs WHERE {_READY} AND next_dispatch_at IS NOT NULL
            AND (not_before IS NULL OR not_before <= {{now}}) ORDER BY ready_at LIMIT :limit)""")
_NEXT_DUE = Statement(f"""
    SELECT min(at) - {{now}} FROM (
        SELECT min(next_dispatch_at) AS at FROM step_runs WHERE {_READY}
        UNION ALL
        SELECT min(next_dispatch_at) FROM step_runs WHERE status = 'PROGRESS' AND lease_until IS NULL
        UNION ALL
        SELECT min(next_dispatch_at) FROM job_runs WHERE status = 'PENDING') AS dues""")


class Lease(NamedTuple):
    """A unit that a child of this node runs."""

    run_pk: int
    ordinal: int
    part: int
    pid: int
    token: int
    is_over_time: bool

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
    ready_at: float


def beat(tx: Transaction, node: str, hostname: str, pid: int, slots: int, queues: str) -> None:
    """This worker is alive."""
    tx.run(_BEAT, {"node": node, "hostname": hostname, "pid": pid, "slots": slots, "queues": queues})


def say_goodbye(tx: Transaction, node: str) -> None:
    """This worker leaves in an orderly way."""
    tx.run(_GOODBYE, {"node": node})


def forget_gone(tx: Transaction, silent_seconds: float) -> int:
    """Remove the workers that have been silent for so long; the number of slots they had."""
    return sum(int(row[1]) for row in tx.rows(_GONE, {"silent": silent_seconds}))


def free_slots(tx: Transaction) -> int:
    """Slots of living workers that hold no lease."""
    row = tx.row(_FREE_SLOTS)
    return int(row[0]) if row else 0


def leases(tx: Transaction, node: str) -> list[Lease]:
    """What the children of this node run."""
    return [Lease(row[0], row[1], row[2], row[3], row[4], bool(row[5])) for row in tx.rows(_LEASES, {"node": node})]


def renew(tx: Transaction, node: str, pids: list[int], lease_seconds: float) -> None:
    """Renew the leases of these children."""
    tx.run(_RENEW, {"node": node, "pids": pids, "lease": lease_seconds})


def expired(tx: Transaction) -> list[Unit]:
    """Units whose lease is over."""
    return [Unit(*row) for row in tx.rows(_EXPIRED)]


def lead(tx: Transaction, name: str, holder: str, lease_seconds: float) -> bool:
    """Become, or stay, the leader; False while another one is."""
    return tx.row(_LEAD, {"name": name, "holder": holder, "lease": lease_seconds}) is not None


def resign(tx: Transaction, name: str, holder: str) -> None:
    """Stop leading, so that another worker takes over at once."""
    tx.run(_RESIGN, {"name": name, "holder": holder})


def broker_marker(tx: Transaction) -> tuple[str, bool]:
    """Name of the key by which this database knows its broker again, and whether it was made just now."""
    row = tx.row(_FIND_MARKER, {"name": _MARKER})
    if row is not None:
        return str(row[0]), False
    marker = uuid.uuid4().hex
    tx.run(_ADD_MARKER, {"name": _MARKER, "holder": marker})
    return marker, True


def due_runs(tx: Transaction) -> list[int]:
    """Accepted runs that nobody has started."""
    return [row[0] for row in tx.rows(_DUE_RUNS)]


def push_run(tx: Transaction, run_pk: int, redispatch_seconds: float) -> bool:
    """Note that the run's message is sent again; False when that is no longer due."""
    return tx.row(_PUSH_RUN, {"run": run_pk, "redispatch": redispatch_seconds}) is not None


def due_steps(tx: Transaction) -> list[DueStep]:
    """Ready units to look at, the longest due first."""
    return [DueStep(Unit(*row[:3]), row[3], row[4], row[5] or 0.0) for row in tx.rows(_DUE_STEPS)]


def push_step(tx: Transaction, unit: Unit, wait_seconds: float) -> bool:
    """Note that the unit is sent again; False when it was claimed meanwhile."""
    return tx.row(_PUSH_STEP, {**unit.key(), "wait": wait_seconds}) is not None


def count_redispatches(tx: Transaction, run_pk: int, count: int) -> None:
    """Add to what the run's report shows as dispatches by the reconciler."""
    tx.run(_COUNT_REDISPATCHES, {"run": run_pk, "count": count})


def wait_longer(tx: Transaction, unit: Unit, wait_seconds: float) -> None:
    """The unit's message is probably still in its queue: look again later."""
    tx.run(_WAIT_LONGER, {**unit.key(), "wait": wait_seconds})


def is_overtaken(tx: Transaction, step: DueStep) -> bool:
    """Whether a unit that became ready later in the same queue is already running."""
    return tx.row(_OVERTAKEN, {"queue": step.queue, "ready_at": step.ready_at}) is not None


def due_maps(tx: Transaction) -> list[Unit]:
    """Open maps with calls whose next try is due."""
    return [Unit(row[0], row[1]) for row in tx.rows(_DUE_MAPS)]


def unended_runs(tx: Transaction) -> list[tuple[int, int]]:
    """`(run_pk, steps_failed)` of runs without an open step that nobody has brought to their end."""
    return [(row[0], row[1]) for row in tx.rows(_UNENDED_RUNS)]


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
