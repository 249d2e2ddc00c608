"""W7: how much goes over the broker, as the plan says it and as the broker counts it."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from benchmarks import raw
from benchmarks.arms import RawArm, Servers, celeriac_arm, raw_worker
from benchmarks.graphs import Graph, chain, fan, layered
from benchmarks.works import Work
from workflows.compile import compile_workflow
from workflows.engine.app import make_app
from workflows.engine.dry_run import plan_messages
from workflows.model.parser import parse_workflow
from workflows.settings import Config

GRAPHS: dict[str, tuple[Graph, raw.CanvasMaker]] = {
    "chain of 100": (chain(100), raw.chains(1, 100)),
    "one -> 1,000 -> one": (fan(1000), raw.fan(1000)),
    "10 x 10 layers": (layered(10, 10), raw.levels(layered(10, 10), joins=False)),
    "30 x 30 layers": (layered(30, 30), raw.levels(layered(30, 30), joins=False)),
}


def weigh(servers: Servers, folder: Path, environment: dict[str, str]) -> dict[str, Any]:
    """Messages as planned, and the bytes that reached the broker for one run of each graph, by both arms."""
    app = make_app(Config({}))
    found: dict[str, Any] = {}
    with (
        raw_worker(folder, servers, 2, environment) as worker,
        celeriac_arm(folder / "bytes", servers, "sqlite", 2) as ours,
    ):
        theirs = RawArm("canvas", worker)
        for name, (graph, canvas) in GRAPHS.items():
            text = graph.definition()
            sizes = [m.bytes for m in plan_messages(app, compile_workflow(parse_workflow(text)))]
            work = Work("W7", name, text, {"canvas": canvas}, len(graph.needs))
            found[name] = {
                "steps": work.steps,
                "messages": len(sizes),
                "largest_bytes": max(sizes),
                "mean_bytes": round(statistics.fmean(sizes)),
                "total_bytes": sum(sizes),
                "measured_per_step": ours.measure(work).broker_bytes / work.steps,
                "raw_per_step": theirs.measure(work).broker_bytes / work.steps,
            }
    app.close()
    return found
