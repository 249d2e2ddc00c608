from collections.abc import Mapping
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, text

from pipeline.tables import metadata
from workflows.db.database import Database


def is_ours(item: Any, name: str | None, kind: str, _reflected: bool, _other: object) -> bool:
    """The full-text column and its index exist on PostgreSQL only, and are read by SQL text."""
    table = name if kind == "table" else item.table.name
    return table in metadata.tables and name not in {"document", "ix_entries_document"}


def test_the_migrations_make_the_tables_that_the_code_reads(database: Database) -> None:
    options: Mapping[str, Any] = {"include_object": is_ours, "compare_type": True}
    with database.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts=dict(options)), metadata) == []


def test_full_text_follows_its_entries(database: Database) -> None:
    with database.begin() as connection:
        connection.execute(
            metadata.tables["papers"].insert(),
            {
                "id": "p",
                "source": "s",
                "origin": "o",
                "external_id": "1",
                "title": "",
                "abstract": "",
                "authors": "[]",
                "content_hash": "h",
                "updated_at": 0.0,
            },
        )
        connection.execute(
            metadata.tables["collections"].insert(),
            {
                "id": 1,
                "name": "c",
                "generation": 1,
                "is_live": True,
                "model": "m",
                "revision": "r",
                "dimension": 1,
                "created_at": 0.0,
            },
        )
        connection.execute(
            metadata.tables["entries"].insert(),
            {
                "collection_id": 1,
                "chunk_id": "k",
                "paper_id": "p",
                "position": 0,
                "title": "t",
                "text": "planets orbiting",
                "section": "s",
                "vector": b"1234",
            },
        )
    find = {
        "sqlite": "SELECT count(*) FROM entries_fts WHERE entries_fts MATCH 'planet orbit'",
        "postgresql": "SELECT count(*) FROM entries WHERE document @@ to_tsquery('english', 'planet & orbit')",
    }[database.dialect]

    def found() -> int:
        with database.connect() as connection:
            return int(connection.execute(text(find)).scalar_one())

    assert found() == 1
    with database.begin() as connection:
        connection.execute(text("UPDATE entries SET text = 'graphs'"))
    assert found() == 0
    with database.begin() as connection:
        connection.execute(text("UPDATE entries SET text = 'a planet in orbit'"))
        connection.execute(text("DELETE FROM papers"))
    assert found() == 0
    with database.connect() as connection:
        assert inspect(connection).has_table("entries")
        assert connection.execute(text("SELECT count(*) FROM entries")).scalar_one() == 0
