"""`celeriac keys`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

import click

from celeriac.output import console, instant_text, json_option, plain_table, print_json
from workflows.db.api_keys import SCOPES
from workflows.settings import Config

if TYPE_CHECKING:
    from workflows.db.database import Transaction

LONGEST_SECONDS = 10 * 366 * 86_400.0

T = TypeVar("T")


class Lifetime(click.ParamType[float]):
    """`30d`, `12h`, seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds."""
        from workflows.model.policies import parse_duration

        try:
            seconds = parse_duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if not 0 < seconds <= LONGEST_SECONDS:
            self.fail("a key lasts for more than no time and at most ten years", param, ctx)
        return seconds


@click.group("keys")
def command() -> None:
    """Keys of the API: who may call it from where.

    As long as no key was ever made, programs of this machine need none, and all others are turned away.
    """


@command.command("create")
@click.option("--scope", type=click.Choice(SCOPES), default="read", show_default=True, help="Includes those before it.")
@click.option("--name", default="", help="What it is for; shown in lists.")
@click.option("--expires", type=Lifetime(), metavar="DURATION", help="Such as 90d or 12h. [default: never]")
@json_option()
def create(scope: str, name: str, expires: float | None, as_json: bool) -> None:
    """Make a key. It is printed once: only its hash is kept."""
    from workflows.db import api_keys

    made = _work(lambda tx: api_keys.create_key(tx, name, scope, expires))
    if as_json:
        print_json({"id": made.id, "name": name, "scope": scope, "key": made.token})
        return
    click.echo(made.token)
    click.echo("Keep it: it is not shown again. Send it as `Authorization: Bearer KEY`.", err=True)


@command.command("ls")
@json_option()
def list_keys(as_json: bool) -> None:
    """List keys, revoked and expired ones included."""
    from workflows.db import api_keys

    keys = _work(api_keys.list_keys)
    if as_json:
        print_json([asdict(key) for key in keys])
        return
    if not keys:
        click.echo("there are no keys: the API serves this machine only, which needs none")
        return
    table = plain_table("id", "scope", "status", "created", "expires", "last used", last="name")
    for key in keys:
        instants = (instant_text(at) for at in (key.created_at, key.expires_at, key.last_used_at))
        table.add_row(key.id, key.scope, key.status, *instants, key.name)
    console().print(table)


@command.command("revoke")
@click.argument("key_id", metavar="ID")
@json_option()
def revoke(key_id: str, as_json: bool) -> None:
    """Revoke a key, and end its sessions. Servers obey within two seconds."""
    from workflows.db import api_keys

    is_new = _work(lambda tx: api_keys.revoke_key(tx, key_id))
    if as_json:
        print_json({"id": key_id, "is_new": is_new})
    else:
        click.echo(f"revoked {key_id}" if is_new else f"{key_id} was revoked before")


def _work(work: Callable[[Transaction], T]) -> T:
    from celeriac.backends import prepare
    from workflows.db.database import Database

    database = Database(Config.from_env().database_url)
    try:
        prepare(database)
        return database.retrying(work, patience_seconds=5.0)
    finally:
        database.close()
