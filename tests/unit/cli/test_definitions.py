"""Finding definitions, and checking and explaining them without touching anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from celeriac import definitions, main
from workflows.model.errors import NotFoundError

GOOD = "id: mine\nsteps:\n  get: {uses: fetch}\n"
BAD = "id: bad\nsteps:\n  a: {uses: fetsh}\n  b: {uses: fetch, needs: c}\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with `definitions/mine.yaml` and `bad.yaml`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "definitions").mkdir()
    (tmp_path / "definitions" / "of-mine.yaml").write_text(GOOD)
    (tmp_path / "bad.yaml").write_text(BAD)
    return tmp_path


def printed(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_a_definition_is_found_by_file_by_file_name_and_by_id() -> None:
    for name in ("definitions/of-mine.yaml", "of-mine", "mine"):
        assert definitions.find(name).text == GOOD


def test_shipped_definitions_are_found_from_anywhere_and_hidden_by_ones_own(folder: Path) -> None:
    assert "literature-review" in definitions.find("literature-review").text
    (folder / "definitions" / "literature-review.yaml").write_text(GOOD)
    assert definitions.find("literature-review").text == GOOD
    assert "process_papers" in definitions.find_shipped("literature-review").text


@pytest.mark.parametrize(
    ("name", "says", "hint"),
    [
        ("minee", "no definition 'minee'", "did you mean 'mine'?"),
        ("bda.yaml", "no file 'bda.yaml'", "did you mean 'bad.yaml'?"),
        ("no/such.yaml", "no file 'no/such.yaml'", "working folder"),
    ],
)
def test_what_is_not_there_gets_the_nearest_name(name: str, says: str, hint: str) -> None:
    with pytest.raises(NotFoundError, match=says) as caught:
        definitions.find(name)
    assert hint in caught.value.hint


def test_a_folder_is_no_definition(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["plan", "definitions/"]) == 2
    assert "is a folder" in capsys.readouterr().err


def test_validate_collects_the_findings_of_all_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["validate", "mine", "bad.yaml", "none.yaml", "--json"]) == 2
    answer = printed(capsys)
    assert answer["ok"] is False
    found = [(d["file"], d["line"], d["column"], d["code"], d["severity"]) for d in answer["diagnostics"]]
    assert found == [
        ("bad.yaml", 3, 13, "CEL050", "error"),
        ("bad.yaml", 4, 27, "CEL012", "error"),
        ("none.yaml", 0, 0, "CEL000", "error"),
    ]
    assert answer["diagnostics"][0]["hint"] == "did you mean 'fetch'?"


def test_validate_of_good_definitions_exits_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["validate", "mine", "literature-review", "--json"]) == 0
    assert printed(capsys) == {"ok": True, "diagnostics": []}
    assert main.run(["validate", "mine"]) == 0
    assert capsys.readouterr().out == "1 definition valid\n"


@pytest.mark.parametrize("verb", ["validate", "plan", "graph", "run"])
def test_errors_for_people_show_the_line_and_a_caret(verb: str, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run([verb, "bad.yaml"]) == 2
    told = capsys.readouterr().err
    assert "bad.yaml:3:13 CEL050 no step is registered as 'fetsh'; did you mean 'fetch'?" in told
    assert "    3 |   a: {uses: fetsh}\n      |             ^\n" in told
    assert "bad.yaml:4:27 CEL012" in told
    assert not home.exists()


def test_plan_answers_the_agreed_fields_and_touches_nothing(
    folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://127.0.0.1:1/0")
    before = sorted(folder.rglob("*"))
    assert main.run(["plan", "literature-review", "--json"]) == 0
    answer = printed(capsys)
    assert set(answer) >= {
        "workflow", "fingerprint", "steps", "edges", "series_parallel", "canvas", "fragments", "gates", "messages",
        "critical_path",
    }  # fmt: skip
    assert set(answer["messages"]) >= {"count", "largest_bytes", "mean_bytes", "total_bytes"}
    assert answer["critical_path"] == ["fetch", "process_papers", "embed", "store"]
    assert sorted(folder.rglob("*")) == before
    assert not home.exists()


def test_plan_for_people_names_the_canvas(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["plan", "literature-review"]) == 0
    assert "critical path (4 steps)\n  fetch -> process_papers -> embed -> store" in capsys.readouterr().out


@pytest.mark.parametrize(("text_format", "begins"), [("mermaid", "flowchart"), ("dot", "digraph"), ("json", "{")])
def test_graph_draws_in_each_format(text_format: str, begins: str, capsys: pytest.CaptureFixture[str]) -> None:
    for layer in ("dag", "canvas"):
        assert main.run(["graph", "mine", "--format", text_format, "--layer", layer]) == 0
        assert capsys.readouterr().out.startswith(begins)


def test_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["schema"]) == 0
    assert printed(capsys)["title"] == "Celeriac workflow"


def test_a_queue_that_no_worker_serves_is_refused(
    folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "gpu.yaml").write_text("id: gpu\nsteps:\n  a: {uses: fetch, queue: gpu}\n")
    assert main.run(["run", "gpu.yaml", "--no-wait"]) == 2
    assert "queue 'gpu' (step 'a')" in capsys.readouterr().err
    assert not home.exists()
    monkeypatch.setenv("CELERIAC_QUEUES", "gpu")
    assert main.run(["run", "gpu.yaml", "--no-wait"]) == 0
