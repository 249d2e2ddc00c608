"""The step `workflow`: another workflow as a run of its own, waited for without holding a worker."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from workflows.steps import PermanentError, StepContext, step

LONGEST_SLEEP_SECONDS = 300.0
"""The end of the run wakes the step at once; should nobody have done that, it looks by itself."""


class Call(BaseModel):
    """What is run.

    Attributes:
        id: Of the workflow, in the definitions of the workers.
        params: Checked against what the workflow declares when the step starts.
        on_failure: `fail` ends the step as FAILURE when the run does not succeed, `continue` as SUCCESS with its
            status in the output.
    """

    model_config = ConfigDict(extra="forbid")

    id: str = Field(min_length=1, max_length=200)
    params: dict[str, Any] = {}
    on_failure: Literal["fail", "continue"] = "fail"


class Ended(BaseModel):
    """How the run has ended.

    Attributes:
        status: Of the run: SUCCESS, FAILURE, REVOKED, or SKIPPED when its concurrency group was full.
        outputs: What the workflow declares as its outputs.
    """

    run_id: str
    status: str
    outputs: dict[str, Any]
    error: str | None


@step("workflow")
def workflow(inp: Call, ctx: StepContext) -> Ended:
    """Start the run, and come back when it has ended.

    Raises:
        PermanentError: it cannot be started, or has not succeeded and the step is to fail then.
    """
    run = ctx.run_workflow(inp.id, inp.params)
    if not run.is_ended:
        waited = 0.0 if ctx.parked_since is None else ctx.started_at - ctx.parked_since
        ctx.park(min(max(1.0, waited), LONGEST_SLEEP_SECONDS))
    if run.status != "SUCCESS" and inp.on_failure == "fail":
        why = f": {run.error}" if run.error else ""
        raise PermanentError(f"run {run.run_id} of workflow '{inp.id}' ended as {run.status}{why}")
    return Ended(run_id=run.run_id, status=run.status, outputs=run.outputs, error=run.error)
