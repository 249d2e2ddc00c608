"""Short reads for whoever watches a run: they cost the same for a run of ten items and of ten thousand."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from workflows.db.database import Statement, Transaction
from workflows.model.errors import NotFoundError
from workflows.model.states import is_terminal

_ACTIVE_STEP = Statement("""
    SELECT step_id, status, items_total, items_success, items_failure, not_before - {now} FROM step_runs
    WHERE run_pk = :run AND part = 0 AND status IN ('PROGRESS', 'RETRY', 'WAITING')
    ORDER BY CASE status WHEN 'PROGRESS' THEN 0 ELSE 1 END, ordinal LIMIT 1""")
_ORIGIN = Statement("SELECT manual_trigger, user_params, step_versions FROM job_runs WHERE id = :run")
_HEADS = Statement("""
    SELECT id, event_seq, status, progress_percentage, steps_total, steps_open, steps_failed FROM job_runs
    WHERE id IN :runs[]""")


@dataclass(frozen=True, slots=True)
class ActiveStep:
    """The step that a sentence about a run names.

    Attributes:
        items_done: Calls of a map that have ended, in whatever way.
        due_in_seconds: Until its next try; None when it is not waiting for one.
    """

    step_id: str
    status: str
    items_total: int | None
    items_done: int
    due_in_seconds: float | None


@dataclass(frozen=True, slots=True)
class Origin:
    """How a run came about.

    Attributes:
        is_manual: A person asked for it, no schedule.
        user_params: The params as they were given, without defaults.
        step_versions: Declared versions of the steps, by `uses`, as the process knew them that accepted the run.
    """

    is_manual: bool
    user_params: dict[str, Any]
    step_versions: dict[str, str]


@dataclass(frozen=True, slots=True)
class RunHead:
    """Where a run stands.

    Attributes:
        event_seq: Number of the last line of its history.
    """

    run_pk: int
    event_seq: int
    status: str
    progress: int
    steps_total: int
    steps_open: int
    steps_failed: int

    @property
    def is_ended(self) -> bool:
        """Whether its state is final."""
        return is_terminal(self.status)


def active_step(tx: Transaction, run_pk: int) -> ActiveStep | None:
    """The first step in progress, else the first that waits for its next try; None when there is neither."""
    row = tx.row(_ACTIVE_STEP, {"run": run_pk})
    if row is None:
        return None
    done = (row[3] or 0) + (row[4] or 0)
    return ActiveStep(row[0], row[1], row[2], done, None if row[5] is None else max(0.0, row[5]))


def origin(tx: Transaction, run_pk: int) -> Origin:
    """How the run came about.

    Raises:
        NotFoundError: it was deleted.
    """
    row = tx.row(_ORIGIN, {"run": run_pk})
    if row is None:
        raise NotFoundError("the run was deleted meanwhile")
    return Origin(bool(row[0]), json.loads(row[1] or "{}"), json.loads(row[2] or "{}"))


def heads(tx: Transaction, run_pks: list[int]) -> dict[int, RunHead]:
    """Where these runs stand; those that were deleted are left out."""
    return {row[0]: RunHead(*row) for row in tx.rows(_HEADS, {"runs": run_pks})}
