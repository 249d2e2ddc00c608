"""`celeriac quarantine`."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from celeriac.output import console, count_text, json_option, note, plain_table, print_json
from workflows.settings import Config

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workflows.db.database import Database


@click.group("quarantine")
def command() -> None:
    """See papers that could not be read, and have them read once more."""


@command.command("ls")
@click.option("--code", metavar="CODE", help="Papers with this code only.")
@click.option("--limit", "-n", type=click.IntRange(1, 1000), default=100, show_default=True, help="Papers to show.")
@json_option()
def ls(code: str | None, limit: int, as_json: bool) -> None:
    """List papers in quarantine with the reason and how to mend it, the latest first."""
    from rich.text import Text

    from pipeline import quarantine

    chosen = quarantine.checked_code(code) if code is not None else None
    with _reading() as database, database.connect() as connection:
        found = quarantine.listed(connection, chosen, limit)
    if as_json:
        print_json({"papers": [asdict(one) for one in found.papers], "counts": found.counts})
        return
    if not found.papers:
        click.echo("no paper is in quarantine")
        return
    out = console()
    for one in found.papers:
        since = (
            "" if one.quarantined_at is None else f"{datetime.fromtimestamp(one.quarantined_at, UTC):%Y-%m-%d %H:%M}"
        )
        places = (one.paper_id, one.code, since, one.external_id, "" if one.can_redrive else "fetch again")
        out.print(Text("  ".join(filter(None, places))))
        out.print(Text(f"    {one.title}" if one.title else "    (without a title)", "bold"))
        out.print(Text(f"    {one.reason}", "dim"))
    table = plain_table("code", right=["papers"])
    for name, count in found.counts.items():
        table.add_row(name, f"{count:,}")
    out.print()
    out.print(table)


@command.command("redrive")
@click.argument("papers", nargs=-1, metavar="[PAPER]...")
@click.option("--code", metavar="CODE", help="All papers with this code.")
@click.option("--collection", default="papers", show_default=True, help="Where they are to be found.")
@click.option("--text-backend", type=click.Choice(["pdfium", "grobid"]), default="pdfium", help="What reads them.")
@click.option("--wait/--no-wait", default=True, help="Wait for the end of the run, or only record it.")
@json_option("Print what is read once more, with the run, as one JSON object.")
def redrive(
    papers: tuple[str, ...], code: str | None, collection: str, text_backend: str, wait: bool, as_json: bool
) -> int:
    """Read papers once more: those named by their ids, those of a code, or all that are in quarantine.

    It starts a run of 'process-papers'. A paper leaves the quarantine when it has been read.
    """
    from celeriac import definitions
    from celeriac.running import Order, record, run_to_end
    from celeriac.summary import print_end
    from pipeline import quarantine

    chosen = quarantine.checked_code(code) if code is not None else None
    with _reading() as database, database.connect() as connection:
        found = quarantine.to_redrive(connection, papers, chosen)
    if found.to_fetch:
        note(
            f"note: {count_text(len(found.to_fetch), 'paper')} can only be mended at the source: fetch again",
            "`celeriac quarantine ls` says what is wrong with each",
        )
    if found.left_out:
        note(f"note: {count_text(found.left_out, 'paper')} more than one redrive takes; do it again for them")
    if not found.paper_ids:
        if as_json:
            print_json({**asdict(found), "run": None})
        else:
            click.echo("no paper is to be read once more")
        return 0
    params = {
        "papers": json.dumps(found.paper_ids),
        "collection": collection,
        "force_reprocess": "true",
        "download_pdf": "true",
        "text_backend": text_backend,
    }
    config = Config.from_env()
    order = Order(definitions.find(quarantine.WORKFLOW), params, None, quiet=as_json)
    if wait:
        if not as_json:
            return run_to_end(config, order, lambda report: print_end(report, as_json=False))
        return run_to_end(config, order, lambda report: print_json({**asdict(found), "run": report.to_json()}))
    report, missing = record(config, order)
    if as_json:
        print_json({**asdict(found), "run": report.to_json()})
    else:
        run = report.run.run_id
        click.echo(f"{count_text(len(found.paper_ids), 'paper')} in run {run}; `celeriac watch {run[:8]}` follows it")
    if missing:
        note(f"note: {missing}")
    return 0


@contextmanager
def _reading() -> Iterator[Database]:
    from celeriac.backends import reading

    with reading(Config.from_env()) as database:
        yield database
