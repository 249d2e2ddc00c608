"""Schema migrations: Alembic histories of the engine and of every application that declares one.

An application names its history by an entry point of the group `celeriac.migrations` whose value is a package with
Alembic's `env.py` and `versions/`. One `upgrade` runs them all, each in its own transaction and version table;
interrupted, it can be run again.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import IO

from alembic import command, context
from alembic.config import Config as AlembicConfig
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from workflows.db.database import Database
from workflows.model.errors import DatabaseUnavailableError

ENTRY_POINT_GROUP = "celeriac.migrations"
ENGINE_HISTORY = "workflows.db.migrations"
_ADVISORY_LOCK = 0x63656C65


def histories() -> list[str]:
    """Packages of all histories, the engine's first."""
    return [
        ENGINE_HISTORY,
        *sorted(entry.value for entry in entry_points(group=ENTRY_POINT_GROUP)),
    ]


def upgrade(database: Database) -> None:
    """Bring every history to its head. Safe to call from several processes at once; quick when nothing is to do."""
    if database.path is not None:
        database.path.parent.mkdir(parents=True, exist_ok=True)
    with _exclusive(database):
        for package in histories():
            script = ScriptDirectory(str(_folder(package)))
            with database.begin() as connection:
                if _heads(connection, package) == set(script.get_heads()):
                    continue
                config = AlembicConfig()
                config.set_main_option("script_location", str(_folder(package)))
                config.attributes["connection"] = connection
                command.upgrade(config, "head")


def pending(database: Database) -> list[str]:
    """Packages whose history is not at its head in this database."""
    with database.connect() as connection:
        return [p for p in histories() if _heads(connection, p) != set(ScriptDirectory(str(_folder(p))).get_heads())]


def require_current(database: Database) -> None:
    """Raise `DatabaseUnavailableError` unless all tables are those of this version."""
    if pending(database):
        raise DatabaseUnavailableError(
            "the tables of this database are not those of this version",
            "run `celeriac db upgrade` once",
        )


def run_env(version_table: str) -> None:
    """What an `env.py` calls: run the migrations on the connection that `upgrade` opened."""
    connection: Connection = context.config.attributes["connection"]
    context.configure(connection=connection, version_table=version_table, transactional_ddl=True)
    with context.begin_transaction():
        context.run_migrations()


def version_table(package: str) -> str:
    """Name of the version table of a history, as its env.py states it."""
    owner = "celeriac" if package == ENGINE_HISTORY else package.partition(".")[0]
    return f"{owner}_schema_version"


def _heads(connection: Connection, package: str) -> set[str]:
    found = MigrationContext.configure(connection, opts={"version_table": version_table(package)})
    return set(found.get_current_heads())


def _folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise DatabaseUnavailableError(
            f"the migrations package '{package}' cannot be found",
            "reinstall the application that declares it",
        )
    return Path(next(iter(spec.submodule_search_locations)))


@contextlib.contextmanager
def _exclusive(database: Database) -> Iterator[None]:
    """One migration at a time: a file lock beside a SQLite file, an advisory lock on PostgreSQL."""
    if database.path is not None:
        import fcntl

        lock: IO[bytes]
        with Path(f"{database.path}.migrate.lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        return
    with database.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _ADVISORY_LOCK})
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _ADVISORY_LOCK})
