"""`/api/v1/approvals`: what waits for a person's yes or no, and the answer."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel

from api.access import Scope, identity_of, needs
from api.bodies import RawBody, json_object
from api.documents import problems
from api.problems import RequestError
from api.services import PATIENCE_SECONDS, Served
from workflows.db import approvals
from workflows.engine import approving

router = APIRouter(prefix="/api/v1", tags=["approvals"], dependencies=[needs(Scope.READ)])

MOST_COMMENT = 2000
"""Characters of a comment."""

COMMENT: dict[str, Any] = {
    "requestBody": {
        "required": False,
        "content": {
            "application/json": {
                "schema": {
                    "type": ["object", "null"],
                    "properties": {"comment": {"type": ["string", "null"], "maxLength": MOST_COMMENT}},
                    "additionalProperties": False,
                }
            }
        },
    }
}


class Asked(BaseModel):
    """A step that waits for an answer; `asked_at` is in seconds since 1970."""

    run_id: str
    workflow: str
    step: str
    prompt: str
    asked_at: float


class Approvals(BaseModel):
    """Steps that wait for an answer, the longest waiting first; 1,000 at most."""

    approvals: list[Asked]


class Decided(BaseModel):
    """What was decided; `is_new` is false when it had been before."""

    run_id: str
    step: str
    approved: bool
    comment: str | None
    by: str | None
    decided_at: float
    is_new: bool


@router.get("/approvals")
def list_approvals(served: Served) -> Approvals:
    """What waits for an answer."""
    found = served.read(approvals.open_requests)
    return Approvals(
        approvals=[
            Asked(run_id=one.run_id, workflow=one.workflow, step=one.step, prompt=one.prompt, asked_at=one.asked_at)
            for one in found
        ]
    )


@router.post(
    "/runs/{run_id}/steps/{step_id}/approve",
    dependencies=[needs(Scope.OPERATE)],
    openapi_extra=COMMENT,
    responses=problems(404, 409, 413, 422),
)
def approve(run_id: str, step_id: str, body: RawBody, served: Served, request: Request) -> Decided:
    """Let a step that waits for approval go on: `{"comment": "..."}`, or nothing. May be repeated."""
    return _decide(served, request, run_id, step_id, body, approved=True)


@router.post(
    "/runs/{run_id}/steps/{step_id}/reject",
    dependencies=[needs(Scope.OPERATE)],
    openapi_extra=COMMENT,
    responses=problems(404, 409, 413, 422),
)
def reject(run_id: str, step_id: str, body: RawBody, served: Served, request: Request) -> Decided:
    """Refuse a step that waits for approval: `{"comment": "..."}`, or nothing. May be repeated."""
    return _decide(served, request, run_id, step_id, body, approved=False)


def _decide(served: Served, request: Request, run_id: str, step_id: str, body: bytes, *, approved: bool) -> Decided:
    given = json_object(body)
    comment = given.pop("comment", None)
    if not isinstance(comment, str | None) or given or len(comment or "") > MOST_COMMENT:
        raise RequestError("the body is no comment", f'send {{"comment": TEXT}}, at most {MOST_COMMENT} characters')
    caller = identity_of(request)
    by = None if caller is None else caller.name or caller.key_id or caller.via
    run = served.run(run_id)
    found = approving.decide(
        served.runtime,
        run.run_id,
        step_id,
        approved=approved,
        by=by,
        comment=comment or None,
        patience_seconds=PATIENCE_SECONDS,
    )
    decision = found.decision
    return Decided(
        run_id=found.run_id,
        step=found.step,
        approved=decision.is_approved,
        comment=decision.comment,
        by=decision.decided_by,
        decided_at=decision.decided_at,
        is_new=found.is_new,
    )
