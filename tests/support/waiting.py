"""Waiting for an effect, never for the clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event
from typing import TypeVar

T = TypeVar("T")


def wait_until(condition: Callable[[], T], timeout: float = 15.0, message: str = "", interval: float = 0.02) -> T:
    """Call `condition` until it gives something true, and return that; fail after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    pause = Event()
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{message or condition} was not seen within {timeout} s; last value: {value!r}")
        pause.wait(interval)
