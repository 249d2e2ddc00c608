"""`celeriac retry`."""

from __future__ import annotations

import click

from celeriac.output import json_option, note, print_json
from workflows.settings import Config


@click.command("retry")
@click.argument("run")
@click.option("--dry-run", is_flag=True, help="Only say which steps would run again.")
@click.option("--wait/--no-wait", default=True, help="Wait for the end of the run, or only set it going.")
@click.option("--concurrency", "-c", type=click.IntRange(1, 512), metavar="N", help="As for `celeriac run`.")
@json_option("Print the run as one JSON object at its end.")
def command(run: str, dry_run: bool, wait: bool, concurrency: int | None, as_json: bool) -> int:
    """Go on with a run that failed or was cancelled: failed steps and calls, and what waited for them.

    RUN is an id, the beginning of one, or latest. What has succeeded is not done again.
    """
    from celeriac.backends import backend, reading, runtime_of
    from celeriac.follow import read_report, read_workers
    from celeriac.progress import make_display
    from celeriac.running import check_retryable, exit_code, see_through
    from celeriac.summary import print_end
    from workflows.engine import control

    config = Config.from_env()
    with reading(config) as database:
        run_id = check_retryable(read_report(database, run).run)
    if dry_run:
        with backend(config, start=False) as using:
            runtime = runtime_of(using.config)
            preview = control.preview_retry(runtime, run_id)
            runtime.database.close()
        if as_json:
            print_json({"run_id": run_id, "steps": preview.steps, "ready": preview.ready, "dry_run": True})
        else:
            click.echo(f"would run again: {', '.join(preview.steps)}; at once: {', '.join(preview.ready)}")
        return 0
    if not wait:
        with backend(config, start=False) as using:
            runtime = runtime_of(using.config)
            control.retry(runtime, run_id)
            report = read_report(runtime.database, run_id)
            if not read_workers(runtime.database):
                note("note: no worker is running; the run goes on when there is one: `celeriac worker`")
            runtime.database.close()
        if as_json:
            print_json(report.to_json())
        else:
            click.echo(f"run {run_id} goes on; follow it with `celeriac watch {run_id[:8]}`")
        return 0
    with backend(config, slots=concurrency) as using:
        with make_display(quiet=as_json) as display:
            runtime = runtime_of(using.config)
            using.ready()
            control.retry(runtime, run_id)
            report = see_through(runtime, using, run_id, display)
        print_end(report, as_json=as_json)
    return exit_code(report)
