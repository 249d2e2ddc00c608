"""A broker that may throw messages away is refused, and one that is too impatient for a step is told of."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.support.cluster import PROJECT, Cluster, cluster
from tests.support.waiting import wait_until
from workflows.engine import health
from workflows.engine.app import make_app
from workflows.engine.broker import Broker
from workflows.engine.broker_safety import Memory, examine_memory
from workflows.model.errors import BrokerUnsafeError
from workflows.settings import Config

LONG = "id: long\nsteps:\n  slow: {uses: ledger.nap, timeout: 2h, with: {node: slow}}\n"


@pytest.fixture
def evicting(broker_client: redis.Redis) -> Iterator[redis.Redis]:
    """A server with a limit on its memory that drops what was used least when it is reached."""
    broker_client.config_set("maxmemory", 100_000_000)
    broker_client.config_set("maxmemory-policy", "allkeys-lru")
    yield broker_client
    broker_client.config_set("maxmemory-policy", "noeviction")
    broker_client.config_set("maxmemory", 0)


@pytest.fixture
def on_sqlite(tmp_path: Path, sqlite_url: str, broker_url: str) -> Iterator[Cluster]:
    with cluster(tmp_path, sqlite_url, broker_url) as made:
        yield made


def checked(url: str) -> str:
    broker = Broker(make_app(Config({"CELERY_BROKER_URL": url})))
    try:
        return broker.check()
    finally:
        broker.close()


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-random", "volatile-lru", "volatile-ttl"])
@pytest.mark.parametrize("limit", [1_000_000, None])
def test_every_policy_that_drops_keys_is_refused_when_there_may_be_a_limit(policy: str, limit: int | None) -> None:
    with pytest.raises(BrokerUnsafeError, match=policy) as caught:
        examine_memory(Memory(policy, limit))
    assert "CONFIG SET maxmemory-policy noeviction" in caught.value.hint


def test_a_policy_that_cannot_strike_yet_and_one_that_is_not_told_are_warned_about() -> None:
    assert "as soon as a maxmemory is set" in examine_memory(Memory("allkeys-lru", 0))
    assert "does not say" in examine_memory(Memory("", None))
    assert examine_memory(Memory("noeviction", 1_000_000)) == ""


def test_a_server_that_keeps_all_is_fine_and_one_that_evicts_is_not(broker_url: str, evicting: redis.Redis) -> None:
    with pytest.raises(BrokerUnsafeError, match="allkeys-lru"):
        checked(broker_url)
    evicting.config_set("maxmemory-policy", "noeviction")
    assert checked(broker_url) == ""


@pytest.mark.parametrize(("forbidden", "says"), [("-config", "allkeys-lru"), ("-info", "does not say")])
def test_a_server_that_forbids_questions_is_judged_by_what_it_still_tells(
    forbidden: str, says: str, broker_url: str, evicting: redis.Redis
) -> None:
    evicting.acl_setuser("limited", enabled=True, passwords=["+x"], commands=["+@all", forbidden], keys=["*"])
    url = broker_url.replace("redis://", "redis://limited:x@")
    try:
        if forbidden == "-config":
            with pytest.raises(BrokerUnsafeError, match=says):
                checked(url)
        else:
            assert says in checked(url)
    finally:
        evicting.acl_deluser("limited")


def test_no_worker_starts_on_a_broker_that_evicts(on_sqlite: Cluster, evicting: redis.Redis) -> None:
    with pytest.raises(AssertionError, match="must not start: the broker throws messages away"):
        on_sqlite.start_worker(slots=1, fresh=True)
    assert on_sqlite.workers[0].process.wait(5) == 1
    assert not on_sqlite.live_workers()

    def call(*line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *line], env=on_sqlite.env, cwd=PROJECT, capture_output=True, text=True, check=False
        )

    for line in (("-m", "celeriac", "worker"), ("manage_celery.py", "start")):
        told = call(*line)
        assert told.returncode == 2
        assert "maxmemory-policy is allkeys-lru" in told.stderr
        assert "noeviction" in told.stderr

    found = health.examine(on_sqlite.runtime)
    assert not found.broker.ok
    assert "noeviction" in found.broker.detail
    checks = {check["name"]: check for check in json.loads(call("-m", "celeriac", "doctor", "--json").stdout)["checks"]}
    assert checks["broker"]["verdict"] == "fail"
    assert "noeviction" in checks["broker"]["hint"]


def test_a_visibility_timeout_shorter_than_a_step_is_told_by_plan_doctor_and_worker(
    tmp_path: Path, on_sqlite: Cluster
) -> None:
    (tmp_path / "long.yaml").write_text(LONG)
    env = {**os.environ, **on_sqlite.env, "CELERIAC_VISIBILITY_TIMEOUT": "3600", "CELERIAC_DEFINITIONS": str(tmp_path)}

    def told(verb: str, *arguments: str) -> str:
        line = [sys.executable, "-m", "celeriac", verb, *arguments]
        return subprocess.run(line, env=env, cwd=tmp_path, capture_output=True, text=True, check=False).stdout

    assert "note: the broker hands the message of a step out again after 3600 s" in told("plan", "long.yaml")
    checks = {check["name"]: check for check in json.loads(told("doctor", "--json"))["checks"]}
    assert checks["timeouts"]["verdict"] == "warn"
    assert "'slow' of long (7200 s)" in checks["timeouts"]["message"]
    assert "CELERIAC_VISIBILITY_TIMEOUT" in checks["timeouts"]["hint"]
    worker = on_sqlite.start_worker(slots=1, CELERIAC_VISIBILITY_TIMEOUT="3600")
    assert on_sqlite.run(LONG).run.status == "SUCCESS"
    wait_until(lambda: "hands the message of a step out again after 3600 s" in worker.log.read_text())
