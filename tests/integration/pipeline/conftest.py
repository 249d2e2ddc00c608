from __future__ import annotations

from collections.abc import Iterator

import pytest

from workflows.db.database import Database


@pytest.fixture
def database(migrated_url: str) -> Iterator[Database]:
    """A fresh database with all tables, on SQLite and on PostgreSQL."""
    made = Database(migrated_url)
    yield made
    made.close()
