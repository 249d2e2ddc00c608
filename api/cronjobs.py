"""The first system's endpoints, with its words: a cronjob is a workflow, a task is a run."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from api.access import Scope, needs
from api.bodies import JSON_OBJECT_BODY, RawBody, json_object
from api.documents import problems
from api.models import Step
from api.sentences import sentence
from api.services import PATIENCE_SECONDS, Served, Services
from workflows.db import progress, queries
from workflows.db.database import Transaction
from workflows.db.progress import ActiveStep, Origin
from workflows.db.queries import RunReport, RunView
from workflows.engine import control, health
from workflows.engine.health import Health
from workflows.engine.launch import Submitted
from workflows.model.states import is_terminal

router = APIRouter(prefix="/api/cronjobs", tags=["cronjobs"], dependencies=[needs(Scope.READ)])

LONGEST_WAIT_SECONDS = 3600.0
_FIRST_POLL_SECONDS, _LAST_POLL_SECONDS = 0.05, 0.5


class Triggered(BaseModel):
    """A run that was accepted; with `wait`, how it ended."""

    job_run_id: str
    task_id: str
    status: str
    message: str
    outputs: dict[str, Any] | None = None
    error: str | None = None


class TaskStatus(BaseModel):
    """How a run stands.

    Attributes:
        progress: 0 to 100.
        description: One sentence for people.
        current: Steps that have ended, of `total`.
        elapsed_time: Seconds since its start.
        estimated_remaining: Seconds it will still take; null when that cannot be said.
    """

    task_id: str
    status: str
    progress: int
    description: str
    current: int
    total: int
    job_run_id: str
    elapsed_time: float
    estimated_remaining: float | None


class StoredProgress(BaseModel):
    """What the database keeps of a run's progress, in the first system's words."""

    progress_percentage: int
    current_step: str | None
    manual_trigger: bool
    user_params: dict[str, Any]
    created_at: float
    started_at: float | None
    finished_at: float | None
    error: str | None


class TaskProgress(TaskStatus):
    """How a run and each of its steps stand.

    Attributes:
        database: What is stored; it is the truth.
        steps: In topological order.
        celery_state: State of the task as Celery has it; null when its result backend does not answer.
        dispatches: Messages of steps by who sent them.
    """

    database: StoredProgress
    steps: list[Step]
    celery_state: str | None
    dispatches: dict[str, int]


class CancelledTask(BaseModel):
    """A run that was cancelled, or had ended before."""

    task_id: str
    job_run_id: str
    status: str
    message: str


@router.post(
    "/{workflow_id}/trigger",
    dependencies=[needs(Scope.TRIGGER)],
    status_code=202,
    response_model_exclude_unset=True,
    openapi_extra=JSON_OBJECT_BODY,
    responses={200: {"model": Triggered, "description": "`wait`: the run has ended"}, **problems(404, 409, 413, 422)},
)
async def trigger(
    workflow_id: str,
    body: RawBody,
    served: Served,
    request: Request,
    response: Response,
    wait: Annotated[
        float | None, Query(ge=0, le=LONGEST_WAIT_SECONDS, description="Seconds to wait for the end of the run.")
    ] = None,
    idempotency_key: Annotated[str | None, Header(pattern=r"^[!-~]{1,200}$")] = None,
) -> Triggered:
    """Start a workflow. The body is its params, bare, and may be missing; the answer comes at once."""
    accepted = await run_in_threadpool(_accept, served, workflow_id, body, idempotency_key)
    answer = Triggered(
        job_run_id=accepted.run_id, task_id=accepted.run_id, status=accepted.status, message=_message(accepted)
    )
    if not wait:
        return answer
    run = await _end_of(served, accepted.run_id, wait, request)
    answer.status = run.status
    if not run.is_ended:
        answer.message = f"Not finished within {wait:g} s; the job goes on. Task ID: {run.run_id}"
        return answer
    response.status_code = 200
    answer.message = sentence(run, None)
    answer.outputs, answer.error = run.outputs or {}, run.error
    return answer


@router.get("/tasks/health-check", responses={503: {"description": "Something is missing; `status` is unhealthy."}})
def health_check(served: Served, response: Response) -> dict[str, Any]:
    """Whether a run that is triggered now would be carried out: database, broker and workers."""
    found: Health = health.examine(served.runtime, patience_seconds=PATIENCE_SECONDS)
    response.status_code = 200 if found.is_healthy else 503
    return found.to_json()


@router.get("/tasks/{task_id}/status", responses=problems(404))
def status(task_id: str, served: Served) -> TaskStatus:
    """How a run stands; costs the same for ten items and for ten thousand."""
    run = served.run(task_id)
    return TaskStatus(**_status(run, served.read(lambda tx: progress.active_step(tx, run.run_pk))))


@router.get("/tasks/{task_id}/progress", responses=problems(404))
def detailed_progress(task_id: str, served: Served) -> TaskProgress:
    """How a run and each of its steps stand, what the database stores, and Celery's state."""
    run = served.run(task_id)

    def work(tx: Transaction) -> tuple[RunReport, ActiveStep | None, Origin]:
        return queries.report(tx, run), progress.active_step(tx, run.run_pk), progress.origin(tx, run.run_pk)

    report, active, origin = served.read(work)
    return TaskProgress(
        **_status(run, active),
        database=StoredProgress(
            progress_percentage=run.progress,
            current_step=run.current_step,
            manual_trigger=origin.is_manual,
            user_params=origin.user_params,
            created_at=run.created_at,
            started_at=run.started_at,
            finished_at=run.finished_at,
            error=run.error,
        ),
        steps=[Step.of(step, run.now) for step in report.steps],
        celery_state=served.celery_state(run),
        dispatches=report.dispatches,
    )


