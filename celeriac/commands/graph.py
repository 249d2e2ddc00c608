"""`celeriac graph`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from celeriac import definitions
from celeriac.output import json_option
from workflows.settings import Config

if TYPE_CHECKING:
    from workflows.compile.plan import Plan
    from workflows.render import Mark

FORMATS = ("mermaid", "dot", "json", "layout", "svg", "png")
LAYERS = ("dag", "canvas")
THEMES = ("auto", "light", "dark")


@click.command("graph")
@click.argument("file", required=False)
@click.option("--run", "run", metavar="RUN", help="Draw a run instead: its version, with states, progress and times.")
@click.option("--format", "-f", "text_format", type=click.Choice(FORMATS), help="Default: mermaid, or by --output.")
@click.option(
    "--layer", "-l", type=click.Choice(LAYERS), default="dag", show_default=True, help="canvas: boxes for fragments."
)
@click.option(
    "--theme", type=click.Choice(THEMES), default="auto", show_default=True, help="Of SVG and PNG; a PNG is never auto."
)
@click.option("--output", "-o", type=click.Path(dir_okay=False, writable=True, path_type=Path), help="Write to a file.")
@json_option("The same as --format json.")
def command(
    file: str | None,
    run: str | None,
    text_format: str | None,
    layer: str,
    theme: str,
    output: Path | None,
    as_json: bool,
) -> None:
    """Draw a definition, or a run.

    FILE is a path, the id of a definition, or - for standard input.
    """
    if (file is None) == (run is None):
        raise click.UsageError("name a definition, or a run with --run RUN")
    wanted = "json" if as_json else text_format or _format_of(output)
    if wanted == "png" and output is None:
        raise click.UsageError("a PNG is no text for a terminal: add --output FILE.png")
    plan, marks = _of_run(run) if run is not None else (_of_definition(file or ""), {})

    from workflows.render import picture, png, render, svg

    if wanted == "png":
        content = png.render(picture(plan, layer, marks), "dark" if theme == "dark" else "light")
    elif wanted == "svg":
        content = svg.render(picture(plan, layer, marks), theme).encode()
    else:
        content = render(plan, wanted, layer, marks).encode()
    if output is None:
        click.echo(content.decode().rstrip("\n"))
    else:
        output.write_bytes(content)
        click.echo(f"wrote {output}", err=True)


def _format_of(output: Path | None) -> str:
    ending = output.suffix.removeprefix(".").lower() if output is not None else ""
    return ending if ending in FORMATS else "mermaid"


def _of_definition(file: str) -> Plan:
    source = definitions.find(file)

    from workflows.compile import compile_workflow
    from workflows.steps.registry import load_steps, schemas

    config = Config.from_env()
    workflow = definitions.parse(source, schemas(load_steps(config.step_modules)))
    return compile_workflow(workflow, chords=config.has_chords)


def _of_run(run: str) -> tuple[Plan, dict[str, Mark]]:
    from celeriac.backends import reading
    from celeriac.follow import read_report
    from workflows.db import runs

    with reading(Config.from_env()) as database:
        report = read_report(database, run)
        plan = database.retrying(lambda tx: runs.load_plan(tx, report.run.version_id), autocommit=True)
    return plan, report.marks()
