"""Retry policy and tolerance of a step: pure arithmetic, chance is an argument."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

Jitter = Literal["full", "none"]

DURATION = re.compile(r"^(?P<number>\d+(?:\.\d+)?)(?P<unit>ms|s|m|h|d)$")
"""How a duration is written."""

_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

SIZE = re.compile(r"^(\d{1,12})\s*([kKmM]?B)$")
"""How a number of bytes is written."""

UNIT_BYTES = {"b": 1, "kb": 1_000, "mb": 1_000_000}

PERMANENT_ERRORS = ("PermanentError",)
"""Matched before any policy: no `only_for` can ask for these to be tried again."""


def parse_duration(value: object) -> float:
    """Seconds of `3s`, `10m`, `6h`, `1d`, `250ms`, or of a plain number of seconds.

    Raises:
        ValueError: the text is no duration; the message says which forms are.
    """
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is no duration; write 30s, 10m, 6h, 1d or a number of seconds")
    if isinstance(value, int | float):
        if value < 0 or not math.isfinite(value):
            raise ValueError(f"{value!r} is no duration; it must be a finite number of seconds, 0 or more")
        return float(value)
    match = DURATION.match(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{value!r} is no duration; write 30s, 10m, 6h, 1d or a number of seconds")
    return float(match["number"]) * _UNIT_SECONDS[match["unit"]]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When and how often a failed step is tried again.

    Attributes:
        max_attempts: Tries in all, the first one included.
        delay_seconds: Wait before the second try.
        factor: Growth of the wait from try to try.
        max_delay_seconds: The wait never exceeds it.
        jitter: `full` draws the wait uniformly from 0 to its computed value, `none` takes it as it is.
        only_for: Names of exception classes; when given, only these are tried again.
        never_for: Names of exception classes that are final at once; wins over `only_for`.
    """

    max_attempts: int = 1
    delay_seconds: float = 60.0
    factor: float = 2.0
    max_delay_seconds: float = 900.0
    jitter: Jitter = "full"
    only_for: tuple[str, ...] = ()
    never_for: tuple[str, ...] = ()

    def delay_before_next(self, failures: int, u: float) -> float:
        """Seconds to wait after the `failures`-th failure (from 1); `u` is drawn from [0, 1)."""
        exponent = min(failures - 1, 1024)
        try:
            delay = min(self.max_delay_seconds, self.delay_seconds * self.factor**exponent)
        except OverflowError:
            delay = self.max_delay_seconds
        return delay * u if self.jitter == "full" else delay

    def is_retryable(self, error_names: Iterable[str]) -> bool:
        """Whether an error with these class names (its whole MRO, most special first) may be tried again."""
        names = set(error_names)
        if names.intersection(PERMANENT_ERRORS) or names.intersection(self.never_for):
            return False
        return not self.only_for or bool(names.intersection(self.only_for))


class Behavior(StrEnum):
    """What becomes of a run whose concurrency group is full."""

    QUEUE = "queue"
    SKIP = "skip"
    CANCEL_RUNNING = "cancel_running"


@dataclass(frozen=True, slots=True)
class Concurrency:
    """How many runs of a group may be at work at the same time.

    Attributes:
        group: A text that may read params; runs of all workflows with the same text are one group.
    """

    group: str
    limit: int = 1
    behavior: Behavior = Behavior.QUEUE


_RATE = re.compile(r"^(?P<count>\d+)\s*/\s*(?P<period>\d*(?:\.\d+)?(?:ms|s|m|h|d))$")


@dataclass(frozen=True, slots=True)
class Rate:
    """So many starts in a period, evenly spread: `1/3s`, `100/m`.

    Attributes:
        interval_seconds: From one start to the next.
        burst: Starts that may come at once after a quiet time.
    """

    interval_seconds: float
    burst: int = 1

    def next(self, booked_until: float, now: float) -> tuple[float, float]:
        """`(wait_seconds, booked_until)` of the next start; both instants are in seconds of the same clock.

        >>> rate = Rate(3.0)
        >>> rate.next(0.0, 100.0)
        (0.0, 103.0)
        >>> rate.next(103.0, 101.0)
        (2.0, 106.0)
        """
        begin = max(booked_until, now)
        wait = max(0.0, begin - (self.burst - 1) * self.interval_seconds - now)
        return wait, begin + self.interval_seconds


def parse_rate(text: str) -> float:
    """Seconds from one start to the next of `1/3s`, `10/m`, `100/1h`.

    Raises:
        ValueError: the text is no rate.
    """
    match = _RATE.match(text.strip())
    period = match["period"] if match else ""
    if match is None or int(match["count"]) == 0:
        raise ValueError(f"{text!r} is no rate; write 1/3s, 10/m or 100/1h")
    seconds = parse_duration(period if period[0].isdigit() else f"1{period}")
    if seconds <= 0:
        raise ValueError(f"{text!r} is no rate; its period must be more than 0")
    return seconds / int(match["count"])


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How many calls of a map may fail before the map itself does: a count, or a share of the total."""

    count: int = 0
    percent: float | None = None

    def allows(self, failed: int, total: int) -> bool:
        """Whether `failed` of `total` calls is still within the tolerance."""
        if self.percent is not None:
            return failed * 100 <= self.percent * total
        return failed <= self.count
