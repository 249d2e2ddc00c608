"""`celeriac show`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from celeriac.output import (
    console,
    count_text,
    instant_text,
    json_option,
    plain_table,
    print_json,
    seconds_text,
    status_text,
)
from workflows.settings import Config

if TYPE_CHECKING:
    from workflows.db.queries import RunReport, StepView


@click.command("show")
@click.argument("run", default="latest")
@json_option()
def command(run: str, as_json: bool) -> None:
    """Show one run: its steps, figures and errors.

    RUN is an id, the beginning of one, or latest.
    """
    from celeriac.backends import reading
    from celeriac.follow import read_report

    with reading(Config.from_env()) as database:
        report = read_report(database, run)
    if as_json:
        print_json(report.to_json())
    else:
        _print(report)


def _print(report: RunReport) -> None:
    from rich.text import Text

    from celeriac.summary import error_text, value_text
    from workflows.db.queries import REUSED
    from workflows.db.units import CACHED

    run = report.run
    out = console()
    out.print(Text.assemble(status_text(run.status), "  ", (run.workflow, "bold"), f"  {run.run_id}"))
    started = (
        f"started {instant_text(run.started_at)}" if run.started_at else f"accepted {instant_text(run.created_at)}"
    )
    done = f"{run.steps_total - run.steps_open} of {count_text(run.steps_total, 'step')} done"
    out.print(f"  {started}  {seconds_text(run.seconds)}  {run.progress} %  {done}")
    if run.schedule:
        out.print(Text(f"  by schedule {run.schedule}" + (f" for {run.fire_time}" if run.fire_time else ""), "dim"))
    if run.parent_run:
        out.print(Text(f"  part of run {run.parent_run}, its step {run.parent_step}", "dim"))
    by = "  ".join(f"{name} {count}" for name, count in report.dispatches.items())
    out.print(Text(f"  delivered by  {by}", "dim"))
    _print_values("params", run.params)
    table = plain_table("step", "state", right=["calls", "tries", "took"], last="remark")
    for step in report.steps:
        remark = "" if step.status == "SUCCESS" and not step.items_failure else error_text(step)
        remark = "taken from the cache" if step.reason == CACHED else remark
        remark = remark or (f"run {step.sub_run}" if step.sub_run else "")
        remark = f"taken over from run {(run.rerun_of or '')[:8]}" if step.reason == REUSED else remark
        table.add_row(
            step.step_id,
            status_text(step.status),
            _calls(step),
            str(step.attempts or "-"),
            seconds_text(step.seconds(run.now)),
            Text(remark),
        )
    out.print()
    out.print(table)
    out.print()
    _print_values("outputs", {name: value_text(value) for name, value in (run.outputs or {}).items()})
    if run.error:
        out.print(Text(f"  {run.error}", "red"))


def _print_values(title: str, values: dict[str, object]) -> None:
    from rich.text import Text

    from celeriac.summary import value_text

    if values:
        out = console()
        out.print(Text(f"  {title}", "dim"))
        for name, value in values.items():
            out.print(Text(f"    {name}: {value_text(value)}"))


def _calls(step: StepView) -> str:
    if step.items_total is None:
        return "-"
    return f"{step.items_success + step.items_failure:,}/{step.items_total:,}"
