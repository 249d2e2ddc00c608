"""W5: what a trigger costs over HTTP, and what reading a run's progress costs, on loopback with PostgreSQL."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.arms import Servers, new_database
from benchmarks.graphs import chain, fan
from benchmarks.serving import Api, api_of
from tests.support.cluster import Cluster, cluster
from tests.support.waiting import wait_until

WARMING_UP = 30
TRIGGER_P50_MS, TRIGGER_P99_MS = 10.0, 50.0
MOST_OVER_SMALL = 2.0
"""A run of 10,000 items may cost twice as much to read as one of 10."""

MAP_DEFINITION = """
id: map
params: {count: {type: integer}, ms: {type: integer}}
steps:
  numbers: {uses: bench.numbers, with: {count: "${{ params.count }}"}}
  map:
    uses: bench.nap
    for_each: {items: "${{ steps.numbers.output.values }}", key: "${{ item }}"}
    with: {ms: "${{ params.ms }}"}
"""
ITEMS = {"10 items": (10, 1000), "10,000 items": (10_000, 1)}
"""Calls of a map and milliseconds of each: so that both can be paused half way."""


@dataclass(frozen=True, slots=True)
class Latencies:
    """Milliseconds from the request to the whole answer, one request after the other."""

    what: str
    milliseconds: list[float]

    @property
    def p50(self) -> float:
        """The median."""
        return statistics.median(self.milliseconds)

    @property
    def p99(self) -> float:
        """What 99 of 100 requests do not exceed."""
        return statistics.quantiles(self.milliseconds, n=100)[98]

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {"what": self.what, "p50_ms": self.p50, "p99_ms": self.p99, "all_ms": self.milliseconds}


def triggers(servers: Servers, folder: Path, repeat: int) -> list[Latencies]:
    """Of a workflow of 10 steps and of one of 1,000; no worker runs."""
    with served(servers, folder, 1) as (_, api):
        return alternating(
            {
                f"trigger, {steps} steps": partial(_post, api, f"/api/cronjobs/{name}/trigger")
                for name, steps in (("ten", "10"), ("thousand", "1,000"))
            },
            repeat,
        )


def reads(servers: Servers, folder: Path, repeat: int) -> list[Latencies]:
    """Of paused runs whose map of 10 and of 10,000 calls is half done, in pairs by endpoint; no worker runs."""
    with served(servers, folder, 2) as (engine, api):
        runs = half_done(engine, api, ITEMS)
        return alternating(
            {
                f"GET {path.format('ID')}, {size}": partial(_get, api, path.format(run))
                for path in ("/api/cronjobs/tasks/{}/status", "/api/cronjobs/tasks/{}/progress", "/api/v1/runs/{}")
                for size, run in runs.items()
            },
            repeat,
        )


@contextmanager
def served(servers: Servers, folder: Path, number: int, database: str = "postgresql") -> Iterator[tuple[Cluster, Api]]:
    """A cluster of its own without workers, and its API."""
    place = folder / f"http-{number}"
    definitions = place / "definitions"
    definitions.mkdir(parents=True)
    for name, graph in (("ten", chain(10)), ("thousand", fan(998))):
        (definitions / f"{name}.yaml").write_text(graph.definition().replace("id: bench", f"id: {name}"))
    (definitions / "map.yaml").write_text(MAP_DEFINITION)
    settings = {"CELERIAC_DEFINITIONS": str(definitions), "CELERIAC_STEP_MODULES": "benchmarks.steps"}
    broker_url = urlsplit(servers.broker_url)._replace(path=f"/{number}").geturl()
    with (
        cluster(place, new_database(servers, database, place), broker_url, **settings) as engine,
        api_of(engine) as api,
    ):
        yield engine, api


def misses(of_triggers: list[Latencies], of_reads: list[Latencies]) -> list[str]:
    """Which goals are missed, in words."""
    found = [
        f"{one.what}: p50 {one.p50:.1f} ms, p99 {one.p99:.1f} ms"
        for one in of_triggers
        if one.p50 > TRIGGER_P50_MS or one.p99 > TRIGGER_P99_MS
    ]
    for small, large in zip(of_reads[::2], of_reads[1::2], strict=True):
        if large.p50 > MOST_OVER_SMALL * small.p50:
            found.append(f"{large.what}: {large.p50 / small.p50:.2f} times the small one")
    return found


def half_done(engine: Cluster, api: Api, items: Mapping[str, tuple[int, int]]) -> dict[str, str]:
    """Ids of runs whose map has begun and is paused, by size; the worker that was at it is gone.

    Args:
        items: As `ITEMS`.
    """
    worker = engine.start_worker(2, fresh=True)
    runs: dict[str, str] = {}
    for size, (count, ms) in items.items():
        order = {"workflow": "map", "params": {"count": count, "ms": ms}}
        run = runs[size] = str(_post(api, "/api/v1/runs", order)["run_id"])
        wait_until(partial(_has_begun, api, run), 300, f"half of {size}")
        api.http.post(f"/api/v1/runs/{run}/pause").raise_for_status()
    worker.stop()
    assert all(_get(api, f"/api/v1/runs/{run}")["status"] == "PAUSED" for run in runs.values())
    return runs


def _has_begun(api: Api, run: str) -> bool:
    """Whether some calls of its map are done."""
    return int(_get(api, f"/api/v1/runs/{run}")["progress"]) >= 55


def alternating(calls: dict[str, Callable[[], object]], repeat: int) -> list[Latencies]:
    """Each call `repeat` times, in turns, so that what else the machine does meets all of them."""
    found: dict[str, list[float]] = {what: [] for what in calls}
    for number in range(WARMING_UP + repeat):
        for what, call in calls.items():
            began = time.perf_counter()
            call()
            if number >= WARMING_UP:
                found[what].append((time.perf_counter() - began) * 1000)
    return [Latencies(what, milliseconds) for what, milliseconds in found.items()]


def _post(api: Api, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    answer = api.http.post(path, json=body or {})
    assert answer.status_code == 202, answer.text
    value: dict[str, Any] = answer.json()
    return value


def _get(api: Api, path: str) -> dict[str, Any]:
    answer = api.http.get(path)
    assert answer.status_code == 200, answer.text
    value: dict[str, Any] = answer.json()
    return value
