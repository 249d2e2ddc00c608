"""How many calls of a map ride in one message. Pure arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass

TARGET_SECONDS = 1.0
"""Work that a range should hold: long against the cost of a message, short against a lease."""

SMALLEST_SECONDS = 0.01
"""Work that is not cut further for the sake of balance: a range costs one or two milliseconds whatever it holds."""

LARGEST_RANGE = 100


@dataclass(frozen=True, slots=True)
class Pace:
    """What is known of a map when more of it is to be dispatched.

    Attributes:
        slots: Worker slots seen alive.
        max_parallel: Calls that may be in progress at the same time, None for no limit. A range runs its calls one
            after the other, so it is also the limit of ranges in flight.
        mean_seconds: Measured time of one call; None before the first has ended.
    """

    slots: int
    max_parallel: int | None
    mean_seconds: float | None

    @property
    def window(self) -> int:
        """How many ranges may be in flight: enough to keep every slot busy while messages travel."""
        wanted = 2 * max(self.slots, 2)
        return wanted if self.max_parallel is None else max(1, min(wanted, self.max_parallel))


def range_size(pace: Pace, remaining: int) -> int:
    """Calls for the next range: one until the pace is known, then about a second's worth, fewer towards the end.

    Towards the end slots should come to it together, but only as far as a range stays worth its own cost.

    >>> range_size(Pace(slots=2, max_parallel=None, mean_seconds=None), 10_000)
    1
    >>> range_size(Pace(slots=2, max_parallel=None, mean_seconds=0.001), 10_000)
    100
    >>> range_size(Pace(slots=2, max_parallel=None, mean_seconds=0.1), 24)
    3
    >>> range_size(Pace(slots=2, max_parallel=None, mean_seconds=0.001), 24)
    10
    """
    if pace.mean_seconds is None:
        return 1
    by_time = math.floor(TARGET_SECONDS / max(pace.mean_seconds, TARGET_SECONDS / LARGEST_RANGE))
    by_share = math.ceil(remaining / (2 * pace.window)) if pace.window > 1 else remaining
    worthwhile = math.floor(SMALLEST_SECONDS / max(pace.mean_seconds, SMALLEST_SECONDS / LARGEST_RANGE))
    return max(1, min(by_time, max(by_share, worthwhile), LARGEST_RANGE, remaining))
