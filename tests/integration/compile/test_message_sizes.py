"""What is measured without a broker is what a broker gets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis
from celery import Celery, _state
from celery.canvas import maybe_signature
from celery.contrib.testing.worker import start_worker
from kombu.utils.json import dumps, loads

from tests.support.waiting import wait_until
from workflows.compile import compile_workflow
from workflows.compile.plan import Plan
from workflows.engine.app import make_app
from workflows.engine.canvas import (
    EXECUTE_TASK,
    STEP_TASK,
    execute_signature,
    fragment_canvas,
    publish_fragment,
    publish_steps,
    send,
)
from workflows.engine.measure import measure
from workflows.engine.signing import HEADER, Signer
from workflows.model.errors import BrokerUnavailableError
from workflows.model.spec import StepSpec, Workflow
from workflows.settings import Config

RUN_PK = 10**9
TOLERANCE = 0.02


@pytest.fixture
def app(broker_url: str) -> Iterator[Celery]:
    with application(broker_url, broker_url) as made:
        yield made


@contextmanager
def application(broker: str, backend: str) -> Iterator[Celery]:
    made = make_app(Config({"CELERY_BROKER_URL": broker, "CELERY_RESULT_BACKEND": backend}))
    made.signer = Signer(lambda: bytes(32))

    @made.task(name=STEP_TASK, ignore_result=True, shared=False)
    def step(run_pk: int, ordinal: int, part: int = 0) -> None:
        """Done at once."""

    yield made
    made.close()


def plan_of(**needs: str) -> Plan:
    """Steps by name with what they need; each has a queue of its own, named as the step."""
    steps = (StepSpec(name, "x", needs=tuple(sorted(before.split())), queue=name) for name, before in needs.items())
    return compile_workflow(Workflow("w", tuple(steps)))


CHAIN = plan_of(a="", b="a", c="b", d="c", e="d", f="e")
GROUP = plan_of(a="", b="", c="", d="c")
CHORD = plan_of(a="", b="a", c="b", d="c", e="", f="e", join="d f")


def in_queue(client: redis.Redis, queue: str) -> list[int]:
    return [len(message) for message in client.lrange(queue, 0, -1)]


@contextmanager
def worker(app: Celery, *queues: str) -> Iterator[None]:
    with start_worker(app, pool="solo", concurrency=1, perform_ping_check=False, queues=list(queues)):
        yield


@pytest.mark.parametrize("plan", [CHAIN, GROUP, CHORD], ids=["chain", "group", "chord"])
def test_first_messages_have_the_measured_size(plan: Plan, app: Celery, broker_client: redis.Redis) -> None:
    measured = {size.queue: size for size in measure(app, fragment_canvas(app, plan, plan.fragments[0], RUN_PK))}
    publish_fragment(app, plan, plan.fragments[0], RUN_PK)
    for head in plan.fragments[0].heads:
        size = measured[plan.steps[head].id]
        assert in_queue(broker_client, size.queue) == [pytest.approx(size.bytes, rel=TOLERANCE)]


@pytest.mark.parametrize(("plan", "last"), [(CHAIN, "b"), (CHAIN, "f"), (CHORD, "b"), (CHORD, "d"), (CHORD, "join")])
def test_messages_that_workers_send_later_have_the_measured_size(
    plan: Plan, last: str, app: Celery, broker_client: redis.Redis
) -> None:
    (expected,) = (
        size.bytes for size in measure(app, fragment_canvas(app, plan, plan.fragments[0], RUN_PK)) if size.queue == last
    )
    publish_fragment(app, plan, plan.fragments[0], RUN_PK)
    with worker(app, *(step.queue for step in plan.steps if step.ordinal < plan.ordinal_of(last))):
        wait_until(lambda: in_queue(broker_client, last) != [], 20, f"the message of step {last}")
    assert in_queue(broker_client, last) == [pytest.approx(expected, rel=TOLERANCE)]


@pytest.mark.parametrize("plan", [CHAIN, GROUP, CHORD], ids=["chain", "group", "chord"])
def test_messages_are_those_of_the_application_that_is_asked_and_not_of_the_current_one(
    plan: Plan, app: Celery, broker_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = make_app(Config({"CELERY_BROKER_URL": "redis://127.0.0.1:1/0"}))  # has no key, and reaches no broker
    monkeypatch.setattr(_state._tls, "current_app", stranger)
    canvas = fragment_canvas(app, plan, plan.fragments[0], RUN_PK)
    assert {size.queue for size in measure(app, canvas)} == {step.queue for step in plan.steps}
    with app.producer_or_acquire() as producer:
        send(app, maybe_signature(loads(dumps(canvas))), producer)
    assert all(in_queue(broker_client, plan.steps[head].queue) for head in plan.fragments[0].heads)


def test_our_messages_are_those_that_celery_itself_would_send(
    app: Celery, broker_url: str, broker_client: redis.Redis
) -> None:
    def sent(queue: str) -> dict[str, object]:
        message = json.loads(broker_client.lpop(queue))  # type: ignore[arg-type]
        return {
            key: value for key, value in message["headers"].items() if key not in {"id", "root_id", "group", HEADER}
        }

    for plan in (CHAIN, GROUP, CHORD):
        fragment = plan.fragments[0]
        queues = [plan.steps[head].queue for head in fragment.heads]
        publish_fragment(app, plan, fragment, RUN_PK)
        ours = [(in_queue(broker_client, queue), sent(queue)) for queue in queues]
        # Its own way subscribes to every member, so its results are kept where that costs nothing.
        with application(broker_url, "cache+memory://") as other:
            fragment_canvas(other, plan, fragment, RUN_PK).apply_async()
        theirs = [(in_queue(broker_client, queue), sent(queue)) for queue in queues]
        assert [headers for _, headers in ours] == [headers for _, headers in theirs]
        assert [sizes for sizes, _ in ours] <= [sizes for sizes, _ in theirs]


def test_the_message_that_starts_a_run_has_the_measured_size(app: Celery, broker_client: redis.Redis) -> None:
    @app.task(name=EXECUTE_TASK, ignore_result=True, shared=False)
    def job(run_pk: int) -> None:
        """Done at once."""

    signature = execute_signature(app, RUN_PK, "9d0f4d2e-55a5-4b0f-9f39-5e6f2a8f6b11")
    (size,) = measure(app, signature)
    publish_steps(app, [signature])
    assert in_queue(broker_client, size.queue) == [pytest.approx(size.bytes, rel=TOLERANCE)]
    assert size.kind == "job"


def test_publishing_leaves_no_subscription_behind(app: Celery, broker_client: redis.Redis) -> None:
    def subscriptions() -> int:
        return sum(int(client["sub"]) for client in broker_client.client_list())

    before = subscriptions()
    for plan in (CHAIN, GROUP, CHORD):
        publish_fragment(app, plan, plan.fragments[0], RUN_PK)
    assert subscriptions() <= before


def test_measuring_sends_nothing(app: Celery, broker_client: redis.Redis) -> None:
    for plan in (CHAIN, GROUP, CHORD):
        measure(app, fragment_canvas(app, plan, plan.fragments[0], RUN_PK))
    assert broker_client.keys("*") == []


def test_a_broker_that_is_away_is_named_with_a_hint() -> None:
    app = Celery("away", broker="redis://127.0.0.1:1/0", backend="redis://127.0.0.1:1/0", set_as_current=False)
    app.conf.update(task_publish_retry=False, broker_transport_options={"max_retries": 0})
    with pytest.raises(BrokerUnavailableError, match="does not answer") as caught:
        publish_fragment(app, CHAIN, CHAIN.fragments[0], RUN_PK)
    assert caught.value.hint
