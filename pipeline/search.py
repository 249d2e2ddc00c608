"""Search: meaning and words together.

The dense ranking compares the query's vector with every vector of the collection, exactly; the lexical one is BM25.
Both are rankings of papers (a paper stands where its best chunk stands) and are fused by reciprocal rank. The lexical
one counts as much as its best chunk covers the query: where a query is a paraphrase, the few words that it happens to
share with other papers must not outvote its meaning (`docs/adr/0003-research-store.md` has the figures).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from sqlalchemy import ARRAY, Connection, Text, bindparam, select, text
from sqlalchemy.exc import OperationalError, ProgrammingError

from pipeline import collections
from pipeline.embedding import EmbeddingModel, embedder
from pipeline.tables import entries, papers, slices
from workflows.model.errors import CeleriacError, NotFoundError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

DEFAULT_COLLECTION = "papers"

Mode = Literal["hybrid", "dense", "lexical"]
MODES: tuple[Mode, ...] = ("hybrid", "dense", "lexical")

MAX_QUERY_CHARACTERS = 10_000
MAX_LIMIT = 1000
RRF_K = 60
"""Constant of reciprocal rank fusion: `score = sum of 1 / (60 + rank)`."""

CANDIDATES = 200
"""Papers of each ranking that take part in the fusion, at least."""

SNIPPET_CHARACTERS = 300

_MAX_TERMS = 64
_BM25_K1, _BM25_B = 1.2, 0.75
_WORD = re.compile(r"\w+")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9(\"'])")
_STOP_WORDS = frozenset(
    _WORD.findall(
        """
        a about above after again all also am an and any are as at be because been before being below between both but
        by can could did do does doing down during each few for from further had has have having he her here hers him
        his how i if in into is it its just me more most my no nor not of off on once only or other our out over own
        same she should so some such than that the their them then there these they this those through to too under
        until up very was we were what when where which while who whom why will with would you your
        """
    )
)


class SearchError(CeleriacError):
    """The search was asked something that it cannot answer."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A paper that was found, with the chunk that speaks for it.

    Attributes:
        paper_id: The id that the paper's source gives, unchanged.
        score: Fused rank: 2/61 at best, comparable within one answer only.
        snippet: The part of the chunk that has most of the query's words, at most 300 characters.
        page: Page of the PDF from 1; None when the text came from a record.
        source: Where to read it: its URL or DOI, else its PDF, else where it was fetched from.
        run_id: The run that has stored the chunk; it may have been cleaned up since.
    """

    paper_id: str
    title: str
    score: float
    snippet: str
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
    """An entry in a ranking."""

    entry: int
    paper: str


@dataclass(frozen=True, slots=True)
class Ranking:
    """Entries, best first.

    Attributes:
        weight: What a place in it counts, from 0 to 1.
    """

    entries: Sequence[Ranked]
    weight: float = 1.0

    def papers(self, most: int) -> Ranking:
        """The best entry of each paper, at most `most` papers."""
        best: dict[str, Ranked] = {}
        for ranked in self.entries:
            if len(best) == most:
                break
            best.setdefault(ranked.paper, ranked)
        return Ranking(list(best.values()), self.weight)


def search(
    database: Readable,
    query: str,
    *,
    limit: int = 10,
    collection: str = DEFAULT_COLLECTION,
    mode: Mode = "hybrid",
) -> list[Hit]:
    """The papers that fit a query best, best first, each paper once.

    Args:
        mode: By meaning and words together, by meaning alone (`dense`), or by words alone (`lexical`).

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
            return _search(connection, words, limit, collection, mode)
    except (OperationalError, ProgrammingError) as error:
        if re.search(r"no such table|does not exist|unable to open", str(error.orig)):
            raise _nothing_stored(collection) from error
        raise


def _search(connection: Connection, query: str, limit: int, collection: str, mode: Mode) -> list[Hit]:
    live = collections.live(connection, collection)
    if live is None:
        raise _nothing_stored(collection)
    model = embedder().model
    live.check(model)
    candidates = max(CANDIDATES, limit)
    dense = _dense(connection, query, live.id, model)
    if not dense.entries:
        raise _nothing_stored(collection)
    words = dict.fromkeys(_WORD.findall(query.lower()))
    terms = [word for word in words if word not in _STOP_WORDS][:_MAX_TERMS]
    bm25 = _bm25_sqlite if connection.dialect.name == "sqlite" else _bm25_postgresql
    lexical = bm25(connection, terms, live.id, candidates) if terms else Ranking([])
    rankings = {"hybrid": [dense, lexical], "dense": [dense], "lexical": [lexical]}[mode]
    fused = fuse([ranking.papers(candidates) for ranking in rankings])[:limit]
    return _hits(connection, fused, terms)


