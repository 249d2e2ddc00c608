"""W8: what it costs to read the progress of a run with 100,000 map items, beside one with 10: on both databases."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from api import cronjobs
from api.services import Services
from benchmarks.arms import Servers
from benchmarks.goals import Figure
from benchmarks.over_http import MOST_OVER_SMALL, Latencies, alternating, half_done, served
from tests.support.cluster import Cluster
from workflows.settings import Config

GOAL_MS = 5.0
ITEMS = {"10 items": (10, 1000), "100,000 items": (100_000, 0)}
READS = {"status": cronjobs.status, "progress": cronjobs.detailed_progress}


def measure(servers: Servers, folder: Path, databases: list[str], repeat: int) -> tuple[list[Figure], list[Latencies]]:
    """The endpoints' own functions, called in this process as the API calls them, on runs that are paused half way."""
    figures: list[Figure] = []
    everything: list[Latencies] = []
    for number, database in enumerate(databases, 3):
        with served(servers, folder, number, database) as (engine, api):
            found = _reads(engine, half_done(engine, api, ITEMS), database, repeat)
        everything += found
        for small, large in zip(found[::2], found[1::2], strict=True):
            figures += (
                Figure(f"{small.what}: p50", small.p50, "ms"),
                Figure(f"{large.what}: p50", large.p50, "ms", GOAL_MS),
                Figure(f"{large.what}: p99", large.p99, "ms"),
                Figure(f"{large.what}: to 10 items", large.p50 / small.p50, "times", MOST_OVER_SMALL),
            )
    return figures, everything


def _reads(engine: Cluster, runs: dict[str, str], database: str, repeat: int) -> list[Latencies]:
    services = Services.make(Config.from_env(engine.env))
    try:
        assert services.prepare()
        for size, run in runs.items():
            _check(services, run, ITEMS[size][0])
        return alternating(
            {
                f"{name}, {database}, {size}": partial(read, run, services)
                for name, read in READS.items()
                for size, run in runs.items()
            },
            repeat,
        )
    finally:
        services.close()


def _check(services: Services, run: str, count: int) -> None:
    """It is a run of so many items, not one that has failed or ended."""
    found = cronjobs.detailed_progress(run, services)
    assert found.status == "PAUSED", f"run {run} is {found.status}"
    items = found.steps[-1].items
    assert items is not None
    assert items.total == count, f"run {run} has {items.total} items"
