"""`on_failure`, `finally` and the `timeout` of a run, on both databases."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.hands import Hands
from workflows.db.units import Unit
from workflows.engine import control, execution, launch
from workflows.engine.job import Job
from workflows.engine.outcomes import Outcome
from workflows.engine.recovery import take_back_expired
from workflows.engine.rerun import rerun
from workflows.engine.settlement import Settlement, turn
from workflows.model.states import State
from workflows.steps import PermanentError

DEFINITION = """
id: blocks
params:
  first: {type: string, default: fine}
  last: {type: string, default: tidied}
steps:
  a: {uses: told, with: {value: "${{ params.first }}"}}
  b: {uses: told, with: {value: "b ${{ steps.a.output }}"}}
on_failure:
  look: {uses: told, with: {value: "look: ${{ run.error }}, a ${{ steps.a.status }}"}}
  tell: {uses: told, needs: look, with: {value: "tell ${{ run.status }}"}}
finally:
  tidy: {uses: told, with: {value: "${{ params.last }}"}}
  warn: {uses: told, when: "${{ run.status != 'SUCCESS' }}", with: {value: "warn ${{ steps.tell.status }}"}}
outputs: {b: "${{ steps.b.output }}"}
"""


@pytest.fixture
def told(hands: Hands) -> list[Any]:
    """What the steps have been given, in order; one that is given `fail` fails."""
    values: list[Any] = []

    def tell(inp: Any, ctx: Any) -> Any:
        values.append(inp.value)
        if inp.value == "fail":
            raise PermanentError("as told")
        ctx.check_cancelled()
        return inp.value

    hands.define(told=tell)
    return values


def states(hands: Hands) -> dict[str, str]:
    return dict(hands.rows("SELECT step_id, status FROM step_runs WHERE part = 0"))


def run_row(hands: Hands) -> tuple[Any, ...]:
    (row,) = hands.rows("SELECT status, error, outputs, progress_percentage, steps_open FROM job_runs")
    return row


def test_a_run_that_succeeds_passes_on_failure_by_and_ends_after_its_finally(hands: Hands, told: list[Any]) -> None:
    hands.start(DEFINITION)
    hands.drain()
    assert told == ["fine", "b fine", "tidied"]
    assert run_row(hands) == ("SUCCESS", None, '{"b": "b fine"}', 100, 0)
    assert states(hands) == {
        **dict.fromkeys(("a", "b", "tidy"), "SUCCESS"),
        **dict.fromkeys(("look", "tell", "warn"), "SKIPPED"),
    }


def test_a_run_that_fails_runs_both_blocks_one_after_the_other_and_stays_failed(hands: Hands, told: list[Any]) -> None:
    hands.start(DEFINITION, first="fail")
    hands.drain()
    assert told == ["fail", "look: failed: a, a FAILURE", "tell FAILURE", "tidied", "warn SUCCESS"]
    assert run_row(hands) == ("FAILURE", "failed: a", '{"b": null}', 100, 0)
    blocks = [
        json.loads(row[0])
        for row in hands.rows("SELECT detail FROM run_events WHERE detail LIKE '%block%' ORDER BY seq")
    ]
    assert blocks == [{"block": "on_failure", "verdict": "FAILURE"}, {"block": "finally", "verdict": "FAILURE"}]


def test_a_finally_that_fails_fails_the_run(hands: Hands, told: list[Any]) -> None:
    hands.start(DEFINITION, last="fail")
    hands.drain()
    assert run_row(hands)[:3] == ("FAILURE", "failed: tidy", '{"b": "b fine"}')


def test_nothing_of_a_later_block_can_be_claimed_before_its_turn(hands: Hands, told: list[Any]) -> None:
    accepted = hands.start(DEFINITION)
    for ordinal in range(2, 6):
        assert hands.execute(Unit(accepted.run_pk, ordinal)) is Outcome.IGNORE
    assert told == []


def test_a_cancelled_run_still_runs_its_finally_and_ends_revoked(hands: Hands, told: list[Any]) -> None:
    accepted = hands.start(DEFINITION)
    hands.execute(Unit(accepted.run_pk, 0))
    answer = control.cancel(hands.runtime, accepted.run_id)
    assert (answer.status, answer.finished, answer.never_started) == ("PROGRESS", 1, 1)
    again = control.cancel(hands.runtime, accepted.run_id)
    assert (again.status, again.never_started) == ("PROGRESS", 1)
    hands.drain()
    assert told == ["fine", "tidied", "warn SKIPPED"]
    assert run_row(hands)[0] == "REVOKED"
    assert states(hands)["b"] == "REVOKED"


def test_the_finally_of_a_run_begins_when_its_last_step_has_seen_the_cancel(hands: Hands, told: list[Any]) -> None:
    accepted = hands.start(DEFINITION)
    unit = Unit(accepted.run_pk, 0)
    claim = hands.claim(unit)
    control.cancel(hands.runtime, accepted.run_id)
    hands.drain()
    assert told == []
    hands.expire(unit)
    assert take_back_expired(hands.runtime, unit)
    hands.drain()
    assert told == ["tidied", "warn SKIPPED"]
    assert run_row(hands)[0] == "REVOKED"
    assert claim.token == 1


def test_a_run_cancelled_before_it_began_runs_nothing(hands: Hands, told: list[Any]) -> None:
    accepted = hands.engine.submit(DEFINITION)
    assert control.cancel(hands.runtime, accepted.run_id).status == "REVOKED"
    assert not launch.start_run(hands.runtime, accepted.run_pk)
    assert told == []


def test_on_failure_can_be_cancelled_and_finally_cannot(hands: Hands, told: list[Any]) -> None:
    accepted = hands.start(DEFINITION, first="fail")
    hands.execute(Unit(accepted.run_pk, 0))
    control.cancel(hands.runtime, accepted.run_id)
    hands.drain()
    assert told == ["fail", "tidied", "warn REVOKED"]
    assert run_row(hands)[:2] == ("FAILURE", "failed: a")


def test_a_run_that_takes_too_long_is_stopped_fails_and_is_handled(hands: Hands, told: list[Any]) -> None:
    accepted = hands.start(DEFINITION.replace("id: blocks", "id: blocks\ntimeout: 5m"))
    reconciler = hands.reconciler()
    reconciler.tick()
    assert run_row(hands)[0] == "PROGRESS"
    hands.execute(Unit(accepted.run_pk, 0))
    hands.change("UPDATE job_runs SET deadline_at = deadline_at - 301")
    reconciler.tick()
    hands.drain()
    late = "the run took longer than its timeout of 300 s"
    assert told == ["fine", f"look: {late}, a SUCCESS", "tell FAILURE", "tidied", "warn SUCCESS"]
    assert run_row(hands)[:2] == ("FAILURE", late)
    assert control.find(hands.runtime, accepted.run_id).cancel_requested is False


def test_a_run_without_blocks_that_takes_too_long_fails(hands: Hands, told: list[Any]) -> None:
    hands.start("id: short\ntimeout: 5m\nsteps:\n  a: {uses: told}\n  b: {uses: told, needs: a}\n")
    hands.change("UPDATE job_runs SET deadline_at = deadline_at - 301")
    hands.reconciler().tick()
    assert run_row(hands)[:2] == ("FAILURE", "the run took longer than its timeout of 300 s")
    assert states(hands) == {"a": "REVOKED", "b": "REVOKED"}


def test_a_retry_does_the_steps_that_failed_and_all_of_the_later_blocks(hands: Hands, told: list[Any]) -> None:
    accepted = hands.start(DEFINITION.replace("b ${{ steps.a.output }}", "${{ params.last }}"), last="fail")
    hands.drain()
    assert states(hands)["tell"] == "SUCCESS"
    told.clear()
    preview = control.preview_retry(hands.runtime, accepted.run_id)
    assert preview.ready == ("b",)
    control.retry(hands.runtime, accepted.run_id)
    assert run_row(hands)[0] == "PROGRESS"
    hands.drain()
    assert told == ["fail", "look: failed: b, a SUCCESS", "tell FAILURE", "fail", "warn SUCCESS"]


def test_a_retry_of_a_run_of_which_only_the_finally_failed_runs_that_again(hands: Hands, told: list[Any]) -> None:
    accepted = hands.start(DEFINITION, last="fail")
    hands.drain()
    told.clear()
    control.retry(hands.runtime, accepted.run_id)
    hands.drain()
    assert told == ["fail"]
    assert run_row(hands)[:2] == ("FAILURE", "failed: tidy")


def test_a_worker_that_dies_before_the_turn_leaves_it_to_the_reconciler(
    hands: Hands, told: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted = hands.start(DEFINITION)
    hands.execute(Unit(accepted.run_pk, 0))
    with monkeypatch.context() as patch:
        for module in ("settlement", "execution"):
            patch.setattr(f"workflows.engine.{module}.turn", lambda *args, **named: None)
        hands.execute(Unit(accepted.run_pk, 1))
    assert run_row(hands)[4] == 4
    hands.reconciler().tick()
    hands.drain()
    assert told == ["fine", "b fine", "tidied"]
    assert run_row(hands)[0] == "SUCCESS"


def test_the_turn_is_taken_once(hands: Hands, told: list[Any]) -> None:
    accepted = hands.start(DEFINITION)
    hands.drain()
    context = launch.context_of(hands.runtime, accepted.run_pk)
    plan = hands.runtime.plan(context.version_id)
    settlement = Settlement()
    hands.database.retrying(lambda tx: turn(tx, plan, context, settlement))
    assert settlement.ready == []
    assert told.count("tidied") == 1


def test_maps_and_retries_work_within_blocks(hands: Hands, told: list[Any]) -> None:
    hands.start(
        "id: map\nsteps:\n  a: {uses: told, with: {value: fail}}\non_failure:\n"
        '  m: {uses: told, for_each: {items: [1, 2, 3], key: "${{ run.status }} ${{ item }}"}, '
        'with: {value: "${{ item }} ${{ run.status }}"}}\n'
    )
    hands.drain()
    assert sorted(told[1:]) == ["1 FAILURE", "2 FAILURE", "3 FAILURE"]
    assert hands.rows("SELECT key FROM item_runs ORDER BY 1") == [(f"FAILURE {n}",) for n in (1, 2, 3)]
    assert run_row(hands)[0] == "FAILURE"


def test_a_pause_holds_the_finally_too_until_the_run_is_resumed(hands: Hands, told: list[Any]) -> None:
    accepted = hands.start(DEFINITION)
    hands.execute(Unit(accepted.run_pk, 0))
    last = hands.job(hands.claim(Unit(accepted.run_pk, 1)))
    control.pause(hands.runtime, accepted.run_id)
    assert complete(hands, last).ready == []
    hands.drain()
    assert told == ["fine"]
    control.resume(hands.runtime, accepted.run_id)
    hands.drain()
    assert told == ["fine", "tidied"]
    assert run_row(hands)[0] == "SUCCESS"


def test_a_cancel_of_a_paused_run_lets_its_finally_run(hands: Hands, told: list[Any]) -> None:
    accepted = hands.start(DEFINITION)
    control.pause(hands.runtime, accepted.run_id)
    control.cancel(hands.runtime, accepted.run_id)
    hands.drain()
    assert told == ["tidied", "warn SKIPPED"]
    assert run_row(hands)[0] == "REVOKED"


def complete(hands: Hands, job: Job) -> Settlement:
    """A step that a worker has claimed succeeds."""
    settlement = hands.database.retrying(lambda tx: execution.complete(tx, job, State.SUCCESS, output="null"))
    assert settlement is not None
    if settlement.is_at_turn:
        hands.database.retrying(lambda tx: turn(tx, job.plan, job.context, settlement))
    return settlement


def test_a_rerun_takes_over_steps_and_does_both_later_blocks_anew(hands: Hands, told: list[Any]) -> None:
    accepted = hands.start(DEFINITION, last="fail")
    hands.drain()
    told.clear()
    rerun(hands.runtime, accepted.run_id, params={"last": "tidied"})
    hands.drain()
    assert told == ["tidied"]
    rows = hands.rows("SELECT status, outputs FROM job_runs ORDER BY id")
    assert rows == [("FAILURE", '{"b": "b fine"}'), ("SUCCESS", '{"b": "b fine"}')]
