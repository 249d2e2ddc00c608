"""`/api/v1/workflows`; `/api/v1/validate`, `plan` and `graph` for a definition that is sent."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel

from api.access import Scope, needs
from api.bodies import YAML_BODY, RawBody
from api.documents import problems
from api.problems import ProblemPart, RequestError
from api.services import Served
from workflows.catalogue import Entry, read_entry
from workflows.compile.plan import Plan
from workflows.db import queries
from workflows.db.queries import VersionView
from workflows.engine.dry_run import dry_run
from workflows.model.errors import NotFoundError
from workflows.model.names import IDENTIFIER
from workflows.model.spec import ParamSpec
from workflows.render import Mark, picture, png, render, svg
from workflows.steps.registry import schemas

router = APIRouter(prefix="/api/v1", tags=["workflows"], dependencies=[needs(Scope.READ)])

Format = Literal["mermaid", "dot", "json", "layout", "svg", "png"]
Layer = Literal["dag", "canvas"]
FINGERPRINT = re.compile(r"[0-9a-f]{1,128}")
Theme = Literal["auto", "light", "dark"]
MEDIA_TYPES = {
    "mermaid": "text/vnd.mermaid",
    "dot": "text/vnd.graphviz",
    "json": "application/json",
    "layout": "application/json",
    "svg": "image/svg+xml",
    "png": "image/png",
}

GRAPH_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The graph.",
        "content": {
            media_type: {"schema": {"type": "object" if media_type == "application/json" else "string"}}
            for media_type in MEDIA_TYPES.values()
        },
    }
}


class WorkflowSummary(BaseModel):
    """A definition.

    Attributes:
        fingerprint: Of its version; null when it has errors.
        errors: How many it has.
    """

    id: str
    description: str
    fingerprint: str | None
    steps: int
    errors: int
    warnings: int


class Workflows(BaseModel):
    """All definitions, by id."""

    workflows: list[WorkflowSummary]


class WorkflowStep(BaseModel):
    """A step as it was declared."""

    id: str
    uses: str
    needs: list[str]
    queue: str
    is_map: bool
    max_attempts: int
    timeout_seconds: float | None
    run_if: str


class WorkflowDetail(WorkflowSummary):
    """A definition with its text.

    Attributes:
        params: JSON Schema of the body that a trigger takes.
        steps_detail: In the order of the file; empty when it has errors.
        source: The YAML text.
    """

    params: dict[str, Any]
    steps_detail: list[WorkflowStep]
    source: str


class Version(BaseModel):
    """A version that at least one run started with.

    Attributes:
        is_current: The definition is the same today.
    """

    fingerprint: str
    steps: int
    created_at: float
    is_current: bool


class VersionDetail(Version):
    """A version with its YAML text."""

    source: str


class Versions(BaseModel):
    """A page of versions, newest first; `next` is the cursor of the following page."""

    versions: list[Version]
    next: str | None


class Validated(BaseModel):
    """What was found in a definition; `ok` when nothing of it is an error."""

    ok: bool
    diagnostics: list[ProblemPart]


@router.get("/workflows")
def list_workflows(served: Served) -> Workflows:
    """All definitions of this installation, those with errors included."""
    return Workflows(workflows=[WorkflowSummary(**_summary(entry)) for entry in served.catalogue.all()])


@router.post("/validate", openapi_extra=YAML_BODY, responses=problems(413))
def validate_text(body: RawBody, served: Served) -> Validated:
    """Check the definition in the body, YAML; nothing is kept."""
    return _validated(_entry_of(body, served))


@router.post("/plan", openapi_extra=YAML_BODY, responses=problems(413))
def plan_text(body: RawBody, served: Served) -> dict[str, Any]:
    """What a run of the definition in the body would send; nothing is kept."""
    return _plan(served, _entry_of(body, served).compiled()[1])


@router.post("/graph", openapi_extra=YAML_BODY, response_class=Response, responses={**GRAPH_ANSWER, **problems(413)})
def graph_text(
    body: RawBody,
    served: Served,
    text_format: Annotated[Format, Query(alias="format")] = "json",
    layer: Layer = "dag",
    theme: Theme = "auto",
) -> Response:
    """The graph of the definition in the body; nothing is kept."""
    return graph_answer(_entry_of(body, served).compiled()[1], text_format, layer, theme)


@router.get("/workflows/{workflow_id}", responses=problems(404))
def get_workflow(workflow_id: str, served: Served) -> WorkflowDetail:
    """One definition with its params, steps and text."""
    entry = served.catalogue.get(workflow_id)
    workflow = entry.workflow
    return WorkflowDetail(
        **_summary(entry),
        params=params_schema(workflow.params) if workflow else {},
        steps_detail=[
            WorkflowStep(
                id=step.id,
                uses=step.uses,
                needs=list(step.needs),
                queue=step.queue,
                is_map=step.for_each is not None,
                max_attempts=step.retry.max_attempts,
                timeout_seconds=step.timeout_seconds,
                run_if=step.run_if.value,
            )
            for step in (workflow.steps if workflow else ())
        ],
        source=entry.text,
    )


@router.get("/workflows/{workflow_id}/versions", responses=problems(404))
def list_versions(
    workflow_id: str,
    served: Served,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    cursor: Annotated[str | None, Query(pattern=r"^[0-9]{1,18}$", description="`next` of the page before.")] = None,
) -> Versions:
    """What runs of this workflow started with, also of one whose definition is gone."""
    if not IDENTIFIER.fullmatch(workflow_id):
        served.catalogue.get(workflow_id)  # there is none, and this says what there is instead
    current = _current(served, workflow_id)
    before = None if cursor is None else int(cursor)
    found = served.read(lambda tx: queries.versions(tx, workflow_id, before=before, limit=limit + 1))
    if not found and current is None:
        served.catalogue.get(workflow_id)
    return Versions(
        versions=[Version(**_version(version, current)) for version in found[:limit]],
        next=str(found[limit - 1].version_id) if len(found) > limit else None,
    )


@router.get("/workflows/{workflow_id}/versions/{fingerprint}", responses=problems(404))
def get_version(workflow_id: str, fingerprint: str, served: Served) -> VersionDetail:
    """One version with its text."""
    is_name = IDENTIFIER.fullmatch(workflow_id) and FINGERPRINT.fullmatch(fingerprint)
    found = served.read(lambda tx: queries.version(tx, workflow_id, fingerprint)) if is_name else None
    if found is None:
        raise NotFoundError(f"no run of '{workflow_id[:100]}' started with a version '{fingerprint[:100]}'")
    return VersionDetail(**_version(found[0], _current(served, workflow_id)), source=found[1])


@router.get("/workflows/{workflow_id}/validate", responses=problems(404))
def validate(workflow_id: str, served: Served) -> Validated:
    """What is wrong with a definition of this installation."""
    return _validated(served.catalogue.get(workflow_id))


@router.get("/workflows/{workflow_id}/plan", responses=problems(404))
def plan(workflow_id: str, served: Served) -> dict[str, Any]:
    """The dry run: the exact canvas, the gates, every kind of message with its size, the critical path."""
    return _plan(served, served.catalogue.get(workflow_id).compiled()[1])


@router.get("/workflows/{workflow_id}/graph", response_class=Response, responses={**GRAPH_ANSWER, **problems(404)})
def graph(
    workflow_id: str,
    served: Served,
    text_format: Annotated[Format, Query(alias="format")] = "json",
    layer: Layer = "dag",
    theme: Theme = "auto",
) -> Response:
    """The graph of a definition. `theme` is of SVG and PNG; `layout` is JSON with every node's place."""
    return graph_answer(served.catalogue.get(workflow_id).compiled()[1], text_format, layer, theme)


