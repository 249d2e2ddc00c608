"""The first system's commands and flows, as its users knew them; docs/first-system.md has the list."""

from __future__ import annotations

import socket
import subprocess
import sys
import uuid
from typing import Any

import httpx

from tests.support.api import Live
from tests.support.cluster import PROJECT, Cluster
from tests.support.waiting import wait_until
from workflows.compile import compile_workflow
from workflows.engine import launch
from workflows.model.parser import parse_workflow

PAIR = "id: two\nsteps:\n  a: {uses: ledger.nap, with: {node: a}}\n  b: {needs: a, uses: ledger.nap, with: {node: b}}"
CURL = {"User-Agent": "curl/8.5.0", "Accept": "*/*"}


INSPECT = """
import sys
from celery.bin.celery import celery

for line in sys.argv[1:]:
    print("$", line, flush=True)
    celery.main(["-A", "celery_app", *line.split()], prog_name="celery", standalone_mode=False)
"""
"""The commands as `celery` takes them, one after the other in one process, whose start is the longest of it."""


def _celery(engine: Cluster, *lines: str) -> dict[str, str]:
    """What each of these command lines prints."""
    ended = subprocess.run(
        [sys.executable, "-c", INSPECT, *lines],
        cwd=PROJECT, env=engine.env, capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    told = ended.stdout.split("$ ")[1:]
    return dict(text.split("\n", 1) for text in told)


def test_the_curl_lines_on_loopback_without_a_key(live: Live) -> None:
    port = httpx.URL(live.api.url).port
    with httpx.Client(base_url=f"http://localhost:{port}", headers=CURL, timeout=30) as curl:
        answer = curl.post(
            "/api/cronjobs/pair/trigger",
            content=b'{"force_reprocess": false}',
            headers={"Content-Type": "application/json"},
        )
        assert answer.status_code == 202
        task_id = answer.json()["task_id"]
        assert answer.json() == {
            "job_run_id": task_id,
            "task_id": task_id,
            "status": "PENDING",
            "message": f"Job execution queued successfully. Task ID: {task_id}",
        }
        status = curl.get(f"/api/cronjobs/tasks/{task_id}/status")
        assert set(status.json()) == {
            "task_id", "status", "progress", "description", "current", "total", "job_run_id", "elapsed_time",
            "estimated_remaining",
        }  # fmt: skip
        progress = curl.get(f"/api/cronjobs/tasks/{task_id}/progress").json()
        assert set(progress) >= {*status.json(), "database", "steps", "celery_state"}
        assert curl.post(f"/api/cronjobs/tasks/{task_id}/cancel").status_code == 200
        assert curl.get("/api/cronjobs/tasks/health-check").json()["status"] == "healthy"


def test_the_pages_polling_flow_with_a_browsers_headers(live: Live) -> None:
    """`fetch` of a page of the same server: it sends a string as text, says where it comes from, and names no type."""
    same_origin = {"Origin": live.api.url, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}
    with httpx.Client(base_url=live.api.url, headers={"User-Agent": "Mozilla/5.0", "Accept": "*/*"}) as page:
        response = page.post(
            "/api/cronjobs/pair/trigger",
            content=b'{"force_reprocess":false}',
            headers={"Content-Type": "text/plain;charset=UTF-8", **same_origin},
        )
        task_id = response.json()["task_id"]
        seen: list[dict[str, Any]] = []

        def poll_status() -> bool:
            data = page.get(f"/api/cronjobs/tasks/{task_id}/status", headers={"Sec-Fetch-Site": "same-origin"}).json()
            seen.append(data)
            return data["status"] in ("SUCCESS", "FAILURE")

        wait_until(poll_status, 30)
    assert [data["progress"] for data in seen] == sorted(data["progress"] for data in seen)
    assert all(isinstance(data["progress"], int) and data["description"] for data in seen)
    assert seen[-1]["status"] == "SUCCESS"


def test_the_debugging_commands(live: Live) -> None:
    # Asked of everybody, `celery` waits for the whole timeout; asked of one by name, until that one has answered.
    everybody = "inspect --timeout 5 active"
    node = f"w0@{socket.gethostname()}"
    told = ("scheduled", "reserved", "stats", "registered", "active_queues")
    found = _celery(live.cluster, everybody, *(f"inspect --timeout 20 -d {node} {name}" for name in told))
    answers = {line.split()[-1]: text for line, text in found.items()}
    for answer in answers.values():
        assert "1 node online." in answer
    assert "'processes'" in answers["stats"] or '"processes"' in answers["stats"]
    for task in ("execute_research_job", "process_papers", "health_check", "cleanup_old_tasks"):
        assert f"* {task}\n" in answers["registered"]
    for queue in ("research", "processing"):
        assert queue in answers["active_queues"]


def test_the_tasks_can_be_called(live: Live) -> None:
    engine, app = live.cluster, live.cluster.runtime.app
    accepted = launch.submit(engine.runtime, compile_workflow(parse_workflow(PAIR)), PAIR, {}, publish=False)
    app.send_task("execute_research_job", [accepted.run_pk])
    assert engine.wait(accepted).run.status == "SUCCESS"
    assert app.send_task("health_check", ignore_result=False).get(timeout=30)["status"] == "healthy"
    assert set(app.send_task("cleanup_old_tasks", [3650], ignore_result=False).get(timeout=30)) >= {"runs"}
    task_id = str(uuid.uuid4())
    found = app.send_task("process_papers", [["no-such-paper"]], task_id=task_id, ignore_result=False).get(timeout=30)
    run = live.api.http.get(f"/api/v1/runs/{found['run_id']}").json()
    assert (run["workflow"], run["params"]["papers"]) == ("process-papers", ["no-such-paper"])
    again = app.send_task("process_papers", [["no-such-paper"]], task_id=task_id, ignore_result=False).get(timeout=30)
    assert again["run_id"] == found["run_id"]
