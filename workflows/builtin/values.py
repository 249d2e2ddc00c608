"""Steps that only compute: `value` gives what it is given, `fail` ends in failure on purpose."""

from __future__ import annotations

from typing import Any, NoReturn

from pydantic import BaseModel, ConfigDict, Field

from workflows.steps import PermanentError, StepContext, step


class Values(BaseModel):
    """Any names and values."""

    model_config = ConfigDict(extra="allow")


class Refusal(BaseModel):
    """Why the step fails."""

    model_config = ConfigDict(extra="forbid")

    message: str = Field(min_length=1, max_length=2000)


@step("value")
def value(inp: Values, _ctx: StepContext) -> dict[str, Any]:
    """Give the input as output: a place for expressions that several steps read, or that join what others gave."""
    return inp.model_dump(mode="json")


@step("fail")
def fail(inp: Refusal, _ctx: StepContext) -> NoReturn:
    """Raise a `PermanentError` with the message: with `when`, a condition under which a run must not go on."""
    raise PermanentError(inp.message)
