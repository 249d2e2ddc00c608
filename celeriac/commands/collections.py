"""`celeriac collections`."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from celeriac.output import console, count_text, json_option, plain_table, print_json
from workflows.settings import Config

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pipeline.collections import Described
    from workflows.db.database import Database


@click.group("collections")
def command() -> None:
    """See what can be searched, go back to an earlier generation, and drop what is not wanted any more."""


@command.command("ls")
@json_option()
def ls(as_json: bool) -> None:
    """List the collections that searches see, with their model and size."""
    from pipeline import collections

    with _open() as database, database.connect() as connection:
        found = [one for one in collections.described(connection) if one.collection.is_live]
    if as_json:
        print_json({"collections": [_told(one) for one in found]})
    elif found:
        _print(found)
    else:
        click.echo("there is no collection yet; `celeriac run literature-review` makes one")


@command.command("show")
@click.argument("name")
@json_option()
def show(name: str, as_json: bool) -> None:
    """Show all generations of the collection NAME."""
    from pipeline import collections

    with _open() as database, database.connect() as connection:
        found = collections.existing(connection, name)
    if as_json:
        print_json({"name": name, "generations": [_told(one) for one in found]})
    else:
        _print(found)


@command.command("switch")
@click.argument("name")
@click.argument("generation", type=click.IntRange(1))
@click.option("--allow-missing", is_flag=True, help="Also when papers of the live generation are not in it.")
@json_option()
def switch(name: str, generation: int, allow_missing: bool, as_json: bool) -> None:
    """Let searches of the collection NAME see another GENERATION of it."""
    from pipeline import collections

    with _open() as database, database.begin() as connection:
        wanted = collections.generation(connection, name, generation)
        switched = collections.make_live(connection, wanted, allow_missing=allow_missing)
    if as_json:
        print_json({"name": name, "generation": generation, "switched": switched})
    else:
        click.echo(f"searches of '{name}' {'now see' if switched else 'see'} generation {generation}, {wanted.model}")


@command.command("drop")
@click.argument("name")
@click.option("--generation", "-g", type=click.IntRange(1), metavar="N", help="Only this one; not the live one.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@json_option()
def drop(name: str, generation: int | None, yes: bool, as_json: bool) -> None:
    """Drop the collection NAME with all that is stored in it. Papers and cached vectors stay."""
    from pipeline import collections

    with _open() as database:
        with database.connect() as connection:
            doomed = collections.to_drop(connection, name, generation)
        held = sum(one.entries for one in doomed)
        what = f"'{name}'" if generation is None else f"generation {generation} of '{name}'"
        if not yes:
            click.confirm(f"drop {what} with {count_text(held, 'entry', 'entries')}?", abort=True, err=True)
        for one in doomed:
            collections.drop(database.begin, one.collection)
    if as_json:
        print_json({"name": name, "dropped": [one.collection.generation for one in doomed], "entries": held})
    else:
        click.echo(f"dropped {what}: {count_text(held, 'entry', 'entries')}")


def _print(found: Sequence[Described]) -> None:
    figures = ["generation", "dimension", "papers", "entries"]
    table = plain_table("collection", "model", "revision", "made", "", right=figures)
    for one in found:
        held = one.collection
        made = f"{datetime.fromtimestamp(held.created_at, UTC):%Y-%m-%d %H:%M}"
        state = "live" if held.is_live else ""
        counted = (str(held.generation), str(held.dimension), f"{one.papers:,}", f"{one.entries:,}")
        table.add_row(held.name, held.model, held.revision, made, state, *counted)
    console().print(table)


def _told(one: Described) -> dict[str, Any]:
    held = {key: value for key, value in asdict(one.collection).items() if key not in ("id", "copied_to")}
    return {**held, "papers": one.papers, "entries": one.entries}


@contextmanager
def _open() -> Iterator[Database]:
    from celeriac.backends import reading

    with reading(Config.from_env()) as database:
        yield database
