"""What every store of vectors promises, with four writing processes, some of which are killed."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import func, select, text

from pipeline import collections, vectors
from pipeline.dense import exact
from pipeline.filters import EVERYTHING, Filters
from pipeline.indexes import choice
from pipeline.search import search
from pipeline.tables import embeddings, entries
from pipeline.tables import papers as papers_table
from tests.support.qdrant import qdrant_on_loopback
from tests.support.servers import PROJECT
from tests.support.stored_papers import COLLECTION, Library, vector_of
from workflows.db.database import Database

WRITERS = 4


@pytest.fixture(params=["sqlite", "postgresql", "pgvector", "qdrant on sqlite", "qdrant on postgresql"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Library]:
    """On SQLite and PostgreSQL, searched exactly and by each index from the first entry on."""
    url = request.getfixturevalue("_sqlite_copy" if request.param.endswith("sqlite") else "_postgres_copy")
    with ExitStack() as stack:
        if request.param not in ("sqlite", "postgresql"):
            monkeypatch.setenv("CELERIAC_INDEX_FROM", "1")
        if request.param.startswith("qdrant"):
            qdrant = stack.enter_context(qdrant_on_loopback(tmp_path))
            monkeypatch.setenv("CELERIAC_QDRANT_URL", qdrant.url)
        database = Database(url)
        yield Library(database, url)
        database.close()


def writer(url: str, of: Sequence[str]) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "tests.support.store_writer", url, COLLECTION, *of]
    return subprocess.Popen(line, cwd=PROJECT, stdout=subprocess.PIPE, text=True)


def test_four_writers_that_are_killed_lose_and_double_nothing(library: Library) -> None:
    chance = random.Random(7)
    all_papers = [
        library.put(f"paper {n}", [f"{chr(97 + n % 7)} text {n} {part}" for part in range(4)]) for n in range(40)
    ]
    # Every paper is stored by two writers, in another order by each.
    work = [chance.sample(all_papers[n::2], 20) for n in (0, 0, 1, 1)]
    killed = 0
    running = [writer(library.url, papers_of) for papers_of in work]
    for number in (0, 2):
        process = running[number]
        assert process.stdout is not None
        for _ in range(chance.randint(1, 6)):
            process.stdout.readline()
        process.kill()
        process.wait()
        killed += 1
        running.append(writer(library.url, work[number]))  # its message comes again
    for process in running:
        process.communicate(timeout=120)
    assert [process.returncode for process in running if process.returncode != -9] == [0] * WRITERS
    assert killed == 2
    assert library.texts() == library.wanted()
    assert set(library.texts().values()) == {1}
    for query in ("a text 7 1", "c text 16 3"):
        found = library.cosines(query)
        assert max(found, key=lambda name: found[name]) == query
        assert found[query] == pytest.approx(1.0, abs=1e-5)


def test_storing_again_changes_nothing(library: Library) -> None:
    of = [library.put(f"paper {n}", [f"a text {n}"]) for n in range(3)]
    library.store(*of)
    with library.database.connect() as connection:
        before = connection.execute(select(entries.c.id, entries.c.chunk_id)).all()
    library.store(*of)
    with library.database.connect() as connection:
        assert connection.execute(select(entries.c.id, entries.c.chunk_id)).all() == before


def test_replaced_text_is_no_longer_found(library: Library) -> None:
    paper = library.put("paper", ["a old 1", "a old 2", "b kept"])
    library.store(paper)
    library.put("paper", ["b kept", "a new"])
    assert set(library.cosines("a new")) == {"a old 1", "a old 2", "b kept"}  # until it is stored
    library.store(paper)
    assert set(library.cosines("a new")) == {"b kept", "a new"}


def test_a_paper_that_is_deleted_is_gone_at_once(library: Library) -> None:
    one, other = library.put("one", ["a one"]), library.put("other", ["a other"])
    library.store(one, other)
    with library.database.begin() as connection:
        connection.execute(papers_table.delete().where(papers_table.c.id == one))
    assert set(library.cosines("a one")) == {"a other"}
    assert library.texts() == Counter({(other, "a other"): 1})


def test_filters_narrow_before_anything_is_ranked(library: Library) -> None:
    """Far more entries than an index looks at stand nearer to the query than those that fit."""
    near = [library.put(f"near {n}", [f"a near {n} {part}" for part in range(20)], year=2020) for n in range(30)]
    far = library.put("far", ["z far", "z further"], year=1999, source="arxiv")
    library.store(*near, far)
    assert set(library.cosines("a near 1 1", Filters(year_to=2000))) == {"z far", "z further"}
    assert set(library.cosines("a near 1 1", Filters(source="arxiv"))) == {"z far", "z further"}
    assert set(library.cosines("a near 1 1", Filters(source="arxiv", section="results"))) == {"z far"}
    assert library.cosines("a near 1 1", Filters(year_from=2050)) == {}


def test_a_reader_sees_a_paper_whole_or_not_at_all(library: Library) -> None:
    paper = library.put("paper", [f"a version 0 part {part}" for part in range(6)])
    library.store(paper)
    seen: Counter[tuple[int, int]] = Counter()
    is_over = threading.Event()

    def read() -> None:
        database = Database(library.url)
        while not is_over.is_set():
            with database.connect() as connection:
                texts = connection.execute(select(entries.c.text)).scalars().all()
            versions = {text.split()[2] for text in texts}
            seen[(len(versions), len(texts))] += 1
        database.close()

    reader = threading.Thread(target=read)
    reader.start()
    for version in range(1, 30):
        library.put("paper", [f"a version {version} part {part}" for part in range(6)])
        library.store(paper)
    is_over.set()
    reader.join(10)
    assert set(seen) == {(1, 6)}
    assert sum(seen.values()) > 20


def test_an_entry_that_the_index_has_not_got_yet_is_found_all_the_same(library: Library) -> None:
    first = library.put("first", ["a first"])
    library.store(first)
    second = library.put("second", ["a second"])
    model = library.model
    with library.database.begin() as connection:
        live = collections.opened(connection, COLLECTION, model)
        vectors.store_paper(connection, live, model, second)  # and the process dies
    assert set(library.cosines("a second")) == {"a first", "a second"}
    assert library.cosines("a second")["a second"] == pytest.approx(1.0, abs=1e-5)
    library.store(first)
    assert set(library.cosines("a second")) == {"a first", "a second"}


def test_a_collection_too_large_for_memory_is_compared_block_by_block(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = [library.put(f"paper {n}", [f"{chr(97 + n % 5)} text {n} {part}" for part in range(3)]) for n in range(9)]
    library.store(*of)
    whole = library.cosines("c text 2 1")
    monkeypatch.setenv("CELERIAC_SEARCH_MEMORY_MB", "0")
    monkeypatch.setattr("pipeline.dense._BLOCK", 4)
    assert library.cosines("c text 2 1") == pytest.approx(whole)


def test_a_search_by_index_finds_what_an_exact_one_finds(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = request.getfixturevalue("_postgres_copy")
    database = Database(url)
    library = Library(database, url)
    texts = [f"{chr(97 + n % 20)} text {n}" for n in range(2000)]
    of = [library.put(f"paper {n}", texts[n * 10 : n * 10 + 10]) for n in range(200)]
    library.store(*of)
    queries = [f"{chr(97 + n % 20)} query {n}" for n in range(30)]
    with database.connect() as connection:
        live = collections.live(connection, COLLECTION)
        assert live is not None
        best = {}
        for query in queries:
            near = exact(connection, live, vector_of(query), EVERYTHING)
            best[query] = set(near.ids[np.argsort(-near.cosines)[:10]].tolist())
        assert choice.nearest(connection, live, vector_of("a"), EVERYTHING, 10, []) is None
    monkeypatch.setenv("CELERIAC_INDEX_FROM", "100")
    library.store(of[0])
    hits = 0
    with database.connect() as connection:
        live = collections.live(connection, COLLECTION)
        assert live is not None
        connection.execute(text("SET enable_seqscan = off"))
        for query in queries:
            found = choice.nearest(connection, live, vector_of(query), EVERYTHING, 10, [])
            assert found is not None
            hits += len(best[query] & {entry for entry, _, _ in found})
        plan = str(
            connection.execute(
                text(
                    f"EXPLAIN SELECT entry_id FROM entry_vectors_{live.id} "
                    "ORDER BY embedding <#> (SELECT embedding FROM entry_vectors_1 LIMIT 1) LIMIT 10"
                )
            ).all()
        )
        assert "hnsw" in plan
        assert connection.execute(select(func.count()).select_from(embeddings)).scalar_one() == 2000
    assert hits / (len(queries) * 10) >= 0.98
    assert search(database, "text 7", collection=COLLECTION, limit=5)
    with database.begin() as connection:
        (every,) = collections.to_drop(connection, COLLECTION)
    collections.drop(database.begin, every.collection)
    with database.connect() as connection:
        assert connection.execute(text("SELECT to_regclass('entry_vectors_1')")).scalar_one() is None
    database.close()
