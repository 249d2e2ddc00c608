"""An index of a large collection's vectors in PostgreSQL: pgvector's HNSW, which finds nearly all that are near.

It follows `entries` in a table of its own (`entry_vectors_N` of collection N) and is never the truth: an entry that is
deleted leaves it by the foreign key, one that is new is copied at the end of a `store`. What a search finds not yet
copied it compares exactly, so nothing is ever missed for that reason (`docs/adr/0027-where-vectors-lie.md`).
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    Double,
    MetaData,
    Select,
    Table,
    Text,
    func,
    literal_column,
    select,
    text,
    update,
)
from sqlalchemy.exc import DBAPIError

from pipeline.filters import Filters
from pipeline.indexes.uncopied import Begin, Found, uncopied, uncopied_near
from pipeline.tables import collections, entries, slices

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.collections import Collection

KIND = "pgvector"
"""As `collections.indexed_by` names it."""

MOST_DIMENSIONS = 2000
"""What HNSW takes of the type `vector`."""

EF_SEARCH = 200
"""Candidates that a search keeps in view: recall against speed, see the decision's figures."""

_BATCH = 5000
_OLDEST = (0, 8)
"""The pgvector with iterative scans, without which filters would lose what is near."""

_log = logging.getLogger(__name__)


def follow(begin: Begin, collection: Collection, on_batch: Callable[[], None]) -> bool:
    """Copy what the index lacks, and make it where there is none; whether there is one."""
    if collection.copied_to is None:
        if collection.dimension > MOST_DIMENSIONS:
            return False
        with begin() as connection:
            if connection.dialect.name != "postgresql" or not _make(connection, collection):
                return False
    while True:
        on_batch()
        with begin() as connection:
            if _copy_some(connection, collection) < _BATCH:
                break
    if collection.copied_to is None:
        with begin() as connection:
            _index(connection, collection)
    with begin() as connection:
        # Whoever stores holds the collection's row (`collections.hold`): nobody does now, and whoever comes after this
        # transaction is given higher ids.
        connection.execute(select(collections.c.id).where(collections.c.id == collection.id).with_for_update())
        while _copy_some(connection, collection) == _BATCH:
            pass
        newest = select(func.coalesce(func.max(entries.c.id), 0)).where(entries.c.collection_id == collection.id)
        connection.execute(
            update(collections)
            .where(collections.c.id == collection.id)
            .values(copied_to=newest.scalar_subquery(), indexed_by=KIND)
        )
    return True


def drop(connection: Connection, collection: Collection) -> None:
    """Delete the index of a collection, if it has one."""
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"DROP TABLE IF EXISTS {_name(collection)}"))


def nearest(
    connection: Connection,
    collection: Collection,
    query: NDArray[np.float32],
    filters: Filters,
    most: int,
    also: Sequence[int],
) -> list[Found]:
    """See `pipeline.indexes.choice.nearest`."""
    copied = _table(collection)
    # Only numbers of ours are in this text, nothing of a user's.
    distance: ColumnElement[float] = copied.c.embedding.op("<#>", return_type=Double())(
        literal_column(f"'{_text(query)}'::vector")
    )
    conditions = filters.conditions()
    connection.execute(
        text("SELECT set_config('hnsw.ef_search', :ef, true), set_config('hnsw.iterative_scan', 'strict_order', true)"),
        {"ef": str(min(1000, max(EF_SEARCH, most)))},
    )
    wanted = select(copied.c.entry_id, (-distance).label("cosine"))
    if conditions:
        wanted = wanted.where(copied.c.entry_id.in_(select(entries.c.id).where(*conditions)))
    # Joined only after the limit: the planner would rather sort all than walk an index under a join.
    rows = _with_papers(connection, wanted.order_by(distance).limit(most))
    if len(rows) < most and conditions:
        # The index was left before enough fitted the filters: what fits them is then compared as a whole.
        chosen = wanted.cte("chosen").prefix_with("MATERIALIZED", dialect="postgresql")
        best = select(chosen).order_by(chosen.c.cosine.desc()).limit(most)
        rows = _with_papers(connection, best)
    found = {row[0]: row for row in rows}
    missing = [entry for entry in also if entry not in found]
    for some in slices(missing):
        others = select(copied.c.entry_id, (-distance).label("cosine")).where(copied.c.entry_id.in_(some))
        found.update((row[0], row) for row in _with_papers(connection, others))
    found.update((row[0], row) for row in uncopied_near(connection, collection, query, filters))
    return [found[entry] for entry in sorted(found)]


