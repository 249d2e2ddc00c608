"""What a run that is carried out by one process has to do next."""

from __future__ import annotations

from workflows.db.database import Statement, Transaction
from workflows.db.units import Unit, quoted
from workflows.model.states import CLAIMABLE

_NEXT_READY = Statement(f"""
    SELECT run_pk, ordinal, part FROM step_runs
    WHERE run_pk = :run AND pending = 0 AND status IN ({quoted(CLAIMABLE)})
        AND (not_before IS NULL OR not_before <= {{now}})
    ORDER BY ordinal, part LIMIT 1""")
_DUE_MAPS = Statement("""
    SELECT run_pk, ordinal, part FROM step_runs
    WHERE run_pk = :run AND status = 'PROGRESS' AND lease_until IS NULL AND next_dispatch_at <= {now}""")


def next_ready(tx: Transaction, run_pk: int) -> Unit | None:
    """The first unit that could be claimed now; None when there is none."""
    row = tx.row(_NEXT_READY, {"run": run_pk})
    return None if row is None else Unit(*row)


def due_maps(tx: Transaction, run_pk: int) -> list[Unit]:
    """Open maps with calls whose next try is due."""
    return [Unit(*row) for row in tx.rows(_DUE_MAPS, {"run": run_pk})]
