"""`celeriac watch`."""

from __future__ import annotations

import click

from celeriac.output import json_option
from workflows.settings import Config


@click.command("watch")
@click.argument("run", default="latest")
@json_option("Print the run as one JSON object at its end.")
def command(run: str, as_json: bool) -> int:
    """Follow a run until it ends; Ctrl-C leaves it as it is.

    RUN is an id, the beginning of one, or latest. Exit code 1 when the run failed or was cancelled.
    """
    from celeriac.backends import reading
    from celeriac.follow import Advice, Interrupts, LeftError, follow, read_report
    from celeriac.progress import make_display
    from celeriac.running import PATIENCE_SECONDS, LeftRunError, exit_code
    from celeriac.summary import print_end

    with reading(Config.from_env()) as database:
        run_id = read_report(database, run).run.run_id
        with make_display(quiet=as_json) as display, Interrupts(warnings=0) as interrupts:
            advice = Advice(
                display,
                database,
                lambda: "no worker is running\nhint: start one with `celeriac worker`",
                PATIENCE_SECONDS,
            )
            try:
                report = follow(
                    database, run_id, display, tick=advice.tick, check=lambda: interrupts.check(lambda: None)
                )
            except LeftError:
                raise LeftRunError(
                    f"left run {run_id} as it is", f"`celeriac watch {run_id[:8]}` follows it again"
                ) from None
    print_end(report, as_json=as_json)
    return exit_code(report)
