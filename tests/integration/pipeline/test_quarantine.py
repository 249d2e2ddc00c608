"""Papers that could not be read: seen, chosen, and read once more."""

import json
from pathlib import Path

import pytest
from reportlab.pdfgen.canvas import Canvas

from pipeline import quarantine
from pipeline.quarantine import Listing, Redrive, UnknownCodeError
from pipeline.search import search
from pipeline.steps.process_papers import ProcessInput, process_papers
from tests.support.pipeline import DirectContext, run_pipeline
from workflows.db.database import Database
from workflows.model.errors import NotFoundError

PLANETS = {"_id": "p1", "title": "Hot Jupiters", "text": "Giant planets orbit close to their stars."}


def listed(database: Database, code: str | None = None, limit: int = 100) -> Listing:
    with database.connect() as connection:
        return quarantine.listed(connection, code, limit)


def to_redrive(database: Database, *papers: str, code: str | None = None) -> Redrive:
    with database.connect() as connection:
        return quarantine.to_redrive(connection, papers, code)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "corpus.jsonl").write_text(json.dumps(PLANETS) + "\n{broken", encoding="utf-8")
    (tmp_path / "p1.pdf").write_bytes(b"not a PDF")
    (tmp_path / "empty.pdf").write_bytes(b"")
    return tmp_path


def test_what_was_set_aside_is_listed_with_its_code_its_remedy_and_its_time(database: Database, folder: Path) -> None:
    run_pipeline(database, path=str(folder))
    found = listed(database)
    assert found.counts == {"bad_record": 1, "damaged": 1, "empty": 1}
    by_id = {one.external_id: one for one in found.papers}
    assert set(by_id) == {"p1", "empty", "corpus.jsonl:2"}
    assert (by_id["p1"].code, by_id["p1"].title, by_id["p1"].can_redrive) == ("damaged", "Hot Jupiters", True)
    assert "get the file again" in by_id["p1"].reason
    assert not by_id["corpus.jsonl:2"].can_redrive
    assert all(one.quarantined_at is not None and one.quarantined_at > 1e9 for one in found.papers)
    assert [one.external_id for one in listed(database, "empty").papers] == ["empty"]
    assert listed(database, "empty").counts == {"empty": 1}
    assert (len(listed(database, limit=1).papers), sum(listed(database, limit=1).counts.values())) == (1, 3)


def test_a_redrive_takes_what_can_be_read_once_more_and_names_the_others(database: Database, folder: Path) -> None:
    run_pipeline(database, path=str(folder))
    ids = {one.external_id: one.paper_id for one in listed(database).papers}
    everything = to_redrive(database)
    assert set(everything.paper_ids) == {ids["p1"], ids["empty"]}
    assert everything.to_fetch == (ids["corpus.jsonl:2"],)
    assert to_redrive(database, ids["p1"]) == Redrive((ids["p1"],), (), 0)
    assert to_redrive(database, code="empty").paper_ids == (ids["empty"],)
    with pytest.raises(NotFoundError, match="nobody: not in quarantine"):
        to_redrive(database, ids["p1"], "nobody")
    with pytest.raises(NotFoundError, match="code empty"):
        to_redrive(database, ids["p1"], code="empty")
    with pytest.raises(UnknownCodeError) as caught:
        quarantine.checked_code("broken")
    assert "damaged" in caught.value.hint


def test_a_paper_leaves_the_quarantine_when_it_has_been_read_and_not_before(database: Database, folder: Path) -> None:
    run_pipeline(database, path=str(folder))
    (paper,) = to_redrive(database, code="damaged").paper_ids
    context = DirectContext(database)
    again = process_papers(ProcessInput(paper=paper, force=True), context)
    assert (again.status, again.code) == ("quarantined", "damaged")
    canvas = Canvas(str(folder / "p1.pdf"), invariant=1)
    canvas.drawString(72, 700, "Planets that were measured with care.")
    canvas.save()
    assert process_papers(ProcessInput(paper=paper, force=True), context).status == "processed"
    assert "damaged" not in listed(database).counts


def test_the_abstract_stands_in_for_what_cannot_be_read(database: Database, folder: Path) -> None:
    run_pipeline(database, path=str(folder))
    assert search(database, "planets")[0].paper_id == "p1"
