"""Steps that leave their worker until they are due: `wait`, and whatever calls `ctx.park()`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.cluster import Cluster
from tests.support.hands import Given, Hands
from workflows.compile import compile_workflow
from workflows.db.units import Unit
from workflows.engine import control
from workflows.model.errors import DefinitionError
from workflows.model.parser import parse_workflow
from workflows.steps import StepContext
from workflows.steps.registry import load_steps, schemas

FOR = "id: waits\nsteps:\n  a: {uses: wait, with: {for: 1h}}\n  b: {needs: a, uses: ledger.nap, with: {node: b}}"
UNTIL = 'id: waits\nsteps:\n  a: {uses: wait, with: {until: "WHEN"}}'
MANY = """
id: many
steps:
  w: {uses: wait, with: {for: 1s}}
  x: {uses: wait, with: {for: 1s}}
  y: {uses: wait, with: {for: 1s}}
  z: {uses: wait, with: {for: 1s}}
  v: {uses: wait, with: {for: 1s}}
  end: {needs: [v, w, x, y, z], uses: ledger.nap, with: {node: end}}
"""


def _forward(hands: Hands, seconds: float) -> None:
    """So much time goes by for what waits."""
    hands.change(
        "UPDATE step_runs SET not_before = not_before - :seconds, parked_since = parked_since - :seconds",
        seconds=seconds,
    )


def test_a_wait_holds_no_worker_and_is_over_when_its_time_has_come(hands: Hands) -> None:
    accepted = hands.start(FOR)
    unit = Unit(accepted.run_pk, 0)
    hands.execute(unit)
    status, due, since, lease = hands.standing(unit, "status, not_before, parked_since, lease_until")
    assert (status, lease) == ("WAITING", None)
    assert 3599 < due - since < 3601
    hands.execute(unit)  # A message that comes too early changes nothing.
    assert hands.standing(unit, "status, parked_since") == ("WAITING", since)
    _forward(hands, 3601)
    hands.drain()
    report = hands.engine.report(accepted)
    assert report.run.status == "SUCCESS"
    assert [step.failures for step in report.steps] == [0, 0]


def test_a_wait_that_is_woken_too_early_goes_on_waiting_for_the_rest(hands: Hands) -> None:
    unit = Unit(hands.start(FOR).run_pk, 0)
    hands.execute(unit)
    _forward(hands, 600)
    hands.change("UPDATE step_runs SET not_before = NULL")
    hands.execute(unit)
    status, due, since = hands.standing(unit, "status, not_before, parked_since")
    assert status == "WAITING"
    assert 3599 < due - since < 3601


def test_what_gives_a_step_back_does_not_make_it_wait_anew_but_a_retry_by_hand_does(hands: Hands) -> None:
    accepted = hands.start(FOR)
    unit = Unit(accepted.run_pk, 0)
    hands.execute(unit)
    since = hands.standing(unit, "parked_since")
    _forward(hands, 600)
    hands.change("UPDATE step_runs SET not_before = NULL")
    claim = hands.claim(unit)
    hands.change("UPDATE step_runs SET lease_until = lease_until - 1000")
    hands.reconciler().tick()
    assert hands.standing(unit, "status, crashes") == ("PENDING", 1)
    hands.execute(unit)
    assert hands.standing(unit, "parked_since")[0] == since[0] - 600
    assert claim.parked_since == since[0] - 600
    control.cancel(hands.runtime, accepted.run_id)
    assert hands.standing(unit, "status") == ("REVOKED",)
    control.retry(hands.runtime, accepted.run_id)
    hands.execute(unit)
    assert hands.standing(unit, "parked_since")[0] > since[0] - 600


@pytest.mark.parametrize(
    ("when", "status"), [("2001-01-01T00:00:00Z", "SUCCESS"), ("2999-01-01T00:00+01:00", "WAITING")]
)
def test_a_wait_until_an_instant(hands_on_postgres: Hands, when: str, status: str) -> None:
    unit = Unit(hands_on_postgres.start(UNTIL.replace("WHEN", when)).run_pk, 0)
    hands_on_postgres.execute(unit)
    assert hands_on_postgres.standing(unit, "status") == (status,)
    if status == "SUCCESS":
        assert json.loads(hands_on_postgres.standing(unit, "output")[0]) == {"until": "2001-01-01T00:00:00Z"}


def test_more_steps_wait_at_the_same_time_than_there_are_slots(calm: Cluster) -> None:
    report = calm.run(MANY)
    assert report.run.status == "SUCCESS"
    assert [step.attempts for step in report.steps if step.step_id != "end"] == [2] * 5


def test_a_call_of_a_map_cannot_be_parked(hands_on_postgres: Hands) -> None:
    def park(_: Given, ctx: StepContext) -> Any:
        ctx.park(1.0)

    hands_on_postgres.define(test_park=park)
    accepted = hands_on_postgres.start(
        'id: m\nsteps:\n  a: {uses: test.park, for_each: {items: [1]}, with: {value: "${{ item }}"}}'
    )
    hands_on_postgres.drain()
    report = hands_on_postgres.engine.report(accepted)
    assert report.run.status == "FAILURE"
    (error,) = hands_on_postgres.rows("SELECT error FROM item_runs")[0]
    assert "a call of a map cannot be parked" in error


@pytest.mark.parametrize(
    ("with_", "codes"),
    [("{for: soon}", ["CEL053"]), ("{until: [1]}", ["CEL053"]), ("{minutes: 3}", ["CEL051"])],
)
def test_a_wrong_wait_is_refused_before_anything_runs(with_: str, codes: list[str]) -> None:
    text = f"id: w\nsteps:\n  a: {{uses: wait, with: {with_}}}\n"
    with pytest.raises(DefinitionError) as refused:
        compile_workflow(parse_workflow(text, "w.yaml", steps=schemas(load_steps())))
    assert [found.code for found in refused.value.diagnostics] == codes