def fuse(rankings: Sequence[Ranking]) -> list[tuple[Ranked, float]]:
    """Reciprocal rank fusion by paper; the entry that speaks for a paper is that of the ranking where it stands best.

    Equal scores keep the order of the first ranking that names them.
    """
    scores: dict[str, float] = {}
    best: dict[str, tuple[int, Ranked]] = {}
    for ranking in rankings:
        for rank, ranked in enumerate(ranking.entries, start=1):
            scores[ranked.paper] = scores.get(ranked.paper, 0.0) + ranking.weight / (RRF_K + rank)
            if ranked.paper not in best or rank < best[ranked.paper][0]:
                best[ranked.paper] = (rank, ranked)
    order = sorted(scores, key=lambda paper: -scores[paper])
    return [(best[paper][1], scores[paper]) for paper in order]


def snippet(chunk: str, terms: Sequence[str], most: int = SNIPPET_CHARACTERS) -> str:
    """The sentences of a chunk around the one with most of the terms, at most `most` characters."""
    sentences = _SENTENCE_END.split(" ".join(chunk.split()))
    wanted = {_stem(term) for term in terms}
    counts = [len(wanted.intersection(map(_stem, _WORD.findall(sentence.lower())))) for sentence in sentences]
    first = last = counts.index(max(counts))
    shown = sentences[first]
    while last + 1 < len(sentences) and len(shown) + 1 + len(sentences[last + 1]) <= most:
        last += 1
        shown = f"{shown} {sentences[last]}"
    if len(shown) > most:
        shown = shown[: most - 1].rsplit(" ", 1)[0] + "\u2026"
    return shown


def _dense(connection: Connection, query: str, collection: int, model: EmbeddingModel) -> Ranking:
    """Entries by cosine, every vector compared."""
    import numpy as np

    rows = connection.execute(
        select(entries.c.id, entries.c.paper_id, entries.c.vector).where(entries.c.collection_id == collection)
    ).all()
    if not rows:
        return Ranking([])
    matrix = np.frombuffer(b"".join(row[2] for row in rows), dtype="<f4").reshape(len(rows), model.dimension)
    similarities = matrix @ embedder().embed([query])[0]
    order = np.argsort(-similarities, kind="stable")
    return Ranking([Ranked(rows[index][0], rows[index][1]) for index in order.tolist()])


_SQLITE_BM25 = text(
    """
    SELECT entries.id, entries.paper_id
      FROM entries_fts JOIN entries ON entries.id = entries_fts.rowid
     WHERE entries_fts MATCH :query AND entries.collection_id = :collection
     ORDER BY bm25(entries_fts), entries.id
     LIMIT :most
    """
)


_SQLITE_HOLDERS = text("SELECT count(*) FROM entries_fts WHERE entries_fts MATCH :query")

_SQLITE_HOLDS = text("SELECT count(*) FROM entries_fts WHERE entries_fts MATCH :query AND rowid = :entry")

_SQLITE_TOTAL = text("SELECT count(*) FROM entries")


def _bm25_sqlite(connection: Connection, terms: Sequence[str], collection: int, most: int) -> Ranking:
    # Each word is a quoted string, so nothing in a query is syntax of FTS5. A paper may have several chunks.
    total = connection.execute(_SQLITE_TOTAL).scalar_one()
    holders = {f'"{term}"': connection.execute(_SQLITE_HOLDERS, {"query": f'"{term}"'}).scalar_one() for term in terms}
    weights = {word: rarity(count, total) for word, count in holders.items()}
    telling = telling_words({word: weights[word] for word, count in holders.items() if count})
    if not telling:
        return Ranking([])
    query = {"query": " OR ".join(telling), "collection": collection, "most": most * 10}
    order = [Ranked(row[0], row[1]) for row in connection.execute(_SQLITE_BM25, query)]
    if not order:
        return Ranking([])
    held = [
        connection.execute(_SQLITE_HOLDS, {"query": word, "entry": order[0].entry}).scalar_one() > 0 for word in weights
    ]
    return Ranking(order, coverage(list(weights.values()), held))


def rarity(holders: int, total: int) -> float:
    """BM25's weight of a word that `holders` of `total` texts have; never negative."""
    return math.log(1 + (total - holders + 0.5) / (holders + 0.5))


def coverage(rarities: Sequence[float], held: Sequence[bool]) -> float:
    """The share of a query, its words weighted by rarity, that a text holds: from 0 to 1."""
    whole = sum(rarities)
    return sum(weight for weight, has in zip(rarities, held, strict=True) if has) / whole if whole else 0.0


