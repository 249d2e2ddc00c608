"""Old runs and all that belongs to them are removed, and versions that no run and no schedule has any more.

A few at a time, so that nobody waits for it.
"""

from __future__ import annotations

from workflows.db.database import Statement, Transaction
from workflows.db.units import quoted
from workflows.model.states import TERMINAL

_OLD_RUNS = f"""
    SELECT id FROM job_runs
    WHERE status IN ({quoted(TERMINAL)}) AND created_at < {{now}} - :seconds AND finished_at < {{now}} - :seconds
    ORDER BY created_at LIMIT :limit"""
_OLD_RUNS_BY_DIALECT = {
    "sqlite": Statement(_OLD_RUNS),
    # A run that somebody is just setting going again is locked, and stays.
    "postgresql": Statement(f"{_OLD_RUNS} FOR UPDATE SKIP LOCKED"),
}
# Rows without a foreign key first; the rest goes with the run itself.
_DELETES = tuple(
    Statement(f"DELETE FROM {table} WHERE {key} IN :runs[]")
    for table, key in (
        ("item_runs", "run_pk"),
        ("attempts", "run_pk"),
        ("run_events", "run_pk"),
        ("log_lines", "run_pk"),
        ("payloads", "run_pk"),
        ("approvals", "run_pk"),
        ("step_runs", "run_pk"),
        ("job_runs", "id"),
    )
)

# A run that is just being accepted holds its version: it stays, or is registered again (`runs.register_version`).
_OLD_VERSIONS = """
    SELECT v.id FROM workflow_versions v
    WHERE v.created_at < {now} - :seconds AND NOT EXISTS (SELECT 1 FROM job_runs j WHERE j.version_id = v.id)
        AND NOT EXISTS (SELECT 1 FROM schedules s WHERE s.version_id = v.id)
    ORDER BY v.id LIMIT :limit"""
_OLD_VERSIONS_BY_DIALECT = {
    "sqlite": Statement(_OLD_VERSIONS),
    "postgresql": Statement(f"{_OLD_VERSIONS} FOR UPDATE OF v SKIP LOCKED"),
}
_DELETE_VERSIONS = Statement("""
    DELETE FROM workflow_versions
    WHERE id IN :versions[] AND NOT EXISTS (SELECT 1 FROM job_runs j WHERE j.version_id = workflow_versions.id)
        AND NOT EXISTS (SELECT 1 FROM schedules s WHERE s.version_id = workflow_versions.id)""")


def delete_old_versions(tx: Transaction, older_than_seconds: float, limit: int) -> int:
    """Delete at most `limit` versions that are as old and that no run and no schedule has; how many it were."""
    where = {"seconds": older_than_seconds, "limit": limit}
    versions = [row[0] for row in tx.rows(_OLD_VERSIONS_BY_DIALECT[tx.dialect], where)]
    return tx.run(_DELETE_VERSIONS, {"versions": versions}) if versions else 0


def delete_old_runs(tx: Transaction, older_than_seconds: float, limit: int) -> int:
    """Delete at most `limit` runs that ended longer ago than that; how many it were."""
    run_pks = [
        row[0] for row in tx.rows(_OLD_RUNS_BY_DIALECT[tx.dialect], {"seconds": older_than_seconds, "limit": limit})
    ]
    if run_pks:
        for statement in _DELETES:
            tx.run(statement, {"runs": run_pks})
    return len(run_pks)
