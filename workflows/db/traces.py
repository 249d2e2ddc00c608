"""What traces are made of: runs that have ended, in the order of their ends, and how far they have been told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from workflows.db.database import Statement, Transaction
from workflows.db.lists import LISTED

SETTLED_SECONDS = 5.0
"""A run's end may become visible later than one with a later instant: what ended just now is read next time."""

_ENDED = Statement(f"""
    SELECT j.id, j.task_id, j.workflow_id, v.fingerprint, j.version_id, j.status, j.generation, j.manual_trigger,
        j.created_at, j.started_at, j.finished_at, j.error
    FROM job_runs j JOIN workflow_versions v ON v.id = j.version_id
    WHERE j.finished_at >= :at AND (j.finished_at > :at OR j.id > :id) AND j.finished_at <= (SELECT {{now}}) - :settled
        AND j.{LISTED}
    ORDER BY j.finished_at, j.id LIMIT :limit""")
# The cursor lies among the leases, as the name of the broker's marker does: an instant and a word.
_CURSOR = Statement("SELECT lease_until, holder FROM leader_leases WHERE name = 'traces cursor'")
_SET_CURSOR = Statement("""
    INSERT INTO leader_leases (name, holder, lease_until) VALUES ('traces cursor', :id, coalesce(:at, {now}))
    ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, lease_until = excluded.lease_until
    RETURNING lease_until""")


@dataclass(frozen=True, slots=True)
class Cursor:
    """The end, and the key, of the last run that was told."""

    at: float
    run_pk: int


@dataclass(frozen=True, slots=True)
class EndedRun:
    """A run that has ended; instants are seconds since 1970."""

    run_pk: int
    run_id: str
    workflow: str
    fingerprint: str
    version_id: int
    status: str
    generation: int
    is_manual: bool
    created_at: float
    started_at: float | None
    finished_at: float
    error: str | None

    @property
    def cursor(self) -> Cursor:
        """Behind this one."""
        return Cursor(self.finished_at, self.run_pk)


def cursor(tx: Transaction) -> Cursor:
    """How far runs have been told. The first time it is now: what ended before anybody asked is not told."""
    row = tx.row(_CURSOR)
    if row is not None:
        return Cursor(row[0], int(row[1]))
    made = tx.row(_SET_CURSOR, {"id": "0", "at": None})
    assert made is not None
    return Cursor(made[0], 0)


def move_cursor(tx: Transaction, to: Cursor) -> None:
    """Everything up to here has been told."""
    tx.row(_SET_CURSOR, {"id": str(to.run_pk), "at": to.at})


def ended_runs(tx: Transaction, after: Cursor, limit: int) -> list[EndedRun]:
    """Runs that ended behind the cursor, in the order of their ends."""
    where = {"at": after.at, "id": after.run_pk, "limit": limit, "settled": SETTLED_SECONDS}
    return [_ended_run(list(row)) for row in tx.rows(_ENDED, where)]


def _ended_run(values: list[Any]) -> EndedRun:
    values[7] = bool(values[7])
    return EndedRun(*values)
