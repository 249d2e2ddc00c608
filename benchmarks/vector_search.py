"""How long a search by meaning takes, exactly and by an index, how much it misses, and what it keeps in memory."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import insert

from benchmarks.arms import Servers, new_database
from pipeline import collections, vectors
from pipeline.collections import Collection
from pipeline.dense import exact
from pipeline.embedding import model_of
from pipeline.filters import EVERYTHING
from pipeline.indexes import choice
from pipeline.tables import entries, papers
from workflows.db.database import Database
from workflows.db.migrate import upgrade

QUERIES = 50
TOPICS = 500
BEST = 10


@dataclass(frozen=True, slots=True)
class Searched:
    """One way to search one collection.

    Attributes:
        first_ms: The first search of a process; `p50_ms` and `worst_ms` those after it.
        recall: Share of the ten nearest that are found.
        peak_mb: Resident memory of the process at most, after as before.
    """

    database: str
    way: str
    entries: int
    first_ms: float
    p50_ms: float
    worst_ms: float
    recall: float
    peak_mb: float
    made_s: float


def measure(servers: Servers, folder: Path, databases: list[str], sizes: list[int]) -> Iterator[Searched]:
    """Vectors about topics, as those of papers are: a topic's own direction, and what is a text's own."""
    for database_name in databases:
        for size in sizes:
            place = folder / f"{database_name}-{size}"
            place.mkdir()
            url = new_database(servers, database_name, place)
            database = Database(url)
            upgrade(database)
            collection = _fill(database, size)
            yield _in_a_process(url, database_name, "exact", size, 0.0)
            if database_name == "postgresql":
                begin = perf_counter()
                assert choice.follow(database.begin, collection, max(size, choice.LEAST_ENTRIES))
                yield _in_a_process(url, database_name, "index", size, perf_counter() - begin)
            database.close()


def _vectors(rows: int, seed: int) -> NDArray[np.float32]:
    chance = np.random.default_rng(seed)
    topics = np.random.default_rng(1).standard_normal((TOPICS, 384)).astype(np.float32)
    own = chance.standard_normal((rows, 384)).astype(np.float32)
    found = topics[chance.integers(0, TOPICS, rows)] + own
    unit: NDArray[np.float32] = found / np.linalg.norm(found, axis=1, keepdims=True)
    return unit


def _fill(database: Database, size: int) -> Collection:
    made = _vectors(size, 2)
    paper = {"source": "local", "origin": "o", "title": "t", "abstract": "", "authors": "[]", "content_hash": "h"}
    with database.begin() as connection:
        collection = collections.opened(connection, "papers", model_of())
        rows = [{**paper, "id": f"p{n}", "external_id": str(n), "updated_at": 0.0} for n in range(size // 10)]
        connection.execute(insert(papers), rows)
    shown = {"collection_id": collection.id, "position": 0, "title": "t", "text": "t", "section": "s"}
    for start in range(0, size, 5000):
        with database.begin() as connection:
            batch = [
                {**shown, "chunk_id": f"c{n}", "paper_id": f"p{n // 10}", "vector": made[n].tobytes()}
                for n in range(start, min(size, start + 5000))
            ]
            connection.execute(insert(entries), batch)
    with database.connect() as connection:
        assert vectors.count_entries(connection, collection)[1] == size
    return collection


def _in_a_process(url: str, database: str, way: str, size: int, made: float) -> Searched:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        first, times, recall, peak = pool.apply(_search, (url, way))
    return Searched(database, way, size, first, median(times), max(times), recall, peak, made)


def _search(url: str, way: str) -> tuple[float, list[float], float, float]:
    """Times in ms, recall and memory in MB, of one process."""
    database = Database(url)
    queries = _vectors(QUERIES, 3)
    times: list[float] = []
    answers: list[list[int]] = []
    for query in queries:
        begin = perf_counter()
        with database.connect() as connection:
            live = collections.live(connection, "papers")
            assert live is not None
            answers.append(_nearest(connection, live, query, way))
        times.append(1000 * (perf_counter() - begin))
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = int(status.partition("VmHWM:")[2].split()[0]) / 1000
    hits = 0
    with database.connect() as connection:
        live = collections.live(connection, "papers")
        assert live is not None
        for query, found in zip(queries, answers, strict=True):
            hits += len(set(found) & set(_nearest(connection, live, query, "exact")))
    database.close()
    return times[0], times[1:], hits / (BEST * QUERIES), peak


def _nearest(connection: Any, collection: Collection, query: NDArray[np.float32], way: str) -> list[int]:
    if way == "exact":
        near = exact(connection, collection, query, EVERYTHING)
        best: list[int] = near.ids[np.argsort(-near.cosines)[:BEST]].tolist()
        return best
    found = choice.nearest(connection, collection, query, EVERYTHING, 200, [])
    assert found is not None
    return [entry for entry, _, _ in sorted(found, key=lambda row: -row[2])[:BEST]]
