"""Runs that are recorded, looked at and cancelled while no broker and no worker is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from celeriac import main


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main.run([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_before_the_first_run_nothing_is_created_by_looking(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "ps") == []
    for verb in ("show", "logs", "watch", "search"):
        assert main.run([verb, "anything"]) == 2
        told = capsys.readouterr().err
        assert told.startswith("error: ")
        assert "hint: " in told
    assert not home.exists()


def test_a_run_without_a_stack_is_recorded_seen_and_cancelled(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded = call(capsys, "run", "literature-review", "--no-wait", "-p", "max_papers=3")
    assert recorded["status"] == "PENDING"
    assert recorded["params"]["max_papers"] == 3
    assert list(recorded["steps"]) == ["fetch", "process_papers", "embed", "store"]
    assert not (home / "stack" / "state.json").exists()

    run_id = recorded["run_id"]
    assert [run["run_id"] for run in call(capsys, "ps")] == [run_id]
    assert call(capsys, "show", run_id[:8]) == call(capsys, "show", "latest") == recorded
    assert main.run(["retry", "latest"]) == 2
    assert "is PENDING and cannot be retried" in capsys.readouterr().err

    answer = call(capsys, "cancel", "latest")
    assert (answer["run_id"], answer["status"]) == (run_id, "REVOKED")
    assert (answer["finished"], answer["stopping"], answer["never_started"]) == (0, 0, 4)
    assert call(capsys, "cancel", run_id)["status"] == "REVOKED"
    assert main.run(["watch", run_id, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["status"] == "REVOKED"
    assert main.run(["show"]) == 0
    assert "⊘ REVOKED  literature-review" in capsys.readouterr().out
    assert main.run(["ps", "--status", "success"]) == 0
    assert capsys.readouterr().out == "no runs\n"


def test_a_recorded_run_says_how_to_start_a_worker(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["run", "literature-review", "--no-wait"]) == 0
    told = capsys.readouterr()
    assert "celeriac watch" in told.out
    assert "celeriac worker" in told.err


def test_a_broker_that_is_away_loses_no_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://127.0.0.1:1/0")
    assert main.run(["run", "literature-review", "--json"]) == 2
    told = capsys.readouterr()
    run_id = json.loads(told.out)["run_id"]
    assert f"run {run_id} is recorded" in told.err
    assert [run["run_id"] for run in call(capsys, "ps")] == [run_id]
    assert main.run(["doctor", "--json"]) == 2
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    assert checks["broker"]["verdict"] == "fail"
    assert checks["workers"]["verdict"] == "warn"
    assert checks["database"]["verdict"] == checks["model"]["verdict"] == "ok"


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("CELERY_BROKER_URL", "foo://x", "No such transport: foo"),
        ("CELERY_BROKER_URL", "localhost", "'localhost' is no URL"),
        ("DATABASE_URL", "mysql://x", "DATABASE_URL names 'mysql'"),
        ("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/x", "refused"),
        ("CELERIAC_HOME", "/proc/nowhere", "CELERIAC_HOME"),
        ("CELERIAC_HOME", __file__, "CELERIAC_HOME"),
        ("CELERIAC_STEP_MODULES", "no_such_module_of_steps", "cannot import step module 'no_such_module_of_steps'"),
        ("CELERY_RESULT_EXPIRES", "soon", "CELERY_RESULT_EXPIRES='soon'"),
    ],
)
def test_wrong_settings_are_told_with_a_remedy(
    name: str, value: str, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)
    assert main.run(["run", "literature-review", "--no-wait"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert says in told
    assert "hint: " in told
    assert "Traceback" not in told


@pytest.mark.parametrize(
    ("param", "says"), [("max_papers=x", "a whole number is expected"), ("papers=1", "not declared")]
)
def test_params_that_do_not_fit_are_refused_before_anything_is_made(
    param: str, says: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(["run", "literature-review", "--param", param]) == 2
    assert says in capsys.readouterr().err
    assert not home.exists()


def test_tables_of_another_version_are_told_with_a_remedy(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home.mkdir()
    (home / "celeriac.db").touch()
    assert main.run(["ps"]) == 2
    assert "celeriac db upgrade" in capsys.readouterr().err
    assert main.run(["doctor", "--json"]) == 2
    capsys.readouterr()
    upgraded = call(capsys, "db", "upgrade")["upgraded"]
    assert upgraded[0] == "workflows.db.migrations"
    assert call(capsys, "db", "upgrade")["upgraded"] == []
    assert call(capsys, "ps") == []
    assert call(capsys, "doctor")["ok"] is True


def test_a_recorded_run_is_paused_and_resumed(capsys: pytest.CaptureFixture[str]) -> None:
    run_id = call(capsys, "run", "literature-review", "--no-wait", "-p", "max_papers=3")["run_id"]
    would = call(capsys, "pause", "latest", "--dry-run")
    assert would == {"run_id": run_id, "status": "PAUSED", "running": 0, "waiting": 4, "dry_run": True}
    assert call(capsys, "show")["status"] == "PENDING"
    assert call(capsys, "pause", run_id[:8])["waiting"] == 4
    assert main.run(["pause", "latest"]) == 0
    assert capsys.readouterr().out == f"paused run {run_id}: 0 steps still running, 4 not started\n"
    assert main.run(["show"]) == 0
    assert "‖ PAUSED  literature-review" in capsys.readouterr().out
    assert call(capsys, "resume", "latest", "--dry-run")["ready"] == ["fetch"]
    assert call(capsys, "resume", "latest") == {
        "run_id": run_id,
        "status": "PROGRESS",
        "ready": ["fetch"],
        "dry_run": False,
    }
    assert main.run(["resume", "latest"]) == 0
    assert "nothing is ready to start" in capsys.readouterr().out
    call(capsys, "cancel", "latest")
    for verb in ("pause", "resume"):
        assert main.run([verb, "latest"]) == 2
        assert "REVOKED" in capsys.readouterr().err


def test_a_run_that_ended_is_run_again_as_a_new_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = call(capsys, "run", "literature-review", "--no-wait", "-p", "max_papers=3")["run_id"]
    assert main.run(["rerun", "latest", "--dry-run"]) == 2
    assert "has not ended" in capsys.readouterr().err
    call(capsys, "cancel", "latest")
    assert call(capsys, "retry", "latest", "--dry-run")["ready"] == ["fetch"]

    would = call(capsys, "rerun", "latest", "--dry-run", "-p", "max_papers=4")
    assert (would["of"], would["run_id"]) == (old, None)
    assert {step["why"] for step in would["steps"]} == {"it did not run"}
    assert main.run(["rerun", "latest", "--dry-run"]) == 0
    assert "0 steps taken over, 4 to run; fetch: it did not run" in capsys.readouterr().out

    new = call(capsys, "rerun", old[:8], "--no-wait", "-p", "max_papers=4")["run_id"]
    shown = call(capsys, "show", new)
    assert (shown["rerun_of"], shown["params"]["max_papers"], shown["status"]) == (old, 4, "PROGRESS")
    call(capsys, "cancel", new)
    (tmp_path / "other.yaml").write_text("id: other\nsteps:\n  fetch: {uses: fetch, with: {source: local}}\n")
    assert main.run(["rerun", new, "--definition", "other.yaml", "--dry-run"]) == 2
    assert "is of workflow 'literature-review'" in capsys.readouterr().err
