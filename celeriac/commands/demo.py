"""`celeriac demo`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from celeriac import definitions
from celeriac.commands.search import print_hits
from celeriac.output import console, json_option, plain_table, print_json, seconds_text, status_text
from workflows.settings import Config

if TYPE_CHECKING:
    from pipeline.search import Hit
    from workflows.db.queries import RunReport

WORKFLOW = "literature-review"

QUERY = "finding the few infected people by mixing many samples into one lab test"
"""Says what some of the shipped papers are about, in words of its own."""

HITS = 3


@click.command("demo")
@click.option("--concurrency", "-c", type=click.IntRange(1, 512), metavar="N", help="As for `celeriac run`.")
@json_option()
def command(concurrency: int | None, as_json: bool) -> int:
    """Make the shipped papers searchable, and search them.

    Runs the definition literature-review (fetch, process_papers, embed, store) on about a hundred real papers, with a
    broker, workers and a database of its own, which end with it. The second time nothing is done again.
    """
    from celeriac.running import Order, run_to_end

    config = Config.from_env()
    order = Order(definitions.find_shipped(WORKFLOW), {}, concurrency, quiet=as_json)
    if not as_json:
        console(err=True).print("[bold]Celeriac[/]: fetch papers, cut their text, embed it, make it searchable\n")
    return run_to_end(config, order, lambda report: _tell(config, report, as_json=as_json))


def _tell(config: Config, report: RunReport, *, as_json: bool) -> None:
    from celeriac.backends import reading
    from celeriac.summary import print_outcome
    from pipeline.search import search

    hits: list[Hit] = []
    if report.run.status == "SUCCESS":
        with reading(config) as database:
            hits = search(database, QUERY, limit=HITS)
    if as_json:
        found = {"query": QUERY, "hits": [asdict(hit) for hit in hits]}
        print_json({**report.to_json(), "unchanged": nothing_changed(report.run.outputs or {}), "search": found})
        return
    if report.run.status != "SUCCESS":
        print_outcome(report)
        return
    _print_summary(report)
    _print_search(hits)
    _print_next(report)


def nothing_changed(outputs: dict[str, Any]) -> bool:
    """Whether the run found everything done already."""
    work = ("new", "updated", "processed", "embedded", "vectors_new", "vectors_removed")
    return bool(outputs.get("fetched")) and not any(outputs.get(name) for name in work)


def _print_summary(report: RunReport) -> None:
    from rich.text import Text

    run, outputs = report.run, report.run.outputs or {}
    out = console()
    out.print()
    out.print(Text.assemble(status_text(run.status), "  ", (run.workflow, "bold"), f" in {seconds_text(run.seconds)}"))
    if nothing_changed(outputs):
        out.print("Nothing had changed since the last run: no paper was cut, embedded or stored a second time.")
    figures = plain_table("papers", right=[""])
    for name, key in (
        ("fetched", "fetched"),
        ("new", "new"),
        ("updated", "updated"),
        ("unchanged", "unchanged"),
        ("quarantined", "quarantined"),
    ):
        figures.add_row(name, _number(outputs.get(key)))
    figures.add_row("chunks", _number(outputs.get("chunks")))
    figures.add_row("vectors", _number(outputs.get("vectors")))
    figures.add_row("embedded in this run", _number(outputs.get("embedded")))
    seconds = plain_table("step", right=["took", "calls"])
    for step in report.steps:
        calls = "" if step.items_total is None else f"{step.items_success:,}"
        seconds.add_row(step.step_id, seconds_text(step.seconds(run.now)), calls)

    from rich.columns import Columns

    out.print()
    out.print(Columns([figures, seconds], padding=(0, 6)))
    out.print()


def _number(value: object) -> str:
    return f"{value:,}" if isinstance(value, int | float) else "-"


def _print_search(hits: list[Hit]) -> None:
    from rich.text import Text

    out = console()
    out.print(Text.assemble(("$ ", "dim"), (f'celeriac search "{QUERY}"', "bold")))
    out.print()
    print_hits(hits)


def _print_next(report: RunReport) -> None:
    from rich.text import Text

    short = report.run.run_id[:8]
    out = console()
    out.print()
    out.print(Text.assemble("run ", (report.run.run_id, "bold"), ". What to type next:"))
    for line, what in (
        (f"celeriac show {short}", "its steps and figures"),
        ('celeriac search "..."', "find papers, in your own words"),
        (f"celeriac plan {WORKFLOW}", "what a run sends to the broker"),
        (f"celeriac run {WORKFLOW} -p path=FOLDER", "your own PDFs, or corpus.jsonl"),
    ):
        out.print(Text.assemble(f"  {line:<47}", (what, "dim")))
