"""Which index a collection has: Qdrant where the operator names a server of it, else pgvector, else none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sqlalchemy import Connection, update

from pipeline.filters import Filters
from pipeline.indexes import pgvector, qdrant
from pipeline.indexes.uncopied import Begin, Found
from pipeline.tables import collections
from workflows.settings import Config

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.collections import Collection

LEAST_VARIABLE = "CELERIAC_INDEX_FROM"
LEAST_ENTRIES = 20_000
"""A collection with fewer is compared exactly in memory, which is quicker."""


def follow(begin: Begin, collection: Collection, count: int, on_batch: Callable[[], None] = lambda: None) -> bool:
    """Copy what the index lacks, and make the index when the collection is large enough; whether there is one.

    Args:
        begin: Opens a transaction.
        count: Entries of the collection.
        on_batch: Called between transactions.
    """
    server = qdrant.server()
    kind = qdrant.KIND if server is not None else pgvector.KIND
    if collection.indexed_by not in (None, kind):
        with begin() as connection:
            _leave(connection, collection)
        collection = replace(collection, copied_to=None, indexed_by=None)
    if collection.copied_to is None and count < Config.from_env().integer(LEAST_VARIABLE, LEAST_ENTRIES):
        return False
    if server is not None:
        return qdrant.follow(server, begin, collection, on_batch)
    return pgvector.follow(begin, collection, on_batch)


def nearest(
    connection: Connection,
    collection: Collection,
    query: NDArray[np.float32],
    filters: Filters,
    most: int,
    also: Sequence[int],
) -> list[Found] | None:
    """The nearest entries and those of `also`, with paper and cosine, by id; None without an index that answers.

    Entries that are not copied yet are among them, however near they are.
    """
    if collection.copied_to is None:
        return None
    if collection.indexed_by == qdrant.KIND:
        server = qdrant.server()
        return None if server is None else qdrant.nearest(server, connection, collection, query, filters, most, also)
    return pgvector.nearest(connection, collection, query, filters, most, also)


def drop_from_server(collection: Collection) -> None:
    """Delete what a server of the operator's has of a collection; outside of a transaction, it may take its time."""
    server = qdrant.server()
    if server is not None:
        qdrant.drop(server, collection)


def drop(connection: Connection, collection: Collection) -> None:
    """Delete what the database has of a collection's index."""
    pgvector.drop(connection, collection)


def _leave(connection: Connection, collection: Collection) -> None:
    """The operator chose the other kind: searches compare exactly until it is made."""
    pgvector.drop(connection, collection)
    left = update(collections).where(collections.c.id == collection.id)
    connection.execute(left.values(copied_to=None, indexed_by=None))
