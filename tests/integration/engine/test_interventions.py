"""Cancel, retry and clean-up at the worst moment: in the middle of a map, and against each other."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.support.hands import Given, Hands
from tests.support.waiting import wait_until
from workflows.db import interventions, maps, retention
from workflows.db.database import Transaction
from workflows.db.units import Unit
from workflows.engine import control, launch, mapping
from workflows.engine.recovery import take_back_from_dead
from workflows.model.errors import CeleriacError
from workflows.steps import StepContext


def definition(calls: int, options: str = "max_parallel: 4") -> str:
    """A map over `calls` numbers."""
    return f"""
id: map
steps:
  list: {{uses: ledger.numbers, with: {{num: {calls}}}}}
  map:
    uses: told
    retry: {{max_attempts: 3, delay: 1ms, jitter: none}}
    for_each: {{items: "${{{{ steps.list.output.values }}}}", {options}}}
    with: {{value: "${{{{ item }}}}"}}
"""


def expanded(hands: Hands, text: str) -> Any:
    """A run whose map has written its calls and opened its first ranges."""
    accepted = hands.start(text)
    hands.execute(Unit(accepted.run_pk, 0))
    hands.execute(Unit(accepted.run_pk, 1))
    return accepted


def test_no_call_starts_after_a_cancel_was_acknowledged(hands: Hands, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []

    def told(inp: Given, ctx: StepContext) -> Any:
        started.append(inp.value)
        if len(started) == 6:
            assert control.cancel(hands.runtime, accepted.run_id).status == "REVOKED"
        return inp.value

    hands.define(told=told)
    monkeypatch.setattr(mapping, "CANCEL_CHECK_SECONDS", 0.0)
    accepted = expanded(hands, definition(60))
    hands.drain()
    assert len(started) == 6
    assert hands.rows("SELECT count(*) FROM item_runs WHERE status IN ('PENDING', 'RETRY')") == [(0,)]


def test_a_cancel_counts_a_map_whose_calls_run_as_stopping_and_each_step_once(hands: Hands) -> None:
    hands.define(told=lambda inp, ctx: inp.value)
    accepted = expanded(hands, definition(2))
    claims = [hands.claim(Unit(accepted.run_pk, 1, part)) for part in (1, 2)]
    answer = control.cancel(hands.runtime, accepted.run_id)
    assert (answer.finished, answer.stopping, answer.stopped, answer.never_started) == (1, 1, 0, 0)
    for claim in claims:
        mapping._finish_range(hands.job(claim), [], 0.0, [])
    answer = control.cancel(hands.runtime, accepted.run_id)
    assert (answer.status, answer.finished, answer.stopping, answer.stopped) == ("REVOKED", 1, 0, 1)


def test_the_history_of_a_run_that_was_cancelled_before_it_started_says_so(hands: Hands) -> None:
    accepted = hands.engine.submit("id: one\nsteps:\n  a: {uses: ledger.nap, with: {node: a}}\n")
    control.cancel(hands.runtime, accepted.run_id)
    assert hands.rows("SELECT seq, status FROM run_events") == [(1, "REVOKED")]
    assert not launch.start_run(hands.runtime, accepted.run_pk)


WAITING = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


class Killed(BaseException):
    """The process ends here."""


def test_a_map_that_was_cut_off_while_it_wrote_its_calls_is_whole_after_a_retry(
    hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []

    def told(inp: Given, ctx: StepContext) -> Any:
        started.append(inp.value)
        return inp.value

    hands.define(told=told)
    accepted = hands.start(definition(25))
    unit = Unit(accepted.run_pk, 1)
    hands.execute(Unit(accepted.run_pk, 0))
    chunks: list[int] = []
    write = maps.add_items

    def write_one_chunk(tx: Transaction, **rest: Any) -> bool:
        if chunks:
            raise Killed
        chunks.append(1)
        return write(tx, **rest)

    with monkeypatch.context() as patch:
        patch.setattr(mapping, "ITEMS_PER_TRANSACTION", 10)
        patch.setattr(maps, "add_items", write_one_chunk)
        with pytest.raises(Killed):
            hands.execute(unit)
    assert hands.rows("SELECT count(*) FROM item_runs") == [(10,)]
    control.cancel(hands.runtime, accepted.run_id)
    assert take_back_from_dead(hands.runtime, unit, hands.runtime.worker.pid, "killed")
    assert hands.engine.view(accepted).status == "REVOKED"
    given: list[int] = []
    allocate = maps.add_ranges

    def note_calls(tx: Transaction, ranges: list[tuple[Unit, int, int]], **rest: Any) -> None:
        given.extend(index for _, first, last in ranges for index in range(first, last))
        allocate(tx, ranges, **rest)

    monkeypatch.setattr(maps, "add_ranges", note_calls)
    control.retry(hands.runtime, accepted.run_id)
    reconciler = hands.reconciler()
    while not hands.engine.view(accepted).is_ended:
        hands.drain()
        hands.change("UPDATE step_runs SET next_dispatch_at = 1 WHERE part = 0 AND next_dispatch_at IS NOT NULL")
        reconciler.tick()
    assert sorted(given) == list(range(25)), "a call was handed out twice"
    report = hands.engine.report(accepted)
    assert (report.run.status, report.run.progress) == ("SUCCESS", 100)
    assert sorted(started) == list(range(25))
    assert hands.standing(unit, "items_success, items_failure, items_total") == (25, 0, 25)


def test_the_tries_of_a_call_are_numbered_from_one(hands: Hands) -> None:
    numbers: list[int] = []

    def told(inp: Given, ctx: StepContext) -> Any:
        numbers.append(ctx.attempt)
        raise ConnectionError("again")

    hands.define(told=told)
    accepted = expanded(hands, definition(1))
    reconciler = hands.reconciler()
    while not hands.engine.view(accepted).is_ended:
        hands.drain()
        hands.change("UPDATE item_runs SET not_before = 1 WHERE not_before IS NOT NULL")
        hands.change("UPDATE step_runs SET next_dispatch_at = 1 WHERE part = 0 AND next_dispatch_at IS NOT NULL")
        reconciler.tick()
    assert numbers == [1, 2, 3]
    assert hands.rows("SELECT number FROM attempts WHERE item_index = 0 ORDER BY number") == [(1,), (2,), (3,)]


def test_text_that_a_database_does_not_take_comes_through_a_map_unharmed(hands: Hands) -> None:
    hands.define(told=lambda inp, ctx: {"text": inp.value})
    accepted = hands.start(
        """
