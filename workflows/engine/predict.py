"""Forecasts from what past runs have cost, with the error that such forecasts would have had."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median

from workflows.compile.forecast import Forecast, Work, forecast
from workflows.compile.plan import Plan
from workflows.db import history
from workflows.db.database import Database
from workflows.model.spec import Json

FEWEST_FOR_ERROR = 3
"""Past runs without which nothing is said about the error."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """A forecast and what is behind it.

    Attributes:
        runs: How many past runs it is made of.
        error: Median of |predicted - actual| / actual, each past run predicted from the others; None for fewer than 3.
        unknown: Ids of steps that no past run has carried out, and that nobody has said anything about.
        works: What steps cost by past runs, or by what was assumed, by id.
    """

    forecast: Forecast
    runs: int
    error: float | None
    unknown: tuple[str, ...]
    works: Mapping[str, Work]

    def to_json(self) -> dict[str, Json]:
        """As `celeriac plan --json` prints it."""
        played = self.forecast
        return {
            "slots": played.slots,
            "seconds": played.seconds,
            "busy_share": played.busy_share,
            "runs": self.runs,
            "error": self.error,
            "unknown": list(self.unknown),
            "steps": {bar.step: {"start": bar.start, "end": bar.end, "is_known": bar.is_known} for bar in played.bars},
        }


def predict(database: Database | None, plan: Plan, slots: int, assumed: Mapping[str, Work] | None = None) -> Prediction:
    """Play the plan with the costs of past runs of its workflow.

    Args:
        database: Where past runs are; None when there are none.
        assumed: Costs by step id that count instead.
    """
    runs = (
        []
        if database is None
        else database.retrying(lambda tx: history.past_runs(tx, plan.workflow), autocommit=True, patience_seconds=5.0)
    )
    known = {**history.typical(runs), **(assumed or {})}
    played = forecast(plan, known, slots)
    unknown = tuple(bar.step for bar in played.bars if not bar.is_known)
    return Prediction(played, len(runs), _error(plan, runs, slots), unknown, known)


def _error(plan: Plan, runs: list[history.PastRun], slots: int) -> float | None:
    """Only runs that carried out what this plan would are compared: others were of another version."""
    alike = [run for run in runs if run.seconds > 0 and set(run.works) == {step.id for step in plan.steps}]
    if len(alike) < FEWEST_FOR_ERROR:
        return None
    errors = []
    for index, run in enumerate(alike):
        others = history.typical(alike[:index] + alike[index + 1 :])
        errors.append(abs(forecast(plan, others, slots).seconds - run.seconds) / run.seconds)
    return median(errors)
