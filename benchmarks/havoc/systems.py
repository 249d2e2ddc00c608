"""Servers and settings of a system that is to be disturbed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.havoc.machines import Server, broker, postgresql
from benchmarks.havoc.steps import TABLE
from tests.support.cluster import Cluster, cluster

Database = Literal["sqlite", "postgresql"]


@dataclass(frozen=True, slots=True)
class Servers:
    """What workers and API stand on.

    Attributes:
        database: None for SQLite, which has no server.
        definitions: Folder of workflows that the API knows.
    """

    broker: Server
    broker_url: str
    database: Server | None
    database_url: str
    definitions: Path


@contextmanager
def servers(database: Database, folder: Path, **settings: str) -> Iterator[tuple[Cluster, Servers]]:
    """A cluster without workers, in `folder`, an empty one that other users may enter."""
    definitions = folder / "definitions"
    definitions.mkdir()
    with ExitStack() as stack:
        broker_server, broker_url = stack.enter_context(broker(folder / "broker"))
        database_server, database_url = None, f"sqlite:///{folder / 'chaos.db'}"
        if database == "postgresql":
            database_server, database_url = stack.enter_context(postgresql(folder / "postgresql"))
        names = {"CELERIAC_STEP_MODULES": "benchmarks.havoc.steps", "CELERIAC_DEFINITIONS": str(definitions)}
        engine = stack.enter_context(cluster(folder, database_url, broker_url, **names, **settings))
        with engine.runtime.database.begin() as connection:
            connection.execute(TABLE)
        yield engine, Servers(broker_server, broker_url, database_server, database_url, definitions)


@contextmanager
def open_folder(keep: Path | None) -> Iterator[Path]:
    """An empty folder that PostgreSQL's own user may enter; what tells of the trial is copied to `keep` at the end."""
    folder = Path(tempfile.mkdtemp(prefix="celeriac-chaos-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            for file in (*folder.glob("*.log"), *folder.glob("*.jsonl"), *folder.glob("chaos.db*")):
                shutil.copy(file, keep)
        shutil.rmtree(folder, ignore_errors=True)
