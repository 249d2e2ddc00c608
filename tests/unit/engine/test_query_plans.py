"""No statement reads all that ever ran: SQLite is asked how it would carry out each of them.

PostgreSQL can tell from statistics alone, which an empty database has none of; its indexes are the same.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import sqlite3
from collections.abc import Iterator

import pytest

import workflows.db
from workflows.db.database import Database, Statement
from workflows.db.migrate import upgrade
from workflows.db.tables import metadata

SMALL = {"api_keys", "api_sessions", "beat_entries", "schedules", "workers"}
"""Tables with a row for a key, a session, a schedule or a worker."""

MAY_SCAN = {
    "cache._CLEAR": "a command that empties the cache",
    "history._RUNS": "goes back from the latest run, to a limit",
    "queries._LATEST": "goes back from the latest run, to the first",
    "queries._RUN_BY_PREFIX": "somebody has given the beginning of an id",
    "retention._DELETE_VERSIONS": "once an hour",
    "retention._OLD_VERSIONS_BY_DIALECT": "once an hour",
    "schedules._OLD_FIRES": "once an hour",
}
LASTING = {"ix_job_runs_finished_at", "ix_job_runs_of_parents", "ix_job_runs_succeeded"}
"""Indexes with a condition that rows keep for ever."""

_ONLY_POSTGRESQL = {"completion._COMPLETE", "groups._LOCK", "maps._ADD_ITEMS_AT_ONCE", "maps._END_ITEMS_AT_ONCE"}


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    path = tmp_path_factory.mktemp("plans") / "test.db"
    database = Database(f"sqlite:///{path}")
    upgrade(database)
    database.close()
    connection = sqlite3.connect(path)
    connection.create_function("db_now", 0, lambda: 1.0)
    yield connection
    connection.close()


def _statements() -> Iterator[tuple[str, str]]:
    for found in pkgutil.iter_modules(workflows.db.__path__):
        if found.ispkg:
            continue
        module = importlib.import_module(f"workflows.db.{found.name}")
        for name, value in vars(module).items():
            several = value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else (value,)
            for statement in several:
                if isinstance(statement, Statement):
                    yield f"{found.name}.{name}", statement.text("sqlite")


STATEMENTS = [one for one in _statements() if one[0] not in _ONLY_POSTGRESQL and " FOR " not in one[1]]


def _open_indexes() -> set[str]:
    """Indexes that hold what is open, and let go of it when it ends."""
    partial = {
        str(index.name)
        for table in metadata.tables.values()
        for index in table.indexes
        if index.dialect_options["sqlite"].get("where") is not None
    }
    return partial - LASTING


def _whole(connection: sqlite3.Connection, sql: str) -> Iterator[str]:
    """What the statement reads from end to end of a table that grows, or of an index of one that keeps everything."""
    names = {alias: table for table, alias in re.findall(r"(?:FROM|JOIN|UPDATE|INTO)\s+(\w+)(?:\s+AS)?\s+(\w+)", sql)}
    params = dict.fromkeys(re.findall(r"(?<!:):(\w+)", sql))
    for *_, detail in connection.execute(f"EXPLAIN QUERY PLAN {sql}", params):
        scanned = re.fullmatch(r"SCAN (\w+)(?: USING (?:COVERING )?INDEX (\w+))?", detail)
        if scanned is not None:
            table = names.get(scanned[1], scanned[1])
            if table in metadata.tables and table not in SMALL and scanned[2] not in _open_indexes():
                yield detail
        ranged = re.search(r"INDEX (\w+) \((\w+)>\?\)", detail)
        # Where the statement itself compares nothing, this is what became of IS NOT NULL.
        if ranged is not None and not re.search(rf"\b{ranged[2]}\s*>", sql) and ranged[1] not in _open_indexes():
            yield detail


def test_no_statement_reads_a_table_that_grows_from_end_to_end(migrated: sqlite3.Connection) -> None:
    assert len(STATEMENTS) > 200
    found = {name: whole for name, sql in STATEMENTS if (whole := list(_whole(migrated, sql)))}
    assert {name: whole for name, whole in found.items() if name not in MAY_SCAN} == {}
    assert MAY_SCAN.keys() == found.keys()  # whatever no longer scans is no longer excused