@router.post("/tasks/{task_id}/cancel", dependencies=[needs(Scope.OPERATE)], responses=problems(404))
def cancel(task_id: str, served: Served) -> CancelledTask:
    """Cancel a run. Asked again, or of a run that has ended, it changes nothing and says how the run stands."""
    run = served.run(task_id)
    answer = control.cancel(served.runtime, run.run_id, patience_seconds=PATIENCE_SECONDS)
    if is_terminal(answer.status):
        message = "Task cancelled" if answer.status == "REVOKED" else f"Task had ended before: {answer.status}"
    else:
        message = f"Task is being cancelled; {answer.stopping} of its steps are still stopping"
    return CancelledTask(task_id=run.run_id, job_run_id=run.run_id, status=answer.status, message=message)


def _accept(served: Services, workflow_id: str, body: bytes, idempotency_key: str | None) -> Submitted:
    return served.submit(served.catalogue.get(workflow_id), json_object(body), idempotency_key)


def _message(accepted: Submitted) -> str:
    if accepted.is_skipped:
        return f"Job execution skipped: other runs of its concurrency group are at work. Task ID: {accepted.run_id}"
    if accepted.waits:
        return f"Job execution queued until another run of its group has ended. Task ID: {accepted.run_id}"
    if not accepted.is_published:
        return (
            "Job execution recorded; the message broker does not answer, it starts when that is back. "
            f"Task ID: {accepted.run_id}"
        )
    return f"Job execution queued successfully. Task ID: {accepted.run_id}"


async def _end_of(served: Services, run_id: str, wait_seconds: float, request: Request) -> RunView:
    """The run when it has ended, the time is over, or nobody waits any more."""
    deadline = time.monotonic() + wait_seconds
    pause = _FIRST_POLL_SECONDS
    while True:
        run = await run_in_threadpool(served.run, run_id)
        left = deadline - time.monotonic()
        if run.is_ended or left <= 0 or await request.is_disconnected():
            return run
        await asyncio.sleep(min(pause, left))
        pause = min(pause * 1.5, _LAST_POLL_SECONDS)


def _status(run: RunView, active: ActiveStep | None) -> dict[str, Any]:
    """The fields of `TaskStatus`."""
    return {
        "task_id": run.run_id,
        "status": run.status,
        "progress": run.progress,
        "description": sentence(run, active),
        "current": run.steps_total - run.steps_open,
        "total": run.steps_total,
        "job_run_id": run.run_id,
        "elapsed_time": round(max(0.0, run.seconds or 0.0), 3),
        "estimated_remaining": None if run.eta_seconds is None else round(run.eta_seconds, 1),
    }
