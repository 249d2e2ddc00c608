"""The dense side of a search: how near the vectors of a collection are to the query's."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Connection, select

from pipeline.collections import Collection
from pipeline.filters import EVERYTHING, Filters
from pipeline.indexes import choice
from pipeline.stamps import Memory, memory_bytes, stamp
from pipeline.tables import entries

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vector = NDArray[np.float32]

_BLOCK = 10_000
"""Vectors that are in memory at once where a collection is too large to be kept."""


@dataclass(frozen=True, slots=True)
class Near:
    """Entries with their cosines, by ascending id.

    Attributes:
        ids: Of the entries; `papers` and `cosines` belong to them in this order.
    """

    ids: NDArray[np.int64]
    papers: NDArray[np.object_]
    cosines: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Matrix:
    """All vectors of a collection, one row each, by ascending id of their entry."""

    ids: NDArray[np.int64]
    papers: NDArray[np.object_]
    rows: NDArray[np.float32]


def nearest(
    connection: Connection, collection: Collection, query: Vector, filters: Filters, *, most: int, also: Sequence[int]
) -> Near:
    """At least the `most` nearest entries and those of `also`: by an index where there is one, else every entry."""
    found = choice.nearest(connection, collection, query, filters, most, also)
    return exact(connection, collection, query, filters) if found is None else _near(found)


def exact(connection: Connection, collection: Collection, query: Vector, filters: Filters) -> Near:
    """Every vector compared: one product of the matrix that this process keeps, or of one block after the other."""
    import numpy as np

    state = stamp(connection, collection)
    if state.entries * collection.dimension * 4 > memory_bytes():
        return _by_blocks(connection, collection, query, filters)
    matrix = _matrices.of(connection, collection, state)
    if not filters:
        return Near(matrix.ids, matrix.papers, matrix.rows @ query)
    allowed = select(entries.c.id).where(entries.c.collection_id == collection.id, *filters.conditions())
    chosen = np.isin(matrix.ids, np.fromiter(connection.execute(allowed).scalars(), dtype=np.int64))
    return Near(matrix.ids[chosen], matrix.papers[chosen], matrix.rows[chosen] @ query)


def _by_blocks(connection: Connection, collection: Collection, query: Vector, filters: Filters) -> Near:
    found: list[tuple[int, str, float]] = []
    for ids, of_papers, rows in _blocks(connection, collection, filters):
        found += zip(ids, of_papers, (rows @ query).tolist(), strict=True)
    return _near(found)


def _blocks(
    connection: Connection, collection: Collection, filters: Filters
) -> Iterator[tuple[list[int], list[str], NDArray[np.float32]]]:
    """Ids, papers and vectors, by ascending id, never more in memory than a block."""
    import numpy as np

    wanted = (
        select(entries.c.id, entries.c.paper_id, entries.c.vector)
        .where(entries.c.collection_id == collection.id, *filters.conditions())
        .order_by(entries.c.id)
        .limit(_BLOCK)
    )
    last = 0
    while rows := connection.execute(wanted.where(entries.c.id > last)).all():
        vectors = np.frombuffer(b"".join(row[2] for row in rows), dtype="<f4").reshape(len(rows), collection.dimension)
        yield [row[0] for row in rows], [row[1] for row in rows], vectors
        last = rows[-1][0]


def _near(found: Sequence[tuple[int, str, float]]) -> Near:
    import numpy as np

    return Near(
        np.array([row[0] for row in found], dtype=np.int64),
        np.array([row[1] for row in found], dtype=object),
        np.array([row[2] for row in found], dtype=np.float32),
    )


def _read(connection: Connection, collection: Collection) -> _Matrix:
    import numpy as np

    ids: list[int] = []
    of_papers: list[str] = []
    rows = np.zeros((0, collection.dimension), dtype=np.float32)
    for some_ids, some_papers, vectors in _blocks(connection, collection, EVERYTHING):
        ids += some_ids
        of_papers += (sys.intern(paper) for paper in some_papers)
        # Grown in place, so that the whole is never in memory twice.
        rows.resize((len(ids), collection.dimension), refcheck=False)
        rows[-len(vectors) :] = vectors
    return _Matrix(np.array(ids, dtype=np.int64), np.array(of_papers, dtype=object), rows)


def _weigh(matrix: _Matrix) -> int:
    return int(matrix.rows.nbytes + matrix.ids.nbytes) + 100 * len(matrix.papers)


_matrices = Memory(_read, _weigh)
