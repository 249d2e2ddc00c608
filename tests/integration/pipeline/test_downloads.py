"""PDFs that are downloaded, from a server that misbehaves in all the ways that servers do."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from reportlab.pdfgen.canvas import Canvas
from sqlalchemy import select, update

from pipeline import downloads, quarantine
from pipeline.downloads import fetch_pdf, place_of
from pipeline.search import search
from pipeline.steps.fetch import FetchInput, fetch
from pipeline.steps.process_papers import ProcessInput, ProcessOutput, process_papers
from pipeline.tables import papers
from tests.support.files import FileSite, answer, endless, file_site
from tests.support.pipeline import DirectContext, run_pipeline
from workflows.db.database import Database
from workflows.model.errors import PermanentError, TransientError
from workflows.settings import Config


def _pdf(*lines: str, padding: int = 400_000) -> bytes:
    made = io.BytesIO()
    canvas = Canvas(made, invariant=1)
    for index, line in enumerate(lines):
        canvas.drawString(72, 760 - 14 * index, line)
    canvas.save()
    return made.getvalue().replace(b"%%EOF", b"%" + b"x" * padding + b"\n%%EOF")


PDF = _pdf("Introduction", "Beetroots store their sugar in rings that grow from a common centre.")
OTHER = _pdf("Introduction", "Carrots keep their colour in the dark.")


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FileSite]:
    monkeypatch.setenv("CELERIAC_ALLOW_PRIVATE_NETWORKS", "127.0.0.1")
    monkeypatch.setenv("CELERIAC_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(downloads, "FIRST_DELAY_SECONDS", 0.01)
    with file_site() as made:
        made.content = PDF
        yield made


@pytest.fixture
def folder(tmp_path: Path, site: FileSite) -> Path:
    made = tmp_path / "papers"
    made.mkdir()
    record = {"_id": "p1", "title": "Roots", "text": "An abstract of roots.", "pdf_url": f"{site.url}/a.pdf"}
    (made / "corpus.jsonl").write_text(json.dumps(record), encoding="utf-8")
    return made


def _get(database: Database, site: FileSite) -> bytes:
    return fetch_pdf(f"{site.url}/a.pdf", DirectContext(database), Config.from_env()).path.read_bytes()


def _part(site: FileSite) -> Path:
    return place_of(f"{site.url}/a.pdf", Config.from_env()).with_suffix(".part")


def _process(database: Database, paper: str, attempt: int = 1, **given: Any) -> ProcessOutput:
    inp = ProcessInput(paper=paper, **{"download_pdf": True, **given})
    return process_papers(inp, DirectContext(database, attempt=attempt))


def _fetched(database: Database, folder: Path) -> str:
    (paper,) = fetch(FetchInput(path=str(folder)), DirectContext(database)).paper_ids
    return paper


def _row(database: Database) -> Any:
    with database.connect() as connection:
        return connection.execute(select(papers)).one()


# The file


def test_a_file_is_downloaded_once(database: Database, site: FileSite) -> None:
    assert _get(database, site) == PDF
    assert _get(database, site) == PDF
    assert len(site.seen) == 1
    place = place_of(f"{site.url}/a.pdf", Config.from_env())
    assert set(place.parent.iterdir()) == {place, place.with_suffix(".json")}


def test_the_folder_of_downloads_may_be_another(
    database: Database, site: FileSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELERIAC_PAPERS", str(tmp_path / "shared"))
    assert _get(database, site) == PDF
    assert len(list((tmp_path / "shared").rglob("*.pdf"))) == 1


def test_a_folder_that_cannot_be_used_is_named(
    database: Database, site: FileSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CELERIAC_PAPERS", str(tmp_path / "file"))
    with pytest.raises(TransientError, match="mend it"):
        _get(database, site)
    assert site.seen == []


def test_a_file_is_downloaded_again_if_it_has_changed(database: Database, site: FileSite) -> None:
    def refreshed() -> bytes:
        found = fetch_pdf(f"{site.url}/a.pdf", DirectContext(database), Config.from_env(), refresh=True)
        return found.path.read_bytes()

    assert [refreshed(), refreshed()] == [PDF, PDF]
    site.content, site.etag = OTHER, '"2"'
    site.script = [partial(site.serve, cut_after=100_000)]
    assert [refreshed(), refreshed()] == [OTHER, OTHER]
    assert [asked for _, asked in site.seen] == [None, None, None, "bytes=100000-", None]
    site.script = [answer(404)]
    with pytest.raises(PermanentError, match="404"):
        refreshed()
    assert _get(database, site) == OTHER


def test_a_broken_connection_is_taken_up_where_it_broke(database: Database, site: FileSite) -> None:
    site.script = [partial(site.serve, cut_after=100_000), partial(site.serve, cut_after=50_000)]
    assert _get(database, site) == PDF
    assert [asked for _, asked in site.seen] == [None, "bytes=100000-", "bytes=150000-"]


def test_what_a_dead_worker_had_is_taken_up_by_the_next(database: Database, site: FileSite) -> None:
    site.script = [partial(site.serve, cut_after=70_000)] * downloads.TRIES
    with pytest.raises(TransientError):
        _get(database, site)
    had = 70_000 * downloads.TRIES
    assert _part(site).stat().st_size == had
    assert _get(database, site) == PDF
    assert site.seen[-1][1] == f"bytes={had}-"


def test_a_server_that_ignores_ranges_sends_the_whole_again(database: Database, site: FileSite) -> None:
    site.script = [partial(site.serve, cut_after=100_000), partial(site.serve, ranges=False)]
    assert _get(database, site) == PDF


def test_a_file_that_has_changed_meanwhile_is_begun_anew(database: Database, site: FileSite) -> None:
    def changed(request: Any) -> None:
        site.content, site.etag = OTHER, '"2"'
        site.serve(request)

    site.script = [partial(site.serve, cut_after=100_000), changed]
    assert _get(database, site) == OTHER


def test_a_part_of_another_version_is_not_mixed_in(database: Database, site: FileSite) -> None:
    rest = answer(206, OTHER[100_000:], ETag='"2"', Content_Range=f"bytes 100000-{len(OTHER) - 1}/{len(OTHER)}")
    site.script = [partial(site.serve, cut_after=100_000), rest]
    assert _get(database, site) == PDF
    assert [asked for _, asked in site.seen] == [None, "bytes=100000-", None]


@pytest.mark.parametrize("wrong", ["bytes 5-9/10", "nonsense"])
def test_a_part_that_was_not_asked_for_is_not_mixed_in(database: Database, site: FileSite, wrong: str) -> None:
    site.script = [partial(site.serve, cut_after=100_000), answer(206, b"junk", Content_Range=wrong), answer(416)]
    with pytest.raises(TransientError):
        _get(database, site)
    assert _get(database, site) == PDF


def test_without_a_sign_of_its_version_a_part_is_worth_nothing(database: Database, site: FileSite) -> None:
    site.etag = 'W/"weak"'
    site.script = [partial(site.serve, cut_after=100_000)]
    assert _get(database, site) == PDF
    assert [asked for _, asked in site.seen] == [None, None]


def test_a_busy_server_is_asked_again_when_it_says(
    database: Database, site: FileSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    naps: list[float] = []
    monkeypatch.setattr(downloads, "nap", lambda _, seconds: naps.append(seconds))
    site.script = [answer(429, Retry_After="7"), answer(503)]
    assert _get(database, site) == PDF
    assert naps == [7, 0.02]


def test_a_long_wait_is_left_to_the_retry_of_the_step(database: Database, site: FileSite) -> None:
    site.script = [answer(429, Retry_After="3600")]
    with pytest.raises(TransientError, match="429"):
        _get(database, site)
    assert len(site.seen) == 1


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (answer(200, b"<html>Please log in</html>", Content_Type="text/html"), "no PDF but text/html"),
        (answer(200, b"<html>" + b"x" * 500_000, Content_Type="text/html"), "no PDF but text/html"),
        (answer(200, b"", Content_Type="application/pdf"), "no PDF"),
        (answer(404, b"gone"), "answered 404"),
        (answer(403), "answered 403"),
        (answer(204), "answered 204"),
        (answer(302, Location="http://10.0.0.1/a.pdf"), r"10\.0\.0\.1"),
        (answer(302, Location="file:///etc/passwd"), "only http"),
        (answer(200, b"%PDF-", Content_Length="300000000"), "larger than 200 MB"),
    ],
    ids=["a page", "a long page", "nothing", "404", "403", "204", "a private address", "a file", "too large"],
)
def test_what_is_no_pdf_is_refused_at_once_and_leaves_nothing(
    database: Database, site: FileSite, script: Any, message: str
) -> None:
    site.script = [script]
    with pytest.raises(PermanentError, match=message):
        _get(database, site)
    assert len(site.seen) == 1
    assert list(_part(site).parent.iterdir()) == []


def test_a_body_without_end_is_cut_off(database: Database, site: FileSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "MAX_PDF_BYTES", 1_000_000)
    site.script = [endless]
    with pytest.raises(PermanentError, match="larger than"):
        _get(database, site)
    assert list(_part(site).parent.iterdir()) == []


def test_two_workers_do_not_write_one_file(database: Database, site: FileSite) -> None:
    def second(request: Any) -> None:
        with pytest.raises(TransientError, match="another worker"):
            _get(database, site)
        site.serve(request)

    site.script = [second]
    assert _get(database, site) == PDF
    assert len(site.seen) == 1


# The step


def test_a_paper_gets_its_pdf_and_keeps_it(database: Database, site: FileSite, folder: Path) -> None:
    paper = _fetched(database, folder)
    assert _process(database, paper, download_pdf=False).chunks == 1
    done = _process(database, paper)
    assert (done.status, done.quarantined) == ("processed", 0)
    row = _row(database)
    assert Path(row.pdf_path).read_bytes() == PDF
    run_pipeline(database, path=str(folder))  # fetched once more, processed without `download_pdf`
    assert _row(database).pdf_path == row.pdf_path
    assert [_process(database, paper).status for _ in range(2)] == ["unchanged", "unchanged"]
    assert len(site.seen) == 1
    (hit,) = search(database, "where is sugar stored")
    assert "Beetroots store their sugar" in hit.snippet


def test_another_address_is_another_file(database: Database, site: FileSite, folder: Path) -> None:
    paper = _fetched(database, folder)
    _process(database, paper)
    record = json.loads((folder / "corpus.jsonl").read_text(encoding="utf-8"))
    (folder / "corpus.jsonl").write_text(json.dumps({**record, "pdf_url": f"{site.url}/b.pdf"}), encoding="utf-8")
    site.content = OTHER
    _fetched(database, folder)
    assert _process(database, paper).status == "processed"
    assert [path for path, _ in site.seen] == ["/a.pdf", "/b.pdf"]


def test_a_file_that_was_lost_is_downloaded_again(database: Database, site: FileSite, folder: Path) -> None:
    paper = _fetched(database, folder)
    _process(database, paper)
    Path(_row(database).pdf_path).unlink()
    assert _process(database, paper).status == "unchanged"
    assert (len(site.seen), Path(_row(database).pdf_path).is_file()) == (2, True)


def test_where_there_is_no_pdf_the_abstract_stands_in_until_a_redrive(
    database: Database, site: FileSite, folder: Path
) -> None:
    paper = _fetched(database, folder)
    assert _process(database, paper, download_pdf=False).status == "processed"
    site.script = [answer(404)]
    done = _process(database, paper)
    assert (done.status, done.code, done.chunks) == ("quarantined", "pdf_unavailable", 1)
    assert done.reason is not None
    assert "answered 404" in done.reason
    assert "celeriac quarantine redrive" in done.reason
    again = _process(database, paper)
    assert (again.status, again.unchanged, len(site.seen)) == ("quarantined", 1, 1)
    with database.connect() as connection:
        assert quarantine.to_redrive(connection, code="pdf_unavailable").paper_ids == (paper,)
        assert quarantine.listed(connection).papers[0].can_redrive
    redriven = _process(database, paper, force=True)
    assert (redriven.status, redriven.code, len(site.seen)) == ("processed", None, 2)
    with database.connect() as connection:
        assert quarantine.listed(connection).papers == ()


def test_a_server_that_stays_away_costs_the_pdf_and_not_the_paper(
    database: Database, site: FileSite, folder: Path
) -> None:
    paper = _fetched(database, folder)
    site.script = [answer(503)] * downloads.TRIES * 3
    for attempt in (1, 2):
        with pytest.raises(TransientError):
            _process(database, paper, attempt)
    assert _process(database, paper, attempt=3).code == "pdf_unavailable"


def test_a_new_address_is_tried_after_one_that_failed(database: Database, site: FileSite, folder: Path) -> None:
    paper = _fetched(database, folder)
    site.script = [answer(404)]
    assert _process(database, paper).code == "pdf_unavailable"
    record = json.loads((folder / "corpus.jsonl").read_text(encoding="utf-8"))
    (folder / "corpus.jsonl").write_text(json.dumps({**record, "pdf_url": f"{site.url}/b.pdf"}), encoding="utf-8")
    _fetched(database, folder)
    assert _process(database, paper).status == "processed"


def test_papers_with_a_file_or_without_an_address_ask_nobody(database: Database, site: FileSite, folder: Path) -> None:
    paper = _fetched(database, folder)
    with database.begin() as connection:
        connection.execute(update(papers).values(pdf_url=None))
    assert _process(database, paper).status == "processed"
    (folder / "p1.pdf").write_bytes(OTHER)
    _fetched(database, folder)
    assert _process(database, paper).status == "processed"
    assert site.seen == []
