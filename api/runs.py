"""`/api/v1/runs`: start, read, cancel, pause and retry runs."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Response
from pydantic import BaseModel, Field

from api.access import Scope, needs
from api.bodies import RawBody, json_object
from api.documents import problems
from api.models import (
    Accepted,
    Cancelled,
    Paused,
    RerunAnswer,
    Resumed,
    Run,
    RunDetail,
    Step,
    StepDetail,
    Taken,
    step_values,
)
from api.problems import RequestError
from api.services import PATIENCE_SECONDS, Served
from api.workflows import GRAPH_ANSWER, Format, Layer, Theme, graph_answer
from workflows.compile.plan import Plan
from workflows.db import queries, runs
from workflows.db.database import Transaction
from workflows.db.queries import RunReport, RunView
from workflows.engine import control
from workflows.engine import rerun as rerunning
from workflows.engine.inspection import step_input
from workflows.engine.rerun import Definition
from workflows.model.errors import NotFoundError
from workflows.model.names import IDENTIFIER

router = APIRouter(prefix="/api/v1/runs", tags=["runs"], dependencies=[needs(Scope.READ)])

MOST = 1000
"""Entries of one page."""

RunState = Literal["PENDING", "PROGRESS", "PAUSED", "SUCCESS", "FAILURE", "REVOKED", "SKIPPED"]
ItemState = Literal["PENDING", "PROGRESS", "RETRY", "SUCCESS", "FAILURE", "REVOKED", "SKIPPED"]
Limit = Annotated[int, Query(ge=1, le=MOST)]
Instant = Annotated[float, Query(ge=0, le=queries.FOREVER, allow_inf_nan=False, description="Seconds since 1970.")]
Cursor = Annotated[str | None, Query(pattern=r"^[0-9]{1,18}$", description="`next` of the page before.")]
DryRun = Annotated[bool, Query(description="Only say what would be done.")]

NEW_RUN: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {"workflow": {"type": "string"}, "params": {"type": "object"}},
                    "required": ["workflow"],
                    "additionalProperties": False,
                }
            }
        },
    }
}


RERUN: dict[str, Any] = {
    "requestBody": {
        "required": False,
        "content": {
            "application/json": {
                "schema": {
                    "type": ["object", "null"],
                    "properties": {
                        "from": {"type": ["string", "null"]},
                        "params": {"type": ["object", "null"]},
                        "definition": {"enum": ["pinned", "current"]},
                    },
                    "additionalProperties": False,
                }
            }
        },
    }
}


class Runs(BaseModel):
    """A page of runs, newest first; `next` is the cursor of the following page."""

    runs: list[Run]
    next: str | None


class Steps(BaseModel):
    """The steps of a run, in topological order."""

    steps: list[Step]


class Item(BaseModel):
    """One call of a map."""

    index: int
    key: str
    status: str
    failures: int
    started_at: float | None
    finished_at: float | None
    error: dict[str, Any] | None


class Items(BaseModel):
    """A page of the calls of a map, by index."""

    items: list[Item]
    next: str | None


class Attempt(BaseModel):
    """A try that has ended.

    Attributes:
        item: Index of the call of a map; null for the step itself.
        via: Who delivered it: `canvas`, `sql` or `reconciler`.
    """

    step: str
    item: int | None
    generation: int
    number: int
    status: str
    via: str
    node: str | None
    pid: int | None
    started_at: float | None
    finished_at: float | None
    error: dict[str, Any] | None


class Attempts(BaseModel):
    """A page of ended tries, by step, call of a map, and number."""

    attempts: list[Attempt]
    next: str | None


class Line(BaseModel):
    """A line of the log of a step."""

    id: int
    at: float
    level: str
    step: str | None
    item: str | None
    attempt: int | None
    message: str


class Lines(BaseModel):
    """A page of a run's log; `next` stays the same while there is nothing new."""

    lines: list[Line]
    next: str | None


class Retried(BaseModel):
    """What a retry has set going again, or with `dry_run` would."""

    run_id: str
    status: str
    generation: int
    steps: list[str] = Field(default_factory=list)
    ready: list[str] = Field(default_factory=list)
    dry_run: bool = False


