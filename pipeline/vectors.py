"""Vectors in the database: the cache of embeddings, and the entries of a collection that a search sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, delete, func, select

from pipeline.collections import Collection, hold
from pipeline.embedding import EmbeddingModel
from pipeline.tables import chunks, embeddings, entries, insert, papers, slices
from pipeline.text.chunking import embedded_text


@dataclass(frozen=True, slots=True)
class Text:
    """A text to embed, the key under which its vector is kept, and the cut that it comes from."""

    text_hash: str
    text: str
    cut: str


@dataclass(frozen=True, slots=True)
class Changes:
    """What storing did to entries: numbers of chunks."""

    new: int = 0
    unchanged: int = 0
    removed: int = 0

    def __add__(self, other: Changes) -> Changes:
        return Changes(self.new + other.new, self.unchanged + other.unchanged, self.removed + other.removed)


# The cache of embeddings


def texts_of(connection: Connection, chunk_ids: Sequence[str]) -> list[Text]:
    """The distinct texts of these chunks; chunks that a later run has replaced are left out."""
    found: dict[str, Text] = {}
    for some in slices(chunk_ids):
        query = select(chunks.c.text_hash, chunks.c.heading, chunks.c.text, chunks.c.cut).where(chunks.c.id.in_(some))
        for row in connection.execute(query):
            found[row.text_hash] = Text(row.text_hash, embedded_text(row.heading, row.text), row.cut)
    return list(found.values())


def embedded_hashes(connection: Connection, model: EmbeddingModel, hashes: Sequence[str]) -> set[str]:
    """Those of `hashes` for which this model's vector is kept."""
    found: set[str] = set()
    for some in slices(hashes):
        query = select(embeddings.c.text_hash).where(
            embeddings.c.model == model.name,
            embeddings.c.revision == model.revision,
            embeddings.c.text_hash.in_(some),
        )
        found.update(connection.execute(query).scalars())
    return found


def save_embeddings(connection: Connection, model: EmbeddingModel, vectors: Mapping[str, bytes]) -> None:
    """Keep vectors by the hash of their text. Equal text has an equal vector, so one that is there already stays."""
    if vectors:
        connection.execute(
            insert(connection, embeddings).on_conflict_do_nothing(),
            [
                {
                    "model": model.name,
                    "revision": model.revision,
                    "text_hash": text_hash,
                    "dimension": model.dimension,
                    "vector": vector,
                }
                # In one order everywhere, so that two writers of the same texts cannot wait for each other.
                for text_hash, vector in sorted(vectors.items())
            ],
        )


# Entries

_SHOWN = ("chunk_id", "position", "title", "section", "page")
"""What tells whether an entry is right: the chunk's id stands for its text and, with the collection, for its vector."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Who has stored an entry: a run, its step, and which attempt of it."""

    run_id: str | None = None
    step_id: str | None = None
    attempt: int | None = None


def papers_to_store(
    connection: Connection, collection: Collection, model: EmbeddingModel, paper_ids: Sequence[str]
) -> tuple[list[str], Changes]:
    """Those papers whose entries differ from their chunks, and the count of what is right already."""
    stale: list[str] = []
    unchanged = 0
    for some in slices(paper_ids):
        wanted = _by_paper(connection, _wanted(model).where(chunks.c.paper_id.in_(some)))
        present = _by_paper(connection, _present(collection).where(entries.c.paper_id.in_(some)))
        for paper in some:
            if wanted.get(paper, set()) == present.get(paper, set()):
                unchanged += len(present.get(paper, ()))
            else:
                stale.append(paper)
    return stale, Changes(unchanged=unchanged)


def store_paper(
    connection: Connection,
    collection: Collection,
    model: EmbeddingModel,
    paper_id: str,
    *,
    origin: Origin = Origin(),
    force: bool = False,
) -> Changes:
    """Make a paper's embedded chunks its only entries in the collection; `force` writes the right ones again too.

    Raises:
        GenerationEndedError: the generation has been replaced.
    """
    hold(connection, collection)
    # Taken in turns on PostgreSQL, where two runs may store the same paper; SQLite has one writer at a time anyway.
    connection.execute(select(papers.c.id).where(papers.c.id == paper_id).with_for_update())
    wanted = set(_by_paper(connection, _wanted(model).where(chunks.c.paper_id == paper_id)).get(paper_id, ()))
    present = set(_by_paper(connection, _present(collection).where(entries.c.paper_id == paper_id)).get(paper_id, ()))
    kept = set() if force else wanted & present
    gone = [entry[0] for entry in present - kept]
    for some in slices(gone):
        connection.execute(
            delete(entries).where(entries.c.collection_id == collection.id, entries.c.chunk_id.in_(some))
        )
    missing = [entry[0] for entry in wanted - kept]
    for some in slices(missing):
        source = (
            _joined(model)
            .add_columns(chunks.c.text, chunks.c.paper_id, embeddings.c.vector)
            .where(chunks.c.id.in_(some))
            .order_by(chunks.c.position)
        )
        shared = {"collection_id": collection.id, **asdict(origin)}
        rows = [{**row, **shared} for row in connection.execute(source).mappings()]
        connection.execute(entries.insert(), rows)
    replaced = {entry[0] for entry in present} & {entry[0] for entry in wanted}
    return Changes(new=len(missing), unchanged=len(kept), removed=sum(chunk not in replaced for chunk in gone))


def count_entries(connection: Connection, collection: Collection) -> tuple[int, int]:
    """Papers and entries of a collection."""
    query = select(func.count(entries.c.paper_id.distinct()), func.count()).where(
        entries.c.collection_id == collection.id
    )
    papers_in_it, entries_in_it = connection.execute(query).one()
    return papers_in_it, entries_in_it


def count_unembedded(connection: Connection, model: EmbeddingModel, paper_ids: Sequence[str]) -> int:
    """Chunks of these papers that have no vector of this model: what a failed call of `embed` left out."""
    total = 0
    for some in slices(paper_ids):
        query = (
            select(func.count())
            .select_from(chunks.outerjoin(embeddings, _same_text(model)))
            .where(chunks.c.paper_id.in_(some), chunks.c.cut == model.cut, embeddings.c.text_hash.is_(None))
        )
        total += connection.execute(query).scalar_one()
    return total


def _same_text(model: EmbeddingModel) -> Any:
    return (
        (embeddings.c.text_hash == chunks.c.text_hash)
        & (embeddings.c.model == model.name)
        & (embeddings.c.revision == model.revision)
    )


def _joined(model: EmbeddingModel) -> Select[Any]:
    return select(
        chunks.c.id.label("chunk_id"),
        chunks.c.position,
        papers.c.title,
        chunks.c.section,
        chunks.c.page,
    ).select_from(
        chunks.join(papers, papers.c.id == chunks.c.paper_id).join(
            embeddings, _same_text(model) & (chunks.c.cut == model.cut)
        )
    )


def _wanted(model: EmbeddingModel) -> Select[Any]:
    return _joined(model).add_columns(chunks.c.paper_id)


def _present(collection: Collection) -> Select[Any]:
    shown = (entries.c[name] for name in _SHOWN)
    return select(*shown, entries.c.paper_id).where(entries.c.collection_id == collection.id)


def _by_paper(connection: Connection, query: Select[Any]) -> dict[str, set[tuple[Any, ...]]]:
    found: dict[str, set[tuple[Any, ...]]] = {}
    row: Row[Any]
    for row in connection.execute(query):
        found.setdefault(row.paper_id, set()).add(tuple(row[:-1]))
    return found
