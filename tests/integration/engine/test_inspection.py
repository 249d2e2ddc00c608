"""What a step was given is shown once it has begun, without secrets."""

from __future__ import annotations

from tests.support.hands import Given, Hands
from workflows.db.units import Unit
from workflows.engine.inspection import Given as Shown
from workflows.engine.inspection import step_input
from workflows.settings import Config
from workflows.steps import StepContext

TEXT = """
id: shown
params: {n: {type: integer, default: 3}}
steps:
  a: {uses: value, with: {n: "${{ params.n }}"}}
  b: {uses: value, with: {token: "${{ secret.TOKEN }}", twice: ["${{ steps.a.output.n }}", "${{ run.fire_time }}"]}}
  m: {uses: value, for_each: {items: [1, 2]}, with: {v: "${{ item }}"}}
finally:
  z: {uses: value, with: {how: "${{ run.status }}"}}
"""


def _shown(hands: Hands, unit: Unit, *, is_begun: bool = True) -> Shown:
    return hands.database.retrying(
        lambda tx: step_input(tx, hands.runtime, unit.run_pk, unit.ordinal, is_begun=is_begun)
    )


def test_a_step_shows_what_it_was_given(hands: Hands) -> None:
    hands.runtime.config = Config({**hands.runtime.config.env, "CELERIAC_SECRET_TOKEN": "hush-hush-value"})
    accepted = hands.start(TEXT)
    plan = hands.runtime.plan(hands.job(hands.claim(Unit(accepted.run_pk, 0))).context.version_id)
    unit = {step.id: Unit(accepted.run_pk, step.ordinal) for step in plan.steps}
    assert _shown(hands, unit["a"]) == Shown({"n": 3}, {"n": "${{ params.n }}"})
    assert _shown(hands, unit["a"], is_begun=False) == Shown(None, {"n": "${{ params.n }}"})
    assert _shown(hands, unit["b"]).given is None  # what it reads is not there yet
    assert _shown(hands, unit["m"]) == Shown(None, {"v": "${{ item }}"})
    hands.change("UPDATE step_runs SET status = 'PENDING', lease_until = NULL WHERE ordinal = 0")
    hands.drain()
    assert _shown(hands, unit["b"]).given == {"token": "***", "twice": [3, None]}
    assert _shown(hands, unit["z"]).given == {"how": "SUCCESS"}


def test_what_is_too_large_to_show_is_not_shown(hands: Hands) -> None:
    def large(inp: Given, ctx: StepContext) -> str:
        return "x" * 1_100_000

    hands.define(large=large)
    accepted = hands.start(
        "id: big\nsteps:\n  a: {uses: large}\n  b: {uses: value, with: {v: '${{ steps.a.output }}'}}"
    )
    hands.drain()
    assert _shown(hands, Unit(accepted.run_pk, 1)).given is None
