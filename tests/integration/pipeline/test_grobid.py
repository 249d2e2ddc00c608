"""PDFs read by a GROBID server, played by a server on loopback: what it answers, and how it misbehaves.

`answers/grobid.xml` has the shape that GROBID's documentation and its TEI customisation give.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from reportlab.pdfgen.canvas import Canvas
from sqlalchemy import select

from pipeline.sources import web
from pipeline.steps.process_papers import ProcessInput, ProcessOutput, process_papers
from pipeline.tables import chunks
from pipeline.text import grobid
from pipeline.text.faults import Code, UnreadablePdfError
from pipeline.text.reader import Reading
from tests.support.pipeline import DirectContext, run_pipeline
from tests.support.site import Site, site_on_loopback
from workflows.builtin.networks import BlockedAddressError
from workflows.db.database import Database
from workflows.model.errors import PermanentError, TransientError
from workflows.settings import Config, SettingsError

TEI = (Path(__file__).parent / "answers" / "grobid.xml").read_bytes()
XML = "application/xml"
PAPER = {"_id": "p1", "title": "", "text": "What the abstract says."}


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(web, "FIRST_DELAY_SECONDS", 0.01)
    with site_on_loopback() as made:
        monkeypatch.setenv("CELERIAC_ALLOW_PRIVATE_NETWORKS", "127.0.0.1")
        monkeypatch.setenv("CELERIAC_GROBID_URL", f"{made.url}/")
        yield made


@pytest.fixture
def paper(database: Database, tmp_path: Path) -> str:
    """The id of a paper with a PDF, which has been read without GROBID."""
    (tmp_path / "corpus.jsonl").write_text(json.dumps(PAPER), encoding="utf-8")
    canvas = Canvas(str(tmp_path / "p1.pdf"), invariant=1)
    canvas.setTitle("As the file says")
    canvas.drawString(72, 700, "Read without any server.")
    canvas.save()
    return run_pipeline(database, path=str(tmp_path)).fetch.paper_ids[0]


def process(database: Database, paper: str, text_backend: Any = "grobid") -> ProcessOutput:
    return process_papers(ProcessInput(paper=paper, text_backend=text_backend), DirectContext(database))


def stored(database: Database) -> list[tuple[str, int | None, str]]:
    with database.connect() as connection:
        query = select(chunks.c.section, chunks.c.page, chunks.c.text).order_by(chunks.c.position)
        return [tuple(row) for row in connection.execute(query)]


def read(path: Path, **settings: str) -> Reading:
    context = DirectContext(None)  # type: ignore[arg-type]  # nothing here asks the database
    return grobid.read(path, context, Config.from_env(settings or None))


def test_sections_pages_notes_and_captions_are_those_of_the_tei(database: Database, site: Site, paper: str) -> None:
    site.answers = [(200, XML, TEI)]
    assert process(database, paper).status == "processed"
    assert stored(database) == [
        ("Abstract", 1, "Pipes get warm. We measured how warm they get."),
        (
            "Introduction",
            1,
            "Heat moves [1] through pipes, see Figure 1.\n\nA second paragraph stands on the next page.",
        ),
        (
            "The apparatus",
            3,
            (
                "It has an x < y filter.\n\nFigure 1 . 1 The apparatus as it stood in the laboratory.\n\n"
                "A remark at the foot of the page."
            ),
        ),
        ("Acknowledgements", 4, "We thank the plumber."),
        ("A Proofs", 5, "It follows from what was said."),
    ]
    (asked,) = site.seen
    assert (asked["method"], asked["path"]) == ("POST", "/api/processFulltextDocument")
    assert asked["headers"]["Content-Type"].startswith("multipart/form-data; boundary=")
    assert "%PDF-" in asked["body"]
    assert asked["body"].count('name="teiCoordinates"') > 3


def test_a_paper_is_read_again_when_another_backend_is_to_read_it(database: Database, site: Site, paper: str) -> None:
    assert process(database, paper, "pdfium").status == "unchanged"
    site.answers = [(200, XML, TEI)]
    assert process(database, paper).status == "processed"
    assert process(database, paper).status == "unchanged"
    assert process(database, paper, "pdfium").status == "processed"
    assert [text for _, _, text in stored(database)] == ["Read without any server."]


@pytest.mark.parametrize(
    ("status", "kind", "body", "code"),
    [
        (204, XML, b"", Code.SCANNED),
        (500, "text/plain", b"[NO_BLOCKS] PDF parsing resulted in empty content", Code.SCANNED),
        (500, "text/plain", b"[BAD_INPUT_DATA] PDF to XML conversion failed with error code: 1", Code.DAMAGED),
        (500, "text/plain", b"[TIMEOUT] PDF to XML conversion timed out", Code.TIMEOUT),
        (200, XML, b'<TEI xmlns="http://www.tei-c.org/ns/1.0"><text><body/></text></TEI>', Code.SCANNED),
    ],
)
def test_what_grobid_says_of_a_file_is_its_quarantine(
    database: Database, site: Site, paper: str, status: int, kind: str, body: bytes, code: Code
) -> None:
    site.answers = [(status, kind, body)]
    output = process(database, paper)
    assert (output.status, output.code) == ("quarantined", code)
    assert [text for _, _, text in stored(database)] == ["What the abstract says."]


@pytest.mark.parametrize("body", [TEI[:900], b"<html><body>Welcome</body></html>", b"", b"\xff\xfe\x00"])
def test_what_is_no_tei_however_often_it_is_asked_for_quarantines_the_paper(
    database: Database, site: Site, paper: str, body: bytes
) -> None:
    site.answers = [(200, XML, body)] * web.TRIES
    output = process(database, paper)
    assert (output.status, output.code) == ("quarantined", "crashed")
    assert len(site.seen) == web.TRIES


def test_a_busy_server_is_asked_again(database: Database, site: Site, paper: str) -> None:
    site.answers = [(503, "text/plain", b"busy"), (200, XML, TEI[:2000]), (200, XML, TEI)]
    assert process(database, paper).status == "processed"
    assert len(site.seen) == 3


def test_a_server_that_does_not_get_well_fails_the_step_and_quarantines_nothing(
    database: Database, site: Site, paper: str
) -> None:
    site.answers = [(503, "text/plain", b"busy")] * web.TRIES
    with pytest.raises(TransientError, match="503"):
        process(database, paper)
    site.answers = [(403, "text/plain", b"no")]
    with pytest.raises(PermanentError, match="403"):
        process(database, paper)
    assert [text for _, _, text in stored(database)] == ["Read without any server."]


def test_xml_that_could_grow_without_end_is_not_read(database: Database, site: Site, paper: str) -> None:
    site.answers = [(200, XML, b'<!DOCTYPE x [<!ENTITY a "aaaa">]><TEI>&a;</TEI>')]
    with pytest.raises(PermanentError, match="DTD"):
        process(database, paper)


def test_without_a_server_in_the_settings_it_is_said_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="needs a server") as caught:
        read(tmp_path / "x.pdf", CELERIAC_HOME=str(tmp_path))
    assert "CELERIAC_GROBID_URL" in caught.value.hint


def test_a_server_on_a_private_network_must_be_allowed(tmp_path: Path, site: Site) -> None:
    (tmp_path / "x.pdf").write_bytes(b"%PDF-")
    with pytest.raises(BlockedAddressError):
        read(tmp_path / "x.pdf", CELERIAC_GROBID_URL=site.url)


@pytest.mark.parametrize(("content", "code"), [(None, Code.MISSING), (b"", Code.EMPTY)])
def test_a_file_that_is_gone_or_empty_is_not_sent(
    tmp_path: Path, site: Site, content: bytes | None, code: Code
) -> None:
    if content is not None:
        (tmp_path / "x.pdf").write_bytes(content)
    with pytest.raises(UnreadablePdfError) as caught:
        read(tmp_path / "x.pdf")
    assert (caught.value.code, site.seen) == (code, [])
