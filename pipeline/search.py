"""Search: meaning and words together.

Each chunk has two scores from 0 to 1: the cosine of its vector and the query's, and the share of the query's words
that it covers (BM25 over the most that any text could score). What it is worth is their weighted sum, and a paper is
worth what its best chunk is. Nothing depends on what else was found, as it would with ranks or with scores stretched
to the best and the worst of an answer (`docs/adr/0025-hybrid-ranking.md` has the figures).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from sqlalchemy import Connection, select
from sqlalchemy.exc import OperationalError, ProgrammingError

from pipeline import collections, dense, lexical
from pipeline.embedding import ModelUnavailableError, embedder, model_of
from pipeline.filters import EVERYTHING, Filters, SearchError
from pipeline.snippets import snippet
from pipeline.tables import entries, papers, slices
from workflows.model.errors import CeleriacError, NotFoundError, StepError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import numpy as np
    from numpy.typing import NDArray

DEFAULT_COLLECTION = "papers"

Mode = Literal["hybrid", "dense", "lexical"]
MODES: tuple[Mode, ...] = ("hybrid", "dense", "lexical")

MAX_QUERY_CHARACTERS = 10_000
MAX_LIMIT = 1000

MEANING = 0.65
"""Weight of the cosine; the words have the rest."""

CANDIDATES = 2000
"""Chunks that the words of a query may bring in, at least; any other chunk stands by its meaning alone."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A paper that was found, with the chunk that speaks for it.

    Attributes:
        id: The paper's own id here, which no two papers share.
        paper_id: The id that the paper's source gives, unchanged.
        score: 1 at best; 0.65 times the cosine and 0.35 times the share of the query's words, by default.
        snippet: The sentence of the chunk with most of the query's words and what follows, at most 300 characters.
        highlights: Start and end of the query's words in the snippet, in characters.
        page: Page of the PDF from 1; None when the text came from a record.
        source: Where to read it: its URL or DOI, else its PDF, else where it was fetched from.
        run_id: The run that has stored the chunk; it may have been cleaned up since.
    """

    id: str
    paper_id: str
    title: str
    score: float
    snippet: str
    highlights: tuple[tuple[int, int], ...]
    section: str
    page: int | None
    source: str
    run_id: str | None


class Readable(Protocol):
    """What a search needs of a database: `workflows.db.database.Database` has it."""

    def connect(self) -> AbstractContextManager[Connection]:
        """A connection for reading."""
        ...


@dataclass(frozen=True, slots=True)
class Ranked:
    """An entry that speaks for its paper, and what it is worth."""

    entry: int
    score: float


def search(
    database: Readable,
    query: str,
    *,
    limit: int = 10,
    collection: str = DEFAULT_COLLECTION,
    mode: Mode = "hybrid",
    filters: Filters = EVERYTHING,
) -> list[Hit]:
    """The papers that fit a query best, best first, each paper once.

    Args:
        mode: By meaning and words together, by meaning alone (`dense`), or by words alone (`lexical`).
        filters: What is searched at all; the best `limit` of that are found.

    Raises:
        SearchError: the query is empty or too long, or the limit is not between 1 and 1000.
        NotFoundError: the collection holds nothing (yet).
    """
    words = " ".join(query.split())
    if not words or len(words) > MAX_QUERY_CHARACTERS:
        raise SearchError(
            "the query is empty" if not words else f"the query is longer than {MAX_QUERY_CHARACTERS} characters"
        )
    if not 1 <= limit <= MAX_LIMIT:
        raise SearchError(f"the limit {limit} is not between 1 and {MAX_LIMIT}")
    try:
        with database.connect() as connection:
            return _search(connection, words, limit, collection, mode, filters)
    except (OperationalError, ProgrammingError) as error:
        if re.search(r"no such table|does not exist|unable to open", str(error.orig)):
            raise _nothing_stored(collection) from error
        raise


def _search(connection: Connection, query: str, limit: int, collection: str, mode: Mode, filters: Filters) -> list[Hit]:
    live = collections.live(connection, collection)
    if live is None or collections.is_empty(connection, live):
        raise _nothing_stored(collection)
    if mode != "lexical":
        live.check(model_of(live.model))
    terms = lexical.terms_of(query)
    shares: lexical.Shares = {}
    if mode != "dense":
        shares = lexical.shares(connection, live, terms, filters, max(CANDIDATES, limit * 10))
    if mode == "lexical":
        ranked = _by_words(connection, shares)
    else:
        # A paper is worth its best entry, and the nearest ones may be those of a few papers.
        near = dense.nearest(
            connection, live, _vector_of(query, live.model), filters, most=max(200, limit * 10), also=list(shares)
        )
        weight = MEANING if mode == "hybrid" else 1.0
        ranked = best_of_papers(near.ids, near.papers, combined(near.ids, near.cosines, shares, weight), limit)
    return list(_hits(connection, ranked[:limit], terms))


def _vector_of(query: str, model: str) -> NDArray[np.float32]:
    try:
        return embedder(model).embed_query(query)
    except CeleriacError:
        raise
    except StepError as error:  # of a server that runs the model
        raise ModelUnavailableError(
            f"the query cannot be embedded: {error}", "see to the server of that model"
        ) from error


def combined(
    ids: NDArray[np.int64], cosines: NDArray[np.float32], shares: lexical.Shares, weight: float
) -> NDArray[np.float64]:
    """What each entry is worth; `ids` ascend, and an entry without a share has none of the query's words."""
    import numpy as np

    scores = weight * cosines.astype(np.float64)
    found = np.fromiter(shares, dtype=np.int64, count=len(shares))
    places = np.searchsorted(ids, found)
    there = places < len(ids)
    there[there] = ids[places[there]] == found[there]
    worth = np.fromiter(shares.values(), dtype=np.float64, count=len(shares))
    scores[places[there]] += (1 - weight) * worth[there]
    return scores


