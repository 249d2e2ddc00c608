"""The command line as a person uses it: real processes, a home of one's own, steps of one's own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support import wait_until
from tests.support.servers import PROJECT

STEPS = """
import time
from pathlib import Path

from pydantic import BaseModel

from workflows.steps import StepContext, step


class Nap(BaseModel):
    node: str
    ms: int = 0


class Gate(BaseModel):
    file: str


@step("own.nap")
def nap(inp: Nap, ctx: StepContext) -> Nap:
    ctx.log.info("%s naps", inp.node)
    time.sleep(inp.ms / 1000)
    return inp


@step("own.wait")
def wait(inp: Gate, ctx: StepContext) -> Gate:
    while not Path(inp.file).exists():
        ctx.check_cancelled()
        time.sleep(0.02)
    return inp


@step("own.need")
def need(inp: Gate, ctx: StepContext) -> Gate:
    if not Path(inp.file).exists():
        raise ValueError(f"{inp.file} is missing")
    return inp
"""

TWO = """
id: two
params: {name: {type: string, default: a}}
steps:
  first: {uses: own.nap, with: {node: "${{ params.name }}"}}
  second: {uses: own.nap, needs: first, with: {node: "${{ steps.first.output.node }}"}}
outputs: {last: "${{ steps.second.output.node }}"}
"""

WAITING = """
id: waiting
params: {file: {type: string}}
steps:
  wait: {uses: own.wait, with: {file: "${{ params.file }}"}}
  after: {uses: own.nap, needs: wait, with: {node: after}}
"""

NEEDING = """
id: needing
params: {file: {type: string}}
steps:
  before: {uses: own.nap, with: {node: before}}
  need: {uses: own.need, needs: before, with: {file: "${{ params.file }}"}}
  after: {uses: own.nap, needs: need, with: {node: after}}
"""


@dataclass(frozen=True)
class Shell:
    """A working folder with definitions and a module of steps, and `celeriac` in it."""

    folder: Path
    env: dict[str, str]

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "celeriac", *arguments],
            cwd=self.folder,
            env=self.env,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def run(self, *arguments: str, expect: int = 0) -> str:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=90)
        assert process.returncode == expect, f"{arguments} ended with {process.returncode}\n{out}\n{err}"
        assert "Traceback" not in err
        return out

    def json(self, *arguments: str, expect: int = 0) -> Any:
        return json.loads(self.run(*arguments, "--json", expect=expect))

    def wait_for_step(self, workflow: str, step: str) -> str:
        """Wait until a step of a run of this workflow is in progress; the run's id."""

        def look() -> str | None:
            for run in self.json("ps", "--workflow", workflow, "--status", "PROGRESS"):
                if self.json("show", run["run_id"])["steps"][step]["status"] == "PROGRESS":
                    return str(run["run_id"])
            return None

        return str(wait_until(look, 60, f"step {step} to be in progress"))


def make_shell(folder: Path, **settings: str) -> Shell:
    (folder / "own_steps.py").write_text(STEPS)
    for name, text in (("two", TWO), ("waiting", WAITING), ("needing", NEEDING)):
        (folder / f"{name}.yaml").write_text(text)
    env = {
        **os.environ,
        "CELERIAC_HOME": str(folder / "home"),
        "CELERIAC_STEP_MODULES": "own_steps",
        "PYTHONPATH": f"{PROJECT}{os.pathsep}{folder}",
        "CELERIAC_STOP_GRACE_SECONDS": "1",
        **settings,
    }
    return Shell(folder, env)


def processes_of(folder: Path) -> list[psutil.Process]:
    """Every process, but this one, that works in the home of a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and str(folder / "home") in (
                process.environ().get("CELERIAC_HOME", ""),
                *process.cmdline(),
            ):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A shell in whose home `celeriac worker` holds the stack up, so that each run is quick."""
    shell = make_shell(tmp_path_factory.mktemp("shell"))
    worker = shell.start("worker", "--concurrency", "2", "--json")
    try:
        assert worker.stdout is not None
        up = json.loads(worker.stdout.readline())
        assert up["embedded"]
        assert up["slots"] == 2
        yield shell
    finally:
        worker.send_signal(signal.SIGINT)
        assert worker.wait(40) == 0
    assert processes_of(shell.folder) == []


def test_run_brings_its_stack_up_and_leaves_nothing_running(tmp_path: Path) -> None:
    shell = make_shell(tmp_path)
    report = shell.json("run", "two.yaml", "--param", "name=x", "--concurrency", "1")
    assert report["status"] == "SUCCESS"
    assert report["progress"] == 100
    assert report["outputs"] == {"last": "x"}
    assert report["dispatches"]["reconciler"] == 0
    assert processes_of(tmp_path) == []


