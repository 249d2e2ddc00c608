"""`celeriac plan`."""

from __future__ import annotations

import click

from celeriac import definitions
from celeriac.output import json_option, print_json
from workflows.settings import Config


@click.command("plan")
@click.argument("file")
@json_option()
def command(file: str, as_json: bool) -> None:
    """Dry-run: the exact canvas, the gates, every kind of message with its size, and the critical path.

    FILE is a path, the id of a definition, or - for standard input. Neither broker, database nor home is touched.
    """
    config = Config.from_env()
    source = definitions.find(file)

    from workflows.compile import compile_workflow
    from workflows.compile.explain import explain_text
    from workflows.engine.app import make_app
    from workflows.engine.dry_run import dry_run
    from workflows.steps.registry import load_steps, schemas

    workflow = definitions.parse(source, schemas(load_steps(config.step_modules)))
    plan = compile_workflow(workflow, chords=config.has_chords)
    explained = dry_run(make_app(config), config, plan)
    if as_json:
        print_json(explained)
        return
    for line in explain_text(plan, explained).splitlines():
        click.echo(_headed(line))


def _headed(line: str) -> str:
    """A line of the explanation; headings, which are not indented, stand out."""
    if not line or line.startswith(" "):
        return line
    word, separator, rest = line.partition(" ")
    return click.style(word, bold=True) + separator + rest