_POSTGRESQL_LEXEMES = text("SELECT array_agg(lexeme) FROM unnest(to_tsvector('english', :words))")

_POSTGRESQL_HOLDERS = text(
    """
    SELECT lexeme,
           (SELECT count(*) FROM entries
             WHERE collection_id = :collection AND document @@ CAST(quote_literal(lexeme) AS tsquery)) AS holders
      FROM unnest(:lexemes) AS lexeme
    """
).bindparams(bindparam("lexemes", type_=ARRAY(Text)))

_POSTGRESQL_TERMS = text(
    """
    SELECT entries.id, entries.paper_id, length(entries.document) AS size, term.lexeme,
           cardinality(term.positions) AS frequency
      FROM entries CROSS JOIN LATERAL unnest(entries.document) AS term
     WHERE entries.collection_id = :collection
       AND entries.document @@ CAST(:query AS tsquery)
       AND term.lexeme = ANY(:lexemes)
    """
).bindparams(bindparam("lexemes", type_=ARRAY(Text)))

_POSTGRESQL_TOTALS = text(
    "SELECT count(*) AS entries, coalesce(avg(length(document)), 1) AS size"
    " FROM entries WHERE collection_id = :collection"
)


def _bm25_postgresql(connection: Connection, terms: Sequence[str], collection: int, most: int) -> Ranking:
    """BM25 over what `tsvector` keeps; PostgreSQL's own `ts_rank` knows no rarity of words and ranks far worse."""
    lexemes = connection.execute(_POSTGRESQL_LEXEMES, {"words": " ".join(terms)}).scalar_one()
    if not lexemes:
        return Ranking([])
    totals = connection.execute(_POSTGRESQL_TOTALS, {"collection": collection}).one()
    counted = connection.execute(_POSTGRESQL_HOLDERS, {"collection": collection, "lexemes": lexemes}).all()
    weights = {row.lexeme: rarity(row.holders, totals.entries) for row in counted}
    telling = telling_words({row.lexeme: weights[row.lexeme] for row in counted if row.holders})
    if not telling:
        return Ranking([])
    # Lexemes of words made of \w only: quoted, they are no syntax of tsquery.
    query = " | ".join(f"'{lexeme}'" for lexeme in telling)
    rows = connection.execute(_POSTGRESQL_TERMS, {"collection": collection, "query": query, "lexemes": lexemes}).all()
    scores: dict[Ranked, float] = {}
    for row in rows:
        ranked = Ranked(row.id, row.paper_id)
        norm = _BM25_K1 * (1 - _BM25_B + _BM25_B * row.size / float(totals.size))
        part = weights[row.lexeme] * row.frequency * (_BM25_K1 + 1) / (row.frequency + norm)
        scores[ranked] = scores.get(ranked, 0.0) + part
    order = sorted(scores, key=lambda ranked: (-scores[ranked], ranked.entry))[: most * 10]
    in_best = {row.lexeme for row in rows if row.id == order[0].entry}
    return Ranking(order, coverage(list(weights.values()), [lexeme in in_best for lexeme in weights]))


def telling_words(weights: Mapping[str, float]) -> list[str]:
    """The words but those that nearly every text has: they would make all texts candidates and tell none apart."""
    least = max(weights.values(), default=0.0) / 5
    return [word for word, weight in weights.items() if weight >= least]


def _hits(connection: Connection, fused: Sequence[tuple[Ranked, float]], terms: Sequence[str]) -> list[Hit]:
    rows = {}
    for some in slices([ranked.entry for ranked, _ in fused]):
        query = (
            select(
                entries.c.id,
                entries.c.title,
                entries.c.text,
                entries.c.section,
                entries.c.page,
                entries.c.run_id,
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
    return [
        Hit(
            paper_id=row.external_id,
            title=row.title,
            score=round(score, 6),
            snippet=snippet(row.text, terms),
            section=row.section,
            page=row.page,
            source=row.url or (f"https://doi.org/{row.doi}" if row.doi else None) or row.pdf_path or row.origin,
            run_id=row.run_id,
        )
        for ranked, score in fused
        if (row := rows.get(ranked.entry)) is not None
    ]


def _stem(word: str) -> str:
    """A crude stem, good enough to choose a sentence to show."""
    return word[:5] if len(word) > 5 else word.removesuffix("s")


def _nothing_stored(collection: str) -> NotFoundError:
    return NotFoundError(
        f"nothing is stored in the collection '{collection}' yet",
        "run `celeriac run literature-review` first, or name another collection",
    )
