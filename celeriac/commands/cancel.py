"""`celeriac cancel`."""

from __future__ import annotations

from dataclasses import asdict

import click

from celeriac.output import count_text, json_option, print_json
from workflows.settings import Config


@click.command("cancel")
@click.argument("run")
@json_option()
def command(run: str, as_json: bool) -> None:
    """Cancel a run: what has not started never will, what runs is told to stop.

    RUN is an id, the beginning of one, or latest. Asked again, it tells the figures as they are by then.
    """
    from celeriac.backends import backend, reading, runtime_of
    from workflows.engine import control

    config = Config.from_env()
    with reading(config), backend(config, start=False) as using:
        runtime = runtime_of(using.config)
        found = control.find(runtime, run)
        answer = control.cancel(runtime, found.run_id)
        runtime.database.close()
    if as_json:
        print_json({"run_id": found.run_id, **asdict(answer)})
        return
    if found.is_ended and answer.status == found.status:
        click.echo(f"run {found.run_id} had ended already: {found.status}")
        return
    click.echo(
        f"cancelled run {found.run_id}: {count_text(answer.finished, 'step')} finished before, "
        f"{answer.stopping} stopping, {answer.stopped} stopped, {answer.never_started} never started"
    )