@router.post(
    "",
    status_code=202,
    dependencies=[needs(Scope.TRIGGER)],
    openapi_extra=NEW_RUN,
    responses={200: {"model": Accepted, "description": "Accepted before, by this key"}, **problems(404, 409, 413, 422)},
)
def create_run(
    body: RawBody,
    served: Served,
    response: Response,
    idempotency_key: Annotated[str | None, Header(pattern=r"^[!-~]{1,200}$")] = None,
) -> Accepted:
    """Start a run: `{"workflow": id, "params": {...}}`.

    With an `Idempotency-Key` the same request is the same run; with another workflow or other params it is a conflict.
    """
    given = json_object(body)
    workflow, params = given.pop("workflow", None), given.pop("params", None)
    if not isinstance(workflow, str) or not isinstance(params, dict | None) or given:
        raise RequestError("the body is no order for a run", 'send {"workflow": "ID", "params": {...}}')
    accepted = served.submit(served.catalogue.get(workflow), params or {}, idempotency_key)
    response.status_code = 202 if accepted.is_new else 200
    response.headers["Location"] = f"{router.prefix}/{accepted.run_id}"
    status = accepted.status if accepted.is_new else served.run(accepted.run_id).status
    return Accepted.of(accepted).model_copy(update={"status": status})


