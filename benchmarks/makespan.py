"""Random graphs of sleeping steps: is the order kept, and how near is the end to that of list scheduling?"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from random import Random
from typing import Any

from benchmarks.graphs import Graph, random_graph
from tests.support.cluster import Cluster, Line

INPUTS = "{node: {id}, ms: {ms}}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One graph that was run.

    Attributes:
        faults: What went against the graph, in words; empty when nothing did.
        seconds: From the acceptance of the run to its end, by the database.
        ideal_seconds: List scheduling, longest path first.
        queue_seconds: List scheduling, first ready first served.
    """

    steps: int
    edges: int
    faults: list[str]
    seconds: float
    ideal_seconds: float
    queue_seconds: float

    @property
    def ratio(self) -> float:
        """Time over that of list scheduling."""
        return self.seconds / self.ideal_seconds


def run_graph(engine: Cluster, graph: Graph, slots: int) -> Outcome:
    """Run a graph of `ledger.nap` steps on workers with `slots` slots in all."""
    engine.ledger_file.write_text("")
    ideal, queue = graph.shortest_seconds(slots), graph.shortest_seconds(slots, longest_first=False)
    report = engine.run(graph.definition("ledger.nap", INPUTS), timeout=60 + 5 * ideal)
    faults = order_faults(graph, engine.ledger())
    if report.run.status != "SUCCESS":
        faults.append(f"the run ended as {report.run.status}: {report.run.error}")
    if report.dispatches["reconciler"]:
        faults.append(f"the reconciler dispatched {report.dispatches['reconciler']} in an undisturbed run")
    finished = report.run.finished_at
    assert finished is not None
    edges = sum(len(needs) for needs in graph.needs.values())
    return Outcome(len(graph.needs), edges, faults, finished - report.run.created_at, ideal, queue)


def order_faults(graph: Graph, ledger: list[Line]) -> list[str]:
    """Steps that ran twice, never, or before what they need had ended."""
    starts: dict[str, list[float]] = {step: [] for step in graph.needs}
    ends: dict[str, list[float]] = {step: [] for step in graph.needs}
    for line in ledger:
        (starts if line.event == "start" else ends)[line.node].append(line.at)
    faults = [
        f"{step} started {len(starts[step])} times and ended {len(ends[step])} times"
        for step in graph.needs
        if (len(starts[step]), len(ends[step])) != (1, 1)
    ]
    return faults + [
        f"{step} started before {before} had ended"
        for step, needs in graph.needs.items()
        for before in needs
        if starts[step] and (not ends[before] or starts[step][0] < ends[before][0])
    ]


def random_graphs(count: int, seed: int, sizes: tuple[int, int] = (3, 100)) -> list[Graph]:
    """The same graphs for the same seed."""
    random = Random(seed)
    return [random_graph(random, sizes=sizes) for _ in range(count)]


def summary(outcomes: list[Outcome]) -> dict[str, Any]:
    """What all graphs together say."""
    return {
        "graphs": len(outcomes),
        "steps": sum(outcome.steps for outcome in outcomes),
        "faults": [fault for outcome in outcomes for fault in outcome.faults],
        "median_ratio": statistics.median(outcome.ratio for outcome in outcomes),
        "worst_ratio": max(outcome.ratio for outcome in outcomes),
        "median_ratio_to_first_ready_first_served": statistics.median(o.seconds / o.queue_seconds for o in outcomes),
        "each": [
            {
                "steps": outcome.steps,
                "edges": outcome.edges,
                "seconds": outcome.seconds,
                "ideal_seconds": outcome.ideal_seconds,
                "ratio": outcome.ratio,
            }
            for outcome in outcomes
        ],
    }