id: odd
params: {texts: {type: array}}
steps:
  map:
    uses: told
    for_each: {items: "${{ params.texts }}", key: "${{ item }}"}
    with: {value: "${{ item }}"}
outputs: {texts: "${{ steps.map.outputs.text }}"}
""",
        texts=["a\x00b", "the escape \\u0000 in prose"],
    )
    hands.drain()
    report = hands.engine.report(accepted)
    assert report.run.status == "SUCCESS"
    assert report.run.outputs == {"texts": ["a\x00b", "the escape \\u0000 in prose"]}


def failed_long_ago(hands: Hands) -> Any:
    """A run that is old enough to be deleted."""
    accepted = hands.start("id: old\nsteps:\n  a: {uses: ledger.fail, with: {node: a, permanent: true}}\n")
    hands.drain()
    hands.change("UPDATE job_runs SET created_at = 1, finished_at = 1")
    return accepted


def test_a_run_that_is_being_retried_is_not_deleted(hands_on_postgres: Hands) -> None:
    hands = hands_on_postgres
    accepted = failed_long_ago(hands)
    context = launch.context_of(hands.runtime, accepted.run_pk)
    plan = hands.runtime.plan(context.version_id)
    deleted: list[int] = []
    cleaner = threading.Thread(
        target=lambda: deleted.append(hands.database.retrying(lambda tx: retention.delete_old_runs(tx, 86_400, 20)))
    )
    with hands.database.transaction() as tx:
        assert interventions.resume(tx, plan, accepted.run_pk, context.version_id, 10.0) == [0]
        cleaner.start()
        cleaner.join(10)
    assert deleted == [0]
    assert hands.engine.view(accepted).status == "PROGRESS"


def test_a_run_that_is_being_deleted_is_not_retried(hands_on_postgres: Hands) -> None:
    hands = hands_on_postgres
    accepted = failed_long_ago(hands)
    refused: list[CeleriacError] = []

    def retry() -> None:
        try:
            control.retry(hands.runtime, accepted.run_id)
        except CeleriacError as error:
            refused.append(error)

    person = threading.Thread(target=retry)
    with hands.observer() as other, hands.database.transaction() as tx:
        assert retention.delete_old_runs(tx, 86_400, 20) == 1
        person.start()
        wait_until(lambda: other.execute(WAITING).fetchall(), message="the retry to wait for the lock")
    person.join(10)
    assert len(refused) == 1
    for table in ("job_runs", "step_runs", "run_events", "attempts"):
        assert hands.rows(f"SELECT count(*) FROM {table}") == [(0,)], table


def test_a_retried_run_is_no_longer_old(hands: Hands) -> None:
    accepted = failed_long_ago(hands)
    control.retry(hands.runtime, accepted.run_id)
    assert hands.database.retrying(lambda tx: retention.delete_old_runs(tx, 86_400, 20)) == 0
    hands.drain()
    assert hands.engine.view(accepted).is_ended
