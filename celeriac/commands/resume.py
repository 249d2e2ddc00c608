"""`celeriac resume`."""

from __future__ import annotations

import click

from celeriac.output import json_option, note, print_json
from workflows.settings import Config


@click.command("resume")
@click.argument("run")
@click.option("--dry-run", is_flag=True, help="Only say which steps would start.")
@json_option()
def command(run: str, dry_run: bool, as_json: bool) -> None:
    """Go on with a paused run.

    RUN is an id, the beginning of one, or latest. A run that failed or was cancelled goes on by `celeriac retry`.
    """
    from celeriac.backends import backend, reading, runtime_of
    from celeriac.follow import read_workers
    from workflows.engine import control

    config = Config.from_env()
    with reading(config), backend(config, start=False) as using:
        runtime = runtime_of(using.config)
        run_id = control.find(runtime, run).run_id
        answer = control.resume(runtime, run_id, dry_run=dry_run)
        if not read_workers(runtime.database):
            note("note: no worker is running; the run goes on when there is one: `celeriac worker`")
        runtime.database.close()
    if as_json:
        print_json({"run_id": run_id, "status": answer.status, "ready": answer.ready, "dry_run": dry_run})
        return
    starts = f"starts {', '.join(answer.ready)}" if answer.ready else "nothing is ready to start"
    click.echo(f"{'would resume' if dry_run else 'resumed'} run {run_id}: {starts}")
