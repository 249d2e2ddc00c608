"""The step `approval`: waits, without holding a worker, until somebody has said yes or no."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from workflows.builtin.wait import Duration
from workflows.db import approvals
from workflows.steps import PermanentError, StepContext, step

LOOK_AGAIN_SECONDS = 7 * 86_400.0
"""An answer wakes the step at once; so long it sleeps when none comes."""


class Question(BaseModel):
    """What is asked, and what becomes of the step without a yes.

    Attributes:
        within: No answer in so long is a no; there is no limit when it is left out.
        on_reject: `fail` ends the step as FAILURE, `continue` as SUCCESS whose output says that it was rejected.
    """

    model_config = ConfigDict(extra="forbid")

    prompt: str = Field(min_length=1, max_length=2000)
    within: Duration | None = None
    on_reject: Literal["fail", "continue"] = "fail"


class Answered(BaseModel):
    """What was decided.

    Attributes:
        by: Name of the key, or of the user at the command line; null when the time was over.
        at: In UTC.
    """

    approved: bool
    by: str | None
    comment: str | None
    at: datetime


@step("approval")
def approval(inp: Question, ctx: StepContext) -> Answered:
    """Ask, and come back with the answer.

    Raises:
        PermanentError: the answer is no, or none came in time, and the step is to fail then.
    """
    if ctx.parked_since is None:
        with ctx.write() as connection:
            approvals.ask(connection, ctx.run_id, ctx.step_id, inp.prompt, ctx.started_at)
        ctx.park(LOOK_AGAIN_SECONDS if inp.within is None else min(inp.within, LOOK_AGAIN_SECONDS))
    with ctx.read() as connection:
        found = approvals.answer(connection, ctx.run_id, ctx.step_id)
    if found is None:
        left = LOOK_AGAIN_SECONDS if inp.within is None else ctx.parked_since + inp.within - ctx.started_at
        if left > 0:
            ctx.park(min(left, LOOK_AGAIN_SECONDS))
        found = approvals.Decision(False, f"nobody decided within {inp.within:g} s", None, ctx.started_at)
    if not found.is_approved and inp.on_reject == "fail":
        who = f"rejected by {found.decided_by}" if found.decided_by else "not approved"
        raise PermanentError(f"{who}: {found.comment}" if found.comment else who)
    at = datetime.fromtimestamp(found.decided_at, UTC)
    return Answered(approved=found.is_approved, by=found.decided_by, comment=found.comment, at=at)
