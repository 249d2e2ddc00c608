"""`/api/v1/collections` on real ports, on each database."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import collections
from pipeline.embedding import model_of
from tests.support.api import Served, served
from tests.support.pipeline import run_pipeline
from workflows.db.database import Database
from workflows.db.migrate import upgrade

PAPER = {"_id": "p1", "title": "Hot Jupiters", "text": "Giant planets orbit close to their stars."}
OTHER = {"backend": "openai", "url": "http://127.0.0.1:9/v1", "model": "m", "dimension": 8}


@pytest.fixture
def api(settings: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A collection with a paper in generation 1, and an empty generation 2 for another model."""
    folder = tmp_path / "papers"
    folder.mkdir()
    (folder / "corpus.jsonl").write_text(json.dumps(PAPER), encoding="utf-8")
    models = tmp_path / "models.yaml"
    models.write_text(json.dumps({"models": {"other": OTHER}}), encoding="utf-8")
    monkeypatch.setenv("CELERIAC_MODELS", str(models))
    database = Database(settings["DATABASE_URL"])
    upgrade(database)
    run_pipeline(database, path=str(folder))
    with database.begin() as connection:
        collections.opened_next(connection, "papers", model_of("other"))
    database.close()
    with served(settings) as answering:
        yield answering


def test_collections_and_their_generations_are_listed(api: Served) -> None:
    (one,) = api.http.get("/api/v1/collections").json()["collections"]
    told = {"name": "papers", "generation": 1, "is_live": True, "model": "all-MiniLM-L6-v2", "papers": 1, "entries": 1}
    assert told.items() <= one.items()
    every = api.http.get("/api/v1/collections/papers").json()["generations"]
    assert [(one["generation"], one["is_live"], one["dimension"]) for one in every] == [(1, True, 384), (2, False, 8)]
    assert api.http.get("/api/v1/collections/nothing").status_code == 404


def test_what_a_search_finds_is_cited(api: Served) -> None:
    asked = {"q": "planets", "format": "bibtex"}
    answer = api.http.get("/api/v1/search", params=asked)
    assert answer.headers["content-type"].startswith("application/x-bibtex")
    assert answer.text == "@misc{hot,\n  title = {Hot Jupiters},\n}\n"
    answer = api.http.get("/api/v1/search", params={**asked, "format": "csl-json"})
    assert answer.headers["content-type"] == "application/vnd.citationstyles.csl+json"
    assert answer.json() == [{"id": "hot", "type": "article", "title": "Hot Jupiters"}]
    assert api.http.get("/api/v1/search", params={**asked, "format": "word"}).status_code == 422


def test_a_switch_that_would_lose_papers_is_refused(api: Served) -> None:
    refused = api.http.post("/api/v1/collections/papers/switch", json={"generation": 2})
    assert (refused.status_code, "lacks 1 of the papers" in refused.json()["detail"]) == (409, True)
    assert api.http.post("/api/v1/collections/papers/switch", json={"generation": 3}).status_code == 404
    done = api.http.post("/api/v1/collections/papers/switch", json={"generation": 2, "allow_missing": True})
    assert done.json() == {"name": "papers", "generation": 2, "switched": True}
    same = api.http.post("/api/v1/collections/papers/switch", json={"generation": 2})
    assert same.json()["switched"] is False


def test_what_searches_see_is_dropped_only_as_a_whole(api: Served) -> None:
    refused = api.http.delete("/api/v1/collections/papers", params={"generation": 1})
    assert (refused.status_code, "searches see generation 1" in refused.json()["detail"]) == (409, True)
    assert api.http.delete("/api/v1/collections/papers", params={"generation": 2}).json()["dropped"] == [2]
    dropped = api.http.delete("/api/v1/collections/papers").json()
    assert dropped == {"name": "papers", "dropped": [1], "entries": 1}
    assert api.http.get("/api/v1/collections").json() == {"collections": []}
    assert api.http.get("/api/v1/search", params={"q": "planets"}).status_code == 404
