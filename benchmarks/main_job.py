"""W10: the main job on a library of 2,000 chunks and more, beside the model alone on the same texts."""

from __future__ import annotations

import json
import multiprocessing
import random
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import psutil
from sqlalchemy import select

from benchmarks.arms import Servers, new_database
from benchmarks.goals import Figure
from pipeline.embedding import embedder
from pipeline.tables import chunks
from pipeline.text.chunking import embedded_text
from tests.support.cluster import Cluster, cluster
from tests.support.servers import PROJECT
from workflows.db.database import Database

SHARE, EMBED_SHARE, MEMORY_MB = 0.85, 0.90, 600.0
BATCH = 16
"""Chunks of one call of `embed`, as the definition has it."""

SENTENCES_OF_A_PAPER = 36


def measure(
    servers: Servers, folder: Path, databases: list[str], papers: int, slots: int, repeat: int
) -> tuple[list[Figure], dict[str, Any]]:
    """Job and model in turns; each job on an empty database and with workers that have done nothing before."""
    library = folder / "library"
    _write_library(library, papers)
    definition = (PROJECT / "definitions" / "literature-review.yaml").read_text(encoding="utf-8")
    figures: list[Figure] = []
    found: dict[str, Any] = {}
    for database in databases:
        rounds: list[dict[str, float]] = []
        for number in range(repeat):
            place = folder / f"{database}-{number}"
            place.mkdir()
            url = new_database(servers, database, place)
            with cluster(place, url, servers.broker_url) as engine:
                rounds.append(_job(engine, definition, library, slots))
                texts = _texts(url)
                engine.runtime.app.control.purge()
            rounds[-1] |= {"chunks": len(texts), "model_s": _model_alone(texts, slots)}
        found[database] = rounds
        middle = {name: median(one[name] for one in rounds) for name in rounds[0]}
        shares = [one["model_s"] / one["job_s"] for one in rounds]
        embedding = [one["model_s"] / one["embed_s"] for one in rounds]
        figures += (
            Figure(f"{database}: chunks", middle["chunks"], "chunks", 2000, "least"),
            Figure(f"{database}: the job, first step to last", middle["job_s"], "s"),
            Figure(f"{database}: the model alone", middle["model_s"], "s"),
            Figure(f"{database}: the model's share of the job", median(shares), "", SHARE, "least"),
            Figure(f"{database}: the model's share of 'embed'", median(embedding), "", EMBED_SHARE, "least"),
            Figure(f"{database}: largest worker process, RSS", middle["rss_mb"], "MB", MEMORY_MB),
            Figure(f"{database}: all worker processes, PSS", middle["pss_mb"], "MB"),
        )
    return figures, found


def _write_library(folder: Path, papers: int) -> None:
    """Papers of the shipped corpus' sentences, each in an order of its own: no two texts are equal."""
    corpus = (PROJECT / "pipeline" / "corpus" / "corpus.jsonl").read_text(encoding="utf-8")
    records = [json.loads(line) for line in corpus.splitlines() if line.strip()]
    sentences = [
        sentence for record in records for sentence in re.split(r"(?<=[.!?])\s+", record["text"]) if sentence.strip()
    ]
    chance = random.Random(1)
    folder.mkdir()
    with (folder / "corpus.jsonl").open("w", encoding="utf-8") as file:
        for number in range(papers):
            title = f"{chance.choice(records)['title']} ({number})"
            text = " ".join(chance.choice(sentences) for _ in range(SENTENCES_OF_A_PAPER))
            file.write(json.dumps({"_id": str(number), "title": title, "text": text}) + "\n")


def _job(engine: Cluster, definition: str, library: Path, slots: int) -> dict[str, float]:
    worker = engine.start_worker(slots, fresh=True)
    with _watched(worker.process) as largest:
        report = engine.run(definition, timeout=900, path=str(library))
    worker.stop()
    assert report.run.status == "SUCCESS", report
    times = {
        step: (started, finished)
        for step, started, finished in engine.rows(
            "SELECT step_id, min(started_at), max(finished_at) FROM step_runs WHERE part = 0 GROUP BY step_id"
        )
    }
    begin, end = min(start for start, _ in times.values()), max(stop for _, stop in times.values())
    embed_begin, embed_end = times["embed"]
    return {"job_s": end - begin, "embed_s": embed_end - embed_begin, **largest}


@contextmanager
def _watched(process: psutil.Process) -> Iterator[dict[str, float]]:
    """The largest resident memory of one process of a worker, and the largest proportional one of all together."""
    largest = {"rss_mb": 0.0, "pss_mb": 0.0}
    is_over = threading.Event()

    def look() -> None:
        while not is_over.wait(0.5):
            try:
                family = [process, *process.children(recursive=True)]
                memory = [one.memory_full_info() for one in family]
            except psutil.Error:
                continue  # one of them has just ended
            largest["rss_mb"] = max(largest["rss_mb"], *(one.rss / 1e6 for one in memory))
            largest["pss_mb"] = max(largest["pss_mb"], sum(one.pss for one in memory) / 1e6)

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield largest
    finally:
        is_over.set()
        watcher.join()


def _texts(url: str) -> list[str]:
    """What the model was given, in the order of the chunks."""
    database = Database(url)
    query = select(chunks.c.heading, chunks.c.text).order_by(chunks.c.paper_id, chunks.c.position)
    with database.connect() as connection:
        found = [embedded_text(row.heading, row.text) for row in connection.execute(query)]
    database.close()
    return found


def _model_alone(texts: list[str], slots: int) -> float:
    """Seconds that as many processes take for the same texts in the same batches, once each has loaded the model."""
    batches = [texts[start : start + BATCH] for start in range(0, len(texts), BATCH)]
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(slots + 1)
    queue: Any = context.Queue()
    for batch in batches:
        queue.put(batch)
    for _ in range(slots):
        queue.put(None)
    running = [context.Process(target=_embed_all, args=(barrier, queue)) for _ in range(slots)]
    for process in running:
        process.start()
    barrier.wait(120)
    begin = perf_counter()
    for process in running:
        process.join(900)
        assert process.exitcode == 0
    return perf_counter() - begin


def _embed_all(barrier: Any, queue: Any) -> None:
    encoder = embedder()
    encoder.embed(["a text that loads the model"])
    barrier.wait(120)
    while (batch := queue.get()) is not None:
        encoder.embed(batch)
