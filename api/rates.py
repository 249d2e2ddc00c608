"""How many requests a caller may make: a bucket of tokens for each, in bounded memory."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address

MOST_CALLERS = 10_000
"""Buckets that are kept. Whoever comes beyond them displaces the caller that has been silent longest."""


class Rates:
    """Buckets of one kind.

    Args:
        per_second: Tokens that come back in a second; 0 lets everything pass.
        burst: Tokens of a full bucket.
        clock: Seconds that only grow.
    """

    def __init__(self, per_second: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str) -> int:
        """Take one token: 0, or the seconds after which there will be one again."""
        left = self._left(caller)
        if left < 1:
            return self.wait(caller)
        self._buckets[caller] = (left - 1, self._clock())
        self._buckets.move_to_end(caller)
        while len(self._buckets) > MOST_CALLERS:
            self._buckets.popitem(last=False)
        return 0

    def wait(self, caller: str) -> int:
        """The seconds, rounded up, until a token is there; 0 when there is one. Nothing is taken."""
        left = self._left(caller)
        return 0 if left >= 1 else max(1, math.ceil((1 - left) / self._per_second))

    def __len__(self) -> int:
        return len(self._buckets)

    def _left(self, caller: str) -> float:
        if self._per_second <= 0:
            return self._burst + 1
        left, at = self._buckets.get(caller, (self._burst, 0.0))
        return min(self._burst, left + (self._clock() - at) * self._per_second)


def caller_name(address: str | None) -> str:
    """What stands for a client without a key: its address, of IPv6 the network of 64 bits that one holder has."""
    try:
        found = ip_address((address or "").partition("%")[0])
    except ValueError:
        return "?"
    if isinstance(found, IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return f"{IPv6Address(int(found) >> 64 << 64)}/64"
    return str(found)
