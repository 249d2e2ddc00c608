"""`celeriac graph`."""

from __future__ import annotations

import click

from celeriac import definitions
from celeriac.output import json_option
from workflows.settings import Config

FORMATS = ("mermaid", "dot", "json")
LAYERS = ("dag", "canvas")


@click.command("graph")
@click.argument("file")
@click.option("--format", "-f", "text_format", type=click.Choice(FORMATS), default="mermaid", show_default=True)
@click.option(
    "--layer", "-l", type=click.Choice(LAYERS), default="dag", show_default=True, help="canvas: boxes for fragments."
)
@json_option("The same as --format json.")
def command(file: str, text_format: str, layer: str, as_json: bool) -> None:
    """Draw a definition as text.

    FILE is a path, the id of a definition, or - for standard input.
    """
    source = definitions.find(file)

    from workflows.compile import compile_workflow
    from workflows.render import render
    from workflows.steps.registry import load_steps, schemas

    workflow = definitions.parse(source, schemas(load_steps(Config.from_env().step_modules)))
    click.echo(render(compile_workflow(workflow), "json" if as_json else text_format, layer).rstrip("\n"))
