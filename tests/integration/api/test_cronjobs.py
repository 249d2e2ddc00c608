"""The first system's endpoints, as its users called them; no worker runs here."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator

import httpx
import pytest

from tests.support.api import Served, served, write_definitions
from tests.support.servers import free_port

TRIGGER = "/api/cronjobs/pair/trigger"


@pytest.fixture(scope="module")
def contract(tmp_path_factory: pytest.TempPathFactory, _valkey: str) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("contract")
    env = {
        "DATABASE_URL": f"sqlite:///{folder / 'contract.db'}",
        "CELERY_BROKER_URL": _valkey,
        "CELERIAC_HOME": str(folder / "home"),
        "CELERIAC_STEP_MODULES": "tests.support.ledger_steps",
        "CELERIAC_DEFINITIONS": str(write_definitions(folder / "definitions")),
    }
    with served(env) as answering:
        yield answering


def _trigger(api: Served, workflow: str = "pair") -> str:
    answer = api.http.post(f"/api/cronjobs/{workflow}/trigger")
    assert answer.status_code == 202, answer.text
    task_id: str = answer.json()["task_id"]
    return task_id


def test_a_trigger_answers_at_once_with_the_id_of_a_run_that_exists(api: Served) -> None:
    answer = api.http.post(TRIGGER, json={"force_reprocess": False})
    assert answer.status_code == 202
    value = answer.json()
    assert set(value) == {"job_run_id", "task_id", "status", "message"}
    assert value["status"] == "PENDING"
    assert value["message"] == f"Job execution queued successfully. Task ID: {value['task_id']}"
    status = api.http.get(f"/api/cronjobs/tasks/{value['task_id']}/status")
    assert status.status_code == 200
    assert status.json() == {
        "task_id": value["task_id"],
        "status": "PENDING",
        "progress": 0,
        "description": "Queued: waiting for a worker.",
        "current": 0,
        "total": 2,
        "job_run_id": value["job_run_id"],
        "elapsed_time": 0.0,
        "estimated_remaining": None,
    }


def test_a_trigger_takes_json_under_any_content_type_or_none_and_an_empty_body(contract: Served) -> None:
    body = b'{"ms": 5}'
    for content, content_type, expected in [
        (None, None, {}),
        (b"", "application/json", {}),
        (b" \n", None, {}),
        (body, None, {"ms": 5}),
        (body, "application/json", {"ms": 5}),
        (body, "text/plain;charset=UTF-8", {"ms": 5}),  # what fetch() says of a string
        (body, "application/x-www-form-urlencoded", {"ms": 5}),  # what curl -d says
    ]:
        headers = {"Content-Type": content_type} if content_type else {}
        answer = contract.http.post(TRIGGER, content=content, headers=headers)
        assert answer.status_code == 202, (content_type, answer.text)
        progress = contract.http.get(f"/api/cronjobs/tasks/{answer.json()['task_id']}/progress").json()
        assert progress["database"]["user_params"] == expected


@pytest.mark.parametrize(
    "body",
    [b'{"ms": "soon"}', b'{"ms": -1}', b'{"nope": 1}', b"[1]", b"{", b'{"ms": NaN}', b'"\\ud800"', b"[" * 100_000],
    ids=["type", "minimum", "undeclared", "list", "cut", "nan", "surrogate", "deep"],
)
def test_wrong_params_are_refused_with_details(contract: Served, body: bytes) -> None:
    answer = contract.http.post(TRIGGER, content=body)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == 422
    assert problem["detail"]
    assert problem.get("hint") or problem["errors"]


@pytest.mark.parametrize(
    "task_id", ["12b41fba-391e-43c4-b490-830062eee87f", "nonsense", "latest", "%00", "..%2f..", "x" * 300]
)
def test_unknown_tasks_are_not_found(contract: Served, task_id: str) -> None:
    for method, end in (("GET", "status"), ("GET", "progress"), ("POST", "cancel")):
        answer = contract.http.request(method, f"/api/cronjobs/tasks/{task_id}/{end}")
        assert answer.status_code == 404, (end, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("workflow", ["nope", "..%2fpair", "pair.yaml", "%2fetc%2fpasswd", "tasks"])
def test_unknown_workflows_are_not_found(contract: Served, workflow: str) -> None:
    assert contract.http.post(f"/api/cronjobs/{workflow}/trigger").status_code == 404


def test_a_workflow_with_errors_is_refused_with_their_places(contract: Served) -> None:
    problem = contract.http.post("/api/cronjobs/broken/trigger").json()
    assert problem["status"] == 422
    assert {"file", "line", "column", "code", "detail"} <= set(problem["errors"][0])


def test_a_cancel_may_be_repeated(api: Served) -> None:
    task_id = _trigger(api)
    answers = [api.http.post(f"/api/cronjobs/tasks/{task_id}/cancel") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert {answer.json()["status"] for answer in answers} == {"REVOKED"}
    assert api.http.get(f"/api/cronjobs/tasks/{task_id}/status").json()["description"] == "Cancelled."


def test_progress_shows_database_steps_and_celery(api: Served) -> None:
    task_id = _trigger(api)
    progress = api.http.get(f"/api/cronjobs/tasks/{task_id}/progress").json()
    assert [step["id"] for step in progress["steps"]] == ["a", "b"]
    assert progress["celery_state"] == "PENDING"
    assert progress["database"]["manual_trigger"] is True
    assert progress["database"]["progress_percentage"] == progress["progress"] == 0


def test_the_health_check_says_that_no_worker_runs(api: Served) -> None:
    answer = api.http.get("/api/cronjobs/tasks/health-check")
    assert answer.status_code == 503
    value = answer.json()
    assert value["status"] == "unhealthy"
    assert value["database"]["ok"]
    assert value["broker"]["ok"]
    assert not value["workers"]["ok"]


def test_without_a_broker_a_trigger_is_accepted_and_the_next_does_not_wait_for_it(settings: dict[str, str]) -> None:
    with served({**settings, "CELERY_BROKER_URL": f"redis://127.0.0.1:{free_port()}/0"}) as api:
        first = api.http.post(TRIGGER)
        assert first.status_code == 202
        assert "recorded" in first.json()["message"]
        before = time.monotonic()
        second = api.http.post(TRIGGER)
        assert time.monotonic() - before < 0.5
        assert second.status_code == 202
        progress = api.http.get(f"/api/cronjobs/tasks/{second.json()['task_id']}/progress")
        assert progress.status_code == 200
        assert progress.json()["celery_state"] is None
        health = api.http.get("/api/cronjobs/tasks/health-check")
        assert health.status_code == 503
        assert not health.json()["broker"]["ok"]


def test_without_a_database_every_answer_is_503_and_the_process_lives(broker_url: str) -> None:
    nowhere = f"postgresql://nobody@127.0.0.1:{free_port()}/none"
    with served({"CELERY_BROKER_URL": broker_url, "DATABASE_URL": nowhere}) as api:
        for method, path in (
            ("POST", "/api/cronjobs/literature-review/trigger"),
            ("GET", f"/api/cronjobs/tasks/{uuid.uuid4()}/status"),
            ("GET", "/readyz"),
        ):
            answer: httpx.Response = api.http.request(method, path)
            assert answer.status_code == 503, answer.text
            assert answer.json()["type"] == "urn:celeriac:problem:database-unavailable"
            assert answer.headers["retry-after"]
        assert api.http.get("/livez").status_code == 200
        assert api.http.get("/api/cronjobs/tasks/health-check").json()["database"]["ok"] is False
