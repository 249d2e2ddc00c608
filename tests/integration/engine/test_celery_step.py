"""Tasks of a Celery application that knows nothing of Celeriac: called by the step `celery`, run by its own worker."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.hands import Hands
from tests.support.shop import open_shop, url_of_shop
from tests.support.waiting import wait_until
from workflows.builtin import celery_task
from workflows.db.units import Unit
from workflows.engine import control

ONE = """
id: calls
params: {order: {type: integer, default: 7}}
steps:
  price: {uses: celery, with: {task: shop.price, kwargs: {order: "${{ params.order }}"}, WITH}, retry: RETRY}
outputs: {price: "${{ steps.price.output.result }}"}
"""
QUICK = "{max_attempts: 1}"


def _text(options: str = "within: 1h", retry: str = QUICK) -> str:
    return ONE.replace("WITH", options).replace("RETRY", retry)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, _valkey: str) -> Iterator[str]:
    """The URL of a broker database on which a worker of the shop listens."""
    url = url_of_shop(_valkey)
    with open_shop(tmp_path_factory.mktemp("shop"), url):
        yield url


@pytest.fixture
def allowed(shop: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(celery_task.ALLOWED, "other.*, shop.*")
    monkeypatch.setenv(celery_task.BROKER, shop)
    return shop


def _until_done(hands: Hands, unit: Unit, seconds: float = 20.0) -> None:
    def is_done() -> bool:
        hands.change("UPDATE step_runs SET not_before = NULL WHERE run_pk = :run", run=unit.run_pk)
        hands.execute(unit)
        return hands.standing(unit, "status")[0] not in ("WAITING", "RETRY")

    wait_until(is_done, timeout=seconds)


def _ends(hands: Hands, text: str, **params: Any) -> Any:
    accepted = hands.start(text, **params)
    _until_done(hands, Unit(accepted.run_pk, 0))
    return hands.engine.report(accepted)


@pytest.mark.usefixtures("allowed")
def test_a_task_of_others_is_called_and_its_result_is_the_output(hands: Hands) -> None:
    accepted = hands.start(_text())
    unit = Unit(accepted.run_pk, 0)
    hands.execute(unit)
    assert hands.standing(unit, "status, lease_until, failures") == ("WAITING", None, 0)
    _until_done(hands, unit)
    run = control.find(hands.runtime, accepted.run_id)
    assert (run.status, run.outputs) == ("SUCCESS", {"price": {"cents": 700}})


@pytest.mark.usefixtures("allowed")
def test_what_the_task_raises_fails_the_step_under_its_own_name(hands_on_postgres: Hands) -> None:
    report = _ends(hands_on_postgres, _text(retry="{max_attempts: 3, delay: 1ms, never_for: [OutOfStock]}"), order=-1)
    (step,) = report.steps
    assert (step.status, step.failures) == ("FAILURE", 1)
    assert (step.error["type"], step.error["message"]) == ("OutOfStock", "order -1")
    lines = [row[0] for row in hands_on_postgres.rows("SELECT message FROM log_lines ORDER BY id")]
    assert any("raise OutOfStock" in line for line in lines)


@pytest.mark.usefixtures("allowed")
def test_an_error_of_the_task_is_not_taken_for_one_of_the_broker(hands_on_postgres: Hands) -> None:
    (step,) = _ends(hands_on_postgres, _text(), order=-2).steps
    assert (step.status, step.error["type"]) == ("FAILURE", "ConnectionError")
    assert step.error["message"] == "the price list is away"


@pytest.mark.usefixtures("allowed")
def test_a_failure_is_tried_again_as_another_task(hands_on_postgres: Hands) -> None:
    report = _ends(hands_on_postgres, _text(retry="{max_attempts: 2, delay: 1ms, jitter: none}"), order=-1)
    assert report.steps[0].failures == 2
    sent = hands_on_postgres.rows("SELECT message FROM log_lines WHERE message LIKE 'sent shop.price as %'")
    assert len({row[0] for row in sent}) == 2


@pytest.mark.usefixtures("allowed")
def test_a_result_that_does_not_come_is_a_failure_after_its_time(hands_on_postgres: Hands) -> None:
    hands = hands_on_postgres
    accepted = hands.start(_text("queue: nobody-listens, within: 1h"))
    unit = Unit(accepted.run_pk, 0)
    hands.execute(unit)
    hands.change("UPDATE step_runs SET not_before = NULL, parked_since = parked_since - 3601")
    hands.execute(unit)
    (step,) = hands.engine.report(accepted).steps
    assert (step.status, step.error and step.error["type"]) == ("FAILURE", "TransientError")
    assert step.error is not None
    assert "has no result after 3600 s" in step.error["message"]


@pytest.mark.usefixtures("allowed")
def test_one_may_be_sent_and_left_alone(hands_on_postgres: Hands) -> None:
    accepted = hands_on_postgres.start(_text("queue: nobody-listens, wait: false"))
    hands_on_postgres.drain()
    run = control.find(hands_on_postgres.runtime, accepted.run_id)
    assert (run.status, run.outputs) == ("SUCCESS", {"price": None})


@pytest.mark.usefixtures("allowed")
def test_a_revoked_task_fails_its_step_for_good(hands_on_postgres: Hands, allowed: str) -> None:
    hands = hands_on_postgres
    accepted = hands.start(_text("queue: nobody-listens", retry="{max_attempts: 3}"))
    unit = Unit(accepted.run_pk, 0)
    hands.execute(unit)
    ((line,),) = hands.rows("SELECT message FROM log_lines")
    app = celery_task.application(allowed, allowed)
    app.backend.mark_as_revoked(line.rsplit(" ", 1)[1], reason="revoked")
    hands.change("UPDATE step_runs SET not_before = NULL")
    hands.execute(unit)
    (step,) = hands.engine.report(accepted).steps
    assert (step.status, step.failures, step.error and step.error["type"]) == ("FAILURE", 1, "TaskRevokedError")


@pytest.mark.parametrize(
    ("variables", "options", "told"),
    [
        ({}, "wait: true", "CELERIAC_TASKS_ALLOW on the workers has to name it, and it is not set"),
        ({celery_task.ALLOWED: "other.*"}, "wait: true", "and it allows other.*"),
        ({celery_task.ALLOWED: "*", celery_task.BROKER: "amqp://x"}, "wait: true", "nobody can look for the result"),
        ({celery_task.ALLOWED: "*", celery_task.RESULTS: "rpc://"}, "wait: true", "nobody can look for the result"),
    ],
)
def test_what_may_not_be_called_is_refused(
    hands_on_postgres: Hands, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], options: str, told: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    accepted = hands_on_postgres.start(_text(options, retry="{max_attempts: 3}"))
    hands_on_postgres.drain()
    (step,) = hands_on_postgres.engine.report(accepted).steps
    assert (step.status, step.failures) == ("FAILURE", 1)
    assert step.error is not None
    assert told in step.error["message"]


def test_a_broker_that_is_away_is_tried_again(hands_on_postgres: Hands, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(celery_task.ALLOWED, "*")
    monkeypatch.setenv(celery_task.BROKER, "redis://127.0.0.1:1/0")
    accepted = hands_on_postgres.start(_text(retry="{max_attempts: 2, delay: 10m}"))
    hands_on_postgres.execute(Unit(accepted.run_pk, 0))
    (step,) = hands_on_postgres.engine.report(accepted).steps
    assert (step.status, step.error and step.error["type"]) == ("RETRY", "TransientError")
