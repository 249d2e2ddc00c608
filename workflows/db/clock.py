"""Time as an argument."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """What the engine asks of time; the module `time` is one."""

    def time(self) -> float:
        """Seconds since 1970."""
        ...

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back."""
        ...

    def sleep(self, seconds: float, /) -> None:
        """Come back after so many seconds."""
        ...
