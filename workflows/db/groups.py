"""Concurrency groups: how many runs of a group may be at work at the same time.

A run of a group holds one of its slots from the moment it is let go until its end. A run that has to wait for one is
PENDING with no `next_dispatch_at`: nobody publishes it, the reconciler does not look at it, and a message for it starts
nothing. Slots are not stored anywhere: they are the rows that hold them. Whoever adds a run to a group, or ends one,
holds the lock of the group while it counts, so a slot that becomes free is given on in the same transaction.
"""

from __future__ import annotations

from typing import NamedTuple

from workflows.db import runs
from workflows.db.database import Statement, Transaction
from workflows.db.runs import Transition

_HOLDS = "(status IN ('PROGRESS', 'PAUSED') OR (status = 'PENDING' AND next_dispatch_at IS NOT NULL))"
_WAITS = "(status = 'PENDING' AND next_dispatch_at IS NULL)"
_OPEN = "status IN ('PENDING', 'PROGRESS', 'PAUSED')"

_LOCK = Statement("SELECT pg_advisory_xact_lock(hashtextextended(:group, 20))")
_GROUP_OF = Statement("SELECT concurrency_group FROM job_runs WHERE id = :run")
_OTHERS = Statement(f"""
    SELECT id, CASE WHEN {_WAITS} THEN 1 ELSE 0 END FROM job_runs
    WHERE concurrency_group = :group AND {_OPEN} AND NOT cancel_requested AND id <> :run ORDER BY id""")
_COUNT_HOLDERS = Statement(f"SELECT count(*) FROM job_runs WHERE concurrency_group = :group AND {_OPEN} AND {_HOLDS}")
_NEXT = Statement(f"""
    SELECT id, task_id, concurrency_limit FROM job_runs
    WHERE concurrency_group = :group AND {_OPEN} AND {_WAITS} ORDER BY id LIMIT 1""")
_LET_GO = Statement("""
    UPDATE job_runs SET next_dispatch_at = {now} + dispatch_wait_seconds WHERE id = :run AND status = 'PENDING'""")
_LET_WAIT = Statement("UPDATE job_runs SET next_dispatch_at = NULL WHERE id = :run AND status = 'PENDING'")
_SKIP = Statement("""
    UPDATE job_runs SET status = 'SKIPPED', finished_at = {now}, error = :error, next_dispatch_at = NULL,
        event_seq = event_seq + 1
    WHERE id = :run AND status = 'PENDING' RETURNING event_seq, finished_at""")


class LetGo(NamedTuple):
    """A run that has waited for its group and may begin: its message is to be published after commit."""

    run_pk: int
    run_id: str


class Others(NamedTuple):
    """The other runs of a group that are not being stopped, the oldest first."""

    holding: list[int]
    waiting: list[int]


def lock(tx: Transaction, group: str) -> None:
    """Until the end of the transaction nobody else counts this group; on SQLite nobody else writes anyway."""
    if tx.dialect == "postgresql":
        tx.rows(_LOCK, {"group": group})


def others(tx: Transaction, group: str, run_pk: int) -> Others:
    """The open runs of the group but this one."""
    rows = tx.rows(_OTHERS, {"group": group, "run": run_pk})
    return Others([row[0] for row in rows if not row[1]], [row[0] for row in rows if row[1]])


def let_wait(tx: Transaction, run_pk: int) -> None:
    """A run that was just accepted waits for a slot."""
    tx.run(_LET_WAIT, {"run": run_pk})


def skip(tx: Transaction, run_pk: int, error: str) -> None:
    """A run that was just accepted ends at once: its group is full."""
    row = tx.row(_SKIP, {"run": run_pk, "error": error})
    assert row is not None
    runs.add_event(tx, run_pk, row[0], row[1], Transition(None, None, "SKIPPED", {"reason": error}))


def is_full(tx: Transaction, group: str, limit: int) -> bool:
    """Whether all slots of the group are held, those of runs that are being stopped included."""
    return _holders(tx, group) >= limit


def has_room(tx: Transaction, run_pk: int, limit: int) -> bool:
    """Whether a run that has ended may take a slot again; the group stays locked."""
    row = tx.row(_GROUP_OF, {"run": run_pk})
    if row is None or row[0] is None:
        return True
    lock(tx, row[0])
    return not is_full(tx, row[0], limit)


def give_on(tx: Transaction, run_pk: int) -> list[LetGo]:
    """A run of a group has ended: those that have waited longest take what is free now."""
    row = tx.row(_GROUP_OF, {"run": run_pk})
    if row is None or row[0] is None:
        return []
    group = str(row[0])
    lock(tx, group)
    found: list[LetGo] = []
    held = _holders(tx, group)
    while (waiting := tx.row(_NEXT, {"group": group})) is not None and held < waiting[2]:
        tx.run(_LET_GO, {"run": waiting[0]})
        found.append(LetGo(waiting[0], waiting[1]))
        held += 1
    return found


def _holders(tx: Transaction, group: str) -> int:
    row = tx.row(_COUNT_HOLDERS, {"group": group})
    assert row is not None
    return int(row[0])
