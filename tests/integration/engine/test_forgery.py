"""What somebody can do who may write to the broker but is no process of the installation."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery

from tests.support.cluster import Cluster, cluster
from tests.support.waiting import wait_until
from workflows.engine.app import make_app
from workflows.engine.canvas import STEP_TASK, execute_signature, publish_steps, step_signature
from workflows.engine.signing import HEADER, Signer
from workflows.model.errors import BrokerUnavailableError
from workflows.settings import Config, SettingsError

PAIR = """
id: pair
steps:
  a: {uses: ledger.nap, with: {node: a}}
  b: {needs: a, uses: ledger.nap, with: {node: b}}
"""


@pytest.fixture
def working(tmp_path: Path, sqlite_url: str, broker_url: str) -> Iterator[Cluster]:
    with cluster(tmp_path, sqlite_url, broker_url) as made:
        made.start_worker(slots=1)
        yield made


def _log(engine: Cluster) -> str:
    return engine.workers[0].log.read_text()


def test_no_forged_message_runs_and_genuine_ones_go_on(working: Cluster, broker_client: redis.Redis) -> None:
    done = working.submit(PAIR)
    working.wait(done)
    waiting = working.runtime.database.retrying(lambda tx: _waiting_run(working, tx))
    forger = Celery(broker=working.env["CELERY_BROKER_URL"], set_as_current=False)
    forger.conf.update(task_default_exchange="", task_create_missing_queues=True)
    for name, args, queue in (
        ("cleanup_old_tasks", [0.000001], "processing"),
        (STEP_TASK, [waiting, 0], "processing"),
        ("execute_research_job", [waiting], "research"),
        ("health_check", [], "processing"),
        ("celery.map", [{"task": "cleanup_old_tasks"}, [0.000001]], "processing"),
    ):
        forger.send_task(name, args=args, queue=queue, routing_key=queue)
    forger.close()
    wait_until(lambda: _log(working).count("is thrown away") >= 5, 20, "the forged messages to be refused")
    assert working.view(done).is_ended
    assert working.rows("SELECT status FROM job_runs WHERE id = :id", id=waiting) == [("PENDING",)]
    again = working.run(PAIR)
    assert [step.status for step in again.steps] == ["SUCCESS", "SUCCESS"]
    assert again.dispatches["reconciler"] == 0


def _waiting_run(engine: Cluster, tx: Any) -> int:
    """The key of a run that is not published: the reconciler leaves it alone for a while."""
    from workflows.compile import compile_workflow
    from workflows.db import runs
    from workflows.model.parser import parse_workflow

    plan = compile_workflow(parse_workflow(PAIR))
    version = runs.register_version(tx, plan, PAIR)
    found = runs.add_run(
        tx,
        run_id="00000000-0000-4000-8000-000000000000",
        plan=plan,
        version_id=version,
        params={},
        user_params={},
        manual=True,
        idempotency_key=None,
        redispatch_seconds=600.0,
    )
    assert found is not None
    return found


@pytest.mark.parametrize("part", ["body", "name", "signature", "content type"])
def test_a_genuine_message_that_was_changed_is_refused(working: Cluster, broker_client: redis.Redis, part: str) -> None:
    done = working.submit(PAIR)
    working.wait(done)
    before = working.ledger()
    working.workers[0].stop()
    run_pk = working.view(done).run_pk
    publish_steps(working.runtime.app, [step_signature(working.runtime.app, run_pk, 0, queue="processing")])
    pushed = broker_client.rpop("processing")
    assert isinstance(pushed, bytes)
    message = json.loads(pushed)
    if part == "body":
        body = json.loads(base64.b64decode(message["body"]))
        body[0][1] = 1
        message["body"] = base64.b64encode(json.dumps(body).encode()).decode()
    elif part == "name":
        message["headers"]["task"] = "cleanup_old_tasks"
    elif part == "signature":
        message["headers"][HEADER] = "A" * 22
    else:
        message["content-type"] = "application/x-python-serialize"
    broker_client.lpush("processing", json.dumps(message))
    working.start_worker(slots=1)
    log = working.workers[1].log
    told = "Refusing to deserialize" if part == "content type" else "is thrown away"
    wait_until(lambda: told in log.read_text() or "ContentDisallowed" in log.read_text(), 20, "the refusal")
    assert working.ledger() == before
    assert working.run(PAIR).run.status == "SUCCESS"


def test_a_recorded_message_that_is_sent_again_does_nothing(working: Cluster, broker_client: redis.Redis) -> None:
    done = working.submit(PAIR)
    working.wait(done)
    before = working.ledger()
    app, run = working.runtime.app, working.view(done)
    for _ in range(3):
        publish_steps(app, [execute_signature(app, run.run_pk, run.run_id)])
        publish_steps(app, [step_signature(app, run.run_pk, 0, queue="processing")])
    assert working.run(PAIR).run.status == "SUCCESS"
    assert len(working.ledger()) == 2 * len(before)
    assert working.view(done).status == "SUCCESS"


@pytest.mark.parametrize("name", ["CELERY_ACCEPT_CONTENT", "CELERY_TASK_SERIALIZER", "CELERY_RESULT_SERIALIZER"])
def test_nothing_but_json_may_be_set(name: str) -> None:
    assert make_app(Config({name: "json"})).conf.accept_content == ["json"]
    with pytest.raises(SettingsError, match="JSON only"):
        make_app(Config({name: "json,pickle"}))


def test_without_the_key_nothing_is_sent(broker_url: str, broker_client: redis.Redis) -> None:
    from workflows.model.errors import DatabaseUnavailableError

    def away() -> bytes:
        raise DatabaseUnavailableError("away")

    app = make_app(Config({"CELERY_BROKER_URL": broker_url}))
    app.signer = Signer(away)
    with pytest.raises(BrokerUnavailableError, match="signed"):
        publish_steps(app, [step_signature(app, 1, 0, queue="processing")])
    assert broker_client.llen("processing") == 0
