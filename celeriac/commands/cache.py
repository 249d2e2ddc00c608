"""`celeriac cache`."""

from __future__ import annotations

import click

from celeriac.output import count_text, json_option, print_json
from workflows.settings import Config


@click.group("cache")
def command() -> None:
    """Forget outputs that steps with `cache` have kept."""


@command.command("clear")
@click.argument("uses", default="")
@json_option()
def clear(uses: str, as_json: bool) -> None:
    """Forget the outputs of the registered step USES, or all; later runs do the work again."""
    from celeriac.backends import READ_PATIENCE_SECONDS, reading
    from workflows.db import cache

    with reading(Config.from_env()) as database:
        forgotten = database.retrying(lambda tx: cache.clear(tx, uses), patience_seconds=READ_PATIENCE_SECONDS)
    if as_json:
        print_json({"forgotten": forgotten})
    else:
        click.echo(f"forgot {count_text(forgotten, 'output')}")
