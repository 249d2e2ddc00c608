"""`celeriac db`."""

from __future__ import annotations

import click

from celeriac.output import json_option, print_json
from workflows.model.errors import DatabaseUnavailableError
from workflows.settings import Config


@click.group("db")
def command() -> None:
    """Care for the database."""


@command.command("upgrade")
@json_option()
def upgrade(as_json: bool) -> None:
    """Bring the tables of the engine and of the applications to this version; creates them in an empty database.

    Quick when nothing is to do. Stop workers of an earlier release before.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    from celeriac.backends import unavailable
    from workflows.db import migrate
    from workflows.db.database import Database

    database = Database(Config.from_env().database_url)
    try:
        if database.path is not None:
            database.path.parent.mkdir(parents=True, exist_ok=True)
        pending = migrate.pending(database)
        migrate.upgrade(database)
    except OSError as error:
        raise DatabaseUnavailableError(
            f"the folder of the database cannot be used: {error}", "set CELERIAC_HOME to a folder that you may write"
        ) from error
    except SQLAlchemyError as error:
        raise unavailable(error) from error
    finally:
        database.close()
    name = make_url(database.url).render_as_string(hide_password=True)
    if as_json:
        print_json({"database": name, "upgraded": pending})
    elif pending:
        click.echo(f"upgraded {', '.join(pending)} in {name}")
    else:
        click.echo(f"nothing to do: {name} is of this version")
