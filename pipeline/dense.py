"""The dense side of a search: how near the vectors of a collection are to the query's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Connection, select

from pipeline.collections import Collection
from pipeline.filters import Filters
from pipeline.stamps import Memory
from pipeline.tables import entries

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vector = NDArray[np.float32]


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


def exact(connection: Connection, collection: Collection, query: Vector, filters: Filters) -> Near:
    """Every vector compared: one product of the matrix that this process keeps in memory."""
    import numpy as np

    matrix = _matrices.of(connection, collection)
    if not filters:
        return Near(matrix.ids, matrix.papers, matrix.rows @ query)
    allowed = select(entries.c.id).where(entries.c.collection_id == collection.id, *filters.conditions())
    chosen = np.isin(matrix.ids, np.fromiter(connection.execute(allowed).scalars(), dtype=np.int64))
    return Near(matrix.ids[chosen], matrix.papers[chosen], matrix.rows[chosen] @ query)


def _read(connection: Connection, collection: Collection) -> _Matrix:
    import numpy as np

    query = (
        select(entries.c.id, entries.c.paper_id, entries.c.vector)
        .where(entries.c.collection_id == collection.id)
        .order_by(entries.c.id)
    )
    rows = connection.execute(query).all()
    return _Matrix(
        np.array([row[0] for row in rows], dtype=np.int64),
        np.array([row[1] for row in rows], dtype=object),
        np.frombuffer(b"".join(row[2] for row in rows), dtype="<f4").reshape(len(rows), collection.dimension),
    )


_matrices = Memory(_read)
