"""A directed acyclic graph over the numbers 0..n-1, where every edge leads from a smaller to a larger number."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

Edge = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Graph:
    """Both directions of every edge, by node, ascending.

    >>> Graph.of(3, [(0, 2), (0, 1)])
    Graph(predecessors=((), (0,), (0,)), successors=((1, 2), (), ()))
    """

    predecessors: tuple[tuple[int, ...], ...]
    successors: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, size: int, edges: Iterable[Edge]) -> Graph:
        """The graph of `size` nodes with these edges; doubles count once."""
        before: list[list[int]] = [[] for _ in range(size)]
        after: list[list[int]] = [[] for _ in range(size)]
        for source, target in sorted(set(edges)):
            before[target].append(source)
            after[source].append(target)
        return cls(tuple(map(tuple, before)), tuple(map(tuple, after)))

    def __len__(self) -> int:
        return len(self.successors)

    @property
    def edges(self) -> tuple[Edge, ...]:
        """All edges, sorted."""
        return tuple((source, target) for source, targets in enumerate(self.successors) for target in targets)

    def reduced(self, keep_around: frozenset[int] = frozenset()) -> Graph:
        """The transitive reduction; edges that lead to a step of `keep_around`, or past it, are not dropped.

        >>> Graph.of(3, [(0, 1), (1, 2), (0, 2)]).reduced().edges
        ((0, 1), (1, 2))
        """
        reached = [0] * len(self)  # per node the nodes after it, as the bits of one number
        kept: list[Edge] = []
        for source in reversed(range(len(self))):
            detours = direct = 0
            for target in self.successors[source]:  # ascending, so a detour is seen before its shortcut
                bit = 1 << target
                direct |= bit
                if target in keep_around:
                    kept.append((source, target))
                elif not detours & bit:
                    kept.append((source, target))
                    detours |= reached[target]
            reached[source] = detours | direct
        return Graph.of(len(self), kept)
