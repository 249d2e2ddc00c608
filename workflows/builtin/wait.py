"""The step `wait`: lets time go by without holding a worker."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from workflows.model.policies import DURATION, parse_duration
from workflows.steps import StepContext, step

MOST_SECONDS = 366 * 86_400.0

Duration = Annotated[
    float,
    BeforeValidator(parse_duration, json_schema_input_type=Annotated[str, Field(pattern=DURATION.pattern)] | float),
    Field(ge=0, le=MOST_SECONDS),
]
"""Seconds, from text such as `90s`, `10m`, `6h`, `1d`, or a number."""


class Wait(BaseModel):
    """How long, or until when.

    Attributes:
        duration: YAML says `for`. Counted from the step's first start, or from the first after a retry by hand.
        until: An instant with its offset, such as `2026-03-29T03:00:00+02:00`; one that has passed is no wait.
    """

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    duration: Duration | None = Field(default=None, alias="for")
    until: AwareDatetime | None = None

    @model_validator(mode="after")
    def _says_one_of_them(self) -> Wait:
        if (self.duration is None) is (self.until is None):
            raise ValueError("give `for` or `until`, one of them")
        return self


class Waited(BaseModel):
    """Until when the step has waited, in UTC."""

    until: datetime


@step("wait")
def wait(inp: Wait, ctx: StepContext) -> Waited:
    """Be over when the time has come; until then the step is parked."""
    since = ctx.started_at if ctx.parked_since is None else ctx.parked_since
    due = since + (inp.duration or 0.0) if inp.until is None else inp.until.timestamp()
    if due > ctx.started_at:
        ctx.park(due - ctx.started_at)
    return Waited(until=datetime.fromtimestamp(due, UTC))
