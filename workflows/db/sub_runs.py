"""Runs that a step of another run has started: `uses: workflow`. A step has one at most, found by its parent's key."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from workflows.db.database import Statement, Transaction
from workflows.db.limits import Woken
from workflows.db.units import Unit
from workflows.model.states import State

_FIND = Statement("""
    SELECT id, task_id, workflow_id, status, outputs, error FROM job_runs
    WHERE parent_pk = :run AND parent_ordinal = :ordinal""")
_DETACH = Statement("UPDATE job_runs SET parent_pk = NULL, parent_ordinal = NULL WHERE id = :run")
_ANCESTRY = Statement("""
    WITH RECURSIVE up (id, parent_pk, concurrency_group, workflow_id, depth) AS (
        SELECT id, parent_pk, concurrency_group, workflow_id, 1 FROM job_runs WHERE id = :run
        UNION ALL
        SELECT j.id, j.parent_pk, j.concurrency_group, j.workflow_id, up.depth + 1
        FROM job_runs j JOIN up ON j.id = up.parent_pk WHERE up.depth < 100
    ) SELECT workflow_id, concurrency_group FROM up ORDER BY depth""")
_FAMILY = Statement("""
    WITH RECURSIVE down (id) AS (
        SELECT id FROM job_runs WHERE parent_pk = :run
        UNION ALL
        SELECT j.id FROM job_runs j JOIN down ON j.parent_pk = down.id
    ) SELECT j.id, j.status FROM job_runs j JOIN down ON down.id = j.id
    WHERE j.finished_at IS NULL AND NOT (j.status = 'PENDING' AND j.next_dispatch_at IS NULL) ORDER BY j.id""")
# Whoever ends the sub-run holds its row; the step's row comes after it, and nobody takes them the other way round.
_WAKE = Statement(f"""
    UPDATE step_runs SET not_before = NULL, next_dispatch_at = {{now}} + dispatch_wait_seconds,
        dispatched_at = {{now}}
    WHERE part = 0 AND status = '{State.WAITING}'
        AND (run_pk, ordinal) IN (
            SELECT parent_pk, parent_ordinal FROM job_runs WHERE id = :run AND finished_at IS NOT NULL)
    RETURNING run_pk, ordinal, queue, pending""")
# The first conditions are those of the index, word by word: SQLite takes a partial index for nothing else.
_ORPHANS = Statement(f"""
    SELECT c.id FROM job_runs c
        JOIN step_runs s ON s.run_pk = c.parent_pk AND s.ordinal = c.parent_ordinal AND s.part = 0
    WHERE c.parent_pk IS NOT NULL AND c.finished_at IS NULL AND NOT c.cancel_requested AND c.verdict IS NULL
        AND s.status IN ('{State.REVOKED}', '{State.FAILURE}') LIMIT 50""")


_OPEN_PARTS = """
    SELECT c.id FROM job_runs c JOIN job_runs p ON p.id = c.parent_pk
    WHERE c.parent_pk IS NOT NULL AND c.finished_at IS NULL AND NOT c.cancel_requested"""
_TO_PAUSE = Statement(f"""{_OPEN_PARTS} AND p.status = 'PAUSED' AND c.steps_open > 0
        AND (c.status = 'PROGRESS' OR (c.status = 'PENDING' AND c.next_dispatch_at IS NOT NULL)) LIMIT 50""")
_TO_RESUME = Statement(f"""{_OPEN_PARTS} AND p.status = 'PROGRESS' AND NOT p.cancel_requested
        AND c.status = 'PAUSED' AND c.is_paused_with_parent LIMIT 50""")
_PAUSED_PARENT = Statement("""
    SELECT p.task_id FROM job_runs c JOIN job_runs p ON p.id = c.parent_pk WHERE c.id = :run AND p.status = 'PAUSED'""")


@dataclass(frozen=True, slots=True)
class Child:
    """A sub-run as it stands."""

    run_pk: int
    run_id: str
    workflow: str
    status: str
    outputs: dict[str, Any]
    error: str | None


def find(tx: Transaction, run_pk: int, ordinal: int) -> Child | None:
    """The run that a step has started; None when it has started none."""
    row = tx.row(_FIND, {"run": run_pk, "ordinal": ordinal})
    if row is None:
        return None
    return Child(row[0], row[1], row[2], row[3], json.loads(row[4]) if row[4] else {}, row[5])


def detach(tx: Transaction, run_pk: int) -> None:
    """The run is nobody's sub-run any more; its step may start another one."""
    tx.run(_DETACH, {"run": run_pk})


def ancestry(tx: Transaction, run_pk: int) -> list[tuple[str, str | None]]:
    """`(workflow, concurrency group)` of the run and of those that it is a part of, from within."""
    return [(row[0], row[1]) for row in tx.rows(_ANCESTRY, {"run": run_pk})]


def open_family(tx: Transaction, run_pk: int) -> list[tuple[int, str]]:
    """`(run_pk, status)` of the open runs below this one that may be at work, the oldest first."""
    return [(row[0], row[1]) for row in tx.rows(_FAMILY, {"run": run_pk})]


def wake_parent(tx: Transaction, run_pk: int) -> list[Woken]:
    """A sub-run may have ended: if so, the step that waits for it is due. Its unit, unless its run is paused."""
    rows = tx.rows(_WAKE, {"run": run_pk})
    return [Woken(Unit(row[0], row[1]), row[2]) for row in rows if row[3] == 0]


def orphans(tx: Transaction) -> list[int]:
    """Open sub-runs that nobody waits for any more: their step was revoked, or has failed."""
    return [row[0] for row in tx.rows(_ORPHANS)]


def to_pause(tx: Transaction) -> list[int]:
    """Sub-runs at work although the run that they are a part of is paused."""
    return [row[0] for row in tx.rows(_TO_PAUSE)]


def to_resume(tx: Transaction) -> list[int]:
    """Sub-runs that were paused with the run that they are a part of, which goes on."""
    return [row[0] for row in tx.rows(_TO_RESUME)]


def paused_parent(tx: Transaction, run_pk: int) -> str | None:
    """Id of the paused run that this one is a part of; None when there is none, or it is not paused."""
    row = tx.row(_PAUSED_PARENT, {"run": run_pk})
    return None if row is None else str(row[0])
