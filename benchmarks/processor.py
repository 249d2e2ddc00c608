"""Processor time by the part that spent it: unlike wall time it hardly changes when others use the machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

import psutil

Parts = Mapping[str, Callable[[], list[psutil.Process]]]
"""Which processes make up a part; asked again each time, because workers replace their children."""


@contextmanager
def processor_time(parts: Parts) -> Iterator[dict[str, float]]:
    """Seconds (user and system) that each part spent while inside; the dict is filled at the end."""
    before = _spent(parts)
    found: dict[str, float] = {}
    yield found
    after = _spent(parts)
    for part, processes in after.items():
        found[part] = sum(spent - before[part].get(pid, 0.0) for pid, spent in processes.items())


def family(pid: int) -> Parts:
    """A worker: its parent process and the children that run tasks."""
    parent = psutil.Process(pid)
    return {"worker parent": lambda: [parent], "worker children": parent.children}


def _spent(parts: Parts) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = {}
    for part, processes in parts.items():
        times = found[part] = {}
        for process in processes():
            with suppress(psutil.NoSuchProcess):
                spent = process.cpu_times()
                times[process.pid] = spent.user + spent.system
    return found
