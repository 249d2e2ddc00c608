"""Processor time by the part that spent it: unlike wall time it hardly changes when others use the machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

import psutil

Parts = Mapping[str, Callable[[], float]]
"""What each part has spent so far, in seconds (user and system)."""


@contextmanager
def processor_time(parts: Parts) -> Iterator[dict[str, float]]:
    """Seconds that each part spent while inside; the dict is filled at the end."""
    before = {part: spent() for part, spent in parts.items()}
    found: dict[str, float] = {}
    yield found
    for part, spent in parts.items():
        found[part] = spent() - before[part]


def own(process: psutil.Process) -> Callable[[], float]:
    """What one process spends, without its children."""

    def spent() -> float:
        times = process.cpu_times()
        return times.user + times.system

    return spent


def children(parent: psutil.Process) -> Callable[[], float]:
    """What the children of a process spend, also those that end meanwhile and are replaced."""

    def spent() -> float:
        ended = parent.cpu_times()
        total = ended.children_user + ended.children_system
        for child in parent.children():
            with suppress(psutil.NoSuchProcess):
                total += own(child)()
        return total

    return spent


def family(pid: int) -> Parts:
    """A worker: its parent process and the children that run tasks."""
    parent = psutil.Process(pid)
    return {"worker parent": own(parent), "worker children": children(parent)}
