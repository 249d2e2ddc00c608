"""What the mirror of runs in Celery's result backend reads, and the note that an end was told."""

from __future__ import annotations

from typing import NamedTuple

from workflows.db.database import Statement, Transaction
from workflows.db.lists import AT_WORK
from workflows.db.units import quoted
from workflows.model.states import TERMINAL

_FACE = (
    """id, task_id, status, generation, progress_percentage, current_step, steps_total, steps_open, outputs, error"""
)
_LIVING = Statement(f"SELECT {_FACE} FROM job_runs WHERE {AT_WORK} ORDER BY id LIMIT 500")
_UNMIRRORED = Statement(f"""
    SELECT {_FACE} FROM job_runs
    WHERE NOT is_mirrored AND finished_at IS NOT NULL AND status IN ({quoted(TERMINAL)}) ORDER BY id LIMIT 200""")
_MARK = Statement("""
    UPDATE job_runs SET is_mirrored = true WHERE id = :run AND status = :status AND generation = :generation""")


class Face(NamedTuple):
    """A run as seen from outside."""

    run_pk: int
    run_id: str
    status: str
    generation: int
    progress: int
    current_step: str | None
    steps_total: int
    steps_open: int
    outputs: str | None
    error: str | None


def living(tx: Transaction) -> list[Face]:
    """Runs that have begun and not ended; the oldest 500."""
    return [Face(*row) for row in tx.rows(_LIVING)]


def unmirrored(tx: Transaction) -> list[Face]:
    """Runs whose end has not been told; the oldest 200."""
    return [Face(*row) for row in tx.rows(_UNMIRRORED)]


def mark(tx: Transaction, faces: list[Face]) -> None:
    """The ends of these runs, in these generations, have been told."""
    tx.many(_MARK, [{"run": f.run_pk, "status": f.status, "generation": f.generation} for f in faces])
