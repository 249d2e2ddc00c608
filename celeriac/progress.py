"""How the progress of a run is shown while it lasts: bars on a terminal, lines elsewhere, or nothing."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Protocol, Self

import click

from celeriac.output import MARKS, STYLES, console, count_text, seconds_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType
    from rich.table import Table

    from workflows.db.queries import RunReport, StepView

MOST_BARS = 16
"""Steps that have a bar at the same time; of more, those that matter now are shown."""

MOST_LINES = 40
"""Steps up to which every change of a step gets a line of its own."""

_BAR_WIDTH = 32
_LINE_SECONDS = 5.0
_ACTIVE = ("PROGRESS", "RETRY", "WAITING")


class Display(Protocol):
    """What shows a run. It is entered before the first report and left after the last."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_error: object) -> None: ...

    def show(self, report: RunReport) -> None:
        """The run has come so far."""
        ...

    def say(self, message: str) -> None:
        """Tell something beside the progress."""
        ...


def make_display(*, quiet: bool) -> Display:
    """Bars when standard error is a terminal, else lines there; with `quiet` lines are left out."""
    if console(err=True).is_terminal:
        return Bars()
    return Silent() if quiet else Lines()


class Silent:
    """Shows no progress."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        return None

    def show(self, report: RunReport) -> None:
        """Nothing."""

    def say(self, message: str) -> None:
        """On standard error."""
        click.echo(message, err=True)


class Lines(Silent):
    """A line for each step that starts or ends, and now and then one for the whole."""

    def __init__(self) -> None:
        self._seen: dict[str, str] = {}
        self._told = 0.0
        self._last = ""

    def show(self, report: RunReport) -> None:
        """Print what is new since the last time."""
        now = report.run.now
        if len(report.steps) <= MOST_LINES:
            for step in report.steps:
                if self._seen.get(step.step_id, "PENDING") != step.status:
                    self._seen[step.step_id] = step.status
                    click.echo(_line(step, now), err=True)
        whole = f"{report.run.progress:>3} %  {_whole(report)}"
        self._told = self._told or now
        if now - self._told >= _LINE_SECONDS and whole != self._last and not report.run.is_ended:
            self._told, self._last = now, whole
            click.echo(whole, err=True)


class Bars:
    """A bar for each step and one for the run, with the time that it may still take."""

    def __init__(self) -> None:
        from rich.live import Live
        from rich.spinner import Spinner
        from rich.text import Text

        self._console = console(err=True)
        self._spinner = Spinner("dots", style=STYLES["PROGRESS"])
        self._report: RunReport | None = None
        self._live = Live(
            Text("  bringing up the workers", "dim"),
            console=self._console,
            refresh_per_second=10,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_error: object) -> None:
        if self._report is None:
            self._live.transient = True
        self._live.stop()

    def show(self, report: RunReport) -> None:
        """Draw the bars anew."""
        self._report = report
        most = min(MOST_BARS, max(3, self._console.height - 5))
        self._live.update(self._table(report, most), refresh=report.run.is_ended)

    def say(self, message: str) -> None:
        """Above the bars."""
        self._console.print(message, markup=False)

    def _table(self, report: RunReport, most: int) -> Table:
        from rich.table import Table
        from rich.text import Text

        run = report.run
        table = Table.grid(padding=(0, 1))
        width = self._console.width
        table.add_column(width=1, no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis", max_width=min(40, width // 3))
        table.add_column(max_width=_BAR_WIDTH)  # the one that gives way on a narrow terminal
        table.add_column(justify="right", no_wrap=True)
        table.add_column(justify="right", no_wrap=True, min_width=9)
        table.add_column(no_wrap=True, overflow="ellipsis", max_width=max(width // 4, width - 90))
        for step in chosen(report.steps, most):
            mark: RenderableType = Text(MARKS.get(step.status, " "), STYLES.get(step.status, ""))
            is_dim = step.status in ("PENDING", "SKIPPED")
            table.add_row(
                self._spinner if step.status == "PROGRESS" else mark,
                Text(step.step_id, "dim" if is_dim else ""),
                _bar(step.share, step.status),
                Text(_amount(step), "dim" if is_dim else ""),
                Text(seconds_text(step.seconds(run.now)) if step.started_at else "", "dim"),
                Text(_remark(step, run.now), "dim"),
            )
        if len(report.steps) > most:
            table.add_row("", Text(f"{len(report.steps) - most:,} more steps", "dim"))
        eta = run.eta_seconds
        table.add_row(
            Text(MARKS[run.status] if run.is_ended else "", STYLES.get(run.status, "")),
            Text(run.workflow, "bold"),
            _bar(run.progress / 100, run.status),
            Text(f"{run.progress} %", "bold"),
            seconds_text(run.seconds) if run.started_at else "",
            Text(f"about {_roughly(eta)} left" if eta is not None else "", "dim"),
        )
        return table


def chosen(steps: Sequence[StepView], most: int) -> list[StepView]:
    """At most `most` steps in their order: first failed and active ones, then those that ended last, then the next."""
    if len(steps) <= most:
        return list(steps)

    def urgency(step: StepView) -> tuple[int, float]:
        if step.status == "FAILURE":
            return 0, 0.0
        if step.status in _ACTIVE:
            return 1, step.ordinal
        if step.finished_at is not None:
            return 2, -step.finished_at
        return 3, step.ordinal

    return sorted(sorted(steps, key=urgency)[:most], key=lambda step: step.ordinal)


def _bar(share: float, status: str) -> RenderableType:
    from rich.progress_bar import ProgressBar

    colour = STYLES.get(status, "").removeprefix("bold ")
    if status in ("PENDING", "SKIPPED"):
        colour = "bright_black"
    return ProgressBar(total=1.0, completed=share, complete_style=colour or "blue", finished_style=colour or "green")


def _roughly(seconds: float) -> str:
    return f"{max(1, round(seconds))} s" if seconds < 99.5 else seconds_text(seconds)


def _amount(step: StepView) -> str:
    if step.items_total is not None:
        return f"{step.items_success + step.items_failure:,}/{step.items_total:,}"
    return f"{round(step.share * 100)} %" if step.status in _ACTIVE and step.share else ""


def _remark(step: StepView, now: float) -> str:
    if step.status == "RETRY":
        wait = f" in {seconds_text(step.not_before - now)}" if step.not_before and step.not_before > now else ""
        return f"try {step.attempts + 1}{wait}: {_why(step)}"
    if step.status == "FAILURE":
        return _why(step)
    if step.status == "SKIPPED":
        return (step.reason or "").replace("_", " ")
    if step.status == "PENDING" and step.crashes:
        return f"its worker process ended {count_text(step.crashes, 'time')}; it starts again"
    parts = [f"{step.items_failure:,} failed"] if step.items_failure else []
    parts += [f"try {step.attempts}"] if step.failures else []
    return ", ".join(parts)


def _why(step: StepView) -> str:
    return f"{step.error['type']}: {step.error['message']}".splitlines()[0] if step.error else ""


def _line(step: StepView, now: float) -> str:
    amount = _amount(step)
    took = seconds_text(step.seconds(now)) if step.finished_at is not None and step.started_at is not None else ""
    parts = (f"{MARKS.get(step.status, ' ')} {step.status:<8}", step.step_id, amount, took, _remark(step, now))
    return "  ".join(part for part in parts if part)


def _whole(report: RunReport) -> str:
    states = Counter(step.status for step in report.steps)
    done = f"{len(report.steps) - report.run.steps_open:,} of {count_text(len(report.steps), 'step')}"
    active = [f"{step.step_id} {_amount(step)}".strip() for step in report.steps if step.status in _ACTIVE]
    listed = ", ".join(active[:4]) + (f" and {len(active) - 4} more" if len(active) > 4 else "")
    failed = f"; {states['FAILURE']} failed" if states["FAILURE"] else ""
    return f"{done}{failed}{': ' + listed if listed else ''}"
