"""How maps are cut into messages."""

from __future__ import annotations

import doctest

from hypothesis import given
from hypothesis import strategies as st

from workflows.engine import ranges
from workflows.engine.ranges import LARGEST_RANGE, TARGET_SECONDS, Pace, range_size


def test_the_examples_of_the_module_hold() -> None:
    assert doctest.testmod(ranges).failed == 0


@given(
    slots=st.integers(0, 1000),
    max_parallel=st.one_of(st.none(), st.integers(1, 10_000)),
    mean=st.one_of(st.none(), st.floats(0, 1000)),
    remaining=st.integers(1, 1_000_000),
)
def test_a_range_is_never_empty_nor_larger_than_allowed(
    slots: int, max_parallel: int | None, mean: float | None, remaining: int
) -> None:
    pace = Pace(slots, max_parallel, mean)
    size = range_size(pace, remaining)
    assert 1 <= size <= min(remaining, LARGEST_RANGE)
    assert mean is None or size == 1 or size * mean <= TARGET_SECONDS * 1.0001
    assert pace.window >= 1
    assert max_parallel is None or pace.window <= max_parallel


def test_ten_thousand_quick_calls_take_about_two_hundred_messages() -> None:
    remaining, messages = 10_000, 0
    pace = Pace(slots=2, max_parallel=None, mean_seconds=0.0005)
    while remaining:
        remaining -= range_size(pace, remaining)
        messages += 1
    assert 100 <= messages <= 250
