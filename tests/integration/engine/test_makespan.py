"""Random graphs run in the order of their edges, each step once. How fast they do is measured by `benchmarks`."""

from __future__ import annotations

import pytest

from benchmarks.graphs import Graph, layered
from benchmarks.makespan import random_graphs, run_graph
from tests.support.cluster import Cluster

SLOTS = 4


def test_random_graphs_keep_their_order_and_run_each_step_once(engine: Cluster) -> None:
    engine.start_worker(slots=SLOTS)
    graphs = [*random_graphs(3, seed=7, sizes=(3, 40)), layered(4, 4, naps=(0, 20))]
    for graph in graphs:
        outcome = run_graph(engine, graph, SLOTS)
        assert outcome.faults == [], graph.needs


def test_list_scheduling_is_what_can_be_counted_by_hand() -> None:
    diamond = Graph({"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c")}, {"a": 100, "b": 200, "c": 50, "d": 100})
    assert diamond.shortest_seconds(2) == pytest.approx(0.4)
    assert diamond.shortest_seconds(1) == pytest.approx(0.45)
    # Served as they come, the two short steps take both slots, and the long path waits.
    needs = {"one": (), "two": (), "head": (), "tail": ("head",)}
    race = Graph(needs, {"one": 100, "two": 100, "head": 100, "tail": 200})
    assert race.shortest_seconds(2, longest_first=False) == pytest.approx(0.4)
    assert race.shortest_seconds(2) == pytest.approx(0.3)
    assert Graph({}).shortest_seconds(2) == 0.0
