"""Papers by their addresses: PDFs, pages and texts of any server."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from reportlab.pdfgen.canvas import Canvas
from sqlalchemy import select

from pipeline import downloads
from pipeline.search import search
from pipeline.sources import web
from pipeline.sources.record import RecordError
from pipeline.sources.webpage import from_html, from_text
from pipeline.steps.fetch import FetchInput, FetchOutput, fetch
from pipeline.tables import fetch_pages, paper_records, papers
from tests.support.pipeline import DirectContext, run_pipeline
from tests.support.site import Site, site_on_loopback
from workflows.db.database import Database
from workflows.model.errors import StepCancelledError, TransientError

HTML, PLAIN = "text/html; charset=utf-8", "text/plain"

ARTICLE = """<!doctype html><html lang="en"><head>
<title>Beets | A Publisher</title>
<meta name="citation_title" content="On the rings of &lt;i&gt;beets&lt;/i&gt;">
<meta name="citation_author" content="Lovelace, Ada"><meta name="citation_author" content="Alan Turing">
<meta name="citation_publication_date" content="2021/5/6">
<meta name="citation_journal_title" content="Journal of Roots">
<meta name="citation_volume" content="7"><meta name="citation_firstpage" content="1">
<meta name="citation_lastpage" content="9"><meta name="citation_issn" content="1111-2222">
<meta name="citation_doi" content="doi:10.1234/beet.7"><meta name="citation_pmid" content="123">
<meta name="citation_abstract" content="Beets store sugar in rings.">
<meta name="citation_keywords" content="beets; sugar"><meta name="citation_publisher" content="Root Press">
<meta name="citation_pdf_url" content="/7.pdf"><link rel="canonical" href="/article/7">
</head><body><nav><a href="/">Home</a></nav><p>Log in to read more.</p></body></html>"""

POST = """<html lang="de"><head><meta charset="{0}"><title>Ein Beitrag</title>
<meta property="og:description" content="Ein Anreißer."><meta name="DC.creator" content="Grace Hopper">
<meta name="DC.identifier" content="https://doi.org/10.5555/POST"><meta name="DC.date" content="2019">
<script>var text = "not this";</script></head><body>
<div class="menu"><a href="/">Startseite</a> <a href="/x">Über uns</a></div><h1>Überschrift</h1>
<p>{1}</p><p>{1}</p><div><a href="/imprint">Impressum</a> <a href="/data">Datenschutz</a></div></body></html>"""
SENTENCE = "Rüben lagern ihren Zucker in Ringen, die aus einer gemeinsamen Mitte wachsen, und Bauern wissen das. " * 4


def _pdf(line: str) -> bytes:
    made = io.BytesIO()
    canvas = Canvas(made, invariant=1)
    canvas.drawString(72, 760, line)
    canvas.save()
    return made.getvalue()


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Site]:
    monkeypatch.setenv("CELERIAC_ALLOW_PRIVATE_NETWORKS", "127.0.0.1")
    monkeypatch.setenv("CELERIAC_HOME", str(tmp_path))
    monkeypatch.setattr(web, "FIRST_DELAY_SECONDS", 0.01)
    monkeypatch.setattr(downloads, "FIRST_DELAY_SECONDS", 0.01)
    with site_on_loopback() as made:
        yield made


def _fetch(database: Database, *urls: str, run: str = "run", attempt: int = 1, **given: Any) -> FetchOutput:
    context = DirectContext(database, run_id=run, attempt=attempt, started_at=time.time())
    return fetch(FetchInput.model_validate({"source": "urls", "urls": list(urls), **given}), context)


def _rows(database: Database) -> dict[str, Any]:
    with database.connect() as connection:
        return {row.external_id: row for row in connection.execute(select(papers))}


# Pages


def test_what_a_page_says_of_its_paper_is_kept() -> None:
    record = from_html("https://x.org/a/7?b=1", ARTICLE.encode(), "utf-8")
    assert (record.external_id, record.url) == ("https://x.org/a/7?b=1",) * 2
    assert (record.title, record.text) == ("On the rings of beets", "Beets store sugar in rings.")
    assert record.authors == ("Ada Lovelace", "Alan Turing")
    assert (record.year, record.doi, record.venue) == (2021, "10.1234/beet.7", "Journal of Roots")
    assert record.pdf_url == "https://x.org/7.pdf"
    assert record.details == {
        "published": "2021-05-06",
        "volume": "7",
        "pages": "1-9",
        "issn": ["1111-2222"],
        "keywords": ["beets", "sugar"],
        "publisher": "Root Press",
        "language": "en",
        "ids": {"pmid": "123"},
        "canonical": "https://x.org/article/7",
    }
    assert json.loads(record.original)["citation_author"] == ["Lovelace, Ada", "Alan Turing"]


@pytest.mark.parametrize("charset", ["utf-8", "iso-8859-1"])
@pytest.mark.parametrize("is_told", [True, False])
def test_a_page_without_an_abstract_is_read_without_its_menus(charset: str, is_told: bool) -> None:
    body = POST.format(charset, SENTENCE).encode(charset)
    record = from_html("https://x.org/", body, charset if is_told else "")
    assert record.text == f"Überschrift\n\n{SENTENCE.strip()}\n\n{SENTENCE.strip()}"
    assert (record.title, record.authors, record.year) == ("Ein Beitrag", ("Grace Hopper",), 2019)
    assert (record.doi, record.details["language"]) == ("10.5555/POST", "de")


def test_a_page_without_text_says_what_its_description_says() -> None:
    record = from_html("https://x.org/", POST.format("utf-8", "Kurz.").encode(), "utf-8")
    assert record.text == "Ein Anreißer."


@pytest.mark.parametrize(
    "body",
    [b"", b"   ", b"<!-- nothing -->", b"<html></html>", b"\x00\x01\x02", b"<div>" * 100_000],
    ids=["empty", "spaces", "comment", "bare", "binary", "deep"],
)
def test_a_page_of_nothing_is_no_paper(body: bytes) -> None:
    with pytest.raises(RecordError):
        from_html("https://x.org/", body)


def test_a_text_has_its_first_heading_as_title() -> None:
    assert from_text("https://x.org/a.md", "---\nx: y\n---\n\n# The title\n\nWords.").title == "The title"
    assert from_text("https://x.org/a.txt", "\n\nFirst line\nSecond").title == "First line"
    with pytest.raises(RecordError, match="empty"):
        from_text("https://x.org/a.txt", " \n")


# Fetching


def test_addresses_of_all_kinds_become_searchable(database: Database, site: Site) -> None:
    site.answers = [
        (200, HTML, ARTICLE.encode()),
        (200, PLAIN, b"# Carrots\n\nCarrots keep their colour in dark cellars."),
        (200, "application/pdf", _pdf("Turnips are eaten in spring.")),  # asked for as a page, then as a file
        (200, "application/pdf", _pdf("Turnips are eaten in spring.")),
        (200, "application/pdf", _pdf("Parsnips grow sweeter after frost.")),
    ]
    names = ("article", "carrots", "turnips", "parsnips.pdf", "article#part")
    given = [f"{site.url}/{name}" for name in names]
    result = run_pipeline(database, source="urls", urls=given)
    assert (result.fetch.fetched, result.fetch.new, result.fetch.quarantined) == (4, 4, 0)
    assert result.store.collection_papers == 4
    (best, *_) = search(database, "a vegetable that frost makes sweet")
    assert (best.paper_id, best.source) == (given[3], given[3])
    assert search(database, "sugar in rings")[0].title == "On the rings of beets"
    with database.connect() as connection:
        assert len(connection.execute(select(paper_records)).all()) == 2  # of PDFs nothing else is said


def test_what_gives_no_paper_is_set_aside_and_the_others_are_read(database: Database, site: Site) -> None:
    site.answers = [
        (404, PLAIN, b"no"),
        (200, "image/png", b"\x89PNG"),
        (200, HTML, b"<html></html>"),
        (200, HTML, b"<html>Log in</html>"),
        (200, HTML, ARTICLE.encode()),
    ]
    private = "http://10.0.0.1/secret"
    names = ("gone", "picture", "empty", "page.pdf", "good")
    found = _fetch(database, private, *(f"{site.url}/{name}" for name in names))
    assert (found.fetched, found.new, found.quarantined, len(site.seen)) == (6, 6, 5, 5)
    rows = _rows(database)
    reasons = {
        private: "10.0.0.1",
        f"{site.url}/gone": "answered 404",
        f"{site.url}/picture": "answers image/png",
        f"{site.url}/empty": "neither a title nor a text",
        f"{site.url}/page.pdf": "no PDF but text/html",
    }
    for url, reason in reasons.items():
        assert rows[url].quarantine_code == "unavailable"
        assert reason in rows[url].quarantine_reason
    assert rows[f"{site.url}/good"].quarantine_code is None


def test_a_paper_stays_when_its_address_fails_later_and_comes_back_changed(database: Database, site: Site) -> None:
    url = f"{site.url}/a"
    site.answers = [(200, HTML, ARTICLE.encode()), (404, PLAIN, b""), (200, PLAIN, b"Changed")]
    assert _fetch(database, url).new == 1
    gone = _fetch(database, url, run="2")
    assert (gone.unchanged, gone.quarantined) == (1, 0)
    assert _rows(database)[url].title == "On the rings of beets"
    assert _fetch(database, url, run="3").updated == 1
    assert _rows(database)[url].title == "Changed"


def test_a_step_that_dies_goes_on_behind_the_last_address(database: Database, site: Site) -> None:
    given = [f"{site.url}/{name}" for name in "abc"]
    site.answers = [(200, PLAIN, b"A"), *[(503, PLAIN, b"")] * web.TRIES]
    with pytest.raises(TransientError):
        _fetch(database, *given)
    site.answers = [(200, PLAIN, b"B"), (200, PLAIN, b"C")]
    found = _fetch(database, *given, attempt=2)
    assert (found.fetched, found.new) == (3, 3)
    assert [seen["path"] for seen in site.seen] == ["/a", *["/b"] * (web.TRIES + 1), "/c"]
    with database.connect() as connection:
        assert connection.execute(select(fetch_pages)).all() == []


def test_a_server_that_stays_away_is_given_up_at_the_last_try(database: Database, site: Site) -> None:
    site.answers = [*[(503, PLAIN, b"")] * web.TRIES, (200, PLAIN, b"B")]
    found = _fetch(database, f"{site.url}/a", f"{site.url}/b", attempt=3)
    assert (found.fetched, found.quarantined) == (2, 1)


def test_a_cancel_ends_it_between_two_addresses(
    database: Database, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cancelled(_: DirectContext) -> None:
        if site.seen:
            raise StepCancelledError("the run was cancelled")

    monkeypatch.setattr(DirectContext, "check_cancelled", cancelled)
    site.answers = [(200, PLAIN, b"A")]
    with pytest.raises(StepCancelledError):
        _fetch(database, f"{site.url}/a", f"{site.url}/b")
    assert len(site.seen) == 1


@pytest.mark.parametrize(
    "given",
    [
        {"source": "urls"},
        {"source": "urls", "urls": []},
        {"source": "urls", "urls": ["ftp://x.org/a"]},
        {"source": "urls", "urls": ["https://x.org/a b"]},
        {"source": "urls", "urls": ["https://x.org/"], "query": "x"},
        {"source": "local", "urls": ["https://x.org/"]},
    ],
    ids=["none", "empty", "another scheme", "a space", "a query", "a folder"],
)
def test_addresses_belong_to_their_source(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="urls"):
        FetchInput.model_validate(given)
