"""The graph of a workflow's steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import networkx as nx


def dependency_graph(needs: Mapping[str, Sequence[str]]) -> nx.DiGraph[str]:
    """Steps as vertices in the given order, edges from a dependency to the step that waits for it.

    Needs that name no step, and a step's need of itself, are left out.
    """
    import networkx as nx

    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(needs)
    graph.add_edges_from(
        (before, step) for step, wanted in needs.items() for before in wanted if before in needs and before != step
    )
    return graph


def cycles(needs: Mapping[str, Sequence[str]]) -> list[tuple[str, ...]]:
    """One shortest cycle for every knot of steps that wait for each other.

    Each cycle begins with its step that comes first in `needs`; every step needs the one after it, the last the first.
    """
    if _is_acyclic(needs):
        return []
    # Half a second to import, and few definitions are wrong in this way.
    import networkx as nx

    graph = dependency_graph(needs)
    order = {step: index for index, step in enumerate(needs)}
    found = [
        _shortest_cycle(graph.subgraph(knot), min(knot, key=order.__getitem__))
        for knot in nx.strongly_connected_components(graph)
        if len(knot) > 1
    ]
    return sorted(found, key=lambda cycle: order[cycle[0]])


def _is_acyclic(needs: Mapping[str, Sequence[str]]) -> bool:
    known = {step: [b for b in wanted if b in needs and b != step] for step, wanted in needs.items()}
    try:
        TopologicalSorter(known).prepare()
    except CycleError:
        return False
    return True


def _shortest_cycle(knot: nx.DiGraph[str], start: str) -> tuple[str, ...]:
    """The shortest way from `start` along its needs back to itself."""
    import networkx as nx

    distances = nx.single_source_shortest_path(knot, start)
    back = min((distances[before] for before in knot.predecessors(start)), key=len)
    return (start, *reversed(back[1:]))
