"""An index on a Qdrant server: what it promises beyond the contract of every store, and what is done when it fails."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select, update

from pipeline import collections
from pipeline.collections import Collection
from pipeline.dense import exact
from pipeline.filters import EVERYTHING, Filters
from pipeline.indexes import choice, qdrant
from pipeline.search import search
from pipeline.tables import collections as collections_table
from pipeline.tables import entries
from pipeline.tables import papers as papers_table
from tests.support.qdrant import Qdrant, qdrant_on_loopback
from tests.support.stored_papers import COLLECTION, Library, vector_of
from workflows.db.database import Database


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Qdrant]:
    monkeypatch.setenv("CELERIAC_INDEX_FROM", "1")
    with qdrant_on_loopback(tmp_path) as qdrant:
        monkeypatch.setenv("CELERIAC_QDRANT_URL", qdrant.url)
        yield qdrant


@pytest.fixture(params=["_sqlite_copy", "_postgres_copy"])
def library(request: pytest.FixtureRequest, server: Qdrant) -> Iterator[Library]:
    url = request.getfixturevalue(request.param)
    database = Database(url)
    yield Library(database, url)
    database.close()


def live(library: Library) -> Collection:
    with library.database.connect() as connection:
        found = collections.live(connection, COLLECTION)
    assert found is not None
    return found


def stored_ids(library: Library) -> set[int]:
    with library.database.connect() as connection:
        return set(connection.execute(select(entries.c.id)).scalars())


def queries_of(server: Qdrant) -> int:
    return sum(path.endswith("/points/query") for _, path in server.seen)


def test_the_graph_of_the_engine_finds_what_an_exact_search_finds(library: Library, server: Qdrant) -> None:
    texts = [f"{chr(97 + n % 20)} text {n}" for n in range(2000)]
    library.store(*[library.put(f"paper {n}", texts[n * 10 : n * 10 + 10]) for n in range(200)])
    server.optimize()
    assert sum(shard.info().indexed_vectors_count for shard in server.shards.values()) == 2000
    hits = 0
    with library.database.connect() as connection:
        for query in (f"{chr(97 + n % 20)} query {n}" for n in range(30)):
            near = exact(connection, live(library), vector_of(query), EVERYTHING)
            best = set(near.ids[np.argsort(-near.cosines)[:10]].tolist())
            found = choice.nearest(connection, live(library), vector_of(query), EVERYTHING, 10, [])
            assert found is not None
            hits += len(best & {entry for entry, _, _ in found})
            for entry, _, cosine in found:
                (at,) = np.flatnonzero(near.ids == entry)
                assert cosine == pytest.approx(float(near.cosines[at]), abs=1e-5)
    assert hits / 300 >= 0.98


def test_a_whole_search_gives_what_it_gives_without_the_server(
    library: Library, server: Qdrant, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.store(
        *[library.put(f"paper {n}", [f"{chr(97 + n % 5)} text {n} {part}" for part in range(4)]) for n in range(50)]
    )
    found = search(library.database, "text 7", collection=COLLECTION, limit=5)
    assert queries_of(server) == 1
    monkeypatch.delenv("CELERIAC_QDRANT_URL")
    assert search(library.database, "text 7", collection=COLLECTION, limit=5) == found
    assert queries_of(server) == 1


def test_points_of_papers_that_are_gone_are_never_found_and_go_at_the_next_store(
    library: Library, server: Qdrant
) -> None:
    near = [library.put(f"near {n}", [f"a near {n} {part}" for part in range(20)]) for n in range(30)]
    far = library.put("far", ["z far", "z further"])
    library.store(*near, far)
    with library.database.begin() as connection:
        connection.execute(papers_table.delete().where(papers_table.c.id.in_(near)))
    assert len(server.points()) == 602
    assert set(library.cosines("a near 1 1")) == {"z far", "z further"}
    library.store(far)
    assert server.points() == stored_ids(library)
    assert len(server.points()) == 2


def test_filters_are_the_database_s(library: Library, server: Qdrant) -> None:
    """Few of the nearest fit: the server is asked for more and more, and then all that fit are compared."""
    near = [library.put(f"near {n}", [f"a near {n} {part}" for part in range(50)]) for n in range(40)]
    far = library.put("far", ["z far"], year=1999)
    library.store(*near, far)
    assert set(library.cosines("a near 1 1", Filters(year_to=2000))) == {"z far"}
    assert 1 < queries_of(server) <= 4
    with library.database.begin() as connection:  # told to no server
        connection.execute(update(papers_table).where(papers_table.c.id == near[3]).values(year=1990))
    found = library.cosines("a near 1 1", Filters(year_to=2000))
    assert len(found) >= 20
    assert {name[:8] for name in found} == {"a near 3"}


def test_a_server_that_was_emptied_is_filled_again(
    library: Library, server: Qdrant, caplog: pytest.LogCaptureFixture
) -> None:
    paper = library.put("paper", ["a one", "a two"])
    library.store(paper)
    server.shards.clear()
    with caplog.at_level(logging.WARNING):
        assert set(library.cosines("a one")) == {"a one", "a two"}
    assert "Qdrant was not asked about the collection 'contract': it answered 404" in caplog.text
    other = library.put("other", ["a other"])
    library.store(other)
    assert server.points() == stored_ids(library)
    assert set(library.cosines("a one")) == {"a one", "a two", "a other"}


def test_points_that_the_server_lost_are_copied_again(
    library: Library, server: Qdrant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qdrant, "_PAGE", 7)
    of = [library.put(f"paper {n}", [f"a text {n} {part}" for part in range(5)]) for n in range(10)]
    library.store(*of)
    with library.database.begin() as connection:
        connection.execute(papers_table.delete().where(papers_table.c.id == of[4]))
    (name,) = server.shards
    lost = sorted(stored_ids(library))[::3]
    server.remove(name, {"points": lost})
    library.store(of[0])
    assert server.points() == stored_ids(library)


@pytest.mark.parametrize(
    ("status", "hint"), [(401, "it refused the key (401); set CELERIAC_QDRANT_KEY"), (500, "it answered 500")]
)
def test_a_server_that_refuses_costs_no_run_and_no_hit(
    library: Library, server: Qdrant, caplog: pytest.LogCaptureFixture, status: int, hint: str
) -> None:
    first = library.put("first", ["a first"])
    library.store(first)
    server.status = status
    second = library.put("second", ["a second"])
    with caplog.at_level(logging.WARNING):
        library.store(second)
        assert set(library.cosines("a second")) == {"a first", "a second"}
    assert f"the collection 'contract' was not copied to Qdrant: {hint}" in caplog.text
    server.status = None
    library.store(second)
    assert server.points() == stored_ids(library)


def test_a_server_that_is_not_there_costs_no_run_and_no_hit(
    library: Library, server: Qdrant, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.store(library.put("first", ["a first"]))
    monkeypatch.setenv("CELERIAC_QDRANT_URL", "http://127.0.0.1:9")
    with caplog.at_level(logging.WARNING):
        library.store(library.put("second", ["a second"]))
        assert set(library.cosines("a second")) == {"a first", "a second"}
    assert "it did not answer" in caplog.text
    assert "is CELERIAC_QDRANT_URL right?" in caplog.text


def test_the_key_is_sent_and_never_logged(
    library: Library, server: Qdrant, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.key = "a-right-key"
    monkeypatch.setenv("CELERIAC_QDRANT_KEY", "a-wrong-key")
    paper = library.put("paper", ["a one"])
    caplog.set_level(logging.DEBUG)
    with pytest.warns(UserWarning, match="insecure connection"):
        library.store(paper)
    assert server.points() == set()
    monkeypatch.setenv("CELERIAC_QDRANT_KEY", "a-right-key")
    with pytest.warns(UserWarning, match="insecure connection"):
        library.store(paper)
    assert server.points() == stored_ids(library)
    assert "a-wrong-key" not in caplog.text
    assert "a-right-key" not in caplog.text


def test_a_dropped_collection_is_gone_from_the_server(library: Library, server: Qdrant) -> None:
    library.store(library.put("paper", ["a one"]))
    assert len(server.shards) == 1
    collections.drop(library.database.begin, live(library))
    assert not server.shards


def test_installations_share_a_server_without_meeting(
    library: Library, server: Qdrant, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.store(library.put("paper", ["a one"]))
    monkeypatch.setenv("CELERIAC_QDRANT_PREFIX", "staging")  # with a copy of the same database
    assert set(library.cosines("a one")) == {"a one"}
    library.store(library.put("other", ["a other"]))
    assert {name.partition("_")[0] for name in server.shards} == {"celeriac", "staging"}
    assert set(library.cosines("a one")) == {"a one", "a other"}


def test_the_operator_changes_from_pgvector_to_qdrant_and_back(
    request: pytest.FixtureRequest, server: Qdrant, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = request.getfixturevalue("_postgres_copy")
    database = Database(url)
    library = Library(database, url)
    monkeypatch.delenv("CELERIAC_QDRANT_URL")
    paper = library.put("paper", ["a one", "a two"])
    library.store(paper)
    assert live(library).indexed_by == "pgvector"
    monkeypatch.setenv("CELERIAC_QDRANT_URL", server.url)
    assert set(library.cosines("a one")) == {"a one", "a two"}
    library.store(paper)
    assert live(library).indexed_by == "qdrant"
    assert set(library.cosines("a one")) == {"a one", "a two"}
    assert queries_of(server) == 1
    monkeypatch.delenv("CELERIAC_QDRANT_URL")
    assert set(library.cosines("a one")) == {"a one", "a two"}
    library.store(paper)
    assert live(library).indexed_by == "pgvector"
    database.close()


def test_a_store_that_was_slower_takes_nothing_back(library: Library, server: Qdrant) -> None:
    paper = library.put("paper", ["a one"])
    library.store(paper)
    before = live(library)
    library.store(library.put("other", ["a other"]))
    after = live(library)
    assert after.copied_to is not None
    with library.database.begin() as connection:
        qdrant._set(connection, before, before.copied_to)
    assert live(library) == after
    with library.database.connect() as connection:
        rows = connection.execute(select(collections_table.c.indexed_by)).scalars().all()
    assert rows == ["qdrant"]


def test_a_missing_client_is_said_with_its_mend(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    qdrant._server.cache_clear()
    monkeypatch.setitem(sys.modules, "qdrant_client", None)
    with pytest.raises(qdrant.QdrantMissingError, match=r"pip install 'celeriac\[qdrant\]'"):
        library.store(library.put("paper", ["a one"]))
