"""`celeriac serve`: the API alone, and everything with one command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.servers import PROJECT
from tests.support.serving import serving
from tests.support.waiting import wait_until

STEPS = """
import logging

from pydantic import BaseModel

from workflows.steps import StepContext, step


class Word(BaseModel):
    word: str


@step("own.say")
def say(inp: Word, ctx: StepContext) -> Word:
    logging.getLogger("some.library").warning("saying %s", inp.word)
    return inp
"""
DEFINITION = (
    "id: say\nsteps:\n  a: {uses: own.say, with: {word: hello}}\noutputs: {word: '${{ steps.a.output.word }}'}\n"
)


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "own_steps.py").write_text(STEPS)
    (tmp_path / "definitions").mkdir()
    (tmp_path / "definitions" / "say.yaml").write_text(DEFINITION)
    return {
        **os.environ,
        "CELERIAC_HOME": str(tmp_path / "home"),
        "CELERIAC_STEP_MODULES": "own_steps",
        "PYTHONPATH": f"{PROJECT}{os.pathsep}{tmp_path}",
    }


def json_lines(log: Path) -> list[dict[str, Any]]:
    """The log without what Celery prints before it logs, and without a line that is being written."""
    whole, _, _ = log.read_text().rpartition("\n")
    return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]


def accesses(log: Path, path: str) -> list[dict[str, Any]]:
    """What is logged of requests to a path. It is logged when the answer has ended, so a client may be quicker."""
    return [line for line in json_lines(log) if line.get("path") == path]


def answers(http: httpx.Client, path: str) -> bool:
    try:
        return http.get(path).status_code == 200
    except httpx.TransportError:
        return False


def test_one_command_serves_the_api_with_all_that_runs_need(env: dict[str, str], tmp_path: Path) -> None:
    env["CELERIAC_LOG_FORMAT"] = "json"
    with serving(env, tmp_path, "--with-worker", "--concurrency", "1") as (http, told, log):
        assert told == {"url": str(http.base_url), "embedded": True, "slots": 1}
        wait_until(lambda: answers(http, "/api/cronjobs/tasks/health-check"), 60, "a healthy system", interval=0.2)
        answer = http.post("/api/cronjobs/say/trigger?wait=30", headers={"X-Request-ID": "mine-1"})
        assert answer.json()["outputs"] == {"word": "hello"}, answer.text
        assert answer.headers["x-request-id"] == "mine-1"
        run_id = answer.json()["task_id"]
        (accepted,) = [line for line in json_lines(log) if line["event"].startswith("accepted run")]
        assert (accepted["run_id"], accepted["request_id"]) == (run_id, "mine-1")
        wait_until(lambda: accesses(log, "/api/cronjobs/say/trigger"), 10, "the line of the request")
        (access,) = accesses(log, "/api/cronjobs/say/trigger")
        assert (access["status"], access["request_id"], access["logger"]) == (200, "mine-1", "celeriac.access")
        (said,) = [line for line in json_lines(tmp_path / "home/logs/worker.log") if line["event"] == "saying hello"]
        assert (said["run_id"], said["step"], said["attempt"], said["level"]) == (run_id, "a", 1, "warning")


def test_the_api_alone_records_runs_for_workers_that_come_later(env: dict[str, str], tmp_path: Path) -> None:
    with serving(env, tmp_path) as (http, told, _):
        assert told["embedded"] is False
        wait_until(lambda: answers(http, "/readyz"), 30, "the API", interval=0.1)
        answer = http.post("/api/cronjobs/say/trigger")
        assert answer.status_code == 202
        assert len(answer.headers["x-request-id"]) == 32
        taken = subprocess.run(
            [sys.executable, "-m", "celeriac", "serve", "--port", str(http.base_url.port)],
            cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert taken.returncode == 2
        assert "is in use" in taken.stderr
        watched = subprocess.run(
            [sys.executable, "-m", "celeriac", "ps", "--json"],
            cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        assert [run["run_id"] for run in json.loads(watched.stdout)] == [answer.json()["task_id"]]
