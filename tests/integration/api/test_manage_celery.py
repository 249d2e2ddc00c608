"""`manage_celery.py`, as the first system's document shows it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from tests.support.cluster import PROJECT
from tests.support.servers import free_port
from tests.support.waiting import wait_until


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "CELERIAC_HOME": str(tmp_path / "home"), "PYTHONPATH": str(PROJECT)}


def _line(*arguments: str) -> list[str]:
    return [sys.executable, str(PROJECT / "manage_celery.py"), *arguments]


def _ask(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(_line(*arguments), env=env, capture_output=True, text=True, timeout=60, check=False)


@contextmanager
def _running(env: dict[str, str], log: Path, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """The command in its own process; one Ctrl-C must end it and everything it has started."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=env, stdout=output, stderr=output, start_new_session=True)
    family: list[psutil.Process] = []
    try:
        yield process
        family = psutil.Process(process.pid).children(recursive=True)
        assert family
        process.send_signal(signal.SIGINT)
        process.wait(45)
        assert process.returncode == 0, log.read_text()[-3000:]
        assert [member for member in family if member.is_running() and member.status() != psutil.STATUS_ZOMBIE] == []
    finally:
        if process.poll() is None:
            for member in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
                member.kill()
            process.wait(10)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


def _workers(env: dict[str, str]) -> int:
    """How many workers `status` tells of; 0 while it has nothing to tell."""
    told = _ask(env, "status", "--json").stdout
    return len(json.loads(told)["workers"]) if told else 0


def test_workers_are_started_asked_and_stopped(env: dict[str, str], broker_url: str, tmp_path: Path) -> None:
    env["CELERY_BROKER_URL"] = broker_url
    assert _ask(env, "health").returncode == 1
    port = free_port()
    arguments = ("start", "--workers", "2", "--concurrency", "2", "--flower", "--flower-port", str(port))
    with _running(env, tmp_path / "log", *_line(*arguments)):
        wait_until(lambda: _workers(env) == 2, 90, "two workers", interval=0.5)
        health = _ask(env, "health")
        assert health.returncode == 0, health.stdout
        assert "2 workers with 4 slots" in health.stdout
        monitor = _ask(env, "monitor", "--count", "1").stdout
        assert monitor.count(" MB ") == 2
        assert "queues: research 0, processing 0" in monitor
        active = subprocess.run(
            [sys.executable, "-m", "celery", "-A", "celery_app", "inspect", "active"],
            env=env, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert "2 nodes online" in active.stdout, active.stdout + active.stderr
        wait_until(lambda: _answers(f"http://localhost:{port}/"), 30, "Flower", interval=0.3)


def test_dev_brings_up_all_of_it_and_one_ctrl_c_ends_all_of_it(env: dict[str, str], tmp_path: Path) -> None:
    ports = {name: free_port() for name in ("broker", "api", "flower")}
    env |= {"REDIS_PORT": str(ports["broker"]), "REDIS_PASSWORD": "p w#1"}
    arguments = ("dev", "--port", str(ports["api"]), "--flower-port", str(ports["flower"]), "--concurrency", "1")
    with (
        httpx.Client(base_url=f"http://localhost:{ports['api']}", timeout=30) as http,
        _running(env, tmp_path / "log", str(PROJECT / "start_dev.sh"), *arguments),
    ):

        def is_healthy() -> bool:
            try:
                return http.get("/api/cronjobs/tasks/health-check").status_code == 200
            except httpx.TransportError:
                return False

        wait_until(is_healthy, 90, "a healthy system")
        answer = http.post("/api/cronjobs/literature-review/trigger?wait=60", content='{"max_papers": 1}')
        assert answer.json()["status"] == "SUCCESS", answer.text
        wait_until(lambda: httpx.get(f"http://localhost:{ports['flower']}/").status_code == 200, 20, interval=0.3)
        second = _ask(env, *arguments)
        assert second.returncode == 2
        assert "is in use" in second.stderr


def test_workers_are_not_started_without_a_broker(env: dict[str, str]) -> None:
    env |= {"CELERY_BROKER_URL": f"redis://127.0.0.1:{free_port()}/0"}
    found = _ask(env, "start")
    assert found.returncode == 2
    assert "broker does not answer" in found.stderr
    assert "Traceback" not in found.stderr
