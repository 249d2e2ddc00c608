"""Beat as it is deployed: processes of `celery beat` over one database, killed and cut off."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.support.cluster import PROJECT, Cluster, cluster
from tests.support.waiting import wait_until
from workflows.engine.upkeep_tasks import CLEANUP_TASK

MINUTELY = """
id: minutely
triggers: [{schedule: {cron: "* * * * *", catchup: all, overlap: allow}}]
steps:
  a: {uses: ledger.nap, with: {node: a}}
"""
LEASE_SECONDS = 3


class Beats:
    """Beats over one cluster, which has no workers."""

    def __init__(self, engine: Cluster, folder: Path) -> None:
        self.engine = engine
        self.processes: list[subprocess.Popen[bytes]] = []
        self.folder = folder
        definitions = folder / "definitions"
        definitions.mkdir()
        (definitions / "minutely.yaml").write_text(MINUTELY)
        self.env = {
            **engine.env,
            "CELERIAC_DEFINITIONS": str(definitions),
            "CELERIAC_SCHEDULER_LEASE_SECONDS": str(LEASE_SECONDS),
        }

    def start(self) -> subprocess.Popen[bytes]:
        """A Beat, which need not be up yet."""
        number = len(self.processes)
        command = [sys.executable, "-m", "celery", "-A", "celery_app", "beat", "--loglevel", "info"]
        with (self.folder / f"beat-{number}.log").open("wb") as log:
            process = subprocess.Popen(
                [*command, "--pidfile", str(self.folder / f"beat-{number}.pid")],
                env=self.env, cwd=PROJECT, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        self.processes.append(process)
        return process

    def log(self, process: subprocess.Popen[bytes]) -> str:
        return (self.folder / f"beat-{self.processes.index(process)}.log").read_text()

    def leader(self) -> subprocess.Popen[bytes] | None:
        """The Beat that holds the lead; its holder's name has its pid."""
        rows = self.engine.rows("SELECT holder FROM leader_leases WHERE name = 'scheduler' AND lease_until > {now}")
        return next((p for p in self.processes for row in rows if f"-{p.pid}-" in row[0]), None)

    def wait_for_leader(self, *others: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        """The Beat that leads, once it is none of `others`."""
        found = wait_until(lambda: (leader := self.leader()) and leader not in others and leader, 40, "a leader")
        assert isinstance(found, subprocess.Popen)
        return found

    def miss(self, minutes: int) -> None:
        """The schedule has not been looked at for so long."""
        with self.engine.runtime.database.transaction() as tx:
            from workflows.db.database import Statement

            back = "SELECT CAST({now} AS bigint) / 60 * 60 - 60 * :minutes"
            (at,) = tx.rows(Statement(back), {"minutes": minutes})[0]
            tx.run(Statement("UPDATE schedules SET next_fire_at = :at"), {"at": at})

    def fires(self) -> Counter[int]:
        """How often each time has fired, by its runs."""
        return Counter(row[0] for row in self.engine.rows("SELECT fire_time FROM job_runs"))

    def kill_all(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait(10)


@pytest.fixture
def beats(tmp_path: Path, postgres_url: str, broker_url: str) -> Iterator[Beats]:
    with cluster(tmp_path, postgres_url, broker_url) as engine:
        made = Beats(engine, tmp_path)
        try:
            yield made
        finally:
            made.kill_all()


def sent(broker: redis.Redis, task: str) -> int:
    """Messages of a task that wait in its queue."""
    found = broker.lrange("processing", 0, -1)
    assert isinstance(found, list)
    return sum(json.loads(message)["headers"]["task"] == task for message in found)


def test_two_beats_never_fire_twice_and_one_that_is_killed_hands_over(beats: Beats, broker_client: redis.Redis) -> None:
    with beats.engine.runtime.database.transaction() as tx:
        from workflows.db import schedules

        schedules.know_entry(tx, CLEANUP_TASK, schedules.now(tx) - 2 * 86_400)
    beats.start(), beats.start()
    first = beats.wait_for_leader()
    wait_until(lambda: beats.engine.rows("SELECT name FROM schedules"), 20, "the sync of the definitions")
    beats.miss(5)
    wait_until(lambda: len(beats.fires()) >= 6, 20, "what was missed")
    wait_until(lambda: all("beat: Starting" in beats.log(p) for p in beats.processes), 20, "both beats")

    wait_until(lambda: sent(broker_client, CLEANUP_TASK), 20, "the static entry")

    os.kill(first.pid, signal.SIGKILL)
    first.wait(10)
    second = beats.wait_for_leader(first)
    beats.miss(12)
    wait_until(lambda: len(beats.fires()) >= 13, 20, "what was missed since")
    assert set(beats.fires().values()) == {1}
    assert sent(broker_client, CLEANUP_TASK) == 1

    second.send_signal(signal.SIGTERM)
    assert second.wait(20) == 0
    assert beats.leader() is None, "a Beat that is stopped gives up the lead"


def test_a_beat_outlives_a_database_that_was_away(beats: Beats) -> None:
    process = beats.start()
    beats.wait_for_leader()
    wait_until(lambda: beats.engine.rows("SELECT name FROM schedules"), 20, "the sync of the definitions")
    database = beats.engine.runtime.database
    name = database.url.rsplit("/", 1)[1].partition("?")[0]
    import psycopg

    server = database.url.replace("postgresql+psycopg", "postgresql").rsplit("/", 1)[0] + "/postgres"
    with psycopg.connect(server, autocommit=True) as admin:
        beats.miss(4)
        database.close()
        admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        wait_until(lambda: "the scheduler waits" in beats.log(process), 30, "the outage")
        admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    wait_until(lambda: len(beats.fires()) >= 5, 30, "what was missed")
    assert process.poll() is None
    assert set(beats.fires().values()) == {1}
