"""What an index has not got yet: entries above the id up to which it has all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, Connection, select

from pipeline.filters import Filters
from pipeline.tables import entries

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.collections import Collection

Begin = Callable[[], AbstractContextManager[Connection]]
"""Opens a transaction."""

Found = tuple[int, str, float]
"""Id of an entry, id of its paper, cosine."""


def uncopied(collection: Collection) -> ColumnElement[bool]:
    """Entries that may not be in the index: all while it is being made, then those since the last `store` ended."""
    return (entries.c.collection_id == collection.id) & (entries.c.id > (collection.copied_to or 0))


def compared(connection: Connection, query: NDArray[np.float32], *conditions: ColumnElement[bool]) -> Iterator[Found]:
    """Entries that fulfil the conditions, their vectors read from their rows."""
    import numpy as np

    wanted = select(entries.c.id, entries.c.paper_id, entries.c.vector).where(*conditions)
    for row in connection.execute(wanted):
        yield row[0], row[1], float(np.frombuffer(row[2], dtype="<f4") @ query)


def uncopied_near(
    connection: Connection, collection: Collection, query: NDArray[np.float32], filters: Filters
) -> Iterator[Found]:
    """What the index cannot know, compared exactly."""
    return compared(connection, query, uncopied(collection), *filters.conditions())
