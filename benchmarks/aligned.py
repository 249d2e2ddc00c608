"""Two maps, the second over what the first gave, beside one map whose step does both: what a barrier between costs."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from tests.support.cluster import Cluster

TWO = """
id: two-maps
params: {count: {type: integer}}
steps:
  a: {uses: bench.half, for_each: {items: "${{ range(params.count) }}"}, with: {value: "${{ item }}"}}
  b: {uses: bench.half, for_each: {items: "${{ steps.a.outputs.value }}"}, with: {value: "${{ item }}"}}
"""
ONE = """
id: one-map
params: {count: {type: integer}}
steps:
  ab: {uses: bench.both, for_each: {items: "${{ range(params.count) }}"}, with: {value: "${{ item }}"}}
"""


@dataclass(frozen=True, slots=True)
class Compared:
    """Medians of a number of calls, in seconds from the run's start to its end."""

    count: int
    two_seconds: float
    one_seconds: float

    @property
    def ratio(self) -> float:
        """How much longer two maps take than a fused one could at best."""
        return self.two_seconds / self.one_seconds


def compare(engine: Cluster, count: int, repeat: int) -> Compared:
    """Run both in turns."""
    taken: dict[str, list[float]] = {TWO: [], ONE: []}
    for _ in range(repeat):
        for text, seconds in taken.items():
            report = engine.run(text, timeout=600, count=count)
            assert report.run.status == "SUCCESS", report.run.error
            assert report.run.seconds is not None
            seconds.append(report.run.seconds)
    return Compared(count, median(taken[TWO]), median(taken[ONE]))
