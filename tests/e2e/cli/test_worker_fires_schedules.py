"""`celeriac worker` without a broker of one's own: it fires the schedules of its home too."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.support import wait_until
from tests.support.servers import PROJECT

MINUTELY = """
id: minutely
triggers: [{schedule: {cron: "* * * * *"}}]
steps:
  a: {uses: ledger.nap, with: {node: a}}
"""


def test_a_worker_of_the_embedded_stack_fires_what_is_due(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (tmp_path / "definitions").mkdir()
    (tmp_path / "definitions" / "minutely.yaml").write_text(MINUTELY)
    ledger = tmp_path / "ledger"
    env = {
        **os.environ,
        "CELERIAC_HOME": str(home),
        "CELERIAC_STEP_MODULES": "tests.support.ledger_steps",
        "PYTHONPATH": str(PROJECT),
        "LEDGER": str(ledger),
    }

    def rows(sql: str) -> list[Any]:
        if not (home / "celeriac.db").exists():
            return []
        with closing(sqlite3.connect(home / "celeriac.db", timeout=20, isolation_level=None)) as database:
            try:
                return database.execute(sql).fetchall()
            except sqlite3.OperationalError:
                return []  # its tables are just being made

    with (tmp_path / "log").open("wb") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "celeriac", "worker", "-c", "1"],
            env=env, cwd=tmp_path, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        wait_until(lambda: rows("SELECT name FROM schedules") or worker.poll() is not None, 60, "the sync")
        assert worker.poll() is None, (tmp_path / "log").read_text()
        rows("UPDATE schedules SET next_fire_at = next_fire_at - 600")
        wait_until(lambda: rows("SELECT status FROM job_runs")[:1] == [("SUCCESS",)], 60, "the run")
        assert rows("SELECT schedule, manual_trigger FROM job_runs")[0] == ("minutely", 0)
    finally:
        worker.send_signal(signal.SIGINT)
        assert worker.wait(40) == 0
