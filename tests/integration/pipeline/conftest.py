import pytest

from workflows.db.database import Database
from workflows.db.migrate import upgrade


@pytest.fixture
def database(database_url: str) -> Database:
    """A fresh database with all tables, on SQLite and on PostgreSQL."""
    database = Database(database_url)
    upgrade(database)
    return database
