"""Outputs of an earlier run become those of a new one: copied, so that either run can be deleted without the other."""

from __future__ import annotations

from workflows.db.database import Statement, Transaction

_STATUSES = Statement("SELECT step_id, status FROM step_runs WHERE run_pk = :run AND part = 0")
_TAKE_STEPS = Statement("""
    UPDATE step_runs SET status = 'SUCCESS', pending = 0, arrives_by = 'sql', output = old.output, finished_at = {now},
        ready_at = NULL, dispatched_at = NULL, next_dispatch_at = NULL, items_total = old.items_total,
        items_inserted = old.items_inserted, items_cursor = old.items_cursor, items_success = old.items_success,
        items_failure = old.items_failure, items_seconds = old.items_seconds, parts = old.parts, parts_open = 0
    FROM step_runs AS old
    WHERE step_runs.run_pk = :run AND step_runs.part = 0 AND step_runs.ordinal IN :ordinals[]
        AND step_runs.status = 'PENDING' AND old.run_pk = :old AND old.part = 0 AND old.step_id = step_runs.step_id
        AND old.status = 'SUCCESS'""")
_TAKE_ITEMS = Statement("""
    INSERT INTO item_runs (run_pk, ordinal, item_index, key, item, status, failures, crashes, started_at, finished_at,
        output, error)
    SELECT new.run_pk, new.ordinal, i.item_index, i.key, i.item, i.status, i.failures, i.crashes, i.started_at,
        i.finished_at, i.output, i.error
    FROM step_runs AS new
    JOIN step_runs AS old ON old.run_pk = :old AND old.part = 0 AND old.step_id = new.step_id
    JOIN item_runs AS i ON i.run_pk = old.run_pk AND i.ordinal = old.ordinal
    WHERE new.run_pk = :run AND new.part = 0 AND new.ordinal IN :ordinals[]""")
_TAKE_PAYLOADS = Statement("""
    INSERT INTO payloads (run_pk, ordinal, item_index, content)
    SELECT new.run_pk, new.ordinal, p.item_index, p.content
    FROM step_runs AS new
    JOIN step_runs AS old ON old.run_pk = :old AND old.part = 0 AND old.step_id = new.step_id
    JOIN payloads AS p ON p.run_pk = old.run_pk AND p.ordinal = old.ordinal
    WHERE new.run_pk = :run AND new.part = 0 AND new.ordinal IN :ordinals[]""")


def statuses(tx: Transaction, run_pk: int) -> dict[str, str]:
    """States of a run's steps, by id."""
    return {row[0]: row[1] for row in tx.rows(_STATUSES, {"run": run_pk})}


def take_over(tx: Transaction, run_pk: int, from_run_pk: int, ordinals: list[int]) -> bool:
    """Steps of a run that has just begun are SUCCESS with the outputs and calls that those of the same id had.

    Returns:
        False when the earlier run has not got all of them (any more): it was deleted, or retried.
    """
    params = {"run": run_pk, "old": from_run_pk, "ordinals": ordinals}
    if tx.run(_TAKE_STEPS, params) != len(ordinals):
        return False
    tx.run(_TAKE_ITEMS, params)
    tx.run(_TAKE_PAYLOADS, params)
    return True
