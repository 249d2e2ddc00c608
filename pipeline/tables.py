"""The research tables.

`papers` holds what was fetched, `chunks` the pieces of its text, `embeddings` one vector per text and model (a cache),
`entries` what a search sees: a chunk with its vector in a collection. An entry is a copy on purpose: a paper
stays searchable as it was until `store` replaces its entries in one transaction (`docs/adr/0003-research-store.md`).

Models that read text otherwise cut it otherwise: each *cut* of a paper (`paper_cuts`) has its own chunks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    literal_column,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

papers = Table(
    "papers",
    metadata,
    Column("id", Text, primary_key=True, comment="hash of source, origin and external id"),
    Column("source", Text, nullable=False, comment="which kind of source: local"),
    Column("origin", Text, nullable=False, comment="where within the source: the folder"),
    Column("external_id", Text, nullable=False, comment="the id that the source gives, unchanged"),
    Column("title", Text, nullable=False),
    Column("abstract", Text, nullable=False, comment="text of the record; the fallback when a PDF is unreadable"),
    Column("authors", Text, nullable=False, comment="JSON list of names"),
    Column("year", Integer),
    Column("doi", Text),
    Column("url", Text),
    Column("arxiv_id", Text, comment="without version"),
    Column("venue", Text, comment="journal, proceedings or book"),
    Column("details", Text, comment="JSON: what else the sources say"),
    Column("pdf_url", Text, comment="where its PDF may be had"),
    Column("pdf_path", Text, comment="absolute path of the PDF, where there is one"),
    Column("pdf_hash", Text, comment="SHA-256 of a PDF that was downloaded; null: it was not"),
    Column("content_hash", Text, nullable=False, comment="of all that the source gave, PDF included"),
    Column("quarantine_code", Text, comment="kind of the reason, a word that programs can tell apart"),
    Column("quarantine_reason", Text, comment="why the paper, or its PDF, was set aside"),
    Column("quarantined_at", Double, comment="seconds since 1970"),
    Column("updated_at", Double, nullable=False, comment="seconds since 1970: when its content last changed"),
    Column("provenance", Text, comment="JSON: the source of each field; null: of a folder"),
    # Not unique: ids are made of the three, and PostgreSQL minds conflicts of one index alone when two runs insert.
    Index("ix_papers_source_origin_external_id", "source", "origin", "external_id"),
)

paper_cuts = Table(
    "paper_cuts",
    metadata,
    Column("paper_id", Text, ForeignKey("papers.id", ondelete="CASCADE"), primary_key=True),
    Column("cut", Text, primary_key=True, comment="what the text was cut for: tokenizer, longest input, overlap"),
    Column("content_key", Text, nullable=False, comment="content and chunker that the chunks were made from"),
)

chunks = Table(
    "chunks",
    metadata,
    Column("id", Text, primary_key=True, comment="hash of paper, text, chunker and cut"),
    Column("paper_id", Text, ForeignKey("papers.id", ondelete="CASCADE"), nullable=False),
    Column("cut", Text, nullable=False, comment="as in paper_cuts"),
    Column("chunker", Text, nullable=False, comment="version of the chunker"),
    Column("position", Integer, nullable=False, comment="place within the paper, from 0"),
    Column("heading", Text, nullable=False, comment="the title as the model gets it before the text; may be empty"),
    Column("text", Text, nullable=False),
    Column("section", Text, nullable=False),
    Column("page", Integer, comment="page on which it starts, from 1; null: not from a PDF"),
    Column("char_start", Integer, nullable=False, comment="offset within the paper's cleaned text"),
    Column("char_end", Integer, nullable=False),
    Column("tokens", Integer, nullable=False, comment="of heading and text as the model takes them, specials included"),
    Column("text_hash", Text, nullable=False, comment="of heading and text: the key of its embedding"),
    Index("ix_chunks_paper_id_cut_position", "paper_id", "cut", "position"),
)

paper_records = Table(
    "paper_records",
    metadata,
    Column("source", Text, primary_key=True),
    Column("origin", Text, primary_key=True),
    Column("external_id", Text, primary_key=True),
    Column("paper_id", Text, nullable=False, comment="the paper that this source describes"),
    Column("content", Text, nullable=False, comment="JSON: what the source says, by our names"),
    Column("original", Text, nullable=False, comment="the source's own record, whole: JSON, XML, BibTeX or RIS"),
    Column("seen_at", Double, nullable=False),
    Index("ix_paper_records_paper_id", "paper_id"),
)

paper_keys = Table(
    "paper_keys",
    metadata,
    Column("key", Text, primary_key=True, comment="doi:, arxiv: or title: and what identifies a paper"),
    Column("paper_id", Text, nullable=False),
    Index("ix_paper_keys_paper_id", "paper_id"),
)

fetch_pages = Table(
    "fetch_pages",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("step_id", Text, primary_key=True),
    Column("number", Integer, primary_key=True, comment="from 0"),
    Column("next_cursor", Text, comment="where the source goes on; null: this was the last page"),
    Column("paper_ids", Text, nullable=False, comment="JSON list"),
    Column("new", Integer, nullable=False),
    Column("updated", Integer, nullable=False),
    Column("total", Integer, comment="as the source says"),
    Column("saved_at", Double, nullable=False),
)

fetch_marks = Table(
    "fetch_marks",
    metadata,
    Column("source", Text, primary_key=True),
    Column("query", Text, primary_key=True),
    Column("fetched_at", Double, nullable=False, comment="when the last fetch that came to its end had begun"),
)

embeddings = Table(
    "embeddings",
    metadata,
    Column("model", Text, primary_key=True),
    Column("revision", Text, primary_key=True),
    Column("text_hash", Text, primary_key=True),
    Column("dimension", Integer, nullable=False),
    Column("vector", LargeBinary, nullable=False, comment="float32, little-endian, of length 1"),
)

embedding_usage = Table(
    "embedding_usage",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("tokens", BigInteger, nullable=False, comment="that the model was asked to embed"),
    Column("cost", Double, nullable=False, comment="in the currency of the operator's choice"),
    Column("used_at", Double, nullable=False, comment="seconds since 1970: the last request"),
)

collections = Table(
    "collections",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("name", Text, nullable=False, comment="what `store` and a search name"),
    Column("generation", Integer, nullable=False, comment="from 1; embedding anew makes the next"),
    Column("is_live", Boolean, nullable=False, comment="a search sees this generation"),
    Column("model", Text, nullable=False),
    Column("revision", Text, nullable=False),
    Column("dimension", Integer, nullable=False),
    Column("created_at", Double, nullable=False, comment="seconds since 1970"),
    Column("copied_to", BigInteger, comment="entries up to this id are in its index; null: it has none"),
    Column("indexed_by", Text, comment="which index that is: pgvector, qdrant"),
    UniqueConstraint("name", "generation"),
    Index(
        "ix_collections_live",
        "name",
        unique=True,
        sqlite_where=text("is_live"),
        postgresql_where=text("is_live"),
    ),
)

entries = Table(
    "entries",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("collection_id", Integer, ForeignKey("collections.id", ondelete="CASCADE"), nullable=False),
    Column("chunk_id", Text, nullable=False),
    Column("paper_id", Text, ForeignKey("papers.id", ondelete="CASCADE"), nullable=False),
    Column("position", Integer, nullable=False),
    Column("title", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("section", Text, nullable=False),
    Column("page", Integer),
    Column("vector", LargeBinary, nullable=False, comment="float32, little-endian, of length 1"),
    Column("run_id", Text, comment="the run that stored it"),
    Column("step_id", Text, comment="its step"),
    Column("attempt", Integer, comment="its attempt, from 1"),
    UniqueConstraint("collection_id", "chunk_id"),
    Index("ix_entries_collection_id_paper_id", "collection_id", "paper_id"),
    Index("ix_entries_paper_id", "paper_id"),
    # No id is given twice, so that a sum of ids tells one state of a collection from another.
    sqlite_autoincrement=True,
)

Id = TypeVar("Id", str, int)

_SLICE = 500


def slices(ids: Sequence[Id]) -> Iterator[Sequence[Id]]:
    """Runs of at most 500 ids: as many as an `IN` list takes comfortably on both databases."""
    for start in range(0, len(ids), _SLICE):
        yield ids[start : start + _SLICE]


def insert(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT that knows ON CONFLICT, in the words of this connection's database."""
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)


def now(connection: Connection) -> ColumnElement[float]:
    """The database's clock in seconds since 1970."""
    if connection.dialect.name == "sqlite":
        return literal_column("(julianday('now') - 2440587.5) * 86400.0")
    return literal_column("extract(epoch FROM clock_timestamp())::double precision")
