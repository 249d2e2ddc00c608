"""kombu's Redis transport, keeping one client a channel.

kombu makes a new `redis.Redis` for every message that is taken, acknowledged or published. A client is only a view of
its connection pool, so one serves as well; making them was a quarter of the processor time of a worker's parent.
"""

from __future__ import annotations

from typing import Any

from kombu.transport import redis


class Channel(redis.Channel):
    """A channel whose synchronous client lives as long as its connection pool."""

    _kept: tuple[Any, Any] | None = None

    def _create_client(self, asynchronous: bool = False) -> Any:
        if asynchronous:
            return super()._create_client(asynchronous=True)  # type: ignore[no-untyped-call]
        pool = self.pool
        if self._kept is None or self._kept[0] is not pool:
            self._kept = (pool, super()._create_client())  # type: ignore[no-untyped-call]
        return self._kept[1]


class Transport(redis.Transport):
    """The Redis transport with such channels."""

    Channel = Channel
