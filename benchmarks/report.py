"""What people read: tables, and the conditions under which they were made."""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
import sys
import time
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

import psycopg
import redis
from rich.table import Table

from benchmarks.arms import Servers
from benchmarks.measuring import Figures
from benchmarks.over_http import Latencies


def conditions(servers: Servers, repeat: int) -> dict[str, Any]:
    """Versions and the machine; without them a figure says nothing."""
    with redis.Redis.from_url(servers.broker_url) as client:
        info = client.info("server")
    found = {
        **machine(),
        "repeat": repeat,
        "broker": f"Valkey {info.get('valkey_version', info.get('redis_version'))}, appendonly, fsync every second",
        "sqlite": f"{sqlite3.sqlite_version}, WAL, synchronous FULL",
        "workers": "celery worker, prefork, acks_late, prefetch 1, no events",
    }
    if servers.postgres_url is not None:
        with psycopg.connect(servers.postgres_url) as connection:
            row = connection.execute("SHOW server_version").fetchone()
            synced = connection.execute("SHOW fsync").fetchone()
            assert row is not None
            assert synced is not None
            found["postgresql"] = f"{row[0]}, fsync {synced[0]}"
    return found


def machine() -> dict[str, Any]:
    """When, where, and with which libraries."""
    return {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "python": sys.version.split()[0],
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "load_average": os.getloadavg()[0],
        **{name: version(name) for name in ("celeriac", "celery", "kombu", "psycopg")},
    }


def speed_table() -> Table:
    """An empty table for `add_figures`."""
    table = Table(title="Time beside the raw Celery canvas (medians; ratios of the same round)")
    for name, justify in (
        ("work", "left"), ("database", "left"), ("raw canvas", "left"), ("ours s", "right"), ("in SQL s", "right"),
        ("raw s", "right"), ("ratio", "right"), ("from-to", "right"), ("goal", "right"), ("over ideal", "right"),
    ):  # fmt: skip
        table.add_column(name, justify=justify, no_wrap=justify == "right")  # type: ignore[arg-type]
    return table


def add_figures(table: Table, figures: Figures) -> None:
    """A line for each database and variant of the raw canvas."""
    work = figures.work
    title = f"{work.key} {work.title}"
    for database in (arm for arm in figures.samples if not arm.startswith("raw")):
        in_sql = statistics.median(s.database_seconds or 0.0 for s in figures.samples[database])
        for baseline in (arm for arm in figures.samples if arm.startswith("raw")):
            ratios = figures.ratios(database, baseline)
            ratio, variant = statistics.median(ratios), baseline.removeprefix("raw: ")
            goal = work.goals.get(variant, {}).get(database)
            table.add_row(
                title,
                database,
                variant,
                f"{figures.median(database):.3f}",
                f"{in_sql:.3f}",
                f"{figures.median(baseline):.3f}",
                _judged(ratio, goal),
                f"{min(ratios):.2f}-{max(ratios):.2f}",
                "" if goal is None else f"{goal:.2f}",
                _over_ideal(figures, database, baseline),
            )
            title = ""
    table.add_section()


def processor_table(found: Iterable[Figures]) -> Table:
    """Who spends processor time."""
    table = Table(title="Processor time in ms for each step (medians)")
    parts = ("submitter", "worker parent", "worker children", "broker", "database", "total")
    for name in ("work", "arm", *parts):
        table.add_column(name, justify="right" if name in parts else "left")
    for figures in found:
        for arm in figures.samples:
            spent = figures.processor_ms(arm)
            table.add_row(figures.work.key, arm, *(f"{spent[part]:.2f}" if part in spent else "" for part in parts))
        table.add_section()
    return table


def latency_table(found: Iterable[Latencies]) -> Table:
    """Requests one after the other."""
    table = Table(title="Milliseconds from a request to the whole answer, on loopback")
    for name in ("request", "p50", "p99"):
        table.add_column(name, justify="left" if name == "request" else "right")
    for one in found:
        table.add_row(one.what, f"{one.p50:.1f}", f"{one.p99:.1f}")
    return table


def bytes_table(weights: dict[str, Any]) -> Table:
    """What goes over the broker."""
    table = Table(title="Bytes over the broker per step")
    for name in ("graph", "steps", "our messages: mean", "largest", "total", "measured: ours", "raw canvas"):
        table.add_column(name, justify="left" if name == "graph" else "right")
    for name, row in weights.items():
        table.add_row(
            name,
            str(row["steps"]),
            f"{row['mean_bytes']:,}",
            f"{row['largest_bytes']:,}",
            f"{row['total_bytes']:,}",
            f"{row['measured_per_step']:,.0f}",
            f"{row['raw_per_step']:,.0f}",
        )
    return table


def _judged(ratio: float, goal: float | None) -> str:
    if goal is None:
        return f"{ratio:.3f}"
    return f"[green]{ratio:.3f}[/green]" if ratio <= goal else f"[red]{ratio:.3f}[/red]"


def _over_ideal(figures: Figures, database: str, baseline: str) -> str:
    ideal = figures.work.ideal_seconds
    if ideal is None:
        return ""
    ours = _judged(figures.median(database) / ideal, figures.work.ideal_goal)
    return f"{ours} (raw {figures.median(baseline) / ideal:.2f})"
