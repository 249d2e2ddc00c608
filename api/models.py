"""What the endpoints answer, as the OpenAPI document describes it.

Instants are seconds since 1970 by the database's clock, durations are seconds, `progress` is a whole number from 0
to 100.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from workflows.db.queries import RunReport, RunView, StepView
from workflows.engine.launch import Submitted


class Accepted(BaseModel):
    """An accepted run.

    Attributes:
        is_new: False when the idempotency key named a run that was accepted before.
        is_published: False when the broker was away: the run is recorded and starts when it is back.
    """

    run_id: str
    status: str
    is_new: bool
    is_published: bool

    @classmethod
    def of(cls, accepted: Submitted) -> Accepted:
        """What was accepted."""
        return cls(
            run_id=accepted.run_id, status=accepted.status, is_new=accepted.is_new, is_published=accepted.is_published
        )


class Run(BaseModel):
    """One run, without its steps.

    Attributes:
        schedule: Name of the schedule that started it; null when a person did.
        fire_time: The time of the schedule that had come, ISO 8601 in the schedule's own zone.
        parent_run: Id of the run of which a step has started this one; `parent_step` is that step's.
    """

    run_id: str
    workflow: str
    status: str
    schedule: str | None
    fire_time: str | None
    progress: int
    current_step: str | None
    steps_total: int
    steps_done: int
    steps_failed: int
    generation: int
    cancel_requested: bool
    created_at: float
    started_at: float | None
    finished_at: float | None
    seconds: float | None
    eta_seconds: float | None
    params: dict[str, Any]
    error: str | None
    rerun_of: str | None
    parent_run: str | None
    parent_step: str | None

    @classmethod
    def of(cls, run: RunView) -> Run:
        """The run as it was read."""
        return cls(**run_values(run))


class RunDetail(Run):
    """One run with its outputs, and who delivered its steps."""

    outputs: dict[str, Any] | None
    dispatches: dict[str, int]

    @classmethod
    def of_report(cls, report: RunReport) -> RunDetail:
        """The run as it was read."""
        return cls(**run_values(report.run), outputs=report.run.outputs, dispatches=report.dispatches)


def run_values(run: RunView) -> dict[str, Any]:
    """The fields of `Run`."""
    return {
        "run_id": run.run_id,
        "workflow": run.workflow,
        "status": run.status,
        "schedule": run.schedule,
        "fire_time": run.fire_time,
        "progress": run.progress,
        "current_step": run.current_step,
        "steps_total": run.steps_total,
        "steps_done": run.steps_total - run.steps_open,
        "steps_failed": run.steps_failed,
        "generation": run.generation,
        "cancel_requested": run.cancel_requested,
        "created_at": run.created_at,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "seconds": run.seconds,
        "eta_seconds": run.eta_seconds,
        "params": run.params,
        "error": run.error,
        "rerun_of": run.rerun_of,
        "parent_run": run.parent_run,
        "parent_step": run.parent_step,
    }


class ItemCounts(BaseModel):
    """Calls of a map."""

    total: int
    success: int
    failure: int


class Step(BaseModel):
    """One step of a run.

    Attributes:
        attempts: Tries so far.
        items: None for a step without `for_each`, and before its items are known.
        error: `{type, message, traceback}` of the last failed try.
        not_before: When its next try is due.
        sub_run: Id of the run that it has started and waits for.
    """

    id: str
    ordinal: int
    queue: str
    status: str
    reason: str | None
    progress: int
    attempts: int
    failures: int
    crashes: int
    started_at: float | None
    finished_at: float | None
    seconds: float | None
    items: ItemCounts | None
    error: dict[str, Any] | None
    not_before: float | None
    sub_run: str | None

    @classmethod
    def of(cls, step: StepView, now: float) -> Step:
        """The step as it was read at `now`."""
        return cls(**step_values(step, now))


class StepDetail(Step):
    """One step with what it was given and what it gave.

    Attributes:
        given: Its `with` with all expressions evaluated, secrets as `***`; null while what it reads is not there, and
            of a step with `for_each`, whose calls are given different things.
        template: Its `with` as the definition has it.
    """

    output: Any
    given: dict[str, Any] | None
    template: dict[str, Any]


def step_values(step: StepView, now: float) -> dict[str, Any]:
    """The fields of `Step`."""
    counts: Mapping[str, int] | None = None
    if step.items_total is not None:
        counts = {"total": step.items_total, "success": step.items_success, "failure": step.items_failure}
    return {
        "id": step.step_id,
        "ordinal": step.ordinal,
        "queue": step.queue,
        "status": step.status,
        "reason": step.reason,
        "progress": int(step.share * 100),
        "attempts": step.attempts,
        "failures": step.failures,
        "crashes": step.crashes,
        "started_at": step.started_at,
        "finished_at": step.finished_at,
        "seconds": step.seconds(now),
        "items": counts,
        "error": step.error,
        "not_before": step.not_before,
        "sub_run": step.sub_run,
    }


class Paused(BaseModel):
    """How a run stands after a pause, in steps.

    Attributes:
        running: Go on to their end.
        waiting: Do not start before the run is resumed.
    """

    run_id: str
    status: str
    running: int
    waiting: int
    dry_run: bool = False


class Resumed(BaseModel):
    """What a resume has set going; `ready` is empty when the run was not paused."""

    run_id: str
    status: str
    ready: list[str]
    dry_run: bool = False


class Taken(BaseModel):
    """One step of a rerun: whether its output was taken over, and why."""

    step: str
    is_reused: bool
    why: str


class RerunAnswer(BaseModel):
    """A rerun of the run `of`; `run_id` is the new run's, null for a dry run."""

    of: str
    run_id: str | None
    steps: list[Taken]
    dry_run: bool = False


class Cancelled(BaseModel):
    """What a cancel found, in steps; asked again it gives the figures as they are by then.

    Attributes:
        finished: Ended before the cancel.
        stopping: Still running; they see a flag.
        stopped: Revoked after a try, or after a part of their calls.
        never_started: Will not run.
    """

    run_id: str
    status: str
    finished: int
    stopping: int
    stopped: int
    never_started: int
    dry_run: bool = False
