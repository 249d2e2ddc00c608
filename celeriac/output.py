"""What all commands print with: one JSON value for programs, calm text for people."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    Command = TypeVar("Command", bound=Callable[..., Any])

STYLES = {
    "PENDING": "dim",
    "PROGRESS": "bold blue",
    "RETRY": "yellow",
    "WAITING": "magenta",
    "PAUSED": "magenta",
    "SUCCESS": "green",
    "FAILURE": "bold red",
    "REVOKED": "yellow",
    "SKIPPED": "dim",
}
"""How a state looks on a terminal."""

MARKS = {
    "PENDING": "·",
    "PROGRESS": "▸",
    "RETRY": "↻",
    "WAITING": "…",
    "PAUSED": "‖",
    "SUCCESS": "✓",
    "FAILURE": "✗",
    "REVOKED": "⊘",
    "SKIPPED": "↷",
}
"""A state in one character."""

PLAIN_WIDTH = 160
"""Columns of a table that goes to a file or a pipe: nothing is folded to a terminal's width."""


def json_option(help_text: str = "Print JSON.") -> Callable[[Command], Command]:
    """The option that every verb has."""
    return click.option("--json", "as_json", is_flag=True, help=help_text)


def print_json(value: object) -> None:
    """Print one JSON value on standard output."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=not _takes_any_character()))


def print_json_line(value: object) -> None:
    """Print one JSON value on a line of its own."""
    click.echo(json.dumps(value, ensure_ascii=not _takes_any_character()))


def _takes_any_character() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf")


def note(message: str, hint: str = "") -> None:
    """Tell people something beside the answer, on standard error."""
    click.echo(message, err=True)
    if hint:
        click.echo(f"hint: {hint}", err=True)


def console(*, err: bool = False) -> Console:
    """A console for text with colours where there is a terminal, and plain text elsewhere."""
    from rich.console import Console

    is_terminal = (sys.stderr if err else sys.stdout).isatty()
    return Console(stderr=err, highlight=False, soft_wrap=not is_terminal, width=None if is_terminal else PLAIN_WIDTH)


def plain_table(*left: str, right: Sequence[str] = (), last: str | None = None) -> Table:
    """A table without a frame.

    Args:
        left: Columns that are set to the left.
        right: Columns of figures, after them.
        last: A column of text, which is folded.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="dim")
    for name in left:
        table.add_column(name, no_wrap=True)
    for name in right:
        table.add_column(name, justify="right", no_wrap=True)
    if last is not None:
        table.add_column(last, overflow="fold")
    return table


def status_text(status: str) -> Text:
    """A state with its mark and colour."""
    from rich.text import Text

    return Text(f"{MARKS.get(status, ' ')} {status}", STYLES.get(status, ""))


def seconds_text(seconds: float | None) -> str:
    """A duration as people say it: `0.42 s`, `12.3 s`, `3 min 20 s`, `2 h 5 min`; `-` for none."""
    if seconds is None:
        return "-"
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"


def instant_text(instant: float | None) -> str:
    """An instant, seconds since 1970, on this machine's clock face; `-` for none."""
    if instant is None:
        return "-"
    return datetime.fromtimestamp(instant, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def count_text(number: int, noun: str, plural: str | None = None) -> str:
    """`1 step`, `1,024 steps`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
