"""The definitions that fetch from catalogues, run by the command line against a catalogue on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from celeriac import main
from tests.support.cluster import PROJECT
from tests.support.site import Site, site_on_loopback

ANSWERS = PROJECT / "tests/integration/pipeline/answers"


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, home: Path, tmp_path: Path) -> Iterator[Site]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CELERIAC_ALLOW_PRIVATE_NETWORKS", "127.0.0.1")
    with site_on_loopback() as made:
        monkeypatch.setenv("CELERIAC_ARXIV_URL", made.url)
        monkeypatch.setenv("CELERIAC_OPENALEX_URL", made.url)
        yield made


def _run(capsys: pytest.CaptureFixture[str], name: str, *params: str) -> dict[str, Any]:
    options = [word for param in params for word in ("--param", param)]
    assert main.run(["run", name, "--inline", "--json", *options]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found["status"] == "SUCCESS", found
    return found


def _search(capsys: pytest.CaptureFixture[str], query: str, collection: str) -> list[dict[str, Any]]:
    assert main.run(["search", query, "--collection", collection, "--json"]) == 0
    return list(json.loads(capsys.readouterr().out))


def test_papers_of_arxiv_become_searchable_and_the_next_night_finds_what_is_new(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    first = (ANSWERS / "arxiv-first.xml").read_bytes().replace(b"totalResults>214881<", b"totalResults>10<")
    site.answers = [(200, "application/atom+xml", first)] * 2
    run = _run(capsys, "nightly-arxiv", "query=testing")
    assert (run["outputs"]["fetched"], run["outputs"]["new"]) == (10, 10)
    assert run["outputs"]["vectors"] >= 10
    hits = _search(capsys, "explain the prioritisation of test cases that was learned by ranking", "arxiv")
    assert "Test Case Prioritisation" in hits[0]["title"]
    again = _run(capsys, "nightly-arxiv", "query=testing")
    assert again["outputs"]["fetched"] == 0  # nothing has changed since then
    assert len(site.seen) == 2


def test_the_literature_review_takes_from_a_catalogue(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.answers = [(200, "application/atom+xml", (ANSWERS / "arxiv-many-authors.xml").read_bytes())]
    run = _run(capsys, "literature-review", "source=arxiv", "query=workshop", "max_papers=5")
    assert (run["outputs"]["fetched"], run["outputs"]["collection_papers"]) == (1, 1)


def test_citations_are_followed(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    works = [
        {
            "id": f"https://openalex.org/W{number}",
            "display_name": f"Study {number} of open access",
            "publication_year": 2020,
            "abstract_inverted_index": {"It": [0], "cites": [1], "the": [2], "other": [3]},
        }
        for number in (1, 2)
    ]
    answer = {"meta": {"count": 2, "next_cursor": None}, "results": works}
    site.answers = [(200, "application/json", json.dumps(answer).encode())]
    run = _run(capsys, "follow-citations", "work=W99")
    assert (run["outputs"]["fetched"], run["outputs"]["vectors"]) == (2, 2)
    assert "filter=cites%3AW99" in site.seen[0]["path"]
    assert {hit["title"] for hit in _search(capsys, "open access", "citations")} == {
        work["display_name"] for work in works
    }
