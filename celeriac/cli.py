"""The verbs, by name: a verb's module is imported when the verb is called, so that help and completion come at once."""

from __future__ import annotations

from importlib import import_module
from typing import NamedTuple

import click


class Verb(NamedTuple):
    """Where a verb's command lies, and its line in the help.

    Attributes:
        module: Module under `celeriac.commands` with the command, which has the verb's name.
    """

    module: str
    summary: str


SECTIONS: dict[str, dict[str, Verb]] = {
    "Definitions": {
        "validate": Verb("validate", "Check definitions: every finding with its line, code and remedy."),
        "plan": Verb("plan", "Dry-run: the canvas, gates and messages of a run."),
        "graph": Verb("graph", "Draw a definition or a run as SVG, PNG, Mermaid, DOT or JSON."),
        "schema": Verb("schema", "Print the JSON Schema of definitions, for editors."),
    },
    "Runs": {
        "run": Verb("run", "Run a definition, a file or an id, and wait for its end."),
        "watch": Verb("watch", "Follow a run until it ends."),
        "ps": Verb("ps", "List the latest runs."),
        "show": Verb("show", "Show one run: its steps, figures and errors."),
        "logs": Verb("logs", "Print what the steps of a run have logged."),
        "cancel": Verb("cancel", "Cancel a run."),
        "approvals": Verb("approvals", "List the steps that wait for somebody's yes or no."),
        "approve": Verb("approve", "Let a step that waits for approval go on, or not."),
        "pause": Verb("pause", "Let nothing more of a run start."),
        "resume": Verb("resume", "Go on with a paused run."),
        "retry": Verb("retry", "Go on with a run that failed or was cancelled."),
        "rerun": Verb("rerun", "Run an ended run again as a new one, and take over what is still right."),
    },
    "Schedules": {
        "schedule": Verb("schedule", "See and change what runs by itself."),
    },
    "Papers": {
        "demo": Verb("demo", "Make the shipped papers searchable, and search them."),
        "search": Verb("search", "Find papers by meaning and words."),
        "eval": Verb("evaluate", "Measure a search by judgements."),
        "collections": Verb("collections", "See what can be searched, switch and drop it."),
        "quarantine": Verb("quarantine", "See papers that could not be read, and read them once more."),
    },
    "Operation": {
        "serve": Verb("serve", "Serve the API until Ctrl-C, with a worker if you like."),
        "worker": Verb("worker", "Run a worker until Ctrl-C."),
        "doctor": Verb("doctor", "Check this installation, and say how to mend it."),
        "cache": Verb("cache", "Forget outputs that steps with `cache` have kept."),
        "keys": Verb("keys", "Make, list and revoke keys of the API."),
        "db": Verb("database", "Care for the database."),
    },
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """All verbs, in the order of the help."""
        return [name for verbs in SECTIONS.values() for name in verbs]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import the verb's module; None when there is no such verb."""
        for verbs in SECTIONS.values():
            if cmd_name in verbs:
                module = import_module(f"celeriac.commands.{verbs[cmd_name].module}")
                command: click.Command = module.command
                return command
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the arguments name; a word that is none gets the nearest one as a hint."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from difflib import get_close_matches

            near = get_close_matches(args[0], self.list_commands(ctx), n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise click.UsageError(f"there is no command '{args[0]}'{hint}", ctx) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The verbs by section, without importing any."""
        widest = max(map(len, self.list_commands(ctx)))
        for section, verbs in SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl([(name.ljust(widest), verb.summary) for name, verb in verbs.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 the run failed, 2 wrong usage or input. State lies in $CELERIAC_HOME (.celeriac).",
)
@click.version_option(package_name="celeriac", message="%(prog)s %(version)s")
def cli() -> None:
    """Run workflow graphs, written as YAML, on Celery; every step is a row in SQL.

    Start with `celeriac demo`, or with a definition of your own: `celeriac validate FILE`, `celeriac run FILE`.
    """
