"""Papers and their chunks in the database. Every function works in the transaction that it is given."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, select, update

from pipeline import ids, merging
from pipeline.embedding import EmbeddingModel
from pipeline.sources.record import Record
from pipeline.tables import chunks, embeddings, insert, now, paper_cuts, paper_records, papers, slices
from pipeline.text.chunking import CHUNKER_VERSION, Chunk, embedded_text
from pipeline.text.faults import Code

PDFIUM = "pdfium"
"""The text backend that comes with the installation (`pipeline.text.reader`)."""


@dataclass(frozen=True, slots=True)
class Paper:
    """A paper as `process_papers` needs it."""

    id: str
    title: str
    abstract: str
    pdf_url: str | None
    pdf_path: str | None
    pdf_hash: str | None
    content_hash: str
    quarantine_code: str | None
    quarantine_reason: str | None


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a fetch changed. `paper_ids` are those of all its records, in their order."""

    paper_ids: tuple[str, ...]
    new: int
    updated: int
    unchanged: int


def save_records(connection: Connection, source: str, origin: str, records: Sequence[Record]) -> Fetched:
    """Insert new papers, update changed ones, leave equal ones alone.

    Records of catalogues on the web are merged: one paper may be that of several (`pipeline.merging`).

    Records that could not be read are kept as papers with a reason; those of earlier fetches are forgotten once the
    source no longer gives them.
    """
    provenance: dict[str, str] = {}
    if source in merging.SOURCES:
        merged = merging.adopt(connection, source, origin, records)
        by_id = {paper: found.record for paper, found in merged.items()}
        provenance = {paper: json.dumps(found.provenance) for paper, found in merged.items()}
    else:
        by_id = {ids.paper_id(source, origin, record.external_id): record for record in records}
    known: dict[str, Any] = {}
    for some in slices(list(by_id)):
        found = connection.execute(select(papers).where(papers.c.id.in_(some)))
        known.update({row["id"]: row for row in found.mappings()})
    new: list[str] = []
    updated: list[str] = []
    rows: dict[str, dict[str, Any]] = {}
    for paper, record in by_id.items():
        row = _row(paper, source, origin, record, provenance.get(paper))
        if paper not in known:
            new.append(paper)
            rows[paper] = row
            continue
        row |= _downloaded(known[paper], row)
        if known[paper]["content_hash"] != record.content_hash():
            updated.append(paper)
            rows[paper] = row
        else:
            _describe(connection, known[paper], row)
    for some in slices([*new, *updated]):
        statement = insert(connection, papers).values(updated_at=now(connection))
        changed = {name: statement.excluded[name] for name in _CHANGING}
        statement = statement.on_conflict_do_update(index_elements=["id"], set_=changed)
        connection.execute(statement, [rows[paper] for paper in some])
        faulty = papers.c.id.in_(some) & papers.c.quarantine_reason.is_not(None)
        connection.execute(update(papers).where(faulty).values(quarantined_at=now(connection)))
    if source not in merging.SOURCES:
        said = {record.external_id: record for record in records if record.original}
        own = {external: ids.paper_id(source, origin, external) for external in said}
        merging.keep_records(connection, source, origin, said, own)
    if source == "local":
        _forget_faulty(connection, source, origin, by_id)
    return Fetched(tuple(by_id), len(new), len(updated), len(by_id) - len(new) - len(updated))


def forget_missing(connection: Connection, source: str, origin: str, kept: Collection[str]) -> int:
    """Forget the papers of a folder that are not among those kept, with all that was stored of them.

    Returns:
        How many papers went.
    """
    query = select(papers.c.id).where(papers.c.source == source, papers.c.origin == origin)
    gone = sorted(set(connection.execute(query).scalars()) - set(kept))
    _delete(connection, gone)
    return len(gone)


def readable(connection: Connection, paper_ids: Sequence[str]) -> set[str]:
    """Those of the papers that have a title, a text or a PDF."""
    has_content = (papers.c.title != "") | (papers.c.abstract != "") | papers.c.pdf_path.is_not(None)
    found: set[str] = set()
    for some in slices(paper_ids):
        found.update(connection.execute(select(papers.c.id).where(papers.c.id.in_(some), has_content)).scalars())
    return found


def load_paper(connection: Connection, paper_id: str) -> Paper | None:
    """The paper of that id."""
    row = connection.execute(
        select(*(papers.c[name] for name in Paper.__slots__)).where(papers.c.id == paper_id)
    ).first()
    return Paper(*row) if row is not None else None


def content_key(paper: Paper, text_backend: str = PDFIUM) -> str:
    """Changes whenever the same paper would get other chunks."""
    by = "" if paper.pdf_path is None or text_backend == PDFIUM else f"/{text_backend}"
    downloaded = f"/{paper.pdf_hash[:16]}" if paper.pdf_hash else ""
    return f"{paper.content_hash}/{CHUNKER_VERSION}{by}{downloaded}"


def is_cut(connection: Connection, paper: Paper, cut: str, text_backend: str = PDFIUM) -> bool:
    """Whether the chunks of a cut are those of the paper as it is now."""
    query = select(paper_cuts.c.content_key).where(paper_cuts.c.paper_id == paper.id, paper_cuts.c.cut == cut)
    return connection.execute(query).scalar_one_or_none() == content_key(paper, text_backend)


