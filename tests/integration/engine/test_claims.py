"""What a message is worth that finds its step in any state: the claim's table, row by row, and what waits in SQL."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import pytest

from tests.support.hands import READY, Given, Hands
from workflows.db.database import Transaction
from workflows.db.units import Unit, Worker
from workflows.engine import control, execution
from workflows.engine.execution import PARK_LIMIT_SECONDS, PARK_SECONDS, execute_unit
from workflows.engine.outcomes import Outcome
from workflows.engine.recovery import take_back_from_dead
from workflows.steps import StepContext

CHAIN = "id: chain\nsteps:\n  a: {uses: told}\n  b: {uses: told, needs: a}\n  c: {uses: told, needs: b}\n"


@pytest.fixture
def hands(hands: Hands) -> Hands:
    """An engine by hand with a step that gives what it is given."""
    hands.define(told=lambda inp, ctx: inp.value)
    return hands


def test_a_live_owner_elsewhere_makes_the_message_worth_nothing(hands: Hands) -> None:
    unit = Unit(hands.start(CHAIN).run_pk, 0)
    hands.claim(unit, pid=1)
    for is_redelivered in (False, True):
        assert execute_unit(hands.runtime, unit, is_redelivered=is_redelivered) is Outcome.IGNORE
    assert hands.standing(unit, "status, token") == ("PROGRESS", 1)


def test_of_messages_for_an_ended_step_only_a_redelivery_lets_its_canvas_go_on(hands: Hands) -> None:
    unit = Unit(hands.start(CHAIN).run_pk, 0)
    assert hands.execute(unit) is Outcome.RETURN
    assert execute_unit(hands.runtime, unit, is_redelivered=False) is Outcome.IGNORE
    assert execute_unit(hands.runtime, unit, is_redelivered=True) is Outcome.RETURN
    assert hands.standing(unit, "status, token") == ("SUCCESS", 1)


def test_a_step_that_comes_before_its_dependencies_are_done_is_left_to_sql_with_all_after_it(hands: Hands) -> None:
    run_pk = hands.start(CHAIN).run_pk
    second, third = Unit(run_pk, 1), Unit(run_pk, 2)
    assert hands.standing(second, "arrives_by") == hands.standing(third, "arrives_by") == ("canvas",)
    assert hands.execute(second) is Outcome.IGNORE
    assert hands.standing(second, "status, arrives_by") == ("PENDING", "sql")
    assert hands.standing(third, "arrives_by") == ("sql",)


def test_an_early_message_whose_dependency_ends_meanwhile_is_sent_again(
    hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_pk = hands.start(CHAIN).run_pk
    sent: list[Any] = []
    publish, hand_over = hands.runtime.publish, execution._hand_over

    def late(*arguments: Any) -> None:
        hands.execute(Unit(run_pk, 0))  # it sees that the canvas is to deliver, and sends nothing
        hand_over(*arguments)

    def note(app: Any, signatures: Any) -> None:
        sent.extend(signature.args for signature in signatures)
        publish(app, signatures)

    monkeypatch.setattr(execution, "_hand_over", late)
    monkeypatch.setattr(hands.runtime, "publish", note)
    assert hands.execute(Unit(run_pk, 1)) is Outcome.IGNORE
    assert [tuple(args) for args in sent] == [(run_pk, 1)]


@pytest.mark.parametrize("delay", ["1ms", "1s", "30d"])
def test_a_wait_lies_in_sql_alone_whether_it_is_short_or_very_long(hands: Hands, delay: str) -> None:
    """No message waits with it, so no visibility timeout can double it."""

    def told(inp: Given, ctx: StepContext) -> Any:
        raise ConnectionError("again")

    hands.define(told=told)
    retry = f"retry: {{max_attempts: 2, delay: {delay}, max_delay: 30d, jitter: none}}"
    unit = Unit(hands.start(f"id: one\nsteps:\n  a: {{uses: told, {retry}}}\n").run_pk, 0)
    published: list[Any] = []
    hands.runtime.publish = lambda app, signatures: published.extend(signatures)
    hands.execute(unit)
    seconds = {"1ms": 0.001, "1s": 1.0, "30d": 30 * 86_400.0}[delay]
    waits = (
        "status, failures, round(CAST(not_before - finished AS numeric), 3), abs(next_dispatch_at - not_before) < 0.01"
    )
    sql = (
        f"SELECT {waits} FROM (SELECT s.*, a.finished_at AS finished FROM step_runs s JOIN attempts a USING (run_pk)) x"
    )
    ((status, failures, waited, same),) = hands.rows(sql)
    assert (status, failures, bool(same)) == ("RETRY", 1, True)
    assert float(waited) == pytest.approx(seconds, abs=0.5)
    assert published == []
    if delay == "30d":
        assert hands.execute(unit) is Outcome.IGNORE
        hands.reconciler().tick()
        assert published == []
        hands.change("UPDATE step_runs SET not_before = 1, next_dispatch_at = 1")
        reconciler = hands.reconciler()
        for _ in range(2):
            reconciler.tick()
        assert len(published) == 1
        assert hands.execute(unit) is Outcome.RETURN
        assert hands.standing(unit, "status, failures, token") == ("FAILURE", 2, 2)


def test_a_message_of_a_cancelled_run_starts_nothing(hands: Hands) -> None:
    accepted = hands.start(CHAIN)
    control.cancel(hands.runtime, accepted.run_id)
    assert hands.execute(Unit(accepted.run_pk, 0)) is Outcome.IGNORE
    assert {row[0] for row in hands.rows("SELECT status FROM step_runs")} == {"REVOKED"}


def test_a_step_that_has_killed_its_worker_too_often_ends_as_worker_lost_and_attempts_are_counted_apart(
    hands: Hands,
) -> None:
    text = "id: one\nsteps:\n  a: {uses: told, retry: {max_attempts: 9, delay: 1ms}}\n"
    accepted = hands.start(text)
    unit = Unit(accepted.run_pk, 0)
    for _ in range(hands.runtime.config.max_crashes):
        hands.claim(unit, pid=4711)
        assert take_back_from_dead(hands.runtime, unit, 4711, "killed")
    assert hands.execute(unit) is Outcome.RETURN
    crashes = hands.runtime.config.max_crashes
    assert hands.standing(unit, "status, token, failures, crashes") == ("FAILURE", crashes + 1, 1, crashes)
    error = hands.engine.report(accepted).steps[0].error
    assert error is not None
    assert "worker lost" in error["message"]


def test_a_worker_that_lacks_a_step_puts_it_off_uncounted_and_after_minutes_says_what_is_missing(hands: Hands) -> None:
    accepted = hands.start("id: one\nsteps:\n  a: {uses: unheard.of}\n")
    unit = Unit(accepted.run_pk, 0)
    assert hands.execute(unit) is Outcome.IGNORE
    assert hands.standing(unit) == ("WAITING", 0, 0)
    ((waits,),) = hands.rows("SELECT not_before - parked_since FROM step_runs")
    assert waits == pytest.approx(PARK_SECONDS, abs=0.5)
    hands.change("UPDATE step_runs SET not_before = 1, parked_since = parked_since - :more", more=PARK_LIMIT_SECONDS)
    assert hands.execute(unit) is Outcome.RETURN
    error = hands.engine.report(accepted).steps[0].error
    assert error is not None
    assert "no worker knows the step 'unheard.of'" in error["message"]
    assert "CELERIAC_STEP_MODULES" in error["message"]


def test_a_worker_that_learns_the_step_meanwhile_runs_it(hands: Hands) -> None:
    accepted = hands.start("id: one\nsteps:\n  a: {uses: late, with: {value: 1}}\n")
    assert hands.execute(Unit(accepted.run_pk, 0)) is Outcome.IGNORE
    hands.define(late=lambda inp, ctx: inp.value)
    hands.drain()
    assert hands.engine.view(accepted).status == "SUCCESS"


def test_a_run_keeps_the_version_with_which_it_began(hands: Hands) -> None:
    given: list[Any] = []
    hands.define(told=lambda inp, ctx: given.append(inp.value))
    old = "id: same\nsteps:\n  a: {uses: told, with: {value: 1}}\n  b: {uses: told, needs: a, with: {value: 2}}\n"
    first = hands.start(old)
    hands.execute(Unit(first.run_pk, 0))
    second = hands.start(old.replace("value: 2", "value: 3"))
    hands.drain()
    assert sorted(given) == [1, 1, 2, 3]
    assert [hands.engine.view(run).status for run in (first, second)] == ["SUCCESS", "SUCCESS"]
    assert hands.engine.view(first).version_id != hands.engine.view(second).version_id


def test_a_trigger_costs_the_same_for_ten_steps_and_for_a_thousand(
    hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    statements: list[int] = []
    published: list[int] = []

    def counting(whole: Any) -> Any:
        def count(*arguments: Any) -> Any:
            statements.append(1)
            return whole(*arguments)

        return count

    for name in ("rows", "run"):
        monkeypatch.setattr(Transaction, name, counting(getattr(Transaction, name)))
    hands.runtime.publish = lambda app, signatures: published.append(len(signatures))
    costs = []
    for size in (10, 1_000):
        text = f"id: wide{size}\nsteps:\n" + "".join(f"  s{n}: {{uses: told}}\n" for n in range(size))
        hands.engine.submit(text)  # the version is new once
        statements.clear()
        published.clear()
        hands.engine.submit(text)
        costs.append((len(statements), list(published)))
    assert costs[0] == costs[1]
    assert costs[0][1] == [1]


def test_a_claim_of_another_process_of_the_same_worker_is_its_own(hands: Hands) -> None:
    unit = Unit(hands.start(CHAIN).run_pk, 0)
    claim = hands.claim(unit, pid=os.getpid())
    other = replace(claim, worker=Worker(hands.runtime.node, claim.worker.pid + 1), token=claim.token + 1)
    assert execution.run_claimed(hands.job(other)) is Outcome.REFUSED
    assert execution.run_claimed(hands.job(claim)) is Outcome.RETURN
    assert hands.rows(f"SELECT ordinal FROM step_runs WHERE {READY}") == [(1,)]
