"""`celeriac schedule`, in a home without a broker, a worker and a scheduler."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from celeriac import main

NIGHTLY = """
id: nightly
params: {limit: {type: integer, default: 3}}
triggers:
  - schedule: {cron: "0 3 * * *", timezone: Europe/Berlin}
  - schedule: {id: weekly, cron: "0 5 * * mon", params: {limit: 9}}
steps:
  fetch: {uses: fetch, with: {source: local, limit: "${{ params.limit }}"}}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "definitions").mkdir()
    (tmp_path / "definitions" / "nightly.yaml").write_text(NIGHTLY)
    return tmp_path


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main.run(["schedule", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main.run(["schedule", *arguments]) == 2
    return capsys.readouterr().err


def test_before_the_first_schedule_nothing_is_created_by_looking(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(capsys, "ls") == []
    assert not home.exists()


def test_schedules_come_from_definitions_and_are_seen_and_switched(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(capsys, "sync")["added"] == ["nightly", "nightly.weekly"]
    assert call(capsys, "sync")["unchanged"] == ["nightly", "nightly.weekly"]
    listed = {one["name"]: one for one in call(capsys, "ls", "--workflow", "nightly")}
    assert listed["nightly.weekly"]["params"] == {"limit": 9}
    assert (listed["nightly"]["timezone"], listed["nightly"]["catchup"]) == ("Europe/Berlin", "last")
    first, second = call(capsys, "next", "nightly", "-n", "2")
    assert first["fire_at"] == listed["nightly"]["next_fire_at"]
    assert "T03:00:00+0" in second["fire_time"]
    assert call(capsys, "disable", "nightly")["next_fire_at"] is None
    assert call(capsys, "show", "nightly")["next"] == []
    assert call(capsys, "enable", "nightly")["next_fire_at"] == first["fire_at"]
    assert "take it out of the definition" in refused(capsys, "rm", "nightly")
    (folder / "definitions" / "nightly.yaml").unlink()
    assert call(capsys, "sync")["missing"] == ["nightly", "nightly.weekly"]
    assert call(capsys, "rm", "nightly") == {"removed": "nightly"}
    assert call(capsys, "sync", "--prune")["removed"] == ["nightly.weekly"]


def test_a_person_adds_a_schedule_and_is_told_that_nobody_watches_the_clock(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main.run(["schedule", "add", "nightly", "--cron", "@daily", "--name", "mine", "-p", "limit=5"]) == 0
    told = capsys.readouterr()
    assert told.out.startswith("made schedule mine; it fires next at ")
    assert "no scheduler is running" in told.err
    (mine,) = call(capsys, "ls")
    assert (mine["origin"], mine["params"], mine["overlap"]) == ("person", {"limit": 5}, "skip")
    assert "there is a schedule 'mine' already" in refused(
        capsys, "add", "nightly", "--cron", "@daily", "--name", "mine"
    )
    assert "did you mean 'Europe/Berlin'?" in refused(
        capsys, "add", "nightly", "--cron", "@daily", "-z", "Europe/Berln", "--name", "x"
    )
    assert "no cron expression" in refused(capsys, "add", "nightly", "--cron", "daily", "--name", "x")
    assert "param 'limits' is not declared" in refused(
        capsys, "add", "nightly", "--cron", "@daily", "--name", "x", "-p", "limits=5"
    )
    assert "there is no schedule 'min'" in refused(capsys, "enable", "min")
    assert main.run(["schedule", "ls"]) == 0
    assert "mine" in capsys.readouterr().out
    assert main.run(["schedule", "show", "mine"]) == 0
    assert "limit=5" in capsys.readouterr().out


def test_run_now_and_backfill(capsys: pytest.CaptureFixture[str]) -> None:
    call(capsys, "sync")
    started = call(capsys, "run-now", "nightly.weekly")
    assert main.run(["show", started["run_id"], "--json"]) == 0
    run = json.loads(capsys.readouterr().out)
    assert (run["schedule"], run["fire_time"], run["params"]) == ("nightly.weekly", None, {"limit": 9})
    span = ("backfill", "nightly", "--from", "2026-03-28", "--to", "2026-03-31")
    wanted = call(capsys, *span, "--dry-run")
    assert wanted["queued"] == [
        "2026-03-28T03:00:00+01:00",
        "2026-03-29T03:00:00+02:00",
        "2026-03-30T03:00:00+02:00",
    ]
    assert call(capsys, *span)["queued"] == wanted["queued"]
    assert call(capsys, *span)["decided"] == wanted["queued"]
    assert [fire["status"] for fire in call(capsys, "show", "nightly")["fires"]] == ["WAITING"] * 3
    assert "reaches into the future" in refused(
        capsys, "backfill", "nightly", "--from", "2026-03-01", "--to", "2999-01-01"
    )
    assert "no date or time" in refused(capsys, "backfill", "nightly", "--from", "monday", "--to", "2026-03-31")
