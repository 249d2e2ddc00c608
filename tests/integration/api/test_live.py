"""Flows of the first system and of /api/v1 with a worker behind them."""

from __future__ import annotations

import json
import socket
import struct
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import psutil

from tests.support.api import Live
from tests.support.waiting import wait_until
from workflows.db.database import Statement

_LAST_YEAR = Statement("""
    UPDATE job_runs SET created_at = created_at - 31536000, finished_at = finished_at - 31536000 WHERE id = :id""")


def _start(live: Live, workflow: str, **params: Any) -> str:
    answer = live.api.http.post("/api/v1/runs", json={"workflow": workflow, "params": params})
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/api/v1/runs/{answer.json()['run_id']}"
    run_id: str = answer.json()["run_id"]
    return run_id


def _get(live: Live, path: str, **query: Any) -> Any:
    answer = live.api.http.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def _ended(live: Live, run_id: str) -> dict[str, Any]:
    def end() -> dict[str, Any]:
        run: dict[str, Any] = _get(live, f"/api/v1/runs/{run_id}")
        return run if run["status"] in ("SUCCESS", "FAILURE", "REVOKED") else {}

    return wait_until(end, 30, "the end of the run")


def _stream(http: httpx.Client, run_id: str, last: int | None = None) -> Iterator[tuple[str, str | None, Any]]:
    """`(event, id, data)` of a run's events, until the server closes the stream."""
    headers = {} if last is None else {"Last-Event-ID": str(last)}
    with http.stream("GET", f"/api/v1/runs/{run_id}/events", headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        found: dict[str, str] = {}
        for line in answer.iter_lines():
            if line:
                name, _, value = line.partition(": ")
                found[name] = value
            elif "data" in found:
                yield found["event"], found.get("id"), json.loads(found["data"])
                found = {}
            else:
                found = {}


def test_the_polling_flow_of_the_first_systems_page(live: Live) -> None:
    http = live.api.http
    task_id = http.post("/api/cronjobs/pair/trigger", content='{"force_reprocess":false}').json()["task_id"]
    seen = []

    def poll() -> bool:
        data = http.get(f"/api/cronjobs/tasks/{task_id}/status").json()
        assert isinstance(data["progress"], int)
        assert data["description"].endswith(".")
        seen.append(data["progress"])
        return data["status"] in ("SUCCESS", "FAILURE")

    wait_until(poll, 30)
    assert seen == sorted(seen)
    status = http.get(f"/api/cronjobs/tasks/{task_id}/status").json()
    assert (status["status"], status["progress"], status["current"], status["total"]) == ("SUCCESS", 100, 2, 2)
    assert status["elapsed_time"] > 0
    progress = http.get(f"/api/cronjobs/tasks/{task_id}/progress").json()
    assert {step["status"] for step in progress["steps"]} == {"SUCCESS"}
    assert progress["dispatches"]["reconciler"] == 0

    def celery_state() -> bool:
        # Told within a second, not at once.
        return bool(http.get(f"/api/cronjobs/tasks/{task_id}/progress").json()["celery_state"] == "SUCCESS")

    wait_until(celery_state, 30)


def test_a_trigger_that_waits_answers_with_the_outputs(live: Live) -> None:
    answer = live.api.http.post("/api/cronjobs/pair/trigger?wait=30")
    assert answer.status_code == 200
    assert answer.json()["status"] == "SUCCESS"
    assert answer.json()["outputs"] == {"last": "b"}


def test_a_trigger_that_waits_too_short_says_that_the_run_goes_on(live: Live) -> None:
    answer = live.api.http.post("/api/cronjobs/patient/trigger?wait=0.3")
    assert answer.status_code == 202
    assert answer.json()["status"] in ("PENDING", "PROGRESS")
    live.api.http.post(f"/api/cronjobs/tasks/{answer.json()['task_id']}/cancel")


def test_the_health_check_is_green(live: Live) -> None:
    health = _get(live, "/api/cronjobs/tasks/health-check")
    assert health["status"] == "healthy"
    assert health["slots"] == 2


def test_a_running_task_is_cancelled(live: Live) -> None:
    run_id = _start(live, "patient")
    wait_until(lambda: _get(live, f"/api/cronjobs/tasks/{run_id}/status")["description"] == "Running wait.", 15)
    preview = live.api.http.post(f"/api/v1/runs/{run_id}/cancel?dry_run=true").json()
    assert (preview["stopping"], preview["never_started"], preview["dry_run"]) == (1, 1, True)
    assert _get(live, f"/api/v1/runs/{run_id}")["cancel_requested"] is False
    live.api.http.post(f"/api/cronjobs/tasks/{run_id}/cancel")
    assert _ended(live, run_id)["status"] == "REVOKED"
    again = live.api.http.post(f"/api/v1/runs/{run_id}/cancel").json()
    assert (again["stopped"], again["never_started"], again["stopping"]) == (1, 1, 0)


def test_a_failed_run_tells_why_and_is_retried(live: Live) -> None:
    run_id = _start(live, "hopeless")
    run = _ended(live, run_id)
    assert run["status"] == "FAILURE"
    assert run["error"] == "failed: fails"
    step = _get(live, f"/api/v1/runs/{run_id}/steps/fails")
    assert step["error"]["type"] == "PermanentError"
    assert [try_["step"] for try_ in _get(live, f"/api/v1/runs/{run_id}/attempts")["attempts"]] == ["ok", "fails"]
    preview = live.api.http.post(f"/api/v1/runs/{run_id}/retry?dry_run=true").json()
    assert (preview["steps"], preview["ready"]) == (["fails", "after"], ["fails"])
    assert _get(live, f"/api/v1/runs/{run_id}")["generation"] == 1
    retried = live.api.http.post(f"/api/v1/runs/{run_id}/retry").json()
    assert retried["generation"] == 2
    assert _ended(live, run_id)["status"] == "SUCCESS"
    assert live.api.http.post(f"/api/v1/runs/{run_id}/retry").status_code == 409


def test_items_come_in_pages_and_by_state(live: Live) -> None:
    run_id = _start(live, "doubles", num=12, fail_on=[3])
    assert _ended(live, run_id)["status"] == "FAILURE"
    keys, cursor = [], None
    while True:
        page = _get(
            live, f"/api/v1/runs/{run_id}/steps/double/items", limit=5, **({"cursor": cursor} if cursor else {})
        )
        keys += [item["key"] for item in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert keys == [f"n{number}" for number in range(12)]
    failed = _get(live, f"/api/v1/runs/{run_id}/steps/double/items", status="FAILURE")["items"]
    assert [item["key"] for item in failed] == ["n3"]
    assert "3 is not liked" in failed[0]["error"]["message"]


def test_logs_are_read_on_with_their_cursor(live: Live) -> None:
    run_id = _start(live, "pair")
    _ended(live, run_id)
    first = _get(live, f"/api/v1/runs/{run_id}/logs", limit=1)
    rest = _get(live, f"/api/v1/runs/{run_id}/logs", cursor=first["next"])
    assert [line["step"] for line in first["lines"] + rest["lines"]] == ["a", "b"]
    assert _get(live, f"/api/v1/runs/{run_id}/logs", cursor=rest["next"]) == {"lines": [], "next": rest["next"]}
    assert [line["step"] for line in _get(live, f"/api/v1/runs/{run_id}/logs", step="b")["lines"]] == ["b"]


def test_the_same_idempotency_key_is_the_same_run(live: Live) -> None:
    headers = {"Idempotency-Key": uuid.uuid4().hex}

    def create(**params: Any) -> httpx.Response:
        return live.api.http.post("/api/v1/runs", json={"workflow": "pair", "params": params}, headers=headers)

    first, second, other = create(ms=1), create(ms=1), create(ms=2)
    assert (first.status_code, second.status_code, other.status_code) == (202, 200, 409)
    assert first.json()["run_id"] == second.json()["run_id"]


def test_runs_are_listed_newest_first_in_pages(live: Live) -> None:
    mine = [_start(live, "pair") for _ in range(3)]
    page = _get(live, "/api/v1/runs", workflow="pair", limit=2)
    assert [run["run_id"] for run in page["runs"]] == mine[:0:-1]
    following = _get(live, "/api/v1/runs", workflow="pair", limit=2, cursor=page["next"])
    assert following["runs"][0]["run_id"] == mine[0]


def test_events_come_live_and_are_taken_up_where_they_were_left(live: Live) -> None:
    run_id = _start(live, "pair", ms=300)
    events = list(_stream(live.api.http, run_id))
    assert events[-1][0] == "end"
    assert events[-1][2]["status"] == "SUCCESS"
    numbered = [(int(number), data["step"], data["status"]) for _, number, data in events if number]
    assert [number for number, _, _ in numbered] == list(range(1, len(numbered) + 1))
    assert [(step, status) for _, step, status in numbered if status == "SUCCESS"] == [
        ("a", "SUCCESS"), ("b", "SUCCESS"), (None, "SUCCESS"),
    ]  # fmt: skip
    half = len(numbered) // 2
    rest = [int(number) for _, number, _ in _stream(live.api.http, run_id, last=half) if number]
    assert rest == list(range(half + 1, len(numbered) + 1))
    nothing = live.api.http.get(f"/api/v1/runs/{run_id}/events", headers={"Last-Event-ID": str(len(numbered))})
    assert nothing.status_code == 204


def _watch(live: Live, run_id: str, count: int) -> list[socket.socket]:
    """Clients that read the events of a run, each on a bare connection."""
    port = httpx.URL(live.api.url).port
    assert port is not None
    request = f"GET /api/v1/runs/{run_id}/events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    watching = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(count)]
    for client in watching:
        client.sendall(request)
    for client in watching:
        assert client.recv(4096).startswith(b"HTTP/1.1 200")
    return watching


def _vanish(clients: list[socket.socket]) -> None:
    """Half of them say goodbye; of the others the machine is gone, and what is sent to them is refused."""
    for number, client in enumerate(clients):
        if number % 2:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()


def test_two_hundred_clients_that_vanish_leave_nothing_behind(live: Live) -> None:
    run_id = _start(live, "patient")
    feeds, process = live.api.app.state.feeds, psutil.Process()
    _get(live, f"/api/v1/runs/{run_id}")
    before = live.api.tasks()
    standings = []
    for _ in range(3):
        clients = _watch(live, run_id, 200)
        wait_until(lambda: feeds.watchers == 200, 30)
        _vanish(clients)
        wait_until(lambda: feeds.watchers == 0 and live.api.tasks() <= before, 30, "the end of 200 streams")
        standings.append((process.num_fds(), _database_connections(live)))
    # The first round opens what the server keeps: its threads' connections to the database.
    assert standings[2][0] <= standings[1][0] + 2, standings
    assert standings[2][1] <= standings[1][1] + 1, standings
    live.api.http.post(f"/api/v1/runs/{run_id}/cancel")


def _database_connections(live: Live) -> int:
    (row,) = live.cluster.rows("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
    return int(row[0])


def test_celery_answers_the_health_check_and_cleans_up(live: Live) -> None:
    app = live.cluster.runtime.app
    health = app.send_task("health_check", ignore_result=False).get(timeout=20)
    assert health["status"] == "healthy"
    run_id = _start(live, "pair")
    _ended(live, run_id)
    pk = live.cluster.rows("SELECT id FROM job_runs WHERE task_id = :id", id=run_id)[0][0]
    live.cluster.runtime.database.retrying(lambda tx: tx.run(_LAST_YEAR, {"id": pk}))
    kept = _start(live, "pair")
    _ended(live, kept)
    assert app.send_task("cleanup_old_tasks", ignore_result=False).get(timeout=20)["runs"] == 1
    assert live.api.http.get(f"/api/v1/runs/{run_id}").status_code == 404
    assert live.api.http.get(f"/api/v1/runs/{kept}").status_code == 200
    for table in ("step_runs", "attempts", "run_events", "log_lines"):
        assert live.cluster.rows(f"SELECT count(*) FROM {table} WHERE run_pk = :id", id=pk) == [(0,)]
