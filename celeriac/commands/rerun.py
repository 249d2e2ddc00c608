"""`celeriac rerun`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from celeriac.commands.run import parse_params
from celeriac.output import count_text, json_option, note, plain_table, print_json
from workflows.settings import Config

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workflows.compile.reuse import Verdict


@click.command("rerun")
@click.argument("run")
@click.option("--from", "start", metavar="STEP", help="Run this step and all that comes after it in any case.")
@click.option("--param", "-p", "pairs", multiple=True, metavar="KEY=VALUE", help="A param that is to be another one.")
@click.option("--definition", metavar="FILE|ID", help="The edited definition. [default: the version the run had]")
@click.option("--dry-run", is_flag=True, help="Only say what would be taken over, and why.")
@click.option("--wait/--no-wait", default=True, help="Wait for the end of the run, or only set it going.")
@click.option("--concurrency", "-c", type=click.IntRange(1, 512), metavar="N", help="As for `celeriac run`.")
@json_option("Print the new run as one JSON object at its end.")
def command(
    run: str,
    start: str | None,
    pairs: tuple[str, ...],
    definition: str | None,
    dry_run: bool,
    wait: bool,
    concurrency: int | None,
    as_json: bool,
) -> int:
    """Run an ended run again as a new one, and take over what is still right.

    RUN is an id, the beginning of one, or latest. The output of a step is taken over when it succeeded, and the step,
    its params and all that ran before it are as they were. What runs again is told with the reason.
    """
    from celeriac.backends import backend, reading, runtime_of
    from celeriac.follow import read_report, read_workers
    from celeriac.progress import make_display
    from celeriac.running import edited, exit_code, see_through
    from celeriac.summary import print_end
    from workflows.engine.rerun import rerun
    from workflows.steps.registry import load_steps

    config = Config.from_env()
    params = parse_params(pairs)
    steps = load_steps(config.step_modules)
    changed = edited(config, definition, steps)
    with reading(config) as database:
        of = read_report(database, run).run.run_id
    if dry_run or not wait:
        with backend(config, start=False) as using:
            runtime = runtime_of(using.config, steps)
            answer = rerun(runtime, of, definition=changed, params=params, from_text=True, start=start, dry_run=dry_run)
            if not dry_run and not read_workers(runtime.database):
                note("note: no worker is running; the run goes on when there is one: `celeriac worker`")
            runtime.database.close()
        if as_json:
            print_json({"of": of, "run_id": answer.run_id, "steps": list(map(asdict, answer.verdicts))})
            return 0
        print_verdicts(answer.verdicts)
        if answer.run_id is not None:
            click.echo(f"run {answer.run_id} is on its way; follow it with `celeriac watch {answer.run_id[:8]}`")
        return 0
    with backend(config, slots=concurrency) as using:
        with make_display(quiet=as_json) as display:
            runtime = runtime_of(using.config, steps)
            using.ready()
            answer = rerun(runtime, of, definition=changed, params=params, from_text=True, start=start)
            assert answer.run_id is not None
            display.say(_sentence(answer.verdicts))
            report = see_through(runtime, using, answer.run_id, display)
        print_end(report, as_json=as_json)
    return exit_code(report)


def print_verdicts(verdicts: Sequence[Verdict]) -> None:
    """A table of what is taken over and what runs again, with the reasons."""
    from celeriac.output import console

    table = plain_table("step", "", last="because")
    for verdict in verdicts:
        table.add_row(verdict.step, "taken over" if verdict.is_reused else "runs again", verdict.why)
    console().print(table)
    click.echo(_sentence(verdicts))


def _sentence(verdicts: Sequence[Verdict]) -> str:
    again = [verdict for verdict in verdicts if not verdict.is_reused]
    told = f"{count_text(len(verdicts) - len(again), 'step')} taken over, {len(again)} to run"
    return told + "".join(f"; {verdict.step}: {verdict.why}" for verdict in again[:1])
