"""An index of a large collection's vectors on a Qdrant server of the operator's: `pip install 'celeriac[qdrant]'`.

It follows `entries` and is never the truth. A point has the id of its entry, which is given once and never changes,
and nothing but its vector: whether an entry is still there, whose paper it is and whether it fits the filters is asked
of the database for every hit. So an entry that was deleted is never found, however long its point stays, and what the
server has lost is found again after the next `store` (`docs/adr/0027-where-vectors-lie.md`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, Connection, func, or_, select, update

from pipeline.filters import Filters
from pipeline.ids import digest
from pipeline.indexes.uncopied import Begin, Found, compared, uncopied_near
from pipeline.tables import collections, entries, slices
from workflows.model.errors import PermanentError
from workflows.settings import Config

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from qdrant_client import QdrantClient

    from pipeline.collections import Collection

KIND = "qdrant"
"""As `collections.indexed_by` names it."""

URL_VARIABLE = "CELERIAC_QDRANT_URL"
KEY_VARIABLE = "CELERIAC_QDRANT_KEY"
PREFIX_VARIABLE = "CELERIAC_QDRANT_PREFIX"

EF_SEARCH = 200
"""Candidates that a search keeps in view: recall against speed."""

_TIMEOUT_SECONDS = 10
_BATCH_NUMBERS = 200_000
"""Numbers of a request that copies vectors: some 2 MB of JSON."""

_PAGE = 10_000
"""Ids of a request that lists them."""

_WIDEN = 4
_WIDEST = 64
"""A search asks for so many times more where hits are gone or do not fit, and gives up at so many times."""

_log = logging.getLogger(__name__)


class QdrantMissingError(PermanentError):
    """A Qdrant server is named, and its client is not installed."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server, and what the names of our collections on it begin with."""

    client: QdrantClient
    prefix: str

    def name_of(self, collection: Collection) -> str:
        """What a generation is called on the server: no other one, of any installation, is called so."""
        return f"{self.prefix}_{collection.id}_{digest(f'{collection.name} {collection.created_at!r}')[:12]}"


def server() -> Server | None:
    """The server that the settings name; None without one.

    Raises:
        QdrantMissingError: its client is not installed.
    """
    env = Config.from_env().env
    url = env.get(URL_VARIABLE)
    return _server(url, env.get(KEY_VARIABLE) or None, env.get(PREFIX_VARIABLE) or "celeriac") if url else None


@cache
def _server(url: str, key: str | None, prefix: str) -> Server:
    try:
        from qdrant_client import QdrantClient
    except ImportError as error:
        raise QdrantMissingError(
            f"{URL_VARIABLE} names a Qdrant server, and its client is not installed: pip install 'celeriac[qdrant]'"
        ) from error
    client = QdrantClient(url=url, api_key=key, timeout=_TIMEOUT_SECONDS, check_compatibility=False)
    return Server(client, prefix)


def follow(server: Server, begin: Begin, collection: Collection, on_batch: Callable[[], None]) -> bool:
    """Copy what the server lacks and delete what it has too much; whether it serves this collection now.

    A server that does not answer is told of in the log: what is stored is found without it, more slowly.
    """
    from qdrant_client.http.exceptions import ApiException

    try:
        return _follow(server, begin, collection, on_batch)
    except ApiException as error:
        _log.warning(
            "the collection '%s' was not copied to Qdrant: %s; searches compare what it lacks exactly, and the next "
            "`store` tries again",
            collection.name,
            _said(error),
        )
        return False


def nearest(
    server: Server,
    connection: Connection,
    collection: Collection,
    query: NDArray[np.float32],
    filters: Filters,
    most: int,
    also: Sequence[int],
) -> list[Found] | None:
    """See `pipeline.indexes.choice.nearest`; None when the server does not answer, or has too little that fits."""
    from qdrant_client.http.exceptions import ApiException

    try:
        near = _hits(server, connection, collection, query, filters, most)
    except ApiException as error:
        _log.warning("Qdrant was not asked about the collection '%s': %s", collection.name, _said(error))
        return None
    if near is None:
        return None
    found = {row[0]: row for row in near}
    for some in slices([entry for entry in also if entry not in found]):
        of_words = (entries.c.collection_id == collection.id) & entries.c.id.in_(some)
        found.update((row[0], row) for row in compared(connection, query, of_words))
    found.update((row[0], row) for row in uncopied_near(connection, collection, query, filters))
    return [found[entry] for entry in sorted(found)]


