"""How long definitions take to be read, refused and compiled, and how much memory; nothing runs."""

from __future__ import annotations

import statistics
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import asdict, dataclass
from random import Random
from typing import Any

from benchmarks.graphs import Graph
from tests.support.broken_definitions import broken_definitions
from workflows.compile import compile_workflow
from workflows.engine.app import make_app
from workflows.engine.dry_run import plan_messages
from workflows.model.errors import DefinitionError
from workflows.model.parser import parse_workflow
from workflows.settings import Config
from workflows.steps.registry import load_steps, schemas

ROUNDS = 3
SIZES = (250, 500, 1000, 2000)

MOST_MS, MOST_MB = 100.0, 100.0
"""For a file that is refused."""

MOST_SECONDS, MOST_BYTES = 1.5, 8192
"""For 2,000 steps, from text to plan; of any message."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Files that are no definitions: how many, and the worst of them."""

    files: int
    accepted: list[str]
    median_ms: float
    worst_ms: float
    slowest: str
    worst_mb: float
    largest: str


@dataclass(frozen=True, slots=True)
class Compiled:
    """A random graph of some size, read and compiled: the median of a few graphs."""

    steps: int
    edges: int
    seconds: float
    largest_message_bytes: int


def refused() -> Refused:
    """Read every broken file."""
    known = schemas(load_steps())
    times: list[tuple[float, str]] = []
    sizes: list[tuple[float, str]] = []
    accepted: list[str] = []
    for broken in broken_definitions():

        def read(data: bytes = broken.data, name: str = broken.name) -> None:
            try:
                parse_workflow(data, "broken.yaml", steps=known)
                accepted.append(name)
            except DefinitionError:
                pass

        times.append((min(_seconds(read) for _ in range(ROUNDS)) * 1000, broken.name))
        sizes.append((_megabytes(read), broken.name))
    (worst_ms, slowest), (worst_mb, largest) = max(times), max(sizes)
    median = statistics.median(ms for ms, _ in times)
    return Refused(len(times), sorted(set(accepted)), median, worst_ms, slowest, worst_mb, largest)


def compiled() -> list[Compiled]:
    """Random graphs, each step with up to four steps before it."""
    app = make_app(Config({}))
    found = []
    for size in SIZES:
        graphs = [_graph(Random(seed), size) for seed in range(ROUNDS)]
        texts = [graph.definition() for graph in graphs]
        seconds = [_seconds(lambda text=text: compile_workflow(parse_workflow(text))) for text in texts]  # type: ignore[misc]
        largest = [max(m.bytes for m in plan_messages(app, compile_workflow(parse_workflow(text)))) for text in texts]
        edges = [sum(len(needs) for needs in graph.needs.values()) for graph in graphs]
        found.append(Compiled(size, int(statistics.median(edges)), statistics.median(seconds), max(largest)))
    return found


def misses(files: Refused, graphs: list[Compiled]) -> list[str]:
    """What is above its limit, in words."""
    found = [f"accepted: {name}" for name in files.accepted]
    if files.worst_ms > MOST_MS:
        found.append(f"{files.slowest} takes {files.worst_ms:.0f} ms, more than {MOST_MS:.0f}")
    if files.worst_mb > MOST_MB:
        found.append(f"{files.largest} takes {files.worst_mb:.0f} MB, more than {MOST_MB:.0f}")
    if graphs[-1].seconds > MOST_SECONDS:
        found.append(f"{graphs[-1].steps} steps take {graphs[-1].seconds:.2f} s, more than {MOST_SECONDS}")
    return found + [
        f"a message of {graph.steps} steps has {graph.largest_message_bytes} bytes, more than {MOST_BYTES}"
        for graph in graphs
        if graph.largest_message_bytes > MOST_BYTES
    ]


def to_json(files: Refused, graphs: list[Compiled]) -> dict[str, Any]:
    """All figures."""
    return {"refused": asdict(files), "compiled": [asdict(graph) for graph in graphs]}


def _graph(random: Random, size: int) -> Graph:
    return Graph(
        {
            f"s{number}": tuple(
                f"s{before}" for before in sorted(random.sample(range(number), min(number, random.randint(0, 4))))
            )
            for number in range(size)
        }
    )


def _seconds(act: Callable[[], object]) -> float:
    began = time.process_time()
    act()
    return time.process_time() - began


def _megabytes(act: Callable[[], object]) -> float:
    tracemalloc.start()
    act()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak / 1_000_000
