"""Graphs to run, as definitions for Celeriac and as lists for the raw canvas; and how short a run of one can be."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random


@dataclass(frozen=True, slots=True)
class Graph:
    """Steps with what they need, every step after its needs, and for how many milliseconds each sleeps."""

    needs: Mapping[str, tuple[str, ...]]
    ms: Mapping[str, int] = field(default_factory=dict)

    def definition(self, uses: str = "bench.noop", inputs: str = "") -> str:
        """Text of a workflow; `inputs` is the `with` of a step, in which `{id}` and `{ms}` are put in."""
        lines = ["id: bench", "steps:"]
        for step, needs in self.needs.items():
            lines += [f"  {step}:", f"    uses: {uses}"]
            if inputs:
                lines.append("    with: " + inputs.replace("{id}", step).replace("{ms}", str(self.ms.get(step, 0))))
            if needs:
                lines.append(f"    needs: [{', '.join(needs)}]")
        return "\n".join(lines) + "\n"

    def levels(self) -> list[list[str]]:
        """Steps by their distance from the start: what a canvas with level barriers runs one after the other."""
        depth: dict[str, int] = {}
        found: list[list[str]] = []
        for step, needs in self.needs.items():
            depth[step] = max((depth[before] + 1 for before in needs), default=0)
            if depth[step] == len(found):
                found.append([])
            found[depth[step]].append(step)
        return found

    def shortest_seconds(self, slots: int, *, longest_first: bool = True) -> float:
        """Time of list scheduling on `slots` slots that cost nothing: no slot idles while a step is ready.

        Args:
            longest_first: Of the ready steps, take the one with the most work behind it; otherwise the one that became
                ready first.
        """
        behind = self._work_behind()
        successors = self._successors()
        pending = {step: len(needs) for step, needs in self.needs.items()}
        ready: list[tuple[float, int, str]] = []
        order = 0

        def push(step: str) -> None:
            nonlocal order
            heapq.heappush(ready, (-behind[step] if longest_first else 0.0, order, step))
            order += 1

        for step, count in pending.items():
            if count == 0:
                push(step)
        running: list[tuple[float, str]] = []
        now = 0.0
        while ready or running:
            while ready and len(running) < slots:
                step = heapq.heappop(ready)[2]
                heapq.heappush(running, (now + self.ms.get(step, 0) / 1000, step))
            now, ended = heapq.heappop(running)
            for successor in successors[ended]:
                pending[successor] -= 1
                if pending[successor] == 0:
                    push(successor)
        return now

    def _successors(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {step: [] for step in self.needs}
        for step, needs in self.needs.items():
            for before in needs:
                found[before].append(step)
        return found

    def _work_behind(self) -> dict[str, float]:
        """Of each step, the longest path from its start to an end of the graph, in milliseconds."""
        successors = self._successors()
        found: dict[str, float] = {}
        for step in reversed(list(self.needs)):
            found[step] = self.ms.get(step, 0) + max((found[after] for after in successors[step]), default=0.0)
        return found


def chain(length: int) -> Graph:
    """One step after the other."""
    return Graph({f"s{i}": (f"s{i - 1}",) if i else () for i in range(length)})


def fan(width: int) -> Graph:
    """One step, then `width` at the same time, then one."""
    middle = tuple(f"p{i}" for i in range(width))
    return Graph({"first": (), **dict.fromkeys(middle, ("first",)), "last": middle})


def layered(depth: int, width: int, *, degree: int = 3, naps: tuple[int, int] = (0, 0), seed: int = 1) -> Graph:
    """`depth` layers of `width` steps, each of which needs `degree` of the layer before: not series-parallel."""
    random = Random(seed)
    needs: dict[str, tuple[str, ...]] = {}
    for layer in range(depth):
        for number in range(width):
            before = sorted(random.sample(range(width), degree)) if layer else []
            needs[f"l{layer}n{number}"] = tuple(f"l{layer - 1}n{index}" for index in before)
    return Graph(needs, {step: random.randint(*naps) for step in needs})


def random_graph(random: Random, *, sizes: tuple[int, int] = (3, 100), naps: tuple[int, int] = (20, 200)) -> Graph:
    """A graph of any density: from nearly no edges to nearly all."""
    size = random.randint(*sizes)
    share = 10 ** random.uniform(-2.5, -0.3)
    needs = {
        f"s{target}": tuple(f"s{source}" for source in range(target) if random.random() < share)
        for target in range(size)
    }
    return Graph(needs, {step: random.randint(*naps) for step in needs})
