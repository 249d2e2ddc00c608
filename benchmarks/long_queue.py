"""W9: 10,000 runs that wait for a worker: what a tick of the reconciler costs, and how large the processes get."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from benchmarks.arms import Servers
from benchmarks.goals import Figure
from benchmarks.graphs import chain
from benchmarks.over_http import served
from tests.support.cluster import Cluster
from tests.support.waiting import wait_until
from workflows.compile import compile_workflow
from workflows.db import upkeep
from workflows.db.database import Statement
from workflows.engine import launch
from workflows.engine.broker import Broker
from workflows.engine.leases import LeaseKeeper
from workflows.engine.reconciler import LEADER, Reconciler
from workflows.model.parser import parse_workflow

TICK_SECONDS, RSS_MB = 1.0, 300.0
MOST_OVER_SMALL = 2.0
"""A tick over all runs may take twice as long as one over a tenth of them."""

TICKS = 15
LIMIT_SECONDS = 900.0

DEFINITION = chain(1).definition()
_RUNS_DUE = Statement("UPDATE job_runs SET next_dispatch_at = {now} WHERE status = 'PENDING'")
_STEPS_DUE = Statement("UPDATE step_runs SET next_dispatch_at = {now} WHERE pending = 0 AND status = 'PENDING'")
_ENDED = Statement("SELECT count(*), sum(redispatches), min(status), max(status) FROM job_runs WHERE finished_at > 0")


def measure(servers: Servers, folder: Path, databases: list[str], runs: int) -> tuple[list[Figure], dict[str, Any]]:
    """Ticks over a tenth of the runs, over all, and over the first steps of all; then a worker works them off."""
    figures: list[Figure] = []
    found: dict[str, Any] = {}
    for number, database in enumerate(databases, 5):
        with served(servers, folder, number, database) as (engine, api):
            ticks = _ticks(engine, runs)
            largest, seconds = _work_off(engine, runs, lambda: api.http.get("/api/v1/runs").raise_for_status())
        found[database] = {"tick_seconds": ticks, "largest_mb": largest, "runs_per_second": runs / seconds}
        middles = [statistics.median(each) for each in ticks.values()]
        for (what, each), middle in zip(ticks.items(), middles, strict=True):
            figures.append(Figure(f"{database}, {what}: tick, median", middle, "s"))
            figures.append(Figure(f"{database}, {what}: tick, longest", max(each), "s", TICK_SECONDS))
        figures.append(
            Figure(f"{database}: ten times the runs, median tick", middles[1] / middles[0], "times", MOST_OVER_SMALL)
        )
        figures += (Figure(f"{database}: {who}, largest RSS", mb, "MB", RSS_MB) for who, mb in largest.items())
        figures.append(Figure(f"{database}: worked off by 2 slots", runs / seconds, "runs/s"))
    return figures, found


def _ticks(engine: Cluster, runs: int) -> dict[str, list[float]]:
    """Seconds of ticks, each with everything due at once, as after a long outage: the dearest case."""
    runtime = engine.runtime
    plan = compile_workflow(parse_workflow(DEFINITION))
    found: dict[str, list[float]] = {}
    accepted: list[int] = []
    with _leading(engine) as reconciler:
        for count in (runs // 10, runs):
            while len(accepted) < count:
                accepted.append(launch.submit(runtime, plan, DEFINITION, {}).run_pk)
            found[f"{count:,} runs not started"] = _timed(engine, reconciler, _RUNS_DUE)
        for run_pk in accepted:
            # What the first of a run's messages does: its second one waits behind those of all the others.
            launch.start_run(runtime, run_pk)
        found[f"{runs:,} first steps not started"] = _timed(engine, reconciler, _STEPS_DUE)
    return found


def _timed(engine: Cluster, reconciler: Reconciler, all_due: Statement) -> list[float]:
    seconds = []
    for _ in range(TICKS):
        engine.runtime.database.retrying(lambda tx: tx.run(all_due))
        began = time.perf_counter()
        reconciler.tick()
        seconds.append(time.perf_counter() - began)
    return seconds


@contextmanager
def _leading(engine: Cluster) -> Iterator[Reconciler]:
    """The reconciler of a worker that is alive, whose two slots are busy with something else."""
    runtime = engine.runtime
    keeper = LeaseKeeper(runtime, 2, ("research", "processing"), set, lambda *_: False)
    reconciler = Reconciler(runtime, Broker(runtime.app))
    keeper.start()
    try:
        wait_until(lambda: reconciler.tick() > 0 and reconciler.is_leading, 10, "the lead")
        yield reconciler
    finally:
        keeper.stop()
        keeper.join()
        runtime.database.retrying(lambda tx: upkeep.resign(tx, LEADER, runtime.node))
        runtime.database.retrying(lambda tx: upkeep.say_goodbye(tx, runtime.node))


def _work_off(engine: Cluster, runs: int, look: Callable[[], object]) -> tuple[dict[str, float], float]:
    """Largest RSS of each process in MB while a worker of two slots works all runs off, and how long that took."""
    api = next(child for child in psutil.Process().children() if "serve" in child.cmdline())
    worker = engine.start_worker(2, fresh=True)
    largest: dict[str, float] = defaultdict(float)
    began = time.perf_counter()

    def is_done() -> bool:
        with suppress(psutil.NoSuchProcess):  # a child that was replaced meanwhile
            children = worker.process.children()
            for who, group in {"API": [api], "worker, parent": [worker.process], "worker, child": children}.items():
                largest[who] = max([largest[who], *(process.memory_info().rss / 1e6 for process in group)])
        look()
        row = engine.runtime.database.retrying(lambda tx: tx.row(_ENDED), autocommit=True)
        assert row is not None
        assert row[2:] in ((None, None), ("SUCCESS", "SUCCESS")), row
        return int(row[0]) == runs

    wait_until(is_done, LIMIT_SECONDS, "the end of all runs", 0.25)
    seconds = time.perf_counter() - began
    worker.stop()
    return dict(largest), seconds
