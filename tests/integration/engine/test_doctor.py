"""`celeriac doctor` finds the usual troubles and says what to do, on each database."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from celeriac import checkup
from celeriac.checkup import Finding
from tests.support.hands import Hands
from workflows.catalogue import read_entry
from workflows.engine.execution import end_over_time
from workflows.engine.leases import LeaseKeeper
from workflows.scheduling.sync import sync
from workflows.settings import Config
from workflows.steps.registry import schemas

ONE = "id: one\nsteps:\n  a: {uses: ledger.nap, with: {node: a}}"
TIMED = ONE + '\ntriggers:\n  - schedule: {cron: "0 3 * * *"}'
LONELY = "id: lonely\nsteps:\n  a: {uses: ledger.nap, queue: gpu, with: {node: a}}"


def _findings(hands: Hands) -> dict[str, Finding]:
    found = {}
    for finding in checkup.examine(Config.from_env(hands.engine.env)):
        found[finding.name] = finding
        if finding.name == "memory":
            break
    return found


def _worker(hands: Hands, *queues: str) -> None:
    LeaseKeeper(hands.runtime, 1, queues, set, end_over_time).beat()


def test_a_run_that_stays_pending_is_explained_by_what_is_missing(hands: Hands) -> None:
    assert _findings(hands)["pending"].verdict == "ok"
    hands.engine.submit(ONE)
    assert _findings(hands)["pending"].verdict == "ok"
    hands.change("UPDATE job_runs SET created_at = created_at - 120")
    found = _findings(hands)
    assert found["workers"].verdict == "warn"
    assert (found["pending"].verdict, found["pending"].hint) == ("warn", "start one with `celeriac worker`")
    assert "no worker runs" in found["pending"].message
    _worker(hands, "processing")
    found = _findings(hands)
    assert "none takes from research" in found["workers"].message
    assert "no worker takes from the queue 'research'" in found["pending"].message
    hands.change("DELETE FROM workers")
    _worker(hands, "processing", "research")
    assert "0 of 1 slots are at work" in _findings(hands)["pending"].message


def test_a_step_that_waits_is_explained_by_its_queue(hands: Hands) -> None:
    hands.start(LONELY)
    _worker(hands, "processing", "research")
    assert _findings(hands)["waiting"].verdict == "ok"
    hands.change("UPDATE step_runs SET ready_at = ready_at - 120")
    found = _findings(hands)["waiting"]
    assert found.verdict == "warn"
    assert "in queue 'gpu', which no worker takes from" in found.message
    assert "CELERIAC_QUEUES=gpu" in found.hint


def test_a_schedule_that_nobody_fires_is_told(hands: Hands) -> None:
    assert _findings(hands)["schedules"] == Finding("schedules", "ok", "none")
    read = read_entry(TIMED.encode(), Path("timed.yaml"), "1", schemas(hands.runtime.steps))
    assert len(sync(hands.runtime, [read]).added) == 1
    assert _findings(hands)["schedules"] == Finding("schedules", "ok", "1 enabled")
    hands.change("UPDATE schedules SET problem = 'param node is missing'")
    assert "1 cannot fire" in _findings(hands)["schedules"].message
    hands.change("UPDATE schedules SET next_fire_at = 1700000000")
    found = _findings(hands)["schedules"]
    assert found.verdict == "warn"
    assert "should have fired" in found.message
    assert "celery -A celery_app beat" in found.hint
    hands.change("UPDATE schedules SET is_enabled = :off", off=False)
    assert _findings(hands)["schedules"] == Finding("schedules", "ok", "0 enabled")


def test_a_reconciler_that_nobody_leads_is_a_fault(hands: Hands) -> None:
    _worker(hands, "processing", "research")
    assert _findings(hands)["reconciler"].verdict == "ok"
    hands.change("UPDATE workers SET started_at = started_at - 100")
    found = _findings(hands)["reconciler"]
    assert found.verdict == "fail"
    assert found.hint


def test_steps_that_take_their_process_down_are_named(hands: Hands) -> None:
    _worker(hands, "processing", "research")
    assert "MB free" in _findings(hands)["memory"].message
    hands.start(ONE)
    hands.change("UPDATE step_runs SET crashes = 3")
    for status in ("PROGRESS", "FAILURE"):
        hands.change("UPDATE job_runs SET status = :status", status=status)
        if status == "FAILURE":
            hands.change("UPDATE job_runs SET finished_at = created_at")
        found = _findings(hands)["memory"]
        assert found.verdict == "warn"
        assert "step 'a' of run" in found.message
        assert "3 times" in found.message
    hands.change("UPDATE job_runs SET finished_at = finished_at - 100000")
    assert "took" not in _findings(hands)["memory"].message


def test_a_process_that_is_too_large_is_told(hands: Hands, monkeypatch: pytest.MonkeyPatch) -> None:
    _worker(hands, "processing", "research")
    assert hands.rows("SELECT pid FROM workers") == [(os.getpid(),)]
    monkeypatch.setattr(checkup, "LARGEST_SHARE", 1e-6)
    found = _findings(hands)["memory"]
    assert found.verdict == "warn"
    assert "CELERY_WORKER_MAX_TASKS_PER_CHILD" in found.hint


@pytest.mark.parametrize(
    ("name", "value"),
    [("CELERY_TASK_ACKS_LATE", "maybe"), ("CELERIAC_LEASE_SECONDS", "-1"), ("CELERIAC_LOG_FORMAT", "xml")],
)
def test_a_setting_that_cannot_be_read_is_named(hands_on_postgres: Hands, name: str, value: str) -> None:
    env = {**hands_on_postgres.engine.env, name: value}
    found = next(checkup.examine(Config.from_env(env)))
    assert (found.name, found.verdict) == ("settings", "fail")
    assert found.hint
