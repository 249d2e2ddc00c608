"""The research tables as first released, with full-text search over the entries."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_SQLITE_FULL_TEXT = (
    """
    CREATE VIRTUAL TABLE entries_fts USING fts5(
        title, text, content='entries', content_rowid='id', tokenize='porter unicode61 remove_diacritics 2'
    )
    """,
    """
    CREATE TRIGGER entries_fts_insert AFTER INSERT ON entries BEGIN
        INSERT INTO entries_fts(rowid, title, text) VALUES (new.id, new.title, new.text);
    END
    """,
    """
    CREATE TRIGGER entries_fts_delete AFTER DELETE ON entries BEGIN
        INSERT INTO entries_fts(entries_fts, rowid, title, text) VALUES ('delete', old.id, old.title, old.text);
    END
    """,
    """
    CREATE TRIGGER entries_fts_update AFTER UPDATE OF title, text ON entries BEGIN
        INSERT INTO entries_fts(entries_fts, rowid, title, text) VALUES ('delete', old.id, old.title, old.text);
        INSERT INTO entries_fts(rowid, title, text) VALUES (new.id, new.title, new.text);
    END
    """,
)

_POSTGRESQL_FULL_TEXT = (
    """
    ALTER TABLE entries ADD COLUMN document tsvector NOT NULL
        GENERATED ALWAYS AS (to_tsvector('english', title || ' ' || text)) STORED
    """,
    "CREATE INDEX ix_entries_document ON entries USING gin (document)",
)


def upgrade() -> None:
    """Create the tables, then what this database searches text with."""
    op.create_table(
        "papers",
        sa.Column("id", sa.Text(), nullable=False, comment="hash of source, origin and external id"),
        sa.Column("source", sa.Text(), nullable=False, comment="which kind of source: local"),
        sa.Column("origin", sa.Text(), nullable=False, comment="where within the source: the folder"),
        sa.Column("external_id", sa.Text(), nullable=False, comment="the id that the source gives, unchanged"),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column(
            "abstract",
            sa.Text(),
            nullable=False,
            comment="text of the record; the fallback when a PDF is unreadable",
        ),
        sa.Column("authors", sa.Text(), nullable=False, comment="JSON list of names"),
        sa.Column("year", sa.Integer()),
        sa.Column("doi", sa.Text()),
        sa.Column("url", sa.Text()),
        sa.Column("arxiv_id", sa.Text(), comment="without version"),
        sa.Column("venue", sa.Text(), comment="journal, proceedings or book"),
        sa.Column("details", sa.Text(), comment="JSON: what else the sources say"),
        sa.Column("pdf_url", sa.Text(), comment="where its PDF may be had"),
        sa.Column("pdf_path", sa.Text(), comment="absolute path of the PDF, where there is one"),
        sa.Column("pdf_hash", sa.Text(), comment="SHA-256 of a PDF that was downloaded; null: it was not"),
        sa.Column("content_hash", sa.Text(), nullable=False, comment="of all that the source gave, PDF included"),
        sa.Column("quarantine_code", sa.Text(), comment="kind of the reason, a word that programs can tell apart"),
        sa.Column("quarantine_reason", sa.Text(), comment="why the paper, or its PDF, was set aside"),
        sa.Column("quarantined_at", sa.Double(), comment="seconds since 1970"),
        sa.Column(
            "updated_at", sa.Double(), nullable=False, comment="seconds since 1970: when its content last changed"
        ),
        sa.Column("provenance", sa.Text(), comment="JSON: the source of each field; null: of a folder"),
        sa.PrimaryKeyConstraint("id", name="pk_papers"),
    )
    op.create_index("ix_papers_source_origin_external_id", "papers", ["source", "origin", "external_id"])
    op.create_table(
        "paper_cuts",
        sa.Column("paper_id", sa.Text(), nullable=False),
        sa.Column(
            "cut", sa.Text(), nullable=False, comment="what the text was cut for: tokenizer, longest input, overlap"
        ),
        sa.Column(
            "content_key", sa.Text(), nullable=False, comment="content and chunker that the chunks were made from"
        ),
        sa.PrimaryKeyConstraint("paper_id", "cut", name="pk_paper_cuts"),
        sa.ForeignKeyConstraint(["paper_id"], ["papers.id"], name="fk_paper_cuts_paper_id", ondelete="CASCADE"),
    )
    op.create_table(
        "chunks",
        sa.Column("id", sa.Text(), nullable=False, comment="hash of paper, text, chunker and cut"),
        sa.Column("paper_id", sa.Text(), nullable=False),
        sa.Column("cut", sa.Text(), nullable=False, comment="as in paper_cuts"),
        sa.Column("chunker", sa.Text(), nullable=False, comment="version of the chunker"),
        sa.Column("position", sa.Integer(), nullable=False, comment="place within the paper, from 0"),
        sa.Column(
            "heading",
            sa.Text(),
            nullable=False,
            comment="the title as the model gets it before the text; may be empty",
        ),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("section", sa.Text(), nullable=False),
        sa.Column("page", sa.Integer(), comment="page on which it starts, from 1; null: not from a PDF"),
        sa.Column("char_start", sa.Integer(), nullable=False, comment="offset within the paper's cleaned text"),
        sa.Column("char_end", sa.Integer(), nullable=False),
        sa.Column(
            "tokens",
            sa.Integer(),
            nullable=False,
            comment="of heading and text as the model takes them, specials included",
        ),
        sa.Column("text_hash", sa.Text(), nullable=False, comment="of heading and text: the key of its embedding"),
        sa.PrimaryKeyConstraint("id", name="pk_chunks"),
        sa.ForeignKeyConstraint(["paper_id"], ["papers.id"], name="fk_chunks_paper_id", ondelete="CASCADE"),
    )
    op.create_index("ix_chunks_paper_id_cut_position", "chunks", ["paper_id", "cut", "position"])
    op.create_table(
        "paper_records",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=False),
        sa.Column("paper_id", sa.Text(), nullable=False, comment="the paper that this source describes"),
        sa.Column("content", sa.Text(), nullable=False, comment="JSON: what the source says, by our names"),
        sa.Column(
            "original", sa.Text(), nullable=False, comment="the source's own record, whole: JSON, XML, BibTeX or RIS"
        ),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("source", "origin", "external_id", name="pk_paper_records"),
    )
    op.create_index("ix_paper_records_paper_id", "paper_records", ["paper_id"])
    op.create_table(
        "paper_keys",
        sa.Column("key", sa.Text(), nullable=False, comment="doi:, arxiv: or title: and what identifies a paper"),
        sa.Column("paper_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_paper_keys"),
    )
    op.create_index("ix_paper_keys_paper_id", "paper_keys", ["paper_id"])
    op.create_table(
        "fetch_pages",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("step_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False, comment="from 0"),
        sa.Column("next_cursor", sa.Text(), comment="where the source goes on; null: this was the last page"),
        sa.Column("paper_ids", sa.Text(), nullable=False, comment="JSON list"),
        sa.Column("new", sa.Integer(), nullable=False),
        sa.Column("updated", sa.Integer(), nullable=False),
        sa.Column("total", sa.Integer(), comment="as the source says"),
        sa.Column("saved_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "step_id", "number", name="pk_fetch_pages"),
    )
    op.create_table(
        "fetch_marks",
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("query", sa.Text(), nullable=False),
        sa.Column(
            "fetched_at", sa.Double(), nullable=False, comment="when the last fetch that came to its end had begun"
        ),
        sa.PrimaryKeyConstraint("source", "query", name="pk_fetch_marks"),
    )
    op.create_table(
        "embeddings",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("revision", sa.Text(), nullable=False),
        sa.Column("text_hash", sa.Text(), nullable=False),
        sa.Column("dimension", sa.Integer(), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False, comment="float32, little-endian, of length 1"),
        sa.PrimaryKeyConstraint("model", "revision", "text_hash", name="pk_embeddings"),
    )
    op.create_table(
        "embedding_usage",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False, comment="that the model was asked to embed"),
        sa.Column("cost", sa.Double(), nullable=False, comment="in the currency of the operator's choice"),
        sa.Column("used_at", sa.Double(), nullable=False, comment="seconds since 1970: the last request"),
        sa.PrimaryKeyConstraint("run_id", "model", name="pk_embedding_usage"),
    )
    op.create_table(
        "collections",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("name", sa.Text(), nullable=False, comment="what `store` and a search name"),
        sa.Column("generation", sa.Integer(), nullable=False, comment="from 1; embedding anew makes the next"),
        sa.Column("is_live", sa.Boolean(), nullable=False, comment="a search sees this generation"),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("revision", sa.Text(), nullable=False),
        sa.Column("dimension", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False, comment="seconds since 1970"),
        sa.Column("copied_to", sa.BigInteger(), comment="entries up to this id are in its index; null: it has none"),
        sa.Column("indexed_by", sa.Text(), comment="which index that is: pgvector, qdrant"),
        sa.PrimaryKeyConstraint("id", name="pk_collections"),
        sa.UniqueConstraint("name", "generation", name="uq_collections_name_generation"),
    )
    op.create_index(
        "ix_collections_live",
        "collections",
        ["name"],
        unique=True,
        sqlite_where=sa.text("is_live"),
        postgresql_where=sa.text("is_live"),
    )
    op.create_table(
        "entries",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("collection_id", sa.Integer(), nullable=False),
        sa.Column("chunk_id", sa.Text(), nullable=False),
        sa.Column("paper_id", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("section", sa.Text(), nullable=False),
        sa.Column("page", sa.Integer()),
        sa.Column("vector", sa.LargeBinary(), nullable=False, comment="float32, little-endian, of length 1"),
        sa.Column("run_id", sa.Text(), comment="the run that stored it"),
        sa.Column("step_id", sa.Text(), comment="its step"),
        sa.Column("attempt", sa.Integer(), comment="its attempt, from 1"),
        sa.PrimaryKeyConstraint("id", name="pk_entries"),
        sa.UniqueConstraint("collection_id", "chunk_id", name="uq_entries_collection_id_chunk_id"),
        sa.ForeignKeyConstraint(
            ["collection_id"], ["collections.id"], name="fk_entries_collection_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["paper_id"], ["papers.id"], name="fk_entries_paper_id", ondelete="CASCADE"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_entries_collection_id_paper_id", "entries", ["collection_id", "paper_id"])
    op.create_index("ix_entries_paper_id", "entries", ["paper_id"])
    sqlite = op.get_context().dialect.name == "sqlite"
    for statement in _SQLITE_FULL_TEXT if sqlite else _POSTGRESQL_FULL_TEXT:
        op.execute(statement)


def downgrade() -> None:
    """Drop everything; full-text tables and indexes go with the entries."""
    if op.get_context().dialect.name == "sqlite":
        op.execute("DROP TABLE entries_fts")
    research = ("entries", "collections", "embedding_usage", "embeddings", "chunks", "paper_cuts", "papers")
    fetching = ("fetch_marks", "fetch_pages", "paper_keys", "paper_records")
    for table in (*research, *fetching):
        op.drop_table(table)
