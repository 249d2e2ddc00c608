"""A collection that gets another model: what searches see before, meanwhile and afterwards; and what it may cost."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import select

from pipeline import collections, usage
from pipeline.collections import (
    GenerationBusyError,
    GenerationEndedError,
    IncompleteGenerationError,
    LiveGenerationError,
    ModelMismatchError,
)
from pipeline.embedding import model_of
from pipeline.search import search
from pipeline.steps.embed import EmbedInput, ModelChangedError, embed
from pipeline.steps.process_papers import ProcessInput, process_papers
from pipeline.steps.re_embed import OpenInput, OpenOutput, SwitchInput, SwitchOutput, open_generation, switch_generation
from pipeline.steps.store import StoreInput, store
from pipeline.tables import entries
from pipeline.usage import Budget, BudgetExceededError
from tests.support.model_server import ModelServer, model_server
from tests.support.pipeline import DirectContext, run_pipeline
from workflows.db.database import Database
from workflows.model.errors import NotFoundError

PAPERS = [
    {"_id": "p1", "title": "Hot Jupiters", "text": "Giant planets orbit close to their stars."},
    {"_id": "p2", "title": "Flaky tests", "text": "Some tests fail and pass without any change of the code."},
    {"_id": "p3", "title": "Planar graphs", "text": "A drawing of a graph has no crossing edges."},
]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelServer]:
    """Two models of one server: `served`, which costs 2 a million tokens, and `other`."""
    with model_server() as running:
        told = {"backend": "openai", "url": running.url, "model": "m", "dimension": 384, "max_tokens": 200}
        file = tmp_path / "models.yaml"
        models = {"served": {**told, "price": 2.0}, "other": {**told, "revision": "x", "chunk_tokens": 64}}
        file.write_text(json.dumps({"models": models}), encoding="utf-8")
        monkeypatch.setenv("CELERIAC_MODELS", str(file))
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "papers"
    made.mkdir()
    write(made, *PAPERS)
    return made


def write(folder: Path, *records: object) -> None:
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, records)), encoding="utf-8")


def opened(database: Database, model: str) -> OpenOutput:
    return open_generation(OpenInput(model=model), DirectContext(database))


def fill(database: Database, target: OpenOutput, papers: list[str] | None = None) -> None:
    """What `definitions/re-embed.yaml` does between its ends."""
    context = DirectContext(database)
    papers = target.paper_ids if papers is None else papers
    made = [process_papers(ProcessInput(paper=paper, model=target.model), context) for paper in papers]
    embed(EmbedInput(chunks=[chunk for one in made for chunk in one.chunk_ids], model=target.model), context)
    store(StoreInput(papers=papers, generation=target.generation), context)


def switch(database: Database, target: OpenOutput, **more: bool) -> SwitchOutput:
    return switch_generation(SwitchInput(generation=target.generation, **more), DirectContext(database))


def generations(database: Database) -> list[tuple[int, bool, str, int]]:
    with database.connect() as connection:
        found = collections.described(connection)
    return [(one.collection.generation, one.collection.is_live, one.collection.model, one.entries) for one in found]


def found(database: Database, query: str = "planets") -> list[str]:
    return [hit.paper_id for hit in search(database, query, limit=1)]


def test_searches_see_the_old_model_until_all_is_there(database: Database, folder: Path, server: ModelServer) -> None:
    run_pipeline(database, path=str(folder))
    target = opened(database, "served")
    assert (target.generation, target.papers, target.model) == (2, 3, "served")
    assert opened(database, "served") == target  # a try that follows finds it
    fill(database, target, target.paper_ids[:2])
    asked = len(server.seen)
    assert found(database) == ["p1"]
    assert len(server.seen) == asked  # by the bundled model still
    with pytest.raises(IncompleteGenerationError, match=r"lacks 1 of the papers.*Run re-embed again"):
        switch(database, target)
    assert generations(database) == [(1, True, "all-MiniLM-L6-v2", 3), (2, False, "served", 2)]

    again = opened(database, "served")
    asked = len(server.seen)
    fill(database, again)
    assert len(server.texts()) - sum(len(one["input"]) for one in server.seen[:asked]) == 1  # only what was missing
    done = switch(database, again)
    assert (done.switched, done.dropped, done.papers, done.count) == (True, [1], 3, 3)
    assert generations(database) == [(2, True, "served", 3)]
    asked = len(server.seen)
    assert found(database) == ["p1"]
    assert len(server.seen) == asked + 1
    assert switch(database, again).switched is False  # a try that follows does nothing
    assert opened(database, "served").paper_ids == []
    with database.connect() as connection:
        assert {row.collection_id for row in connection.execute(select(entries.c.collection_id))} == {2}


def test_runs_take_the_collection_s_model_unless_told_otherwise(
    database: Database, folder: Path, server: ModelServer
) -> None:
    run_pipeline(database, path=str(folder))
    target = opened(database, "served")
    fill(database, target)
    switch(database, target)
    context = DirectContext(database)
    write(folder, *PAPERS, {"_id": "p4", "title": "Proteins", "text": "Chains of amino acids fold."})
    paper = run_pipeline(database, path=str(folder), collection="elsewhere").fetch.paper_ids[3]
    made = process_papers(ProcessInput(paper=paper, collection="papers"), context)
    assert embed(EmbedInput(chunks=made.chunk_ids, collection="papers"), context).model == "served"
    assert store(StoreInput(papers=[paper]), context).new == 1
    with pytest.raises(ModelMismatchError, match="celeriac run re-embed --param collection=papers --param model=other"):
        process_papers(ProcessInput(paper=paper, collection="papers", model="other"), context)
    with pytest.raises(ModelMismatchError, match="of served"):
        store(StoreInput(papers=[paper], model="all-MiniLM-L6-v2"), context)


def test_a_paper_that_comes_meanwhile_is_not_left_behind(database: Database, folder: Path, server: ModelServer) -> None:
    run_pipeline(database, path=str(folder))
    target = opened(database, "served")
    fill(database, target)
    write(folder, *PAPERS, {"_id": "p4", "title": "Proteins", "text": "Chains of amino acids fold."})
    run_pipeline(database, path=str(folder))
    with pytest.raises(IncompleteGenerationError, match="Proteins"):
        switch(database, target)
    fill(database, opened(database, "served"))
    assert switch(database, target).papers == 4


def test_what_may_be_left_out_is_left_out_when_asked(database: Database, folder: Path, server: ModelServer) -> None:
    run_pipeline(database, path=str(folder))
    target = opened(database, "served")
    fill(database, target, target.paper_ids[:1])
    assert switch(database, target, allow_missing=True, keep_old=True).papers == 1
    assert generations(database) == [(1, False, "all-MiniLM-L6-v2", 3), (2, True, "served", 1)]


def test_one_can_go_back_to_a_generation_that_was_kept(database: Database, folder: Path, server: ModelServer) -> None:
    run_pipeline(database, path=str(folder))
    target = opened(database, "served")
    fill(database, target)
    switch(database, target, keep_old=True)
    with database.begin() as connection:
        assert collections.make_live(connection, collections.generation(connection, "papers", 1))
    assert generations(database) == [(1, True, "all-MiniLM-L6-v2", 3), (2, False, "served", 3)]
    asked = len(server.seen)
    assert found(database, "flaky") == ["p2"]
    assert len(server.seen) == asked


def test_two_models_cannot_fill_the_next_generation(database: Database, folder: Path, server: ModelServer) -> None:
    run_pipeline(database, path=str(folder))
    opened(database, "served")
    with pytest.raises(GenerationBusyError, match="celeriac collections drop papers --generation 2"):
        opened(database, "other")
    with database.connect() as connection:
        (doomed,) = collections.to_drop(connection, "papers", 2)
    collections.drop(database.begin, doomed.collection)
    assert opened(database, "other").generation == 2
    with pytest.raises(NotFoundError, match="nothing is stored"):
        open_generation(OpenInput(collection="nowhere", model="other"), DirectContext(database))


def test_generations_opened_at_the_same_time_are_one(database: Database, folder: Path, server: ModelServer) -> None:
    run_pipeline(database, path=str(folder))
    with ThreadPoolExecutor(8) as pool:
        numbers = {one.generation for one in pool.map(lambda _: opened(database, "served"), range(16))}
    assert numbers == {2}
    assert len(generations(database)) == 2


def test_a_store_that_is_overtaken_by_a_switch_does_not_write_into_the_past(
    database: Database, folder: Path, server: ModelServer
) -> None:
    run_pipeline(database, path=str(folder))
    with database.connect() as connection:
        before = collections.live(connection, "papers")
    assert before is not None
    target = opened(database, "served")
    fill(database, target)
    switch(database, target, keep_old=True)
    with database.begin() as connection, pytest.raises(GenerationEndedError, match="was replaced meanwhile"):
        collections.hold(connection, before)


def test_chunks_that_were_cut_for_another_model_are_not_embedded(
    database: Database, folder: Path, server: ModelServer
) -> None:
    result = run_pipeline(database, path=str(folder))
    context = DirectContext(database)
    with pytest.raises(ModelChangedError, match="run the workflow again"):
        embed(EmbedInput(chunks=[chunk for one in result.process for chunk in one.chunk_ids], model="other"), context)
    assert server.seen == []


def test_the_live_generation_is_not_dropped_while_there_are_others(
    database: Database, folder: Path, server: ModelServer
) -> None:
    run_pipeline(database, path=str(folder))
    opened(database, "served")
    with database.connect() as connection:
        with pytest.raises(LiveGenerationError, match="searches see generation 1"):
            collections.to_drop(connection, "papers", 1)
        every = collections.to_drop(connection, "papers")
    for one in every:
        collections.drop(database.begin, one.collection)
    assert generations(database) == []
    with pytest.raises(NotFoundError):
        found(database)
    assert run_pipeline(database, path=str(folder)).embedded == 0  # the vectors are cached


def test_a_run_stops_at_its_budget_and_the_next_goes_on(database: Database, folder: Path, server: ModelServer) -> None:
    run_pipeline(database, path=str(folder))
    target = opened(database, "served")
    context = DirectContext(database)
    made = [process_papers(ProcessInput(paper=one, model="served"), context) for one in target.paper_ids]
    chunks = [chunk for one in made for chunk in one.chunk_ids]

    def each(number: int, **budget: float) -> int:
        return embed(EmbedInput(chunks=[chunks[number]], model="served", **budget), context).tokens

    first = each(0, budget_tokens=25)
    assert 0 < first <= 25
    with pytest.raises(BudgetExceededError, match=r"budget of 25 tokens is used up.*--param budget_tokens"):
        each(1, budget_tokens=25)
    assert len(server.seen) == 1
    with pytest.raises(BudgetExceededError, match=r"--param budget="):
        each(1, budget=first * 2e-6 * 1.5)
    with database.connect() as connection:
        used, cost = usage.used_by(connection, context.run_id)
    assert used == first
    assert cost == pytest.approx(first * 2e-6)
    other_run = DirectContext(database, run_id="another")
    assert embed(EmbedInput(chunks=chunks, model="served", budget_tokens=1000), other_run).embedded == 2
    done = embed(EmbedInput(chunks=chunks, model="served", budget=0), context)  # costs nothing any more
    assert (done.embedded, done.cached, done.tokens, done.cost) == (0, 3, 0, 0.0)


def test_calls_at_the_same_time_do_not_pass_a_budget_together(database: Database, server: ModelServer) -> None:
    model = model_of("served")

    def take(_: int) -> bool:
        try:
            with database.begin() as connection:
                usage.reserve(connection, "run", model, 10, Budget(tokens=95))
        except BudgetExceededError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(take, range(40))) == 9
    with database.connect() as connection:
        used, cost = usage.used_by(connection, "run")
    assert used == 90
    assert cost == pytest.approx(90 * 2e-6)
