"""`celeriac validate`."""

from __future__ import annotations

from dataclasses import asdict

import click

from celeriac import definitions
from celeriac.output import count_text, json_option, print_json
from workflows.model.errors import CeleriacError, DefinitionError, Diagnostic
from workflows.settings import Config

NO_FILE = "CEL000"
"""Code of the finding that there is nothing to check."""


@click.command("validate")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@json_option('Print {"ok", "diagnostics": [...]}.')
def command(files: tuple[str, ...], as_json: bool) -> int:
    """Check definitions: every finding with its line, code and remedy.

    FILE is a path, the id of a definition, or - for standard input. Exit code 2 when one has errors.
    """
    from workflows.model.parser import parse_with_warnings
    from workflows.steps.registry import load_steps, schemas

    steps = schemas(load_steps(Config.from_env().step_modules))
    found: list[Diagnostic] = []
    for name in files:
        try:
            source = definitions.find(name)
        except CeleriacError as error:
            unread: tuple[Diagnostic, ...] = (Diagnostic(name, 0, 0, NO_FILE, str(error), error.hint),)
            _show(unread, None, as_json)
            found.extend(unread)
            continue
        try:
            diagnostics = parse_with_warnings(source.data, source.name, steps=steps)[1]
        except DefinitionError as error:
            diagnostics = error.diagnostics
        _show(diagnostics, source, as_json)
        found.extend(diagnostics)
    errors = sum(diagnostic.severity == "error" for diagnostic in found)
    if as_json:
        print_json({"ok": not errors, "diagnostics": [asdict(diagnostic) for diagnostic in found]})
    elif errors:
        click.echo(f"{count_text(errors, 'error')} in {count_text(len(files), 'file')}", err=True)
    else:
        warnings = f", {count_text(len(found), 'warning')}" if found else ""
        click.echo(f"{count_text(len(files), 'definition')} valid{warnings}")
    return 2 if errors else 0


def _show(diagnostics: tuple[Diagnostic, ...], source: definitions.Source | None, as_json: bool) -> None:
    if not as_json and diagnostics:
        shown = "\n".join(map(str, diagnostics)) if source is None else definitions.shown(diagnostics, source)
        click.echo(shown, err=True)
