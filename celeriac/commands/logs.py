"""`celeriac logs`."""

from __future__ import annotations

from dataclasses import asdict
from threading import Event
from typing import TYPE_CHECKING

import click

from celeriac.output import instant_text, json_option, print_json_line
from workflows.settings import Config

if TYPE_CHECKING:
    from workflows.db.queries import LogLine, RunView

_PAGE = 1000
_PAUSE_SECONDS = 0.3
_COLOURS = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}


@click.command("logs")
@click.argument("run", default="latest")
@click.option("--step", "-s", "step_id", metavar="ID", help="Lines of this step only.")
@click.option("--follow", "-f", "follows", is_flag=True, help="Go on until the run ends.")
@json_option("Print a JSON object for each line.")
def command(run: str, step_id: str | None, follows: bool, as_json: bool) -> None:
    """Print what the steps of a run have logged.

    RUN is an id, the beginning of one, or latest.
    """
    from celeriac.backends import READ_PATIENCE_SECONDS, reading
    from workflows.db import queries
    from workflows.db.database import Transaction

    last = 0
    pause = Event()
    with reading(Config.from_env()) as database:

        def work(tx: Transaction) -> tuple[RunView, list[LogLine]]:
            # The run first: when it has ended, all its lines are there to be read.
            found = queries.find_run(tx, run)
            return found, queries.logs(tx, found, after=last, step_id=step_id, limit=_PAGE)

        while True:
            found, lines = database.retrying(work, autocommit=True, patience_seconds=READ_PATIENCE_SECONDS)
            run = found.run_id  # `latest` shall not become another one while we follow
            for line in lines:
                if as_json:
                    print_json_line(asdict(line))
                else:
                    _print(line)
            if lines:
                last = lines[-1].id
            if len(lines) == _PAGE:
                continue
            if not follows or found.is_ended:
                return
            pause.wait(_PAUSE_SECONDS)


def _print(line: LogLine) -> None:
    place = f"{line.step_id or '-'}{f'[{line.item_key}]' if line.item_key is not None else ''}"
    level = click.style(f"{line.level:<7}", fg=_COLOURS.get(line.level))
    attempt = f" (try {line.attempt})" if line.attempt is not None and line.attempt > 1 else ""
    click.echo(f"{click.style(instant_text(line.at), dim=True)} {level} {place}{attempt}: {line.message}")
