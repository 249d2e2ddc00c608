"""`celeriac approvals`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime

import click

from celeriac.output import json_option, print_json
from workflows.settings import Config


@click.command("approvals")
@json_option("Print a JSON list.")
def command(as_json: bool) -> None:
    """List the steps that wait for approval, the longest waiting first."""
    from celeriac.backends import READ_PATIENCE_SECONDS, reading
    from workflows.db import approvals

    with reading(Config.from_env()) as database:
        found = database.retrying(approvals.open_requests, autocommit=True, patience_seconds=READ_PATIENCE_SECONDS)
    if as_json:
        print_json([asdict(one) for one in found])
        return
    if not found:
        click.echo("nothing waits for approval")
    for one in found:
        since = datetime.fromtimestamp(one.asked_at, UTC).astimezone()
        click.echo(f"{one.workflow} {one.run_id} {one.step}  since {since:%Y-%m-%d %H:%M}")
        click.echo(f"  {one.prompt}")
        click.echo(f"  celeriac approve {one.run_id[:8]} {one.step}   (or --reject)")