def replace_chunks(
    connection: Connection, paper: Paper, cut: str, new: Sequence[Chunk], text_backend: str = PDFIUM
) -> None:
    """Make `new` the only chunks of a cut, and note what they were made from and what reading brought to light."""
    # The paper's row first: its lock makes two runs that process the same paper take turns.
    connection.execute(
        update(papers)
        .where(papers.c.id == paper.id)
        .values(
            title=paper.title,
            pdf_path=paper.pdf_path,
            pdf_hash=paper.pdf_hash,
            quarantine_code=paper.quarantine_code,
            quarantine_reason=paper.quarantine_reason,
            quarantined_at=None if paper.quarantine_reason is None else now(connection),
        )
    )
    key = content_key(paper, text_backend)
    made_from = {"paper_id": paper.id, "cut": cut, "content_key": key}
    noted = insert(connection, paper_cuts).values(made_from)
    connection.execute(noted.on_conflict_do_update(index_elements=["paper_id", "cut"], set_={"content_key": key}))
    connection.execute(delete(chunks).where(chunks.c.paper_id == paper.id, chunks.c.cut == cut))
    if new:
        connection.execute(
            chunks.insert(),
            [
                {
                    "id": chunk.id,
                    "paper_id": paper.id,
                    "cut": cut,
                    "chunker": CHUNKER_VERSION,
                    "position": chunk.position,
                    "heading": chunk.heading,
                    "text": chunk.text,
                    "section": chunk.section,
                    "page": chunk.page,
                    "char_start": chunk.char_start,
                    "char_end": chunk.char_end,
                    "tokens": chunk.tokens,
                    "text_hash": ids.digest(embedded_text(chunk.heading, chunk.text)),
                }
                for chunk in new
            ],
        )


def chunk_ids(connection: Connection, paper_id: str, cut: str) -> list[str]:
    """Ids of a paper's chunks, in order."""
    query = select(chunks.c.id).where(chunks.c.paper_id == paper_id, chunks.c.cut == cut).order_by(chunks.c.position)
    return list(connection.execute(query).scalars())


def chunks_without_vector(connection: Connection, paper_id: str, model: EmbeddingModel) -> list[str]:
    """Ids of those of a paper's chunks whose text this model has not embedded yet, in order."""
    query = (
        select(chunks.c.id)
        .outerjoin(
            embeddings,
            (embeddings.c.model == model.name)
            & (embeddings.c.revision == model.revision)
            & (embeddings.c.text_hash == chunks.c.text_hash),
        )
        .where(chunks.c.paper_id == paper_id, chunks.c.cut == model.cut, embeddings.c.text_hash.is_(None))
        .order_by(chunks.c.position)
    )
    return list(connection.execute(query).scalars())


_DESCRIBING = ("pdf_path", "pdf_hash", "arxiv_id", "venue", "pdf_url", "details", "provenance")
"""What may change without any text to be read again: a folder has moved, a paper was cited once more."""

_CHANGING = (
    "title",
    "abstract",
    "authors",
    "year",
    "doi",
    "url",
    "content_hash",
    "quarantine_code",
    "quarantine_reason",
    "quarantined_at",
    "updated_at",
    *_DESCRIBING,
)


def _row(paper: str, source: str, origin: str, record: Record, provenance: str | None) -> dict[str, Any]:
    return {
        "id": paper,
        "source": source,
        "origin": origin,
        "external_id": record.external_id,
        "title": record.title,
        "abstract": record.text,
        "authors": json.dumps(record.authors, ensure_ascii=False),
        "year": record.year,
        "doi": record.doi,
        "url": record.url,
        "arxiv_id": record.arxiv_id,
        "venue": record.venue,
        "pdf_url": record.pdf_url,
        "details": json.dumps(record.details, ensure_ascii=False) if record.details else None,
        "pdf_path": _path(record),
        "pdf_hash": None,
        "content_hash": record.content_hash(),
        "quarantine_code": record.fault_code if record.fault is not None else None,
        "quarantine_reason": record.fault,
        "quarantined_at": None,
        "provenance": provenance,
    }


def _describe(connection: Connection, known: Mapping[str, Any], row: Mapping[str, Any]) -> None:
    changed = {name: row[name] for name in _DESCRIBING if row[name] != known[name]}
    if "pdf_url" in changed and known["quarantine_code"] == Code.PDF_UNAVAILABLE:
        changed |= {"quarantine_code": None, "quarantine_reason": None, "quarantined_at": None}
    if changed:
        connection.execute(update(papers).where(papers.c.id == row["id"]).values(changed))


def _downloaded(known: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """What stays of a PDF that was downloaded, as long as the source says the same address and has no file itself."""
    is_kept = known["pdf_hash"] is not None and row["pdf_path"] is None and row["pdf_url"] == known["pdf_url"]
    return {name: known[name] for name in ("pdf_path", "pdf_hash")} if is_kept else {}


def _path(record: Record) -> str | None:
    return str(record.pdf) if record.pdf is not None else None


def _forget_faulty(connection: Connection, source: str, origin: str, seen: dict[str, Record]) -> None:
    """Drop what stands for lines that could not be read and are gone or mended now: rows without any content."""
    query = select(papers.c.id).where(
        papers.c.source == source,
        papers.c.origin == origin,
        papers.c.quarantine_reason.is_not(None),
        papers.c.title == "",
        papers.c.abstract == "",
        papers.c.pdf_path.is_(None),
    )
    _delete(connection, [paper for paper in connection.execute(query).scalars() if paper not in seen])


def _delete(connection: Connection, gone: Sequence[str]) -> None:
    """Forget papers, with their chunks and entries, and what their source said of them."""
    for some in slices(gone):
        connection.execute(delete(paper_records).where(paper_records.c.paper_id.in_(some)))
        connection.execute(delete(papers).where(papers.c.id.in_(some)))
