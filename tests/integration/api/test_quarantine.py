"""`/api/v1/quarantine` on real ports, on each database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.api import Served, served
from tests.support.pipeline import run_pipeline
from workflows.db.database import Database
from workflows.db.migrate import upgrade


@pytest.fixture
def papers(settings: dict[str, str], tmp_path: Path) -> list[str]:
    """Ids of two papers in quarantine: one whose PDF is damaged, and one whose PDF is empty."""
    folder = tmp_path / "papers"
    folder.mkdir()
    (folder / "damaged.pdf").write_bytes(b"not a PDF")
    (folder / "empty.pdf").write_bytes(b"")
    database = Database(settings["DATABASE_URL"])
    upgrade(database)
    found = run_pipeline(database, path=str(folder)).fetch.paper_ids
    database.close()
    return found


@pytest.fixture
def api(settings: dict[str, str], papers: list[str]) -> Iterator[Served]:
    assert len(papers) == 2
    with served(settings) as answering:
        yield answering


def redrive(api: Served, body: Any = None) -> Any:
    return api.http.post("/api/v1/quarantine/redrive", json=body)


def test_papers_in_quarantine_are_listed_with_code_and_remedy(api: Served, papers: list[str]) -> None:
    answer = api.http.get("/api/v1/quarantine").json()
    assert answer["counts"] == {"damaged": 1, "empty": 1}
    assert {one["paper_id"] for one in answer["papers"]} == set(papers)
    only = api.http.get("/api/v1/quarantine", params={"code": "empty"}).json()
    assert [(one["external_id"], one["can_redrive"]) for one in only["papers"]] == [("empty", True)]
    assert "get the file again" in only["papers"][0]["reason"]
    assert api.http.get("/api/v1/quarantine", params={"code": "odd"}).status_code == 422
    assert api.http.get("/api/v1/quarantine", params={"limit": 0}).status_code == 422


def test_a_redrive_starts_a_run_for_the_papers_that_were_chosen(api: Served, papers: list[str]) -> None:
    every = redrive(api)
    assert every.status_code == 202, every.text
    assert set(every.json()["paper_ids"]) == set(papers)
    one = redrive(api, {"papers": [papers[0]], "collection": "other"}).json()
    assert one["paper_ids"] == [papers[0]]
    run = api.http.get(f"/api/v1/runs/{one['run_id']}").json()
    assert run["workflow"] == "process-papers"
    given = {
        "papers": [papers[0]],
        "collection": "other",
        "force_reprocess": True,
        "download_pdf": True,
        "text_backend": "pdfium",
        "model": None,
        "budget": None,
        "budget_tokens": None,
    }
    assert {name: run["params"][name] for name in given} == given
    assert redrive(api, {"code": "scanned"}).json() == {
        "run_id": None,
        "paper_ids": [],
        "to_fetch": [],
        "left_out": 0,
    }


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"papers": ["nobody"]}, 404),
        ({"papers": "nobody"}, 422),
        ({"papers": [1]}, 422),
        ({"code": "odd"}, 422),
        ({"code": 1}, 422),
        ({"collection": ""}, 422),
        ({"all": True}, 422),
        ({"text_backend": "magic"}, 422),
        ({"text_backend": []}, 422),
    ],
)
def test_a_choice_that_cannot_be_meant_is_refused(api: Served, body: Any, status: int) -> None:
    assert redrive(api, body).status_code == status