@router.get("")
def list_runs(
    served: Served,
    workflow: Annotated[str | None, Query(pattern=f"^{IDENTIFIER.pattern}$")] = None,
    status: RunState | None = None,
    since: Instant = 0.0,
    until: Instant = queries.FOREVER,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Runs:
    """Runs, newest first; accepted at `since` or later, and before `until`."""
    before = None if cursor is None else int(cursor)
    wanted = partial(queries.list_runs, workflow=workflow or "", status=status or "", since=since, until=until)

    def work(tx: Transaction) -> list[RunView]:
        return wanted(tx, before=before, limit=limit + 1)

    found = served.read(work)
    return Runs(
        runs=[Run.of(run) for run in found[:limit]],
        next=str(found[limit - 1].run_pk) if len(found) > limit else None,
    )


@router.get("/{run_id}", responses=problems(404))
def get_run(run_id: str, served: Served) -> RunDetail:
    """One run with its outputs."""
    return RunDetail.of_report(_report(served, run_id))


@router.get("/{run_id}/steps", responses=problems(404))
def list_steps(run_id: str, served: Served) -> Steps:
    """The steps of a run."""
    report = _report(served, run_id)
    return Steps(steps=[Step.of(step, report.run.now) for step in report.steps])


@router.get("/{run_id}/steps/{step_id}", responses=problems(404))
def get_step(run_id: str, step_id: str, served: Served) -> StepDetail:
    """One step of a run with its output."""
    report = _report(served, run_id)
    step = next((step for step in report.steps if step.step_id == step_id), None)
    if step is None:
        raise _no_step(report.run, step_id)
    output = served.read(lambda tx: queries.step_output(tx, report.run.run_pk, step.ordinal))
    given = served.read(
        lambda tx: step_input(tx, served.runtime, report.run.run_pk, step.ordinal, is_begun=step.attempts > 0)
    )
    return StepDetail(**step_values(step, report.run.now), output=output, **asdict(given))


@router.get("/{run_id}/steps/{step_id}/items", responses=problems(404))
def list_items(
    run_id: str,
    step_id: str,
    served: Served,
    status: ItemState | None = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Items:
    """The calls of a map, by index; none for a step without `for_each`."""
    run = served.run(run_id)
    ordinal = _ordinal(_plan(served, run), run, step_id)
    first = int(cursor or 0)

    def work(tx: Transaction) -> list[dict[str, Any]]:
        return queries.items(tx, run.run_pk, ordinal, status=status or "", first=first, limit=limit + 1)

    found = served.read(work)
    return Items(
        items=[Item(**item) for item in found[:limit]],
        next=str(found[limit]["index"]) if len(found) > limit else None,
    )


@router.get("/{run_id}/attempts", responses=problems(404))
def list_attempts(
    run_id: str,
    served: Served,
    step: Annotated[str | None, Query(pattern=f"^{IDENTIFIER.pattern}$")] = None,
    limit: Limit = MOST,
    cursor: Annotated[
        str | None, Query(pattern=r"^\d{1,9}(\.-?\d{1,9}){4}$", description="`next` of the page before.")
    ] = None,
) -> Attempts:
    """Tries that have ended, of a run or of one step; calls of a map only when they failed."""
    run = served.run(run_id)
    plan = _plan(served, run)
    ordinal = None if step is None else _ordinal(plan, run, step)
    after = queries.BEFORE_ALL_ATTEMPTS if cursor is None else _attempt_key(cursor)
    found = served.read(lambda tx: queries.attempts(tx, run.run_pk, ordinal, limit + 1, after))
    return Attempts(
        attempts=[_attempt(plan, row) for row in found[:limit]],
        next=_attempt_cursor(found[limit - 1]) if len(found) > limit else None,
    )


@router.get("/{run_id}/logs", responses=problems(404))
def list_logs(
    run_id: str,
    served: Served,
    step: Annotated[str | None, Query(pattern=f"^{IDENTIFIER.pattern}$")] = None,
    limit: Limit = MOST,
    cursor: Cursor = None,
) -> Lines:
    """What the steps of a run have logged, in order. Ask again with `next` for what comes later."""
    after = int(cursor or 0)
    run = served.run(run_id)
    found = served.read(lambda tx: queries.logs(tx, run, after=after, step_id=step, limit=limit))
    lines = [
        Line(
            id=line.id,
            at=line.at,
            level=line.level,
            step=line.step_id,
            item=line.item_key,
            attempt=line.attempt,
            message=line.message,
        )
        for line in found
    ]
    return Lines(lines=lines, next=str(lines[-1].id) if lines else cursor)


@router.get("/{run_id}/graph", response_class=Response, responses={**GRAPH_ANSWER, **problems(404)})
def run_graph(
    run_id: str,
    served: Served,
    text_format: Annotated[Format, Query(alias="format")] = "json",
    layer: Layer = "dag",
    theme: Theme = "auto",
) -> Response:
    """The graph of the version that a run has, with the states, progress and durations of its steps."""
    report = _report(served, run_id)
    return graph_answer(_plan(served, report.run), text_format, layer, theme, report.marks())


@router.post("/{run_id}/cancel", dependencies=[needs(Scope.OPERATE)], responses=problems(404))
def cancel(run_id: str, served: Served, dry_run: DryRun = False) -> Cancelled:
    """Cancel a run: what has not started never will, what runs is told to stop. Idempotent."""
    run = served.run(run_id)
    answer = control.cancel(served.runtime, run.run_id, dry_run=dry_run, patience_seconds=PATIENCE_SECONDS)
    return Cancelled(run_id=run.run_id, dry_run=dry_run, **asdict(answer))


@router.post("/{run_id}/pause", dependencies=[needs(Scope.OPERATE)], responses=problems(404, 409))
def pause(run_id: str, served: Served, dry_run: DryRun = False) -> Paused:
    """Pause a run: nothing more of it starts, what runs goes on to its end. Idempotent."""
    run = served.run(run_id)
    answer = control.pause(served.runtime, run.run_id, dry_run=dry_run, patience_seconds=PATIENCE_SECONDS)
    return Paused(
        run_id=run.run_id, status=answer.status, running=answer.running, waiting=answer.waiting, dry_run=dry_run
    )


@router.post("/{run_id}/resume", dependencies=[needs(Scope.OPERATE)], responses=problems(404, 409))
def resume(run_id: str, served: Served, dry_run: DryRun = False) -> Resumed:
    """Go on with a paused run. Idempotent."""
    run = served.run(run_id)
    answer = control.resume(served.runtime, run.run_id, dry_run=dry_run, patience_seconds=PATIENCE_SECONDS)
    return Resumed(run_id=run.run_id, status=answer.status, ready=list(answer.ready), dry_run=dry_run)


@router.post("/{run_id}/retry", dependencies=[needs(Scope.OPERATE)], responses=problems(404, 409))
def retry(run_id: str, served: Served, dry_run: DryRun = False) -> Retried:
    """Go on with a run that failed or was cancelled: what failed, and what waited for it; what is done stays."""
    run = served.run(run_id)
    preview = control.preview_retry(served.runtime, run.run_id, patience_seconds=PATIENCE_SECONDS)
    if not dry_run:
        run = control.retry(served.runtime, run.run_id, patience_seconds=PATIENCE_SECONDS)
    return Retried(
        run_id=run.run_id,
        status=run.status,
        generation=run.generation,
        steps=list(preview.steps),
        ready=list(preview.ready),
        dry_run=dry_run,
    )


@router.post(
    "/{run_id}/rerun",
    status_code=202,
    dependencies=[needs(Scope.OPERATE)],
    openapi_extra=RERUN,
    responses={200: {"model": RerunAnswer, "description": "What a dry run found"}, **problems(404, 409, 413, 422)},
)
def rerun(run_id: str, body: RawBody, served: Served, response: Response, dry_run: DryRun = False) -> RerunAnswer:
    """Run an ended run again as a new one: `{"from": step, "params": {...}, "definition": "pinned" | "current"}`.

    The output of a step is taken over when it succeeded, and the step, its params and all before it are as they were.
    """
    given = json_object(body)
    start, params, which = given.pop("from", None), given.pop("params", None), given.pop("definition", "pinned")
    if (
        not isinstance(start, str | None)
        or not isinstance(params, dict | None)
        or which not in ("pinned", "current")
        or given
    ):
        raise RequestError(
            "the body is no order for a rerun", 'send {"from": STEP, "params": {...}, "definition": "current"}'
        )
    run = served.run(run_id)
    definition = None
    if which == "current":
        entry = served.catalogue.get(run.workflow)
        definition = Definition(entry.compiled()[1], entry.text)
    answer = rerunning.rerun(
        served.runtime,
        run.run_id,
        definition=definition,
        params=params,
        start=start,
        dry_run=dry_run,
        patience_seconds=PATIENCE_SECONDS,
    )
    if answer.run_id is None:
        response.status_code = 200
    else:
        response.headers["Location"] = f"{router.prefix}/{answer.run_id}"
    steps = [Taken(step=v.step, is_reused=v.is_reused, why=v.why) for v in answer.verdicts]
    return RerunAnswer(of=answer.of, run_id=answer.run_id, steps=steps, dry_run=dry_run)


def _report(served: Served, run_id: str) -> RunReport:
    run = served.run(run_id)
    return served.read(lambda tx: queries.report(tx, run))


def _plan(served: Served, run: RunView) -> Plan:
    return served.read(lambda tx: runs.load_plan(tx, run.version_id))


def _ordinal(plan: Plan, run: RunView, step_id: str) -> int:
    try:
        return plan.ordinal_of(step_id)
    except KeyError:
        raise _no_step(run, step_id) from None


def _no_step(run: RunView, step_id: str) -> NotFoundError:
    return NotFoundError(f"workflow '{run.workflow}' has no step '{step_id[:100]}'")


_ATTEMPT_KEY = ("ordinal", "part", "item_index", "generation", "number")


def _attempt_cursor(row: dict[str, Any]) -> str:
    return ".".join(str(row[name]) for name in _ATTEMPT_KEY)


def _attempt_key(cursor: str) -> queries.AttemptKey:
    ordinal, part, item, generation, number = map(int, cursor.split("."))
    return ordinal, part, item, generation, number


def _attempt(plan: Plan, row: dict[str, Any]) -> Attempt:
    shown = {name: row[name] for name in Attempt.model_fields if name in row}
    item = row["item_index"]
    return Attempt(step=plan.steps[row["ordinal"]].id, item=None if item < 0 else item, **shown)
