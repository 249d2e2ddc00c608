"""What steps of the kind `approval` ask, and what people have answered: a row for each step that has asked.

A step that asks anew, in another generation of its run, clears the answer to the last time.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text

from workflows.db.database import Row, Statement, Transaction
from workflows.model.states import State

_ASK = text("""
    INSERT INTO approvals (run_pk, ordinal, step_id, prompt, asked_at)
    SELECT s.run_pk, s.ordinal, s.step_id, :prompt, :at FROM step_runs s JOIN job_runs j ON j.id = s.run_pk
    WHERE j.task_id = :run AND s.step_id = :step AND s.part = 0
    ON CONFLICT (run_pk, ordinal) DO UPDATE SET prompt = excluded.prompt, asked_at = excluded.asked_at,
        is_approved = NULL, comment = NULL, decided_by = NULL, decided_at = NULL""")
_ANSWER = text("""
    SELECT a.is_approved, a.comment, a.decided_by, a.decided_at FROM approvals a JOIN job_runs j ON j.id = a.run_pk
    WHERE j.task_id = :run AND a.step_id = :step AND a.is_approved IS NOT NULL""")
# The step's row is locked first, as by whoever claims it: either the step sees the answer, or the answer is refused.
_WAKE = Statement(f"""
    UPDATE step_runs SET not_before = NULL, next_dispatch_at = {{now}} + :redispatch,
        dispatch_wait_seconds = :redispatch, dispatched_at = {{now}}
    WHERE run_pk = :run AND ordinal = :ordinal AND part = 0 AND status = '{State.WAITING}'
        AND EXISTS (SELECT 1 FROM approvals a
            WHERE a.run_pk = step_runs.run_pk AND a.ordinal = step_runs.ordinal AND a.is_approved IS NULL)
    RETURNING pending""")
_DECIDE = Statement("""
    UPDATE approvals SET is_approved = :approved, comment = :comment, decided_by = :by, decided_at = {now}
    WHERE run_pk = :run AND ordinal = :ordinal RETURNING decided_at""")
_FIND = Statement("""
    SELECT is_approved, comment, decided_by, decided_at FROM approvals
    WHERE run_pk = :run AND ordinal = :ordinal AND is_approved IS NOT NULL""")
_OPEN = Statement(f"""
    SELECT j.task_id, j.workflow_id, a.step_id, a.prompt, a.asked_at
    FROM approvals a JOIN job_runs j ON j.id = a.run_pk
        JOIN step_runs s ON s.run_pk = a.run_pk AND s.ordinal = a.ordinal AND s.part = 0
    WHERE a.is_approved IS NULL AND s.status = '{State.WAITING}' ORDER BY a.asked_at LIMIT :limit""")


@dataclass(frozen=True, slots=True)
class Decision:
    """What somebody has decided, and when, in seconds since 1970."""

    is_approved: bool
    comment: str | None
    decided_by: str | None
    decided_at: float


@dataclass(frozen=True, slots=True)
class Request:
    """A step that waits for an answer."""

    run_id: str
    workflow: str
    step: str
    prompt: str
    asked_at: float


def ask(connection: Connection, run_id: str, step_id: str, prompt: str, at: float) -> None:
    """Write down what a step asks; an older answer is forgotten."""
    connection.execute(_ASK, {"run": run_id, "step": step_id, "prompt": prompt, "at": at})


def answer(connection: Connection, run_id: str, step_id: str) -> Decision | None:
    """What has been decided for a step; None while nothing has."""
    row = connection.execute(_ANSWER, {"run": run_id, "step": step_id}).one_or_none()
    return None if row is None else _decision(tuple(row))


def decide(
    tx: Transaction,
    run_pk: int,
    ordinal: int,
    *,
    approved: bool,
    comment: str | None,
    by: str | None,
    redispatch: float,
) -> tuple[Decision, bool] | None:
    """Decide for a step that waits, which is due from now on.

    Returns:
        The decision, and whether the step's message is to be sent; None when the step does not wait for one.
    """
    key = {"run": run_pk, "ordinal": ordinal}
    woken = tx.row(_WAKE, {**key, "redispatch": redispatch})
    if woken is None:
        return None
    row = tx.row(_DECIDE, {**key, "approved": approved, "comment": comment, "by": by})
    assert row is not None  # _WAKE has seen it, and holds the step
    return Decision(approved, comment, by, row[0]), woken[0] == 0


def find(tx: Transaction, run_pk: int, ordinal: int) -> Decision | None:
    """What was decided for a step; None when nothing was."""
    row = tx.row(_FIND, {"run": run_pk, "ordinal": ordinal})
    return None if row is None else _decision(row)


def open_requests(tx: Transaction, limit: int = 1000) -> list[Request]:
    """Steps that wait for an answer, the longest waiting first."""
    return [Request(*row) for row in tx.rows(_OPEN, {"limit": limit})]


def _decision(row: Row) -> Decision:
    return Decision(bool(row[0]), row[1], row[2], row[3])
