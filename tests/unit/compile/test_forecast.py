"""A plan on a virtual clock: never quicker than it could be, never slower than one slot, the same every time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.compile.graphs import workflows
from workflows.compile import compile_workflow
from workflows.compile.explain import critical_path
from workflows.compile.forecast import Work, assumed, chart, clock, forecast
from workflows.compile.plan import Plan
from workflows.model.parser import parse_workflow
from workflows.model.spec import Workflow

DIAMOND = """
id: diamond
steps:
  a: {uses: x}
  b: {uses: x, needs: a}
  c: {uses: x, needs: a}
  d: {uses: x, needs: [b, c]}
"""
COSTS = {"a": Work(1.0), "b": Work(2.0), "c": Work(3.0), "d": Work(1.0)}


def _plan(text: str) -> Plan:
    return compile_workflow(parse_workflow(text))


@given(workflow=workflows(), slots=st.integers(1, 5), seconds=st.lists(st.integers(0, 20), min_size=60, max_size=60))
def test_a_forecast_lies_between_what_is_possible_and_one_after_the_other(
    workflow: Workflow, slots: int, seconds: list[int]
) -> None:
    plan = compile_workflow(workflow)
    costs = {step.id: Work(float(seconds[step.ordinal % 60])) for step in plan.steps}
    played = forecast(plan, costs, slots)
    total = sum(work.seconds for work in costs.values())
    longest = sum(
        costs[plan.steps[o].id].seconds for o in critical_path(plan, {k: w.seconds for k, w in costs.items()})
    )
    assert max(longest, total / slots) <= played.seconds + 1e-9
    # What greedy list scheduling can lose at most (Graham 1966).
    assert played.seconds <= (total - longest) / slots + longest + 1e-9
    assert played == forecast(plan, costs, slots)
    begin = {bar.ordinal: bar for bar in played.bars}
    for before, after in plan.edges:
        assert begin[after].start >= begin[before].end
    assert len(played.bars) == len(plan.steps)


@pytest.mark.parametrize(("slots", "seconds"), [(1, 7.0), (2, 5.0), (9, 5.0)])
def test_more_slots_help_as_far_as_the_graph_lets_them(slots: int, seconds: float) -> None:
    played = forecast(_plan(DIAMOND), COSTS, slots)
    assert played.seconds == seconds
    assert played.busy_share == pytest.approx(7 / (seconds * slots))


def test_priority_goes_first_and_waiting_holds_no_slot() -> None:
    plan = _plan("id: p\nsteps:\n  low: {uses: x, priority: 1}\n  high: {uses: x, priority: 9}\n  slow: {uses: x}")
    played = forecast(plan, {"low": Work(1.0), "high": Work(1.0), "slow": Work(0.5, 1, 5.0)}, 1)
    bars = {bar.step: (bar.start, bar.end) for bar in played.bars}
    assert bars == {"high": (0.0, 1.0), "low": (1.0, 2.0), "slow": (0.0, 5.5)}


MAP = "id: m\nsteps:\n  a: {uses: x, for_each: {items: [1, 2, 3, 4], WINDOW}, with: {v: '${{ item }}'}}"


@pytest.mark.parametrize(
    ("window", "work", "slots", "seconds"),
    [
        ("batch: 1", Work(1.0, 10), 2, 5.0),
        ("max_parallel: 1", Work(1.0, 10), 2, 10.0),
        ("max_parallel: 3", Work(2.0, 4), 9, 4.0),
        ("max_parallel: 3", Work(0.01, 1000), 2, 5.0),
        ("max_parallel: 3", Work(1.0, 0), 2, 0.0),
    ],
)
def test_calls_of_a_map_share_the_slots_within_their_window(
    window: str, work: Work, slots: int, seconds: float
) -> None:
    text = MAP.replace("WINDOW", window).replace("item }", "batch }" if "batch" in window else "item }")
    assert forecast(_plan(text), {"a": work}, slots).seconds == pytest.approx(seconds)


def test_what_nobody_knows_is_counted_as_a_second_and_marked() -> None:
    played = forecast(_plan(MAP.replace("WINDOW", "max_parallel: 2")), {}, 8)
    assert (played.seconds, played.bars[0].is_known) == (2.0, False)
    assert "░" in chart(played)[0]


def test_finally_comes_last_and_on_failure_not_at_all() -> None:
    text = DIAMOND + "on_failure:\n  cry: {uses: x}\nfinally:\n  tidy: {uses: x}\n"
    bars = {bar.step: bar.start for bar in forecast(_plan(text), COSTS, 2).bars}
    assert bars["tidy"] == 5.0
    assert "cry" not in bars


def test_the_chart_shows_what_runs_beside_what() -> None:
    assert chart(forecast(_plan(DIAMOND), COSTS, 2), 10) == [
        "a  ██          0.0 s - 1.0 s",
        "b    ████      1.0 s - 3.0 s",
        "c    ██████    1.0 s - 4.0 s",
        "d          ██  4.0 s - 5.0 s",
    ]


def test_costs_are_read_and_refused() -> None:
    assert assumed({"a": "2.5", "b": "0.4x200"}) == {"a": Work(2.5), "b": Work(0.4, 200)}
    for text in ("", "soon", "1x", "x3", "1x2.5", "-1", "nan", "1e10", "1x-2"):
        with pytest.raises(ValueError, match="is no cost"):
            assumed({"a": text})
    with pytest.raises(ValueError, match="at least one slot"):
        forecast(_plan(DIAMOND), {}, 0)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (0.04, "40 ms"), (2.44, "2.4 s"), (12.2, "12 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_times_are_told_as_people_read_them(seconds: float, text: str) -> None:
    assert clock(seconds) == text
