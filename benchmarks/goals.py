"""A figure beside its goal: what the smaller benchmarks print, and write as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rich.table import Table


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing that was measured.

    Attributes:
        value: In `unit`.
        goal: None where the figure is only told.
        sense: Whether the goal is the most or the least that is good.
    """

    what: str
    value: float
    unit: str
    goal: float | None = None
    sense: Literal["most", "least"] = "most"

    @property
    def is_met(self) -> bool:
        """Whether the goal is reached; what has no goal misses none."""
        if self.goal is None:
            return True
        return self.value <= self.goal if self.sense == "most" else self.value >= self.goal

    def to_json(self) -> dict[str, Any]:
        """All of it, and the verdict."""
        return {**asdict(self), "verdict": self.verdict}

    @property
    def verdict(self) -> str:
        """`met` or `missed`; empty without a goal."""
        return "" if self.goal is None else "met" if self.is_met else "missed"


def table_of(title: str, figures: Iterable[Figure]) -> Table:
    """What, value, goal, verdict."""
    table = Table(title=title)
    for name in ("what", "value", "goal", "verdict"):
        table.add_column(name, justify="left" if name in ("what", "verdict") else "right")
    for one in figures:
        sign = "<=" if one.sense == "most" else ">="
        goal = "" if one.goal is None else f"{sign} {one.goal:,g} {one.unit}"
        colour = "green" if one.is_met else "red"
        table.add_row(one.what, f"{one.value:,.4g} {one.unit}", goal, f"[{colour}]{one.verdict}[/{colour}]")
    return table