def drop(server: Server, collection: Collection) -> None:
    """Delete a generation's points, if it has any there."""
    from qdrant_client.http.exceptions import ApiException

    name = server.name_of(collection)
    try:
        server.client.delete_collection(name)
    except ApiException as error:
        if not _is_missing(error):
            _log.warning("the collection '%s' stays on the Qdrant server: %s", name, _said(error))


def _hits(
    server: Server,
    connection: Connection,
    collection: Collection,
    query: NDArray[np.float32],
    filters: Filters,
    most: int,
) -> list[Found] | None:
    """At least `most` entries that are there and fit, or all that the server has; None when it would take too long."""
    from qdrant_client import models

    limit = most
    while limit <= most * _WIDEST:
        points = server.client.query_points(
            server.name_of(collection),
            query=query.tolist(),
            limit=limit,
            search_params=models.SearchParams(hnsw_ef=max(EF_SEARCH, limit)),
            with_payload=False,
        ).points
        scores = {int(point.id): float(point.score) for point in points}
        found: list[Found] = []
        for some in slices(list(scores)):
            there = select(entries.c.id, entries.c.paper_id).where(
                entries.c.id.in_(some), entries.c.collection_id == collection.id, *filters.conditions()
            )
            found += ((row[0], row[1], scores[row[0]]) for row in connection.execute(there))
        if len(found) >= most or len(points) < limit:
            return found
        limit *= _WIDEN
    return None


def _follow(server: Server, begin: Begin, collection: Collection, on_batch: Callable[[], None]) -> bool:
    client, name = server.client, server.name_of(collection)
    if not client.collection_exists(name):
        # Before the server has an empty one: a search that finds none compares exactly.
        with begin() as connection:
            _set(connection, collection, None)
        _make(server, collection)
    with begin() as connection:
        copied_to, settled = _borders(connection, collection)
    if settled is None:
        return False
    after = copied_to or 0
    while rows := _read(begin, collection, after, settled):
        on_batch()
        _put(server, collection, rows)
        after = rows[-1][0]
    _even_out(server, begin, collection, settled, on_batch)
    with begin() as connection:
        _set(connection, collection, settled)
    return True


def _make(server: Server, collection: Collection) -> None:
    from qdrant_client import models
    from qdrant_client.http.exceptions import UnexpectedResponse

    # Vectors have length 1, so that the product is the cosine.
    parameters = models.VectorParams(size=collection.dimension, distance=models.Distance.DOT)
    try:
        server.client.create_collection(server.name_of(collection), vectors_config=parameters)
    except UnexpectedResponse:
        if not server.client.collection_exists(server.name_of(collection)):  # else another `store` was quicker
            raise


def _borders(connection: Connection, collection: Collection) -> tuple[int | None, int | None]:
    """Up to which id the server has all entries, and up to which one none will come any more.

    Whoever stores holds the collection's row (`collections.hold`): nobody does now, and whoever comes after this
    transaction is given higher ids. The second is None when the generation is gone.
    """
    held = select(collections.c.copied_to).where(collections.c.id == collection.id).with_for_update()
    row = connection.execute(held).first()
    if row is None:
        return None, None
    newest = select(func.coalesce(func.max(entries.c.id), 0)).where(entries.c.collection_id == collection.id)
    return row[0], connection.execute(newest).scalar_one()


def _set(connection: Connection, collection: Collection, copied_to: int | None) -> None:
    """Say up to which id the server has all; a `store` that was slower takes nothing back from a quicker one."""
    changed = update(collections).where(collections.c.id == collection.id)
    if copied_to is not None:
        changed = changed.where(or_(collections.c.copied_to.is_(None), collections.c.copied_to < copied_to))
    connection.execute(changed.values(copied_to=copied_to, indexed_by=None if copied_to is None else KIND))