def best_of_papers(
    ids: NDArray[np.int64], of_papers: NDArray[np.object_], scores: NDArray[np.float64], limit: int
) -> list[Ranked]:
    """The best entry of each of the best papers; of equal ones the elder."""
    import numpy as np

    found: dict[str, Ranked] = {}
    for place in np.argsort(-scores, kind="stable").tolist():
        if len(found) == limit:
            break
        if of_papers[place] not in found:
            found[of_papers[place]] = Ranked(int(ids[place]), float(scores[place]))
    return list(found.values())


def _by_words(connection: Connection, shares: lexical.Shares) -> list[Ranked]:
    of_papers: dict[int, str] = {}
    for some in slices(list(shares)):
        query = select(entries.c.id, entries.c.paper_id).where(entries.c.id.in_(some))
        of_papers.update((row.id, row.paper_id) for row in connection.execute(query))
    best: dict[str, Ranked] = {}
    for entry, share in shares.items():
        if entry in of_papers:
            best.setdefault(of_papers[entry], Ranked(entry, share))
    return list(best.values())


def _hits(connection: Connection, ranked: Sequence[Ranked], terms: Sequence[str]) -> Iterator[Hit]:
    rows = {}
    for some in slices([one.entry for one in ranked]):
        query = (
            select(
                entries.c.id,
                entries.c.title,
                entries.c.text,
                entries.c.section,
                entries.c.page,
                entries.c.run_id,
                entries.c.paper_id,
                papers.c.external_id,
                papers.c.url,
                papers.c.doi,
                papers.c.pdf_path,
                papers.c.origin,
            )
            .join(papers, papers.c.id == entries.c.paper_id)
            .where(entries.c.id.in_(some))
        )
        rows.update({row.id: row for row in connection.execute(query)})
    for one in ranked:
        row = rows.get(one.entry)
        if row is not None:
            shown = snippet(row.text, terms)
            yield Hit(
                id=row.paper_id,
                paper_id=row.external_id,
                title=row.title,
                score=round(one.score, 6),
                snippet=shown.text,
                highlights=shown.spans,
                section=row.section,
                page=row.page,
                source=row.url or (f"https://doi.org/{row.doi}" if row.doi else None) or row.pdf_path or row.origin,
                run_id=row.run_id,
            )


def _nothing_stored(collection: str) -> NotFoundError:
    return NotFoundError(
        f"nothing is stored in the collection '{collection}' yet",
        "run `celeriac run literature-review` first, or name another collection",
    )
