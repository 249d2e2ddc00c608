"""`celeriac approve`."""

from __future__ import annotations

import getpass

import click

from celeriac.output import json_option, print_json
from workflows.settings import Config


@click.command("approve")
@click.argument("run")
@click.argument("step")
@click.option("--reject", is_flag=True, help="Say no.")
@click.option("--comment", metavar="TEXT", help="Kept with the answer.")
@json_option()
def command(run: str, step: str, reject: bool, comment: str | None, as_json: bool) -> None:
    """Let a step that waits for approval go on; or, with --reject, not.

    RUN is an id, the beginning of one, or latest. See `celeriac approvals` for what waits.
    """
    from celeriac.backends import backend, reading, runtime_of
    from workflows.engine import approving

    config = Config.from_env()
    with reading(config), backend(config, start=False) as using:
        runtime = runtime_of(using.config)
        found = approving.decide(runtime, run, step, approved=not reject, by=_user(), comment=comment)
        runtime.database.close()
    decision = found.decision
    if as_json:
        told = {"approved": decision.is_approved, "comment": decision.comment, "by": decision.decided_by}
        print_json({"run_id": found.run_id, "step": found.step, **told, "is_new": found.is_new})
        return
    word = "approved" if decision.is_approved else "rejected"
    click.echo(f"{word} step '{found.step}' of run {found.run_id}" + ("" if found.is_new else ", as it was before"))


def _user() -> str:
    """Who sits at this command line, as far as the system knows."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "command line"