def _read(begin: Begin, collection: Collection, after: int, settled: int) -> Sequence[tuple[int, bytes]]:
    """The next batch of entries to copy, by id."""
    wanted = (
        select(entries.c.id, entries.c.vector)
        .where(_between(collection, after, settled))
        .order_by(entries.c.id)
        .limit(_batch(collection))
    )
    with begin() as connection:
        return [(row[0], row[1]) for row in connection.execute(wanted)]


def _put(server: Server, collection: Collection, rows: Sequence[tuple[int, bytes]]) -> None:
    import numpy as np
    from qdrant_client import models

    vectors = np.frombuffer(b"".join(row[1] for row in rows), dtype="<f4").reshape(len(rows), collection.dimension)
    batch = models.Batch(ids=[row[0] for row in rows], vectors=vectors.tolist())
    server.client.upsert(server.name_of(collection), points=batch)


def _even_out(server: Server, begin: Begin, collection: Collection, settled: int, on_batch: Callable[[], None]) -> None:
    """Delete points whose entries are gone, and copy once more what the server has lost.

    Every entry up to `settled` was copied at some time, so as many points as entries means the same ones.
    """
    from qdrant_client import models

    client, name = server.client, server.name_of(collection)
    with begin() as connection:
        count = select(func.count()).where(_between(collection, 0, settled))
        wanted = connection.execute(count).scalar_one()
    if client.count(name, exact=True).count == wanted:
        return
    last = 0
    for ids in _pages(server, collection):
        on_batch()
        # What lies between two pages is compared, too: it may be what the server has lost.
        up_to = max(ids[-1], last) if ids else settled
        with begin() as connection:
            between = select(entries.c.id).where(_between(collection, last, min(up_to, settled)))
            there = set(connection.execute(between).scalars())
        # An id is given once: what has no entry now will never have one. Above `settled` another one is at work.
        gone = [point for point in ids if point not in there and point <= settled]
        if gone:
            client.delete(name, points_selector=models.PointIdsList(points=list(gone)))
        _put_again(server, begin, collection, sorted(there.difference(ids)))
        last = up_to


def _pages(server: Server, collection: Collection) -> Iterator[list[int]]:
    """Ids of all points, ascending; an empty page is the last."""
    offset: int | None = None
    while True:
        points, following = server.client.scroll(
            server.name_of(collection), limit=_PAGE, offset=offset, with_payload=False, with_vectors=False
        )
        ids = sorted(int(point.id) for point in points)
        if ids:
            yield ids
        if following is None:
            break
        offset = int(str(following))
    yield []


def _put_again(server: Server, begin: Begin, collection: Collection, lost: Sequence[int]) -> None:
    size = _batch(collection)
    for start in range(0, len(lost), size):
        wanted = select(entries.c.id, entries.c.vector).where(entries.c.id.in_(lost[start : start + size]))
        with begin() as connection:
            rows = [(row[0], row[1]) for row in connection.execute(wanted)]
        if rows:
            _put(server, collection, rows)


def _between(collection: Collection, after: int, up_to: int) -> ColumnElement[bool]:
    return (entries.c.collection_id == collection.id) & (entries.c.id > after) & (entries.c.id <= up_to)


def _batch(collection: Collection) -> int:
    return max(1, min(500, _BATCH_NUMBERS // collection.dimension))


def _is_missing(error: Exception) -> bool:
    return getattr(error, "status_code", None) == 404


def _said(error: Exception) -> str:
    """What went wrong, in one line without what was sent."""
    status = getattr(error, "status_code", None)
    if status in (401, 403):
        return f"it refused the key ({status}); set {KEY_VARIABLE}"
    if status is not None:
        return f"it answered {status}"
    return f"it did not answer ({str(getattr(error, 'source', error))[:200]}); is {URL_VARIABLE} right?"
