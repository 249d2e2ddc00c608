"""What is measured, and what it should come to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks import raw
from benchmarks.graphs import Graph, chain, fan, layered

MAP_DEFINITION = """
id: bench
params:
  count: {type: integer}
steps:
  first:
    uses: bench.numbers
    with: {count: "${{ params.count }}"}
  each:
    needs: first
    uses: bench.call
    for_each: {items: "${{ steps.first.output.values }}"}
    with: {value: "${{ item }}"}
  last:
    needs: each
    uses: bench.noop
"""


@dataclass(frozen=True, slots=True)
class Work:
    """One thing to do, by Celeriac and by the raw canvas.

    Attributes:
        raws: The raw canvas, by the name of the variant; all of them do the same.
        goals: Largest ratio of Celeriac's time to the raw time, by variant and database.
        runs: How many runs are submitted at once.
        slots: Worker processes of each arm.
        ideal_seconds: The shortest time possible; goal for the time over it. None when steps take no time.
        steps: Units of work in all.
    """

    key: str
    title: str
    definition: str
    raws: Mapping[str, raw.CanvasMaker]
    steps: int
    goals: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    params: Mapping[str, int] = field(default_factory=dict)
    runs: int = 1
    slots: int = 2
    ideal_seconds: float | None = None
    ideal_goal: float | None = None


LAYERS = layered(10, 10)
SLEEPING_LAYERS = layered(10, 10, naps=(10, 200))
SLEEPING_SLOTS = 8


def _both(graph: Graph) -> dict[str, raw.CanvasMaker]:
    return {"groups": raw.levels(graph, joins=False), "groups with joins": raw.levels(graph, joins=True)}


def map_work(count: int) -> Work:
    """W2m with so many items."""
    return Work(
        f"W2m-{count}",
        f"one -> for_each over {count:,} items -> one",
        MAP_DEFINITION,
        {"chord": raw.fan(count)},
        count + 2,
        goals={"chord": {"sqlite": 0.06, "postgresql": 0.06}},
        params={"count": count},
    )


WORKS: tuple[Work, ...] = (
    Work(
        "W1",
        "chain of 100 steps",
        chain(100).definition(),
        {"chain": raw.chains(1, 100)},
        100,
        goals={"chain": {"sqlite": 1.2, "postgresql": 1.5}},
    ),
    Work(
        "W2",
        "one -> 1,000 declared steps -> one",
        fan(1000).definition(),
        {"chord": raw.fan(1000)},
        1002,
        goals={"chord": {"sqlite": 1.1, "postgresql": 1.3}},
    ),
    map_work(1_000),
    map_work(10_000),
    Work(
        "W3",
        "10 x 10 layers, not series-parallel",
        LAYERS.definition(),
        _both(LAYERS),
        100,
        goals={"groups": {"sqlite": 0.6, "postgresql": 0.6}},
    ),
    Work(
        "W4",
        f"the same, sleeping 10-200 ms, {SLEEPING_SLOTS} slots",
        SLEEPING_LAYERS.definition("bench.nap", "{ms: {ms}}"),
        _both(SLEEPING_LAYERS),
        100,
        slots=SLEEPING_SLOTS,
        ideal_seconds=SLEEPING_LAYERS.shortest_seconds(SLEEPING_SLOTS),
        ideal_goal=1.08,
    ),
    Work(
        "W6",
        "200 runs of a chain of 5 at once",
        chain(5).definition(),
        {"chains": raw.chains(200, 5)},
        1000,
        goals={"chains": {"sqlite": 1.3, "postgresql": 1.7}},
        runs=200,
    ),
)
"""Works that are timed; what goes over the broker is weighed in `benchmarks.bytes_sent`."""
