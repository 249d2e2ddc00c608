"""`celeriac run --inline`: everything in this process, and the same rows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.servers import PROJECT, free_port

DEFINITION = """
id: inline
params: {count: {type: integer, default: 3}, fail: {type: boolean, default: false}}
steps:
  list: {uses: ledger.numbers, with: {num: "${{ params.count }}"}}
  double:
    uses: ledger.double
    for_each: {items: "${{ steps.list.output.values }}", key: "n${{ item }}"}
    with: {num: "${{ item }}"}
  sum: {uses: ledger.sum, with: {values: "${{ steps.double.outputs.num }}"}}
  flaky: {needs: sum, uses: ledger.fail, with: {node: flaky, times: 1}, retry: {max_attempts: 2, delay: 100ms}}
  last: {needs: flaky, uses: ledger.fail, with: {node: last, times: 9, permanent: true}, when: "${{ params.fail }}"}
outputs: {sum: "${{ steps.sum.output.num }}"}
"""


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "inline.yaml").write_text(DEFINITION)
    (tmp_path / "ledger").touch()
    return {
        **os.environ,
        "CELERIAC_HOME": str(tmp_path / "home"),
        "CELERIAC_STEP_MODULES": "tests.support.ledger_steps",
        "PYTHONPATH": str(PROJECT),
        "LEDGER": str(tmp_path / "ledger"),
        # Nobody listens there: a run that sent a message would say so.
        "CELERY_BROKER_URL": f"redis://127.0.0.1:{free_port()}/0",
    }


def _run(env: dict[str, str], folder: Path, *options: str) -> tuple[int, dict[str, Any], str]:
    line = [sys.executable, "-m", "celeriac", "run", "inline.yaml", "--inline", "--json", *options]
    ended = subprocess.run(line, cwd=folder, env=env, capture_output=True, text=True, timeout=90, check=False)
    return ended.returncode, json.loads(ended.stdout), ended.stderr


def test_a_run_is_carried_out_without_broker_and_worker(env: dict[str, str], tmp_path: Path, database_url: str) -> None:
    env["DATABASE_URL"] = database_url
    code, run, told = _run(env, tmp_path, "--param", "count=4")
    assert (code, run["status"], run["outputs"]) == (0, "SUCCESS", {"sum": 12}), (run, told)
    assert run["steps"]["double"]["items"] == {"total": 4, "success": 4, "failure": 0}
    assert run["steps"]["flaky"]["attempts"] == 2
    assert run["steps"]["last"]["status"] == "SKIPPED"
    assert "broker" not in told
    assert {line.split()[2] for line in (tmp_path / "ledger").read_text().splitlines()} != set()


def test_a_run_that_fails_says_so(env: dict[str, str], tmp_path: Path) -> None:
    code, run, _ = _run(env, tmp_path, "--param", "fail=true")
    assert (code, run["status"]) == (1, "FAILURE")
    assert run["error"] == "failed: last"