def test_a_run_answers_the_agreed_fields(shell: Shell) -> None:
    report = shell.json("run", "two.yaml")
    assert set(report) >= {
        "run_id", "workflow", "status", "progress", "started_at", "finished_at", "seconds", "steps", "dispatches",
        "outputs",
    }  # fmt: skip
    assert set(report["dispatches"]) == {"canvas", "sql", "reconciler"}
    step = report["steps"]["second"]
    assert (step["status"], step["attempts"], step["items"], step["error"]) == ("SUCCESS", 1, None, None)
    assert shell.json("show", report["run_id"])["outputs"] == report["outputs"]
    lines = [json.loads(line) for line in shell.run("logs", "--step", "second", "--json").splitlines()]
    assert [(line["step_id"], line["message"]) for line in lines] == [("second", "a naps")]


def test_a_failed_run_exits_1_and_goes_on_with_retry(shell: Shell) -> None:
    file = shell.folder / "needed"
    failed = shell.json("run", "needing.yaml", "-p", f"file={file}", expect=1)
    assert failed["status"] == "FAILURE"
    assert failed["steps"]["need"]["error"] == f"ValueError: {file} is missing"
    assert "✗ FAILURE  needing" in shell.run("watch", failed["run_id"][:8], expect=1)
    (told,) = shell.run("logs", failed["run_id"], "--step", "need", "--json").splitlines()
    assert json.loads(told)["level"] == "ERROR"
    assert "own_steps.py" in json.loads(told)["message"].splitlines()[1]
    assert json.loads(told)["message"].endswith(f"ValueError: {file} is missing")

    file.touch()
    mended = shell.json("retry", failed["run_id"])
    assert mended["run_id"] == failed["run_id"]
    assert [step["status"] for step in mended["steps"].values()] == ["SUCCESS"] * 3
    assert mended["steps"]["before"]["attempts"] == 1
    shell.run("retry", failed["run_id"], expect=2)


def test_a_run_that_is_cancelled_from_elsewhere_exits_1(shell: Shell) -> None:
    waiting = shell.start("run", "waiting.yaml", "-p", "file=never", "--json")
    run_id = shell.wait_for_step("waiting", "wait")
    answer = shell.json("cancel", run_id)
    assert answer["stopping"] == 1
    assert answer["never_started"] == 1
    out, err = waiting.communicate(timeout=60)
    assert waiting.returncode == 1, err
    assert json.loads(out)["status"] == "REVOKED"


def test_ctrl_c_cancels_nothing_and_the_second_one_leaves(shell: Shell) -> None:
    file = shell.folder / "opened"
    waiting = shell.start("run", "waiting.yaml", "-p", f"file={file}")
    run_id = shell.wait_for_step("waiting", "wait")
    assert waiting.stderr is not None
    waiting.send_signal(signal.SIGINT)
    told = ""
    while "Ctrl-C again" not in told:
        told += waiting.stderr.readline()
    assert f"celeriac watch {run_id[:8]}" in told
    assert f"celeriac cancel {run_id[:8]}" in told
    assert shell.json("show", run_id)["status"] == "PROGRESS"

    waiting.send_signal(signal.SIGINT)
    _, err = waiting.communicate(timeout=60)
    assert waiting.returncode == 130
    assert "nothing was cancelled" in err
    watcher = shell.start("watch", run_id, "--json")
    file.touch()
    out, err = watcher.communicate(timeout=60)
    assert watcher.returncode == 0, err
    assert json.loads(out)["status"] == "SUCCESS"


def test_with_a_broker_of_ones_own_a_run_waits_for_a_worker_and_says_how_to_start_one(
    tmp_path: Path, broker_url: str
) -> None:
    shell = make_shell(tmp_path, CELERY_BROKER_URL=broker_url)
    waiting = shell.start("run", "two.yaml", "--json")
    assert waiting.stderr is not None
    told = waiting.stderr.readline() + waiting.stderr.readline()
    assert "no worker is running" in told
    assert "celeriac worker" in told
    recorded = shell.json("run", "two.yaml", "--no-wait")

    worker = shell.start("worker", "--concurrency", "1", "--loglevel", "ERROR")
    try:
        out, err = waiting.communicate(timeout=60)
        assert waiting.returncode == 0, err
        assert json.loads(out)["status"] == "SUCCESS"
        assert shell.json("watch", recorded["run_id"])["status"] == "SUCCESS"
        checks = {check["name"]: check["message"] for check in shell.json("doctor")["checks"]}
        assert checks["workers"].startswith("1 with 1 slots; queues processing, research")
    finally:
        worker.terminate()
        worker.communicate(timeout=40)
    assert processes_of(tmp_path) == []


def test_the_demo_makes_the_shipped_papers_searchable_and_does_nothing_twice(shell: Shell) -> None:
    first = shell.json("demo")
    assert first["status"] == "SUCCESS"
    assert first["unchanged"] is False
    outputs = first["outputs"]
    assert outputs["fetched"] == outputs["new"] >= 100
    assert outputs["vectors"] == outputs["embedded"] == outputs["chunks"]
    assert "infect" in first["search"]["hits"][0]["snippet"]

    assert "Nothing had changed since the last run" in shell.run("demo")
    (hit, *_) = shell.json("search", "checks that fail now and then for no reason", "--limit", "3")
    assert set(hit) == {
        "id",
        "paper_id",
        "title",
        "score",
        "snippet",
        "highlights",
        "section",
        "page",
        "source",
        "run_id",
    }
