"""Steps with `cache`: what an earlier one was given is not done again, by step and by call, until it is too old."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.hands import Given, Hands
from workflows.db import cache
from workflows.db.units import Unit
from workflows.engine.upkeep_tasks import clean_up
from workflows.steps import StepContext, StepDefinition

ONE = """
id: kept
params: {size: {type: integer, default: 1}}
steps:
  a: {uses: count, cache: {ttl: 1h}, with: {value: "${{ params.size }}"}}
  b: {needs: a, uses: value, with: {seen: "${{ steps.a.output.seen }}"}}
outputs: {seen: "${{ steps.b.output.seen }}"}
"""
MAP = """
id: kept-calls
params: {sizes: {type: array, items: {type: integer}}}
steps:
  a: {uses: count, cache: {ttl: 1h}, for_each: {items: "${{ params.sizes }}"}, with: {value: "${{ item }}"}}
outputs: {seen: "${{ steps.a.outputs.seen }}"}
"""


@pytest.fixture
def calls(hands: Hands) -> list[Any]:
    """What the step `count` was called with; it gives how many calls there have been."""
    seen: list[Any] = []

    def count(inp: Given, ctx: StepContext) -> dict[str, int]:
        if inp.value == 13:
            raise ValueError("thirteen")
        seen.append(inp.value)
        return {"seen": len(seen)}

    hands.define(count=count)
    return seen


def _run(hands: Hands, text: str, **params: Any) -> Any:
    accepted = hands.start(text, **params)
    hands.drain()
    return hands.engine.report(accepted)


def test_the_same_input_is_served_and_another_is_not(hands: Hands, calls: list[Any]) -> None:
    first = _run(hands, ONE)
    second = _run(hands, ONE)
    assert [report.run.outputs for report in (first, second)] == [{"seen": 1}, {"seen": 1}]
    assert (first.steps[0].reason, second.steps[0].reason) == (None, "cached")
    assert (second.run.status, second.run.progress) == ("SUCCESS", 100)
    lines = hands.rows("SELECT message FROM log_lines")
    assert [line for (line,) in lines] == [f"taken from the cache: run {first.run.run_id}, 0 s ago"]
    assert _run(hands, ONE, size=2).run.outputs == {"seen": 2}
    assert calls == [1, 2]


def test_what_is_too_old_is_done_again_and_cleaned_up(hands: Hands, calls: list[Any]) -> None:
    _run(hands, ONE)
    hands.change("UPDATE cached_outputs SET created_at = created_at - 3601, expires_at = expires_at - 3601")
    assert clean_up(hands.runtime, 0)["cached"] == 1
    _run(hands, ONE)
    hands.change("UPDATE cached_outputs SET created_at = created_at - 3601, expires_at = expires_at - 3601")
    _run(hands, ONE)
    assert calls == [1, 1, 1]
    assert hands.rows("SELECT count(*) FROM cached_outputs WHERE expires_at > created_at") == [(1,)]


def test_another_version_of_the_step_is_another_thing(hands: Hands, calls: list[Any]) -> None:
    _run(hands, ONE)
    known = hands.runtime.steps.get("count")
    assert known is not None
    newer = StepDefinition(known.name, known.function, known.input_model, known.output_type, "2")
    hands.runtime.steps._steps["count"] = newer
    assert _run(hands, ONE).run.outputs == {"seen": 2}
    assert calls == [1, 1]


def test_a_failure_is_not_kept(hands: Hands, calls: list[Any]) -> None:
    for _ in range(2):
        assert _run(hands, ONE, size=13).run.status == "FAILURE"
    assert hands.rows("SELECT count(*) FROM cached_outputs") == [(0,)]


def test_each_call_of_a_map_is_served_by_itself(hands: Hands, calls: list[Any]) -> None:
    assert _run(hands, MAP, sizes=[1, 2, 3]).run.outputs == {"seen": [1, 2, 3]}
    report = _run(hands, MAP, sizes=[3, 4, 1, 4])
    assert report.run.outputs is not None
    seen = report.run.outputs["seen"]
    assert (seen[0], seen[2]) == (3, 1)
    assert calls[3:] in ([4], [4, 4])  # In one range neither of both is known yet.
    assert (report.steps[0].items_success, report.steps[0].items_total) == (4, 4)


def test_a_step_that_writes_with_its_result_is_kept_with_both(hands: Hands) -> None:
    done: list[int] = []

    def count(inp: Given, ctx: StepContext) -> dict[str, int]:
        with ctx.transaction():
            done.append(1)
        return {"seen": len(done)}

    hands.define(count=count)
    for _ in range(2):
        assert _run(hands, ONE).run.outputs == {"seen": 1}
        assert _run(hands, MAP, sizes=[1]).run.outputs == {"seen": [1]}
    assert len(done) == 1  # The same input by another way: the call of the map is the step's.


def test_a_zombie_keeps_nothing(hands: Hands, calls: list[Any]) -> None:
    accepted = hands.start(ONE)
    unit = Unit(accepted.run_pk, 0)

    def count(inp: Given, ctx: StepContext) -> dict[str, int]:
        hands.change("UPDATE step_runs SET token = token + 1 WHERE ordinal = 0")
        return {"seen": 7}

    hands.define(count=count)
    hands.execute(unit)
    assert hands.rows("SELECT count(*) FROM cached_outputs") == [(0,)]


def test_it_may_be_cleared_by_step(hands: Hands, calls: list[Any]) -> None:
    _run(hands, ONE)
    assert hands.database.retrying(lambda tx: cache.clear(tx, "other")) == 0
    assert hands.database.retrying(lambda tx: cache.clear(tx, "count")) == 1
    _run(hands, ONE)
    assert calls == [1, 1]
