"""`celeriac schema`."""

from __future__ import annotations

import click

from celeriac.output import json_option, print_json


@click.command("schema")
@json_option("The only format there is.")
def command(as_json: bool) -> None:  # noqa: ARG001 - every verb takes --json
    """Print the JSON Schema of definitions.

    An editor that knows it completes and explains keys while one types.
    """
    from workflows.model.json_schema import definition_schema

    print_json(definition_schema())
