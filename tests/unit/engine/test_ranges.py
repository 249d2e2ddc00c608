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


def _sizes(pace: Pace, remaining: int) -> list[int]:
    sizes = []
    while remaining:
        sizes.append(range_size(pace, remaining))
        remaining -= sizes[-1]
    return sizes


def test_ten_thousand_quick_calls_take_about_a_hundred_ranges() -> None:
    sizes = _sizes(Pace(slots=2, max_parallel=None, mean_seconds=0.0001), 10_000)
    assert sizes == [LARGEST_RANGE] * 100


def test_calls_of_a_millisecond_are_not_cut_below_ten_milliseconds() -> None:
    sizes = _sizes(Pace(slots=2, max_parallel=None, mean_seconds=0.001), 1_000)
    assert min(sizes[:-1]) == 10
    assert sizes == sorted(sizes, reverse=True)


def test_the_last_long_calls_go_one_by_one_to_whoever_is_free() -> None:
    assert _sizes(Pace(slots=2, max_parallel=None, mean_seconds=0.5), 24)[-8:] == [1] * 8
