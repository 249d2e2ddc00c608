"""`celeriac ps`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from celeriac.output import console, instant_text, json_option, plain_table, print_json, seconds_text, status_text
from workflows.model.errors import NotFoundError
from workflows.settings import Config

if TYPE_CHECKING:
    from workflows.db.queries import RunView

STATES = ("PENDING", "PROGRESS", "PAUSED", "SUCCESS", "FAILURE", "REVOKED", "SKIPPED")


@click.command("ps")
@click.option("--workflow", "-w", default="", metavar="ID", help="Runs of this workflow only.")
@click.option("--status", "-s", type=click.Choice(STATES, case_sensitive=False), help="Runs in this state only.")
@click.option("--limit", "-n", type=click.IntRange(1, 1000), default=20, show_default=True, help="Runs to show.")
@json_option("Print a JSON list.")
def command(workflow: str, status: str | None, limit: int, as_json: bool) -> None:
    """List the latest runs, newest first."""
    from celeriac.backends import READ_PATIENCE_SECONDS, reading
    from workflows.db import queries

    try:
        with reading(Config.from_env()) as database:
            found = database.retrying(
                lambda tx: queries.list_runs(tx, workflow=workflow, status=status or "", limit=limit),
                autocommit=True,
                patience_seconds=READ_PATIENCE_SECONDS,
            )
    except NotFoundError:  # no database yet: no runs
        found = []
    if as_json:
        print_json([_json(run) for run in found])
    elif not found:
        click.echo("no runs")
    else:
        _print(found)


def _print(found: list[RunView]) -> None:
    from rich.text import Text

    # A column that says nothing is not shown.
    by_schedule = ["schedule"] if any(run.schedule for run in found) else []
    table = plain_table("run", "workflow", "state", "accepted", *by_schedule, right=["done", "took"])
    for run in found:
        table.add_row(
            run.run_id[:8],
            Text(run.workflow, "bold"),
            status_text(run.status),
            instant_text(run.created_at),
            *[run.schedule or "-" for _ in by_schedule],
            f"{run.progress} %",
            seconds_text(run.seconds),
        )
    console().print(table)


def _json(run: RunView) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "workflow": run.workflow,
        "status": run.status,
        "schedule": run.schedule,
        "fire_time": run.fire_time,
        "progress": run.progress,
        "current_step": run.current_step,
        "created_at": run.created_at,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "seconds": run.seconds,
        "params": run.params,
        "error": run.error,
    }
