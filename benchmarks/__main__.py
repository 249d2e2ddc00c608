"""`python -m benchmarks`: Celeriac beside the raw Celery canvas, on the same broker, in the same minutes."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from benchmarks import (
    aligned,
    bytes_sent,
    contract,
    large_maps,
    long_queue,
    main_job,
    makespan,
    over_http,
    page_graph,
    profiling,
    progress_reads,
    reading,
    report,
    scaling,
    start,
    vector_search,
)
from benchmarks.arms import new_database, servers
from benchmarks.goals import Figure, table_of
from benchmarks.measuring import Figures, measure_all
from benchmarks.works import SLEEPING_SLOTS, WORKS
from tests.support.cluster import cluster
from tests.support.waiting import wait_until

BYTES = "W7"
KEYS = (*(work.key for work in WORKS), BYTES)
GOAL_MAKESPAN = 1.15

console = Console()
if not console.is_terminal:
    console = Console(width=150)


@click.group(invoke_without_command=True)
@click.option("--only", default="", help=f"Works to measure, comma separated, of: {', '.join(KEYS)}.")
@click.option("--databases", default="sqlite,postgresql", show_default=True)
@click.option("--repeat", default=3, show_default=True, help="Rounds; each arm runs once a round.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write every figure here.")
@click.option("--profile", is_flag=True, help="Worker processes under cProfile: where time goes, no fair times.")
@click.pass_context
def main(context: click.Context, only: str, databases: str, repeat: int, json_file: Path | None, profile: bool) -> None:
    """Time and bytes beside the raw Celery canvas."""
    if context.invoked_subcommand:
        return
    wanted = _names(only, KEYS, "--only")
    names = _names(databases, ("sqlite", "postgresql"), "--databases")
    environment = _environment()
    found: dict[str, Any] = {"works": []}
    table = report.speed_table()
    everything: list[Figures] = []
    with _folder() as folder, servers(folder, postgres="postgresql" in names) as running:
        found["conditions"] = report.conditions(running, repeat)
        profiles = folder / "profiles" if profile else None
        works = [work for work in WORKS if work.key in wanted]
        with console.status("") as status:
            measured = measure_all(
                works,
                names,
                running,
                folder,
                repeat=repeat,
                environment=environment,
                profile=profiles,
                tell=status.update,
            )
            for figures in measured:
                report.add_figures(table, figures)
                everything.append(figures)
                found["works"].append(figures.to_json())
            if BYTES in wanted:
                status.update("W7: bytes over the broker")
                found["bytes"] = bytes_sent.weigh(running, folder, environment)
        for arm in sorted(profiles.iterdir()) if profiles else ():
            console.rule(f"profile of {arm.name}")
            print(profiling.summary(arm))
    for name, value in found["conditions"].items():
        console.print(f"{name}: {value}", highlight=False)
    if found["works"]:
        console.print(table)
        console.print(report.processor_table(everything))
    if "bytes" in found:
        console.print(report.bytes_table(found["bytes"]))
    _write(json_file, found)


@main.command("vectors")
@click.option("--databases", default="sqlite,postgresql", show_default=True)
@click.option("--entries", default="20000,100000", show_default=True, help="Sizes of the collection.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write every figure here.")
def run_vectors(databases: str, entries: str, json_file: Path | None) -> None:
    """Searches by meaning: exactly in memory, and by an index of pgvector."""
    _environment()
    names = _names(databases, ("sqlite", "postgresql"), "--databases")
    table = Table("database", "way", "entries", "first", "p50", "worst", "recall@10", "memory", "index made")
    found: list[vector_search.Searched] = []
    with _folder() as folder, servers(folder, postgres="postgresql" in names) as running:
        for one in vector_search.measure(running, folder, names, [int(size) for size in entries.split(",")]):
            found.append(one)
            times = (f"{ms:,.0f} ms" for ms in (one.first_ms, one.p50_ms, one.worst_ms))
            made = f"{one.made_s:.0f} s" if one.made_s else ""
            table.add_row(
                one.database, one.way, f"{one.entries:,}", *times, f"{one.recall:.3f}", f"{one.peak_mb:.0f} MB", made
            )
        conditions = report.conditions(running, 1)
    console.print(table)
    _write(json_file, {"conditions": conditions, "searches": [asdict(one) for one in found]})


@main.command("main-job")
@click.option("--databases", default="sqlite,postgresql", show_default=True)
@click.option("--papers", default=420, show_default=True, help="Of about five chunks each.")
@click.option("--slots", default=2, show_default=True, help="Worker processes, and processes of the model alone.")
@click.option("--repeat", default=3, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write every figure here.")
def run_main_job(databases: str, papers: int, slots: int, repeat: int, json_file: Path | None) -> None:
    """W10: fetch, cut, embed and store a library, beside the model alone. Exit code 1 when a goal is missed."""
    _environment()
    names = _names(databases, ("sqlite", "postgresql"), "--databases")
    with _folder() as folder, servers(folder, postgres="postgresql" in names) as running:
        conditions = report.conditions(running, repeat)
        figures, found = main_job.measure(running, folder, names, papers, slots, repeat)
    _judge(f"W10: {papers:,} papers", figures, json_file, servers=conditions, slots=slots, found=found)


@main.command("scaling")
@click.option("--slots", default="1,2", show_default=True, help="Worker processes to measure with.")
@click.option("--repeat", default=3, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write every figure here.")
def run_scaling(slots: str, repeat: int, json_file: Path | None) -> None:
    """What a step costs each part on PostgreSQL, and what larger clusters would do with that."""
    _environment()
    with _folder() as folder, servers(folder, postgres=True) as running:
        conditions = report.conditions(running, repeat)
        found = [cost for number in slots.split(",") for cost in scaling.costs(running, folder, int(number), repeat)]
    table = Table(
        "work", "slots", *(f"{part} ms" for part in scaling.PARTS), "broker B", "WAL B", "steps/s", "predicted"
    )
    against = scaling.held_against(found, os.cpu_count() or 1)
    for one, held in zip(found, against, strict=True):
        spent = (f"{1000 * one.seconds[part]:.2f}" for part in scaling.PARTS)
        figures = (f"{value:,.0f}" for value in (one.broker_bytes, one.wal_bytes, one.per_second, held["predicted"]))
        table.add_row(one.work, str(one.slots), *spent, *figures)
    console.print(table)
    largest = max(int(number) for number in slots.split(","))
    sites = Table("site", *scaling.MEASURED, title="steps a second")
    rates: dict[str, dict[str, float]] = {}
    for name, site in scaling.SITES.items():
        rates[name] = {one.work: scaling.steps_per_second(one, site) for one in found if one.slots == largest}
        sites.add_row(name, *(f"{rates[name][key]:,.0f}" for key in scaling.MEASURED))
    console.print(sites)
    _write(
        json_file, {"conditions": conditions, "costs": [asdict(one) for one in found], "held": against, "sites": rates}
    )


@main.command("makespan")
@click.option("--graphs", default=40, show_default=True)
@click.option("--seed", default=1, show_default=True)
@click.option("--slots", default=SLEEPING_SLOTS, show_default=True)
@click.option("--database", type=click.Choice(["sqlite", "postgresql"]), default="sqlite", show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write every figure here.")
def run_makespan(graphs: int, seed: int, slots: int, database: str, json_file: Path | None) -> None:
    """Random graphs of sleeping steps: order, and time over list scheduling. Exit code 1 when a goal is missed."""
    _environment()
    outcomes: list[makespan.Outcome] = []
    with _folder() as folder, servers(folder, postgres=database == "postgresql") as running:
        url = new_database(running, database, folder)
        with cluster(folder, url, running.broker_url) as engine, console.status("") as status:
            worker = engine.start_worker(slots, fresh=True)
            for number, graph in enumerate(makespan.random_graphs(graphs, seed), 1):
                status.update(f"graph {number} of {graphs}, {len(graph.needs)} steps")
                outcomes.append(makespan.run_graph(engine, graph, slots))
            worker.stop()
            found = {**report.conditions(running, 1), "seed": seed, "slots": slots, "database": database}
    found = {"conditions": found, **makespan.summary(outcomes)}
    for fault in found["faults"]:
        console.print(f"[red]{fault}[/red]")
    console.print(
        f"{found['graphs']} graphs, {found['steps']} steps on {slots} slots: {len(found['faults'])} faults; "
        f"time over list scheduling {found['median_ratio']:.3f} (median), {found['worst_ratio']:.3f} (worst); "
        f"goal {GOAL_MAKESPAN}"
    )
    _write(json_file, found)
    if found["faults"] or found["median_ratio"] > GOAL_MAKESPAN:
        raise SystemExit(1)


@main.command("http")
@click.option("--repeat", default=300, show_default=True, help="Requests of each kind.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write every figure here.")
def run_http(repeat: int, json_file: Path | None) -> None:
    """W5: a trigger and reads of progress over HTTP, on PostgreSQL. Exit code 1 when a goal is missed."""
    _environment()
    with _folder() as folder, servers(folder, postgres=True) as running, console.status("triggers") as status:
        found = {"conditions": report.conditions(running, repeat)}
        before = os.getloadavg()[0]
        triggers = over_http.triggers(running, folder, repeat)
        status.update("reads")
        reads = over_http.reads(running, folder, repeat)
        found["conditions"]["load_average"] = {"before": before, "after": os.getloadavg()[0]}
    console.print(report.latency_table([*triggers, *reads]))
    missed = over_http.misses(triggers, reads)
    _write(json_file, {**found, "latencies": [one.to_json() for one in (*triggers, *reads)], "missed": missed})
    for line in missed:
        console.print(f"[red]missed: {line}[/red]")
    if missed:
        raise SystemExit(1)


@main.command("progress")
@click.option("--databases", default="sqlite,postgresql", show_default=True)
@click.option("--repeat", default=300, show_default=True, help="Reads of each kind.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write every figure here.")
def run_progress(databases: str, repeat: int, json_file: Path | None) -> None:
    """W8: progress of a run with 100,000 map items. Exit code 1 when a goal is missed."""
    _environment()
    names = _names(databases, ("sqlite", "postgresql"), "--databases")
    with _folder() as folder, servers(folder, postgres="postgresql" in names) as running:
        conditions = report.conditions(running, repeat)
        figures, latencies = progress_reads.measure(running, folder, names, repeat)
    found = [one.to_json() for one in latencies]
    _judge("W8: reading the progress of a large run", figures, json_file, servers=conditions, latencies=found)


@main.command("maps")
@click.option("--databases", default="sqlite,postgresql", show_default=True)
@click.option("--repeat", default=3, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write every figure here.")
def run_maps(databases: str, repeat: int, json_file: Path | None) -> None:
    """W2m with 1,000 to 100,000 items. Exit code 1 when its time does not grow in step."""
    _environment()
    names = _names(databases, ("sqlite", "postgresql"), "--databases")
    with _folder() as folder, servers(folder, postgres="postgresql" in names) as running:
        conditions = report.conditions(running, repeat)
        figures, found = large_maps.measure(running, folder, names, repeat)
    _judge("Maps of quick calls", figures, json_file, servers=conditions, seconds=found)


@main.command("queued")
@click.option("--databases", default="sqlite,postgresql", show_default=True)
@click.option("--runs", default=10_000, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write every figure here.")
def run_queued(databases: str, runs: int, json_file: Path | None) -> None:
    """W9: many runs that wait for a worker. Exit code 1 when a goal is missed."""
    _environment()
    names = _names(databases, ("sqlite", "postgresql"), "--databases")
    with _folder() as folder, servers(folder, postgres="postgresql" in names) as running:
        conditions = report.conditions(running, 1)
        figures, found = long_queue.measure(running, folder, names, runs)
    _judge(f"W9: {runs:,} runs that wait", figures, json_file, servers=conditions, runs=runs, found=found)


@main.command("contract")
@click.option("--calls", default=20_000, show_default=True, help="Go on until there were so many.")
@click.option("--examples", default=60, show_default=True, help="Inputs made up for an operation, each time anew.")
@click.option("--seed", default=1, show_default=True)
@click.option("--database", type=click.Choice(["sqlite", "postgresql"]), default="postgresql", show_default=True)
def run_contract(calls: int, examples: int, seed: int, database: str) -> None:
    """The API against its own OpenAPI document, by schemathesis. Exit code 1 for any failure, or any answer of 5xx."""
    _environment()
    with _folder() as folder, servers(folder, postgres=database == "postgresql") as running:
        url = new_database(running, database, folder)
        statuses, faults = contract.campaign(folder, url, running.broker_url, calls, examples, seed, console.print)
    told = ", ".join(f"{count:,} times {status}" for status, count in sorted(statuses.items()))
    console.print(f"{sum(statuses.values()):,} calls: {told}; {len(faults)} failures")
    for fault in faults:
        console.print(fault, markup=False)
    if faults or statuses["5xx"] or sum(statuses.values()) < calls:
        raise SystemExit(1)


@main.command("aligned")
@click.option("--repeat", default=3, show_default=True, help="Rounds; each arm runs once a round.")
@click.option("--slots", default=4, show_default=True)
@click.option("--database", type=click.Choice(["sqlite", "postgresql"]), default="sqlite", show_default=True)
def run_aligned(repeat: int, slots: int, database: str) -> None:
    """Two maps one over the other, beside one map that does both: what the barrier between them costs."""
    _environment()
    with _folder() as folder, servers(folder, postgres=database == "postgresql") as running:
        url = new_database(running, database, folder)
        env = {"CELERIAC_STEP_MODULES": "benchmarks.steps"}
        with cluster(folder, url, running.broker_url, **env) as engine:
            worker = engine.start_worker(slots, fresh=True)
            aligned.compare(engine, 50, 1)
            for count in (100, 1_000, 5_000):
                found = aligned.compare(engine, count, repeat)
                console.print(
                    f"{count:,} calls on {slots} slots, {database}: two maps {found.two_seconds:.2f} s, one that does "
                    f"both {found.one_seconds:.2f} s: {found.ratio:.3f}"
                )
            worker.stop()


@main.command("page")
@click.option("--repeat", default=5, show_default=True, help="Times that each view is opened.")
def run_page(repeat: int) -> None:
    """A graph of 500 steps on the page, until it answers to a click. Exit code 1 when the median is over its goal."""
    missed = False
    with _folder() as folder:
        for view, seconds in page_graph.measure(folder, _environment(), repeat).items():
            middle = median(seconds)
            missed = missed or middle > page_graph.GOAL_SECONDS
            console.print(
                f"{view} of {page_graph.STEPS} steps: {middle:.2f} s (median of {repeat}), "
                f"{max(seconds):.2f} s (worst); goal {page_graph.GOAL_SECONDS:g} s"
            )
    if missed:
        raise SystemExit(1)


@main.command("start")
@click.option("--repeat", default=5, show_default=True, help="Starts of each kind.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write every figure here.")
def run_start(repeat: int, json_file: Path | None) -> None:
    """The help, the library and a worker of the embedded stack: how soon. Exit code 1 when a goal is missed."""
    environment = _environment()
    with _folder() as folder:
        figures, seconds = start.measure(folder, environment, repeat)
    _judge(f"From nothing (medians of {repeat})", figures, json_file, repeat=repeat, all_seconds=seconds)


@main.command("definitions")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write every figure here.")
def run_definitions(json_file: Path | None) -> None:
    """Broken files and large graphs: time and memory until they are refused, or compiled. Exit code 1 for a miss."""
    files, graphs = reading.refused(), reading.compiled()
    console.print(
        f"{files.files} broken files: {files.files - len(files.accepted)} refused; median {files.median_ms:.1f} ms, "
        f"worst {files.worst_ms:.1f} ms ({files.slowest}); most memory {files.worst_mb:.1f} MB ({files.largest})"
    )
    for graph in graphs:
        console.print(
            f"{graph.steps} steps, {graph.edges} edges: compiled in {graph.seconds:.3f} s; largest message "
            f"{graph.largest_message_bytes} bytes"
        )
    missed = reading.misses(files, graphs)
    _write(json_file, {**reading.to_json(files, graphs), "missed": missed})
    for line in missed:
        console.print(f"[red]missed: {line}[/red]")
    if missed:
        raise SystemExit(1)


def _judge(title: str, figures: list[Figure], json_file: Path | None, **found: Any) -> None:
    """Print and write the figures with the machine they were measured on; exit code 1 when a goal is missed."""
    console.print(table_of(title, figures))
    _write(json_file, {"conditions": report.machine(), **found, "figures": [one.to_json() for one in figures]})
    if not all(one.is_met for one in figures):
        raise SystemExit(1)


def _names(given: str, known: tuple[str, ...], option: str) -> list[str]:
    wanted = [name.strip() for name in given.split(",") if name.strip()] or list(known)
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise click.BadParameter(f"unknown: {', '.join(unknown)}; choose from {', '.join(known)}", param_hint=option)
    return wanted


def _environment() -> dict[str, str]:
    """This process's environment without settings of Celeriac: defaults are what is measured."""
    environment = os.environ  # noqa: TID251 - inherited by the workers
    for name in [n for n in environment if n.startswith(("CELERY_", "REDIS_", "CELERIAC_", "DATABASE_URL"))]:
        del environment[name]
    return dict(environment)


@contextmanager
def _folder() -> Iterator[Path]:
    # Named short and open to all: an unprivileged PostgreSQL works in it.
    path = Path(tempfile.gettempdir()) / f"celeriac-bench-{uuid.uuid4().hex[:8]}"
    path.mkdir(mode=0o755)
    try:
        yield path
    finally:
        # The guards of the servers clear up at the same time: whoever is last leaves nothing.
        wait_until(lambda: _is_gone(path), 20, f"{path} to be empty")


def _is_gone(path: Path) -> bool:
    shutil.rmtree(path, ignore_errors=True)
    return not path.exists()


def _write(json_file: Path | None, found: dict[str, Any]) -> None:
    if json_file is not None:
        json_file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        console.print(f"written: {json_file}")


if __name__ == "__main__":
    main()
