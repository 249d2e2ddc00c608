"""A library of papers whose chunks and vectors lie in the database, without a model having been asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from sqlalchemy import select

from pipeline import collections, ids, papers, vectors
from pipeline.dense import exact
from pipeline.embedding import EmbeddingModel, model_of
from pipeline.filters import EVERYTHING, Filters
from pipeline.indexes import choice
from pipeline.papers import Paper
from pipeline.steps.store import StoreInput, store
from pipeline.tables import chunks, entries
from pipeline.tables import papers as papers_table
from pipeline.text.chunking import Chunk
from tests.support.pipeline import DirectContext
from workflows.db.database import Database

COLLECTION = "contract"


def vector_of(key: str, dimension: int = 384) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """A direction that the key stands for, near those of keys with the same first letter."""
    near = np.random.default_rng(ord(key[0])).standard_normal(dimension)
    own = np.random.default_rng(int(ids.digest(key)[:8], 16)).standard_normal(dimension)
    found = (near + own).astype(np.float32)
    unit: np.ndarray[tuple[int], np.dtype[np.float32]] = found / np.linalg.norm(found)
    return unit


class Library:
    """Papers with chunks and vectors as `process_papers` and `embed` leave them, without a model having been asked."""

    def __init__(self, database: Database, url: str) -> None:
        self.database = database
        self.url = url
        self.model: EmbeddingModel = model_of()

    def put(self, name: str, pieces: Sequence[str], *, year: int = 2020, source: str = "local") -> str:
        """Make, or cut anew, a paper whose chunks have these texts; its id."""
        paper = ids.paper_id(source, "contract", name)
        with self.database.begin() as connection:
            known = papers.load_paper(connection, paper)
            if known is None:
                row = {"id": paper, "source": source, "origin": "contract", "external_id": name, "title": name}
                more = {"abstract": "", "authors": "[]", "content_hash": "h", "updated_at": 0.0, "year": year}
                connection.execute(papers_table.insert(), {**row, **more})
            made = Paper(paper, name, "", None, None, None, "h", None, None)
            cut = [
                Chunk(f"{paper}/{piece}", n, "", piece, "Method" if n % 2 else "Results", None, 0, len(piece), 5)
                for n, piece in enumerate(pieces)
            ]
            papers.replace_chunks(connection, made, self.model.cut, cut)
            rows = {ids.digest(piece): vector_of(piece).tobytes() for piece in pieces}
            vectors.save_embeddings(connection, self.model, rows)
        return paper

    def store(self, *of: str) -> None:
        store(StoreInput(papers=list(of), collection=COLLECTION), DirectContext(self.database))

    def texts(self) -> Counter[tuple[str, str]]:
        """Paper and text of every entry; more than once where it is doubled."""
        query = select(entries.c.paper_id, entries.c.text)
        with self.database.connect() as connection:
            return Counter((row.paper_id, row.text) for row in connection.execute(query))

    def wanted(self) -> Counter[tuple[str, str]]:
        """Paper and text of every chunk."""
        with self.database.connect() as connection:
            return Counter((row.paper_id, row.text) for row in connection.execute(select(chunks)))

    def cosines(self, query: str, filters: Filters = EVERYTHING) -> dict[str, float]:
        """What the dense side of a search finds: the text of each entry with its cosine."""
        with self.database.connect() as connection:
            live = collections.live(connection, COLLECTION)
            assert live is not None
            near = choice.nearest(connection, live, vector_of(query), filters, 20, [])
            if near is None:
                found = exact(connection, live, vector_of(query), filters)
                near = list(zip(found.ids.tolist(), found.papers.tolist(), found.cosines.tolist(), strict=True))
            of = {row.id: row.text for row in connection.execute(select(entries.c.id, entries.c.text))}
        return {of[entry]: cosine for entry, _, cosine in near}