def graph_answer(
    plan: Plan, text_format: Format, layer: Layer, theme: Theme, marks: dict[str, Mark] | None = None
) -> Response:
    """A plan, drawn; `marks` by step id say how a run stands."""
    content: str | bytes
    if text_format == "png":
        content = png.render(picture(plan, layer, marks), "dark" if theme == "dark" else "light")
    elif text_format == "svg":
        content = svg.render(picture(plan, layer, marks), theme)
    else:
        content = render(plan, text_format, layer, marks)
    return Response(content, media_type=MEDIA_TYPES[text_format])


def params_schema(specs: tuple[ParamSpec, ...]) -> dict[str, Any]:
    """JSON Schema of the params of a run."""
    properties = {}
    for spec in specs:
        nullable = not spec.required and spec.default is None
        words = dict(spec.schema)
        if nullable:
            words["type"] = [words["type"], "null"]
        properties[spec.name] = words if spec.required else {**words, "default": spec.default}
    return {
        "type": "object",
        "properties": properties,
        "required": [spec.name for spec in specs if spec.required],
        "additionalProperties": False,
    }


def _entry_of(body: bytes, served: Served) -> Entry:
    if not body.strip():
        raise RequestError("the body is empty", "send a definition, YAML")
    return read_entry(body, Path("body.yaml"), "", schemas(served.runtime.steps), chords=served.config.has_chords)


def _summary(entry: Entry) -> dict[str, Any]:
    errors = sum(found.severity == "error" for found in entry.diagnostics)
    return {
        "id": entry.id,
        "description": entry.workflow.description if entry.workflow else "",
        "fingerprint": entry.plan.fingerprint if entry.plan else None,
        "steps": len(entry.workflow.steps) if entry.workflow else 0,
        "errors": errors or int(entry.error is not None),
        "warnings": len(entry.diagnostics) - errors,
    }


def _current(served: Served, workflow_id: str) -> str | None:
    """Fingerprint of the definition as it is today; None when there is none, or it has errors."""
    try:
        entry = served.catalogue.get(workflow_id)
    except NotFoundError:
        return None
    return entry.plan.fingerprint if entry.plan else None


def _version(version: VersionView, current: str | None) -> dict[str, Any]:
    return {
        "fingerprint": version.fingerprint,
        "steps": version.steps,
        "created_at": version.created_at,
        "is_current": version.fingerprint == current,
    }


def _validated(entry: Entry) -> Validated:
    found = [
        ProblemPart(**{"detail" if name == "message" else name: value for name, value in asdict(diagnostic).items()})
        for diagnostic in entry.diagnostics
    ]
    if entry.error is not None and not any(part.severity == "error" for part in found):
        found.append(ProblemPart(detail=str(entry.error), hint=entry.error.hint, severity="error"))
    return Validated(ok=entry.error is None, diagnostics=found)


def _plan(served: Served, plan: Plan) -> dict[str, Any]:
    return dry_run(served.runtime.app, served.config, plan)
