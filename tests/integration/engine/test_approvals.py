"""A step that waits for a person: asked, answered, refused, timed out, paused, cancelled and asked again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from celeriac import main
from tests.support.api import served
from tests.support.hands import Hands
from workflows.db import approvals
from workflows.db.units import Unit
from workflows.engine import control
from workflows.engine.approving import decide
from workflows.engine.upkeep_tasks import clean_up
from workflows.model.errors import ConflictError, NotFoundError

TEXT = """
id: release
params: {title: {type: string, default: celery}}
steps:
  ok: {uses: approval, with: {prompt: "publish '${{ params.title }}'?", within: 1h, on_reject: REJECT}}
  after: {needs: ok, uses: ledger.nap, with: {node: after}}
outputs: {answer: "${{ steps.ok.output }}"}
"""


def _ask(hands: Hands, on_reject: str = "fail") -> tuple[str, Unit]:
    accepted = hands.start(TEXT.replace("REJECT", on_reject))
    unit = Unit(accepted.run_pk, 0)
    hands.execute(unit)
    assert hands.standing(unit, "status, lease_until") == ("WAITING", None)
    return accepted.run_id, unit


def _open(hands: Hands) -> list[str]:
    return [one.prompt for one in hands.database.retrying(approvals.open_requests)]


def test_a_yes_lets_the_run_go_on_and_is_kept(hands: Hands, broker_client: Any) -> None:
    run_id, unit = _ask(hands)
    assert _open(hands) == ["publish 'celery'?"]
    before = broker_client.llen("processing")
    answer = decide(hands.runtime, run_id, "ok", approved=True, by="ann", comment="fine")
    assert answer.is_new
    assert broker_client.llen("processing") == before + 1  # Nobody waits for the reconciler.
    again = decide(hands.runtime, run_id, "ok", approved=True, by="bob")
    assert (again.is_new, again.decision) == (False, answer.decision)
    hands.drain()
    run = control.find(hands.runtime, run_id)
    assert run.status == "SUCCESS"
    assert run.outputs is not None
    found = run.outputs["answer"]
    assert (found["approved"], found["by"], found["comment"]) == (True, "ann", "fine")
    assert _open(hands) == []
    assert hands.standing(unit) == ("SUCCESS", 0, 0)
    with pytest.raises(ConflictError, match="was approved before"):
        decide(hands.runtime, run_id, "ok", approved=False, by="ann")


def test_a_no_fails_the_step_and_a_retry_asks_again(hands: Hands) -> None:
    run_id, unit = _ask(hands)
    decide(hands.runtime, run_id, "ok", approved=False, by="ann", comment="too early")
    hands.drain()
    (step, after) = hands.rows("SELECT status, error FROM step_runs ORDER BY ordinal")
    assert step[0] == "FAILURE"
    assert "rejected by ann: too early" in step[1]
    assert after[0] == "SKIPPED"
    control.retry(hands.runtime, run_id)
    hands.execute(unit)
    assert _open(hands) == ["publish 'celery'?"]
    decide(hands.runtime, run_id, "ok", approved=True, by="ann")
    hands.drain()
    assert control.find(hands.runtime, run_id).status == "SUCCESS"


@pytest.mark.parametrize(("on_reject", "status"), [("fail", "FAILURE"), ("continue", "SUCCESS")])
def test_no_answer_in_time_is_a_no(hands: Hands, on_reject: str, status: str) -> None:
    run_id, unit = _ask(hands, on_reject)
    hands.change("UPDATE step_runs SET not_before = NULL, parked_since = parked_since - 3601 WHERE status = 'WAITING'")
    hands.execute(unit)
    assert hands.standing(unit, "status") == (status,)
    with pytest.raises(ConflictError, match="does not wait"):
        decide(hands.runtime, run_id, "ok", approved=True, by="ann")


def test_a_step_that_wakes_without_an_answer_goes_on_waiting(hands: Hands) -> None:
    run_id, unit = _ask(hands)
    hands.change("UPDATE step_runs SET not_before = NULL, parked_since = parked_since - 600 WHERE status = 'WAITING'")
    hands.execute(unit)
    assert hands.standing(unit, "status") == ("WAITING",)
    assert decide(hands.runtime, run_id, "ok", approved=True, by=None).is_new


def test_the_answer_goes_with_its_run(hands: Hands) -> None:
    run_id, _ = _ask(hands)
    decide(hands.runtime, run_id, "ok", approved=True, by="ann")
    hands.drain()
    hands.change("UPDATE job_runs SET created_at = created_at - 864000, finished_at = finished_at - 864000")
    assert clean_up(hands.runtime, 7)["runs"] == 1
    assert hands.rows("SELECT * FROM approvals") == []


def test_what_does_not_wait_cannot_be_approved(hands: Hands) -> None:
    run_id, _ = _ask(hands)
    with pytest.raises(NotFoundError, match="has no step 'nobody'"):
        decide(hands.runtime, run_id, "nobody", approved=True, by="ann")
    with pytest.raises(ConflictError, match="asks for no approval"):
        decide(hands.runtime, run_id, "after", approved=True, by="ann")
    control.cancel(hands.runtime, run_id)
    assert _open(hands) == []
    with pytest.raises(ConflictError, match="does not wait"):
        decide(hands.runtime, run_id, "ok", approved=True, by="ann")


def test_the_answer_for_a_paused_run_waits_with_it(hands: Hands, broker_client: Any) -> None:
    run_id, unit = _ask(hands)
    control.pause(hands.runtime, run_id)
    before = broker_client.llen("processing")
    assert decide(hands.runtime, run_id, "ok", approved=True, by="ann").is_new
    assert broker_client.llen("processing") == before
    control.resume(hands.runtime, run_id)
    hands.drain()
    assert control.find(hands.runtime, run_id).status == "SUCCESS"
    assert hands.standing(unit, "status") == ("SUCCESS",)


def test_over_http_and_on_the_command_line(
    hands_on_postgres: Hands, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hands = hands_on_postgres
    for name in ("DATABASE_URL", "CELERY_BROKER_URL", "CELERIAC_HOME"):
        monkeypatch.setenv(name, hands.engine.env[name])
    first, _ = _ask(hands)
    second, _ = _ask(hands)
    with served(hands.engine.env) as api:
        waiting = api.http.get("/api/v1/approvals").json()["approvals"]
        assert [(one["run_id"], one["step"], one["prompt"]) for one in waiting] == [
            (first, "ok", "publish 'celery'?"),
            (second, "ok", "publish 'celery'?"),
        ]
        path = f"/api/v1/runs/{first}/steps/ok"
        assert api.http.post(f"{path}/approve", json={"comment": 5}).status_code == 422
        answer = api.http.post(f"{path}/reject", json={"comment": "no"}).json()
        assert (answer["approved"], answer["comment"], answer["by"], answer["is_new"]) == (
            False,
            "no",
            "loopback",
            True,
        )
        assert api.http.post(f"{path}/reject").json()["is_new"] is False
        assert api.http.post(f"{path}/approve").status_code == 409
        assert api.http.post(f"/api/v1/runs/{first}/steps/none/approve").status_code == 404
    assert main.run(["approvals"]) == 0
    assert f"celeriac approve {second[:8]} ok" in capsys.readouterr().out
    assert main.run(["approve", second, "ok", "--comment", "well done"]) == 0
    assert f"approved step 'ok' of run {second}" in capsys.readouterr().out
    assert main.run(["approve", second, "ok", "--reject"]) == 2
    assert main.run(["approvals", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.strip()) == []
