"""Every shipped example runs to the end that it tells of, in this process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from celeriac import main
from tests.support.cluster import PROJECT
from tests.support.shop import open_shop, url_of_shop
from tests.support.site import Site, site_on_loopback

FOLDER = PROJECT / "definitions/examples"


@pytest.fixture(autouse=True)
def _elsewhere(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder and a home of the test's own."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with site_on_loopback() as made:
        monkeypatch.setenv("CELERIAC_ALLOW_PRIVATE_NETWORKS", "127.0.0.1")
        monkeypatch.setenv("CELERIAC_SECRET_SITE", f"{made.url}/site")
        monkeypatch.setenv("CELERIAC_SECRET_HOOK", f"{made.url}/hook")
        yield made


def _run(capsys: pytest.CaptureFixture[str], name: str, *params: str) -> tuple[int, dict[str, Any]]:
    options = [word for param in params for word in ("--param", param)]
    code = main.run(["run", str(FOLDER / f"{name}.yaml"), "--inline", "--json", *options])
    return code, json.loads(capsys.readouterr().out)


ENDS: dict[str, list[tuple[tuple[str, ...], str, dict[str, Any]]]] = {
    "chain": [(("name=Ada",), "SUCCESS", {"text": "hello Ada, how good to see you; what shall we run?"})],
    "diamond": [((), "SUCCESS", {"total": 9})],
    "n-graph": [((), "SUCCESS", {"early": "a", "late": "a"})],
    "map-reduce": [(("max_papers=3",), "SUCCESS", {"papers": 3, "failed": 0})],
    "conditional": [
        ((), "SUCCESS", {"checked_by": "nobody"}),
        (("amount=5000",), "SUCCESS", {"checked_by": "two people"}),
    ],
    # Nobody decides: that is a no.
    "approval": [(("patience=0s",), "SUCCESS", {"published": False})],
    "failure-handling": [((), "FAILURE", {"rows": 0}), (("rows=3",), "SUCCESS", {"rows": 3})],
}


@pytest.mark.parametrize(
    ("name", "params", "status", "outputs"), [(name, *end) for name, ends in ENDS.items() for end in ends]
)
def test_an_example_ends_as_it_says(
    name: str, params: tuple[str, ...], status: str, outputs: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    code, run = _run(capsys, name, *params)
    assert (code, run["status"], run["outputs"]) == (int(status == "FAILURE"), status, outputs)
    if name == "failure-handling":
        steps = {step: told["status"] for step, told in run["steps"].items()}
        told = "SUCCESS" if status == "FAILURE" else "SKIPPED"
        assert (steps["tell"], steps["take_down"]) == (told, "SUCCESS")


def test_a_second_night_finds_nothing_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    _, first = _run(capsys, "nightly-review", "max_papers=2")
    _, second = _run(capsys, "nightly-review", "max_papers=2")
    assert (first["outputs"]["new"], second["outputs"]["new"]) == (2, 0)
    assert (second["outputs"]["unchanged"], second["outputs"]["embedded"]) == (2, 0)
    assert second["outputs"]["vectors"] == first["outputs"]["vectors"] > 0


def test_a_hook_is_told_what_a_site_answers(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.answers = [(404, "text/plain", b""), (200, "application/json", b"{}")]
    code, run = _run(capsys, "notify", "patience=0s")
    assert (code, run["outputs"]) == (0, {"status": 200}), run
    assert [asked["path"] for asked in site.seen] == ["/site", "/hook"]
    assert json.loads(site.seen[1]["body"]) == {"text": "the site answers 404"}


def test_a_workflow_within_a_workflow(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERIAC_DEFINITIONS", str(FOLDER))
    code, run = _run(capsys, "sub-workflow", "guest=Ada")
    assert code == 0
    assert run["outputs"]["text"] == "Dear Ada: hello Ada, how good to see you; what shall we run?"
    assert run["outputs"]["run"] == run["steps"]["greeting"]["sub_run"]


def test_tasks_of_another_application(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, broker_url: str
) -> None:
    url = url_of_shop(broker_url)
    monkeypatch.setenv("CELERIAC_TASKS_ALLOW", "shop.*")
    monkeypatch.setenv("CELERIAC_TASKS_BROKER_URL", url)
    with open_shop(tmp_path, url):
        code, run = _run(capsys, "celery-tasks", "order=17")
    assert (code, run["outputs"]) == (0, {"bill": "order 17: 1700 cents"})


ALONE = {"nightly-review", "notify", "sub-workflow", "celery-tasks"}


def test_no_example_is_left_out() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == {*ENDS, *ALONE}
