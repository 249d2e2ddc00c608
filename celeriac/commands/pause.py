"""`celeriac pause`."""

from __future__ import annotations

from dataclasses import asdict

import click

from celeriac.output import count_text, json_option, print_json
from workflows.settings import Config


@click.command("pause")
@click.argument("run")
@click.option("--dry-run", is_flag=True, help="Only say what a pause would find.")
@json_option()
def command(run: str, dry_run: bool, as_json: bool) -> None:
    """Pause a run: nothing more of it starts, and what runs goes on to its end.

    RUN is an id, the beginning of one, or latest. `celeriac resume` goes on with it.
    """
    from celeriac.backends import backend, reading, runtime_of
    from workflows.engine import control

    config = Config.from_env()
    with reading(config), backend(config, start=False) as using:
        runtime = runtime_of(using.config)
        run_id = control.find(runtime, run).run_id
        answer = control.pause(runtime, run_id, dry_run=dry_run)
        runtime.database.close()
    if as_json:
        values = asdict(answer)
        del values["is_paused"]
        print_json({"run_id": run_id, **values, "dry_run": dry_run})
        return
    click.echo(
        f"{'would pause' if dry_run else 'paused'} run {run_id}: {count_text(answer.running, 'step')} still running, "
        f"{answer.waiting} not started"
    )
