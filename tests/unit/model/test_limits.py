"""Rates: how they are written, and when the next start is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows.compile import compile_workflow
from workflows.compile.plan import FragmentKind, Plan
from workflows.model.parser import parse_workflow
from workflows.model.policies import Rate, parse_rate


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1/3s", 3.0), ("10/m", 6.0), ("100/1h", 36.0), (" 2 / 500ms ", 0.25), ("1/d", 86_400.0), ("3/1.5s", 0.5)],
)
def test_a_rate_is_starts_per_time(text: str, seconds: float) -> None:
    assert parse_rate(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "3s", "1/", "/s", "0/s", "1/0s", "-1/s", "1/3x", "1.5/s", "1/3s/2"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no rate"):
        parse_rate(text)


@given(
    st.lists(st.floats(0.0, 50.0), min_size=1, max_size=40),
    st.floats(0.01, 20.0),
    st.integers(1, 5),
)
def test_no_window_of_time_has_more_starts_than_its_share_and_the_burst(
    gaps: list[float], interval: float, burst: int
) -> None:
    rate, now, booked, starts = Rate(interval, burst), 1000.0, 0.0, []
    for gap in gaps:
        now += gap
        wait, booked = rate.next(booked, now)
        starts.append(now + wait)
    assert starts == sorted(starts)
    for first in range(len(starts)):
        for last in range(first + burst, len(starts)):
            assert starts[last] - starts[first] >= (last - first - burst + 1) * interval - 1e-6


@given(st.floats(0.01, 100.0), st.integers(1, 5))
def test_after_a_quiet_time_as_many_start_at_once_as_the_burst(interval: float, burst: int) -> None:
    rate, booked, waits = Rate(interval, burst), 0.0, []
    for _ in range(burst + 1):
        wait, booked = rate.next(booked, 1e6)
        waits.append(wait)
    assert waits[:burst] == pytest.approx([0.0] * burst, abs=1e-6)
    assert waits[burst] == pytest.approx(interval, rel=1e-3, abs=1e-6)


def plan(text: str) -> Plan:
    return compile_workflow(parse_workflow(text))


TEXT = """
id: w
rate_limits: {api: {rate: 1/3s, burst: 2}}
pools: {gpu: 2}
defaults: {priority: 3}
steps:
  a: {uses: x}
  b: {uses: x, needs: a, pool: gpu, priority: 9}
  c: {uses: x, needs: b, rate_limit: api}
"""


def test_a_step_with_a_limit_stands_alone_for_it_may_leave_its_worker() -> None:
    assert [fragment.kind for fragment in plan(TEXT).fragments] == [FragmentKind.SINGLE] * 3


def test_a_stored_plan_keeps_limits_and_priorities() -> None:
    made = Plan.from_json(plan(TEXT).to_json())
    assert made == plan(TEXT)
    assert (made.rate_limits, made.pools) == ({"api": Rate(3.0, 2)}, {"gpu": 2})
    assert [(step.pool, step.rate_limit, step.priority) for step in made.steps] == [
        (None, None, 3),
        ("gpu", None, 9),
        (None, "api", 3),
    ]