def _with_papers(connection: Connection, nearest: Select[Any]) -> list[Found]:
    found = nearest.subquery()
    query = select(found.c.entry_id, entries.c.paper_id, found.c.cosine).join(entries, entries.c.id == found.c.entry_id)
    return [(row[0], row[1], float(row[2])) for row in connection.execute(query)]


def _name(collection: Collection) -> str:
    return f"entry_vectors_{collection.id}"


def _table(collection: Collection) -> Table:
    return Table(
        _name(collection), MetaData(), Column("entry_id", BigInteger, primary_key=True), Column("embedding", Text)
    )


def _make(connection: Connection, collection: Collection) -> bool:
    """Make the table of an index; False when this PostgreSQL has no pgvector that would do."""
    version = connection.execute(
        text("SELECT default_version FROM pg_available_extensions WHERE name = 'vector'")
    ).scalar_one_or_none()
    if version is None or tuple(int(part) for part in version.split(".")[:2]) < _OLDEST:
        _log.warning(
            "the collection '%s' is searched without an index: this PostgreSQL has no pgvector from 0.8 on",
            collection.name,
        )
        return False
    try:
        with connection.begin_nested():
            connection.execute(text("CREATE EXTENSION IF NOT EXISTS vector"))
            connection.execute(
                text(
                    f"CREATE TABLE IF NOT EXISTS {_name(collection)} ("
                    "entry_id BIGINT PRIMARY KEY REFERENCES entries (id) ON DELETE CASCADE, "
                    f"embedding vector({collection.dimension}) NOT NULL)"
                )
            )
    except DBAPIError as error:
        _log.warning(
            "the collection '%s' is searched without an index: %s; let an administrator run CREATE EXTENSION vector "
            "in this database",
            collection.name,
            str(error.orig).splitlines()[0],
        )
        return False
    return True


def _index(connection: Connection, collection: Collection) -> None:
    """Made after the first copy, which is much quicker than growing it with each."""
    _take_turns(connection, collection)  # two at the same time would wait for each other's ANALYZE
    name = _name(collection)
    if connection.execute(select(func.to_regclass(f"{name}_hnsw"))).scalar_one() is not None:
        return
    connection.execute(text("SET LOCAL maintenance_work_mem = '256MB'"))
    connection.execute(text(f"CREATE INDEX {name}_hnsw ON {name} USING hnsw (embedding vector_ip_ops)"))
    connection.execute(text(f"ANALYZE {name}, entries"))


def _take_turns(connection: Connection, collection: Collection) -> None:
    """Wait until no other transaction works at the index of this collection."""
    connection.execute(
        text("SELECT pg_advisory_xact_lock(hashtext('celeriac.entry_vectors'), :id)"), {"id": collection.id}
    )


def _copy_some(connection: Connection, collection: Collection) -> int:
    """Copy a batch; how many there were. One process does at a time, the others find it done."""
    _take_turns(connection, collection)
    copied = _table(collection)
    lacking = (
        select(entries.c.id, entries.c.vector)
        .select_from(entries.outerjoin(copied, copied.c.entry_id == entries.c.id))
        .where(uncopied(collection), copied.c.entry_id.is_(None))
        .limit(_BATCH)
    )
    rows = connection.execute(lacking).all()
    if rows:
        driver: Any = connection.connection.driver_connection
        copy = f"COPY {_name(collection)} (entry_id, embedding) FROM STDIN (FORMAT BINARY)"
        with driver.cursor().copy(copy) as copying:
            for part in _binary(rows, collection.dimension):
                copying.write(part)
    return len(rows)


def _binary(rows: Sequence[Any], dimension: int) -> Iterator[bytes]:
    """Rows as PostgreSQL's binary COPY has them, vectors as pgvector's: big-endian float32 behind a head of 4 bytes."""
    import numpy as np

    yield b"PGCOPY\n\xff\r\n\0" + struct.pack("!ii", 0, 0)
    head = struct.pack("!ihh", 4 + 4 * dimension, dimension, 0)
    for entry, vector in rows:
        numbers = np.frombuffer(vector, dtype="<f4").astype(">f4").tobytes()
        yield struct.pack("!hiq", 2, 8, entry) + head + numbers
    yield struct.pack("!h", -1)


def _text(vector: NDArray[np.float32]) -> str:
    return "[" + ",".join(f"{number:.8g}" for number in vector.tolist()) + "]"
