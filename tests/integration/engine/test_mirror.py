"""`AsyncResult(task_id)` and events of the task mirror the run."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from celery.events.state import State
from celery.exceptions import TaskRevokedError
from celery.result import AsyncResult

from tests.support.cluster import Cluster
from tests.support.hands import Given, Hands
from tests.support.waiting import wait_until
from workflows.db.units import Unit
from workflows.engine import control
from workflows.engine.mirror import OUTPUTS_BYTES, Mirror, RunFailedError
from workflows.steps import StepContext

PAIR = """
id: pair
params: {size: {type: integer, default: 1}}
steps:
  a: {uses: told, with: {value: "${{ params.size }}"}}
  b: {uses: told, needs: a}
outputs: {a: "${{ steps.a.output }}"}
"""


@pytest.fixture
def hands(hands: Hands) -> Hands:
    """An engine by hand with a step that gives a text of the size it is given."""
    hands.define(told=lambda inp, ctx: "x" * (inp.value or 0))
    return hands


def result(hands: Hands, run: Any) -> AsyncResult[Any]:
    """The run as Celery knows it."""
    return hands.runtime.app.AsyncResult(run.run_id)


def test_the_task_is_in_progress_until_the_run_ends_and_then_has_its_outputs(hands: Hands) -> None:
    mirror = Mirror(hands.runtime, lambda: True)
    accepted = hands.start(PAIR)
    assert result(hands, accepted).state == "PENDING"
    mirror.tick()
    assert result(hands, accepted).state == "PROGRESS"
    hands.execute(Unit(accepted.run_pk, 0))
    mirror.tick()
    meta = result(hands, accepted).info
    assert (meta["progress"], meta["current"], meta["total"], meta["job_run_id"]) == (50, 1, 2, accepted.run_id)
    hands.drain()
    mirror.tick()
    assert result(hands, accepted).state == "SUCCESS"
    assert result(hands, accepted).get(timeout=5)["outputs"] == {"a": "x"}


def test_failure_and_cancel_are_those_of_the_run_and_a_retry_is_progress_again(hands: Hands) -> None:
    def told(inp: Given, ctx: StepContext) -> Any:
        raise ValueError("no")

    hands.define(told=told)
    mirror = Mirror(hands.runtime, lambda: True)
    failed, cancelled = hands.start(PAIR), hands.engine.submit(PAIR)
    hands.drain()
    control.cancel(hands.runtime, cancelled.run_id)
    mirror.tick()
    assert (result(hands, failed).state, result(hands, cancelled).state) == ("FAILURE", "REVOKED")
    with pytest.raises(RunFailedError, match="failed: a"):
        result(hands, failed).get(timeout=5)
    with pytest.raises(TaskRevokedError):
        result(hands, cancelled).get(timeout=5)
    control.retry(hands.runtime, failed.run_id)
    mirror.tick()
    assert result(hands, failed).state == "PROGRESS"
    control.cancel(hands.runtime, failed.run_id)
    mirror.tick()
    assert result(hands, failed).state == "REVOKED"


def test_a_run_that_its_full_group_skips_is_revoked_to_celery(hands: Hands) -> None:
    text = PAIR + "concurrency: {group: one, limit: 1, behavior: skip}\n"
    hands.start(text)
    skipped = hands.engine.submit(text)
    Mirror(hands.runtime, lambda: True).tick()
    assert hands.engine.view(skipped).status == "SKIPPED"
    assert result(hands, skipped).state == "REVOKED"


def test_a_paused_run_is_in_progress_to_celery_and_says_so(hands: Hands) -> None:
    accepted = hands.start(PAIR)
    control.pause(hands.runtime, accepted.run_id)
    Mirror(hands.runtime, lambda: True).tick()
    assert (result(hands, accepted).state, result(hands, accepted).info["status"]) == ("PROGRESS", "PAUSED")


def test_large_outputs_are_left_out(hands: Hands) -> None:
    accepted = hands.start(PAIR, size=OUTPUTS_BYTES)
    hands.drain()
    Mirror(hands.runtime, lambda: True).tick()
    assert result(hands, accepted).get(timeout=5)["outputs"] is None


def test_an_end_is_told_once_and_also_when_the_backend_was_away(hands: Hands, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    mirror = Mirror(hands.runtime, lambda: True)
    accepted = hands.start(PAIR)
    hands.drain()
    write = mirror._backend.store_result

    def away(*_: Any, **__: Any) -> None:
        raise ConnectionError("away")

    monkeypatch.setattr(mirror._backend, "store_result", away)
    with pytest.raises(ConnectionError):
        mirror.tick()

    def note(run_id: str, value: Any, state: str) -> None:
        told.append(state)
        write(run_id, value, state)

    monkeypatch.setattr(mirror._backend, "store_result", note)
    for _ in range(2):
        mirror.tick()
    assert told == ["SUCCESS"]
    assert result(hands, accepted).state == "SUCCESS"


def test_progress_is_told_only_when_it_has_changed_and_only_by_who_leads(
    hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    leads = [True]
    mirror = Mirror(hands.runtime, lambda: leads[0])
    monkeypatch.setattr(mirror._backend, "store_result", lambda run_id, value, state: told.append(state))
    hands.start(PAIR)
    for _ in range(3):
        mirror.tick()
    assert told == ["PROGRESS"]
    leads[0] = False
    hands.drain()
    mirror.tick()
    assert told == ["PROGRESS"]


def test_a_worker_mirrors_and_tells_flower_of_the_end_alone(calm: Cluster) -> None:
    flower = State()
    seen: list[tuple[str, str]] = []
    app = calm.runtime.app
    wait_until(lambda: app.control.enable_events(reply=True, timeout=2.0), message="the worker's answer")
    with app.connection_for_read() as connection:

        def take(event: dict[str, Any]) -> None:
            flower.event(event)
            seen.append((event.get("uuid", ""), event["type"]))

        receiver = app.events.Receiver(connection, handlers={"*": take})
        with receiver.consumer_context() as (own, _channel, _consumers):

            def are_seen(*events: tuple[str, str]) -> bool:
                with suppress(TimeoutError):
                    own.drain_events(timeout=0.2)
                return set(events) <= set(seen)

            def hears() -> bool:
                receiver.wakeup_workers()
                return are_seen(("", "worker-heartbeat"))

            # The transport subscribes when it is first read from, and what was told before that is lost.
            wait_until(hears, message="an event of the worker")
            accepted = calm.submit("id: one\nsteps:\n  a: {uses: ledger.nap, with: {node: a}}\n")
            run_id = accepted.run_id
            # They come over two connections, so in any order; Flower puts them in theirs.
            wait_until(
                lambda: are_seen((run_id, "task-started"), (run_id, "task-succeeded")), message="the run's events"
            )
    app.control.disable_events()
    assert calm.wait(accepted).run.status == "SUCCESS"
    assert seen.count((run_id, "task-succeeded")) == 1
    task = flower.tasks[run_id]
    assert task.state == "SUCCESS"
    assert task.started < task.succeeded
    assert app.AsyncResult(run_id).state == "SUCCESS"
