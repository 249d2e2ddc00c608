"""Catalogues on the web, played by a server on loopback: what they answered, and how they misbehave.

arXiv's answers are recorded ones (`answers/`, from the tests of the Python package `arxiv` 4.0.2; metadata under CC0).
Those of the others have the shape that their documentation gives.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy import select

from pipeline import pages
from pipeline.sources import web
from pipeline.steps.fetch import FetchInput, FetchOutput, fetch
from pipeline.tables import fetch_marks, fetch_pages, papers
from tests.support.pipeline import DirectContext
from tests.support.site import Site, site_on_loopback
from workflows.db.database import Database
from workflows.model.errors import PermanentError, StepParked, TransientError

ANSWERS = Path(__file__).parent / "answers"
ATOM, JSON = "application/atom+xml", "application/json"


def _arxiv(name: str) -> bytes:
    return (ANSWERS / f"arxiv-{name}.xml").read_bytes()


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("CELERIAC_ALLOW_PRIVATE_NETWORKS", "127.0.0.1")
    monkeypatch.setattr(web, "FIRST_DELAY_SECONDS", 0.01)
    with site_on_loopback() as made:
        for name in ("ARXIV", "CROSSREF", "EUROPE_PMC", "OPENALEX", "SEMANTIC_SCHOLAR"):
            monkeypatch.setenv(f"CELERIAC_{name}_URL", made.url)
        yield made


def _asked(site: Site, index: int) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(site.seen[index]["path"]).query).items()}


def _fetch(database: Database, run: str = "run", **given: Any) -> FetchOutput:
    return fetch(FetchInput.model_validate(given), DirectContext(database, run_id=run, started_at=time.time()))


def _rows(database: Database) -> list[Any]:
    with database.connect() as connection:
        return list(connection.execute(select(papers).order_by(papers.c.external_id)).mappings())


# arXiv


def test_every_field_of_recorded_answers_is_kept(database: Database, site: Site) -> None:
    site.answers = [(200, ATOM, _arxiv("many-authors"))]
    found = _fetch(database, source="arxiv", query="id:1707.08567")
    assert (found.fetched, found.new, found.left_out) == (1, 1, 0)
    (row,) = _rows(database)
    assert (row["source"], row["external_id"], row["year"]) == ("arxiv", "1707.08567", 2017)
    assert row["title"].startswith("Proceedings of Workshop AEW10")
    assert row["abstract"].startswith("The 10th Asia-Europe workshop")
    assert row["url"] == "https://arxiv.org/abs/1707.08567"
    authors = json.loads(row["authors"])
    assert (authors[0], len(authors)) == ("Kees A. Schouhamer Immink", _arxiv("many-authors").count(b"<author>"))


def test_pages_are_taken_to_the_limit_and_a_second_fetch_changes_nothing(database: Database, site: Site) -> None:
    site.answers = [(200, ATOM, _arxiv("first")), (200, ATOM, _arxiv("second"))]
    found = _fetch(database, source="arxiv", query="testing software", limit=15)
    assert (found.fetched, found.new, found.left_out) == (15, 15, 214_881 - 15)
    assert _asked(site, 0)["search_query"] == "all:testing AND all:software"
    assert [(_asked(site, n)["start"], _asked(site, n)["max_results"]) for n in (0, 1)] == [("0", "15"), ("10", "5")]
    assert all(seen["headers"]["User-Agent"].startswith("celeriac/") for seen in site.seen)
    site.answers = [(200, ATOM, _arxiv("first")), (200, ATOM, _arxiv("second"))]
    again = _fetch(database, run="other", source="arxiv", query="testing software", limit=15)
    assert (again.new, again.updated, again.unchanged) == (0, 0, 15)
    assert again.paper_ids == found.paper_ids


def test_what_changed_since_a_day_is_read_from_the_latest_on(database: Database, site: Site) -> None:
    site.answers = [(200, ATOM, _arxiv("first"))]
    found = _fetch(database, source="arxiv", query="cat:cs.SE", since=date(2021, 1, 1))
    asked = _asked(site, 0)
    assert (asked["search_query"], asked["sortBy"]) == ("cat:cs.SE", "lastUpdatedDate")
    days = [part[:10] for part in _arxiv("first").decode().split("<updated>")[2:]]
    assert 0 < found.fetched == sum(day >= "2021-01-01" for day in days) < len(days)


def test_an_error_entry_is_no_paper(database: Database, site: Site) -> None:
    for status in (400, 200):
        site.answers = [(status, ATOM, _arxiv("error"))]
        with pytest.raises(PermanentError, match="incorrect id format for abc"):
            _fetch(database, source="arxiv", query="id:abc")
    assert _rows(database) == []


def test_nothing_found_is_nothing(database: Database, site: Site) -> None:
    site.answers = [(200, ATOM, _arxiv("none"))]
    assert _fetch(database, source="arxiv", query="zzzz").fetched == 0


EMPTY = _arxiv("none").replace(b"<opensearch:totalResults>0<", b"<opensearch:totalResults>20<")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (503, b"busy"),
        (429, b"slow down"),
        (500, b""),
        (200, _arxiv("first")[:9000]),
        (200, b"<html>not a feed"),
        (200, EMPTY),
    ],
    ids=["503", "429", "500", "broken off", "a page", "empty before the end"],
)
def test_what_passes_is_asked_again(database: Database, site: Site, status: int, body: bytes) -> None:
    site.answers = [(status, ATOM, body), (200, ATOM, _arxiv("many-authors"))]
    assert _fetch(database, source="arxiv", query="x").fetched == 1
    site.answers = [(status, ATOM, body)] * web.TRIES
    with pytest.raises(TransientError):
        _fetch(database, run="other", source="arxiv", query="x")


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (404, b"gone", "404"),
        (403, b"no", "403"),
        (200, b"<!DOCTYPE x [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;&a;'>]><feed>&b;</feed>", "DTD"),
    ],
)
def test_what_does_not_pass_fails_at_once(database: Database, site: Site, status: int, body: bytes, told: str) -> None:
    site.answers = [(status, ATOM, body)]
    with pytest.raises(PermanentError, match=told):
        _fetch(database, source="arxiv", query="x")
    assert len(site.seen) == 1


def test_a_long_wait_parks_the_step(database: Database, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "LONGEST_NAP_SECONDS", 0.001)
    site.answers = [(503, ATOM, b"")]
    with pytest.raises(StepParked):
        _fetch(database, source="arxiv", query="x")


def test_a_call_of_a_map_is_left_to_its_retry_instead(
    database: Database, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "LONGEST_NAP_SECONDS", 0.001)
    site.answers = [(503, ATOM, b"")]
    with pytest.raises(TransientError, match="it asks for"):
        fetch(FetchInput(source="arxiv", query="x"), DirectContext(database, item_key="1"))


def test_a_fetch_that_died_goes_on_behind_its_last_page(database: Database, site: Site) -> None:
    site.answers = [(200, ATOM, _arxiv("first")), (404, ATOM, b"")]
    with pytest.raises(PermanentError):
        _fetch(database, source="arxiv", query="testing", limit=15)
    with database.connect() as connection:
        assert pages.progress(connection, "run", "step").cursor == "10"
    site.answers = [(200, ATOM, _arxiv("second"))]
    found = _fetch(database, source="arxiv", query="testing", limit=15)
    assert (found.fetched, found.new) == (15, 15)
    assert _asked(site, 2)["start"] == "10"
    with database.connect() as connection:
        assert connection.execute(select(fetch_pages)).all() == []


def test_an_incremental_fetch_asks_for_what_has_changed(database: Database, site: Site) -> None:
    site.answers = [(200, ATOM, _arxiv("many-authors"))]
    _fetch(database, source="arxiv", query="a  b", incremental=True)
    assert _asked(site, 0)["sortBy"] == "relevance"
    with database.begin() as connection:
        connection.execute(fetch_marks.update().values(fetched_at=1_600_000_000.0))  # 2020-09-13
    site.answers = [(200, ATOM, _arxiv("many-authors"))]
    found = _fetch(database, run="other", source="arxiv", query="a b", incremental=True)
    assert (_asked(site, 1)["sortBy"], found.fetched) == ("lastUpdatedDate", 0)  # it is of 2017
    site.answers = [(200, ATOM, _arxiv("first"))]
    _fetch(database, run="third", source="arxiv", query="cut short", incremental=True, limit=3)
    with database.connect() as connection:
        assert pages.mark(connection, "arxiv", "cut short") is None


# Crossref

WORK = {
    "DOI": "10.1371/JOURNAL.pone.0033693",
    "title": ["Methylphenidate &amp; <i>Caenorhabditis</i>"],
    "abstract": "<jats:title>Abstract</jats:title><jats:p>We show: <jats:italic>p</jats:italic> &lt; 0.05.</jats:p>",
    "author": [{"given": "Ada", "family": "Lovelace"}, {"name": "The Consortium"}, {"family": "Hopper"}],
    "issued": {"date-parts": [[2012, 3, 21]]},
    "URL": "https://doi.org/10.1371/journal.pone.0033693",
    "type": "journal-article",
}


def _works(*items: Any, cursor: str = "", total: int = 1) -> bytes:
    message = {"items": list(items), "total-results": total, "next-cursor": cursor}
    return json.dumps({"status": "ok", "message": message}).encode()


def test_a_work_of_crossref_loses_its_markup_and_keeps_the_rest(
    database: Database, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELERIAC_MAILTO", "ada@example.org")
    site.answers = [(200, JSON, _works(WORK, {"no": "DOI"}, 7))]
    found = _fetch(database, source="crossref", query="worms", since=date(2024, 5, 1))
    assert (found.fetched, found.new) == (1, 1)
    (row,) = _rows(database)
    doi = "10.1371/journal.pone.0033693"
    assert (row["external_id"], row["doi"], row["year"]) == (doi, doi, 2012)
    assert row["title"] == "Methylphenidate & Caenorhabditis"
    assert row["abstract"] == "We show: p < 0.05."
    assert json.loads(row["authors"]) == ["Ada Lovelace", "The Consortium", "Hopper"]
    asked = _asked(site, 0)
    assert (asked["filter"], asked["mailto"]) == ("from-index-date:2024-05-01", "ada@example.org")
    assert "mailto:ada@example.org" in site.seen[0]["headers"]["User-Agent"]


def test_crossref_is_followed_by_its_cursor(database: Database, site: Site) -> None:
    other = {**WORK, "DOI": "10.1/other"}
    site.answers = [
        (200, JSON, _works(WORK, cursor="next==", total=2)),
        (200, JSON, _works(cursor="next==", total=2)),  # empty before the end
        (200, JSON, _works(other, cursor="more", total=2)),
    ]
    assert _fetch(database, source="crossref", query="worms").fetched == 2
    assert [_asked(site, n)["cursor"] for n in range(3)] == ["*", "next==", "next=="]


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"message": "no"}', b"null"])
def test_what_is_no_list_of_works_is_asked_for_again(database: Database, site: Site, body: bytes) -> None:
    site.answers = [(200, JSON, body), (200, JSON, _works(WORK))]
    assert _fetch(database, source="crossref", query="x").fetched == 1


# OpenAlex

OPEN_WORK = {
    "id": "https://openalex.org/W2741809807",
    "doi": "https://doi.org/10.7717/PEERJ.4375",
    "display_name": "The state of OA",
    "publication_year": 2018,
    "authorships": [{"author": {"display_name": "Heather Piwowar"}}, {"author": None}],
    "abstract_inverted_index": {"Despite": [0], "growing": [1], "interest": [2, 4], "and": [3]},
    "primary_location": {"landing_page_url": "https://doi.org/10.7717/peerj.4375"},
}


def _open_works(*items: Any, cursor: str | None = None, total: int = 1) -> bytes:
    return json.dumps({"meta": {"count": total, "next_cursor": cursor}, "results": list(items)}).encode()


def test_a_work_of_openalex_has_its_abstract_put_together(database: Database, site: Site) -> None:
    site.answers = [(200, JSON, _open_works(OPEN_WORK, {"id": None}))]
    assert _fetch(database, source="openalex", query="open access").new == 1
    (row,) = _rows(database)
    assert (row["external_id"], row["doi"], row["year"]) == ("W2741809807", "10.7717/peerj.4375", 2018)
    assert row["abstract"] == "Despite growing interest and interest"
    assert json.loads(row["authors"]) == ["Heather Piwowar"]
    assert _asked(site, 0)["search"] == "open access"


def test_citations_are_followed_by_a_filter(database: Database, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERIAC_OPENALEX_KEY", "key")
    site.answers = [
        (200, JSON, _open_works(OPEN_WORK, cursor="abc", total=2)),
        (200, JSON, _open_works({**OPEN_WORK, "id": "https://openalex.org/W1"}, total=2)),
    ]
    assert _fetch(database, source="openalex", query="cites:W2741809807", since=date(2020, 1, 2)).fetched == 2
    asked = _asked(site, 1)
    assert asked["filter"] == "cites:W2741809807,from_publication_date:2020-01-02"
    assert (asked["cursor"], asked["api_key"]) == ("abc", "key")
    assert "search" not in asked


# Europe PMC

RESULT = {
    "id": "33495623",
    "source": "MED",
    "pmid": "33495623",
    "doi": "10.1038/S41564-020-00861-0",
    "title": "A genomic catalog of <i>Earth's</i> microbiomes.",
    "authorList": {"author": [{"firstName": "Stephen", "lastName": "Nayfach"}, {"collectiveName": "IMG Consortium"}]},
    "pubYear": "2021",
    "abstractText": "<h4>Background</h4>The reconstruction of genomes.",
}


def _results(*found: Any, mark: str, total: int) -> bytes:
    return json.dumps({"hitCount": total, "nextCursorMark": mark, "resultList": {"result": list(found)}}).encode()


def test_europe_pmc_is_followed_until_its_mark_stays(database: Database, site: Site) -> None:
    other = {**RESULT, "id": "PPR1", "source": "PPR", "authorList": None}
    site.answers = [(200, JSON, _results(RESULT, mark="M1", total=3)), (200, JSON, _results(other, mark="M1", total=3))]
    found = _fetch(database, source="europe_pmc", query="microbiome", since=date(2024, 2, 3))
    assert (found.fetched, found.left_out) == (2, 1)
    first, second = _rows(database)
    assert (first["external_id"], first["doi"], first["year"]) == ("MED:33495623", "10.1038/s41564-020-00861-0", 2021)
    assert first["title"] == "A genomic catalog of Earth's microbiomes"
    assert first["abstract"] == "Background The reconstruction of genomes."
    assert json.loads(first["authors"]) == ["Stephen Nayfach", "IMG Consortium"]
    assert second["url"] == "https://europepmc.org/article/PPR/PPR1"
    assert _asked(site, 0)["query"] == "(microbiome) AND (UPDATE_DATE:[2024-02-03 TO 2999-12-31])"
    assert [_asked(site, n)["cursorMark"] for n in (0, 1)] == ["*", "M1"]


def test_a_query_that_europe_pmc_refuses_fails_at_once(database: Database, site: Site) -> None:
    site.answers = [(200, JSON, b'{"errCode": 404, "errMsg": "Invalid query"}')]
    with pytest.raises(PermanentError, match="Invalid query"):
        _fetch(database, source="europe_pmc", query="((")


# Semantic Scholar


def test_semantic_scholar_is_followed_by_its_token(
    database: Database, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELERIAC_SEMANTIC_SCHOLAR_KEY", "s2-key")
    paper = {
        "paperId": "649def34f8be52c8b66281af98ae884c09aef38b",
        "externalIds": {"DOI": "10.18653/V1/N18-3011"},
        "url": "https://www.semanticscholar.org/paper/649def34f8be52c8b66281af98ae884c09aef38b",
        "title": "Construction of the Literature Graph",
        "abstract": None,
        "year": 2018,
        "authors": [{"authorId": "1", "name": "Waleed Ammar"}],
    }
    pages_of = [
        {"total": 2, "token": "T1", "data": [paper]},
        {"total": 2, "token": None, "data": [{**paper, "paperId": "other"}, {"paperId": None}]},
    ]
    site.answers = [(200, JSON, json.dumps(one).encode()) for one in pages_of]
    assert _fetch(database, source="semantic_scholar", query="graph", since=date(2018, 1, 1)).fetched == 2
    row = _rows(database)[0]
    assert (row["external_id"], row["doi"], row["abstract"]) == (paper["paperId"], "10.18653/v1/n18-3011", "")
    assert _asked(site, 0)["publicationDateOrYear"] == "2018-01-01:"
    assert (_asked(site, 1)["token"], site.seen[1]["headers"]["x-api-key"]) == ("T1", "s2-key")


# All


def test_a_record_with_nothing_to_search_is_left_out(database: Database, site: Site) -> None:
    bare = {"DOI": "10.1/bare", "title": [], "author": []}
    site.answers = [(200, JSON, _works(bare, WORK, total=2))]
    found = _fetch(database, source="crossref", query="x")
    assert (found.fetched, found.left_out) == (1, 1)


@pytest.mark.parametrize(
    "given",
    [
        {"source": "arxiv"},
        {"source": "arxiv", "query": "  "},
        {"source": "local", "query": "x"},
        {"source": "local", "incremental": True},
        {"source": "elsewhere", "query": "x"},
    ],
)
def test_input_that_does_not_fit_its_source_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        FetchInput.model_validate(given)


def test_private_addresses_are_not_reached(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CELERIAC_ALLOW_PRIVATE_NETWORKS", raising=False)
    monkeypatch.setenv("CELERIAC_ARXIV_URL", "http://169.254.169.254/latest")
    with pytest.raises(PermanentError):
        _fetch(database, source="arxiv", query="x")
