"""Whether an order could be written with nothing but "one after the other" and "side by side"."""

from __future__ import annotations

from collections import Counter

from workflows.compile.graph import Edge, Graph


def is_series_parallel(graph: Graph) -> bool:
    """Recognise a series-parallel order by its transitive reduction (Valdes, Tarjan and Lawler, 1982), in linear time.

    Such an order has no N in it: no four steps where a comes before c, and b before c and d, and nothing else.

    >>> is_series_parallel(Graph.of(4, [(0, 1), (0, 2), (1, 3), (2, 3)]))
    True
    >>> is_series_parallel(Graph.of(4, [(0, 2), (1, 2), (1, 3)]))
    False
    """
    if any(
        graph.predecessors[target] != graph.predecessors[targets[0]]
        for targets in set(graph.successors)
        for target in targets
    ):
        return False
    return _shrinks_to_one_edge(_steps_as_edges(graph))


def _steps_as_edges(graph: Graph) -> Counter[Edge]:
    """The multigraph whose edges are the steps and whose nodes are the points between them.

    Steps with equal successors end at one point, where the successors start; 0 is the source, 1 the sink.
    """
    points: dict[tuple[int, ...], int] = {(): 0}
    starts = [points.setdefault(before, len(points) + 1) for before in graph.predecessors]
    return Counter((starts[step], starts[after[0]] if after else 1) for step, after in enumerate(graph.successors))


def _shrinks_to_one_edge(edges: Counter[Edge]) -> bool:
    """Merge parallel edges, and edges in series, until nothing changes."""
    after: dict[int, set[int]] = {}
    before: dict[int, set[int]] = {}
    for start, end in edges:  # a Counter's keys: parallel edges are merged by being counted
        after.setdefault(start, set()).add(end)
        before.setdefault(end, set()).add(start)
    waiting = [point for point in after if point > 1]
    while waiting:
        point = waiting.pop()
        if len(before.get(point, ())) != 1 or len(after.get(point, ())) != 1:
            continue
        (start,), (end,) = before.pop(point), after.pop(point)
        after[start].discard(point)
        before[end].discard(point)
        after[start].add(end)
        before[end].add(start)
        waiting.extend(neighbour for neighbour in (start, end) if neighbour > 1)
    return sum(map(len, after.values())) <= 1
