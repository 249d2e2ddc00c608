"""The lexical side of a search: BM25, as the share of the most that any text could score for the query.

A text that had every word of the query, and over and over, would score the sum of the words' rarities (times a
constant). Divided by that, a score says how much of the query a text covers: 0 to 1, comparable between queries and
with a cosine, and low for all texts where a query shares only common words with them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Connection,
    Double,
    Text,
    bindparam,
    column,
    literal_column,
    select,
    table,
    text,
)

from pipeline.collections import Collection
from pipeline.filters import Filters
from pipeline.stamps import Memory
from pipeline.tables import entries

Shares = dict[int, float]
"""Entries by id, with the share of the query that they cover, best first."""

WORD = re.compile(r"\w+")

_MAX_TERMS = 64
_BM25_K1, _BM25_B = 1.2, 0.75
"""As FTS5 has them built in."""

_STOP_WORDS = frozenset(
    WORD.findall(
        """
        a about above after again all also am an and any are as at be because been before being below between both but
        by can could did do does doing down during each few for from further had has have having he her here hers him
        his how i if in into is it its just me more most my no nor not of off on once only or other our out over own
        same she should so some such than that the their them then there these they this those through to too under
        until up very was we were what when where which while who whom why will with would you your
        """
    )
)


def terms_of(query: str) -> list[str]:
    """The words of a query that say something, each once, in order."""
    words = dict.fromkeys(WORD.findall(query.lower()))
    return [word for word in words if word not in _STOP_WORDS][:_MAX_TERMS]


def shares(connection: Connection, collection: Collection, terms: Sequence[str], filters: Filters, most: int) -> Shares:
    """The entries that cover most of a query's words, `most` at most."""
    if not terms:
        return {}
    rank = _sqlite if connection.dialect.name == "sqlite" else _postgresql
    return rank(connection, collection, terms, filters, most)


def rarity(holders: int, total: int) -> float:
    """BM25's weight of a word that `holders` of `total` texts have; never negative."""
    return math.log(1 + (total - holders + 0.5) / (holders + 0.5))


def telling_words(weights: Mapping[str, float]) -> list[str]:
    """The words but those that nearly every text has: they would make all texts candidates and tell none apart."""
    least = max(weights.values(), default=0.0) / 5
    return [word for word, weight in weights.items() if weight >= least]


# SQLite

_SQLITE_HOLDERS = text("SELECT count(*) FROM entries_fts WHERE entries_fts MATCH :query")

_SQLITE_TOTAL = text("SELECT count(*) FROM entries")


def _sqlite(
    connection: Connection, collection: Collection, terms: Sequence[str], filters: Filters, most: int
) -> Shares:
    # Each word is a quoted string, so nothing in a query is syntax of FTS5. Both counts are of all collections,
    # as the statistics of FTS5 itself are.
    total = connection.execute(_SQLITE_TOTAL).scalar_one()
    holders = {f'"{term}"': connection.execute(_SQLITE_HOLDERS, {"query": f'"{term}"'}).scalar_one() for term in terms}
    weights = {word: rarity(count, total) for word, count in holders.items()}
    telling = telling_words({word: weights[word] for word, count in holders.items() if count})
    whole = sum(weights.values()) * (_BM25_K1 + 1)
    if not telling:
        return {}
    words = table("entries_fts", column("rowid"))
    score: ColumnElement[float] = literal_column("bm25(entries_fts)", Double)
    query = (
        select(entries.c.id, -score / whole)
        .select_from(words.join(entries, entries.c.id == words.c.rowid))
        .where(text("entries_fts MATCH :words"), entries.c.collection_id == collection.id, *filters.conditions())
        .order_by(score, entries.c.id)
        .limit(most)
    )
    return {row[0]: row[1] for row in connection.execute(query, {"words": " OR ".join(telling)})}


# PostgreSQL, whose own ts_rank knows no rarity of words and ranks far worse

_POSTGRESQL_LEXEMES = text("SELECT array_agg(lexeme) FROM unnest(to_tsvector('english', :words))")

_POSTGRESQL_HOLDERS = text(
    """
    SELECT lexeme,
           (SELECT count(*) FROM entries
             WHERE collection_id = :collection AND document @@ CAST(quote_literal(lexeme) AS tsquery)) AS holders
      FROM unnest(:lexemes) AS lexeme
    """
).bindparams(bindparam("lexemes", type_=ARRAY(Text)))

_POSTGRESQL_SHARE = text(
    """
    (SELECT sum(asked.weight * cardinality(term.positions)
                / (cardinality(term.positions) + :k1 * (1 - :b + :b * length(entries.document) / :size)))
       FROM unnest(entries.document) AS term
       JOIN unnest(CAST(:lexemes AS text[]), CAST(:weights AS double precision[])) AS asked(lexeme, weight)
         ON asked.lexeme = term.lexeme) AS share
    """
)

_POSTGRESQL_TOTALS = text(
    "SELECT count(*) AS entries, coalesce(avg(length(document)), 1) AS size"
    " FROM entries WHERE collection_id = :collection"
)


def _read_totals(connection: Connection, collection: Collection) -> tuple[int, float]:
    count, size = connection.execute(_POSTGRESQL_TOTALS, {"collection": collection.id}).one()
    return count, float(size)


_totals = Memory(_read_totals, most=100)


def _postgresql(
    connection: Connection, collection: Collection, terms: Sequence[str], filters: Filters, most: int
) -> Shares:
    lexemes = connection.execute(_POSTGRESQL_LEXEMES, {"words": " ".join(terms)}).scalar_one()
    if not lexemes:
        return {}
    total, size = _totals.of(connection, collection)
    counted = connection.execute(_POSTGRESQL_HOLDERS, {"collection": collection.id, "lexemes": lexemes}).all()
    weights = {row.lexeme: rarity(row.holders, total) for row in counted}
    telling = telling_words({row.lexeme: weights[row.lexeme] for row in counted if row.holders})
    if not telling:
        return {}
    whole = sum(weights.values())
    query = (
        select(entries.c.id, _POSTGRESQL_SHARE)
        .where(
            entries.c.collection_id == collection.id,
            text("entries.document @@ CAST(:words AS tsquery)"),
            *filters.conditions(),
        )
        .order_by(text("share DESC"), entries.c.id)
        .limit(most)
    )
    values = {
        # Lexemes of words made of \w only: quoted, they are no syntax of tsquery.
        "words": " | ".join(f"'{lexeme}'" for lexeme in telling),
        "lexemes": telling,
        "weights": [weights[lexeme] / whole for lexeme in telling],
        "k1": _BM25_K1,
        "b": _BM25_B,
        "size": size,
    }
    return {row[0]: float(row[1]) for row in connection.execute(query, values)}
