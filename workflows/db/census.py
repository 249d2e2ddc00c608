"""How much there is of what is open: figures for health, metrics and the doctor.

Each of these reads costs as much as is open or has just ended, never as much as is kept.
"""

from __future__ import annotations

from dataclasses import dataclass

from workflows.db import queries
from workflows.db.database import Statement, Transaction
from workflows.db.lists import AT_WORK, DUE, LEASED, LISTED, UNSTARTED
from workflows.db.queries import WorkerView

# As the conditions of the two indexes say it; all three states in one would find none.
_OPEN_RUNS = Statement(f"""
    SELECT 'PENDING', count(*), 0 FROM job_runs WHERE {UNSTARTED}
    UNION ALL
    SELECT status, count(*), sum(redispatches) FROM job_runs WHERE {AT_WORK} GROUP BY status""")
# The clock in a query of its own is asked once; beside a column PostgreSQL would ask it for each row, without an index.
_ENDED_RUNS = Statement(f"""
    SELECT status, count(*), coalesce(sum(finished_at - created_at), 0) FROM job_runs
    WHERE finished_at > (SELECT {{now}}) - :seconds AND {LISTED} GROUP BY status""")
_READY = Statement(f"""
    SELECT queue, sum(CASE WHEN not_before > {{now}} THEN 0 ELSE 1 END),
        sum(CASE WHEN not_before > {{now}} THEN 1 ELSE 0 END),
        {{now}} - min(CASE WHEN not_before > {{now}} THEN NULL WHEN not_before > ready_at THEN not_before
            ELSE ready_at END)
    FROM step_runs WHERE {DUE} GROUP BY queue""")
_RUNNING = Statement(f"""
    SELECT queue, count(*) FROM step_runs WHERE {LEASED} GROUP BY queue""")
_UNSTARTED = Statement(f"""
    SELECT task_id, {{now}} - created_at, (SELECT count(*) FROM job_runs WHERE {UNSTARTED})
    FROM job_runs WHERE {UNSTARTED} ORDER BY created_at LIMIT 1""")
# CROSS JOIN tells SQLite which table comes first; else it reads all steps that ever ran.
_CRASHED = Statement(f"""
    SELECT j.task_id, s.step_id, s.crashes FROM job_runs j JOIN step_runs s ON s.run_pk = j.id
    WHERE j.finished_at > (SELECT {{now}}) - :seconds AND j.{LISTED} AND s.crashes > 0
    UNION ALL
    SELECT j.task_id, s.step_id, s.crashes FROM job_runs j CROSS JOIN step_runs s
    WHERE s.run_pk = j.id AND j.status IN ('PROGRESS', 'PAUSED') AND j.{LISTED} AND s.crashes > 0
    ORDER BY 3 DESC LIMIT 100""")
_SCHEDULES = Statement("""
    SELECT coalesce(sum(CASE WHEN is_enabled THEN 1 ELSE 0 END), 0), count(*),
        coalesce(sum(CASE WHEN is_enabled AND problem IS NOT NULL THEN 1 ELSE 0 END), 0),
        {now} - min(CASE WHEN is_enabled THEN next_fire_at END)
    FROM schedules""")
_LEADER = Statement("SELECT holder, {now} - lease_until FROM leader_leases WHERE name = :name")


@dataclass(frozen=True, slots=True)
class QueueFigures:
    """Units of work of one queue: steps, and ranges of the calls of maps.

    Attributes:
        ready: Could be claimed now.
        delayed: Wait for their next try, or for a worker that knows them.
        running: Hold a lease.
        oldest_ready_seconds: How long the first of the ready ones has waited; 0 when there is none.
    """

    ready: int = 0
    delayed: int = 0
    running: int = 0
    oldest_ready_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Leader:
    """Who leads, and for how long nothing has been heard of it: seconds since it last renewed its lead."""

    node: str
    silent_seconds: float


@dataclass(frozen=True, slots=True)
class Ended:
    """Runs that have ended lately, and the seconds from acceptance to end of all of them together."""

    count: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Unstarted:
    """The run that has waited longest for its start, and how many wait."""

    run_id: str
    waiting_seconds: float
    count: int


@dataclass(frozen=True, slots=True)
class Crashed:
    """A step whose processes died under it."""

    run_id: str
    step_id: str
    crashes: int


@dataclass(frozen=True, slots=True)
class ScheduleFigures:
    """How the schedules are.

    Attributes:
        enabled: Those that fire.
        disabled: Those that somebody has switched off.
        troubled: Enabled, but their definition or params do not fit any more.
        late_seconds: How long ago the first should have fired that has not been decided about; 0 when none is late.
    """

    enabled: int
    disabled: int
    troubled: int
    late_seconds: float


@dataclass(frozen=True, slots=True)
class Census:
    """The figures of an installation.

    Attributes:
        open_runs: By state.
        ended_runs: Of the last `window_seconds`, by state.
        redispatches: What the reconciler had to send again, of the runs in progress.
    """

    open_runs: dict[str, int]
    ended_runs: dict[str, Ended]
    redispatches: int
    queues: dict[str, QueueFigures]
    workers: list[WorkerView]
    reconciler: Leader | None
    schedules: ScheduleFigures
    window_seconds: float


def take(tx: Transaction, leader_name: str, leader_lease_seconds: float, window_seconds: float) -> Census:
    """Count everything; seven statements."""
    open_rows = tx.rows(_OPEN_RUNS)
    ended = tx.rows(_ENDED_RUNS, {"seconds": window_seconds})
    return Census(
        open_runs={"PENDING": 0, "PROGRESS": 0, "PAUSED": 0, **{row[0]: row[1] for row in open_rows}},
        ended_runs={row[0]: Ended(row[1], row[2]) for row in ended},
        redispatches=sum(row[2] for row in open_rows),
        queues=queues(tx),
        workers=queries.live_workers(tx),
        reconciler=leader(tx, leader_name, leader_lease_seconds),
        schedules=schedules(tx),
        window_seconds=window_seconds,
    )


def queues(tx: Transaction) -> dict[str, QueueFigures]:
    """What waits and runs, by queue; queues without either are left out."""
    running = {row[0]: row[1] for row in tx.rows(_RUNNING)}
    waiting = {row[0]: row[1:] for row in tx.rows(_READY)}
    found = {}
    for name in sorted({*running, *waiting}):
        ready, delayed, oldest = waiting.get(name, (0, 0, None))
        found[name] = QueueFigures(ready, delayed, running.get(name, 0), max(0.0, oldest or 0.0))
    return found


def schedules(tx: Transaction) -> ScheduleFigures:
    """How many there are, and whether one is late: then nobody fires them."""
    row = tx.row(_SCHEDULES)
    assert row is not None  # an aggregate has a row
    enabled, total, troubled, late = row
    return ScheduleFigures(enabled, total - enabled, troubled, max(0.0, late or 0.0))


def unstarted(tx: Transaction) -> Unstarted | None:
    """Accepted runs that no worker has started; None when there is none."""
    row = tx.row(_UNSTARTED)
    return None if row is None else Unstarted(*row)


def crashed(tx: Transaction, seconds: float) -> list[Crashed]:
    """Steps that took their processes down, the most often first: of open runs, and of those that ended lately."""
    return [Crashed(*row) for row in tx.rows(_CRASHED, {"seconds": seconds})]


def leader(tx: Transaction, name: str, lease_seconds: float) -> Leader | None:
    """Who holds the lead of this name, or held it last; None when nobody ever did, or the last one resigned."""
    row = tx.row(_LEADER, {"name": name})
    return None if row is None else Leader(row[0], max(0.0, row[1] + lease_seconds))
