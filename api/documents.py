"""The OpenAPI document: problems are described once, and referred to."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from api.problems import MEDIA_TYPE, Problem

_REFERENCE = {"content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
_EVERYWHERE = (403, 422, 500, 503)
"""What any endpoint may answer: the guard, a wrong argument, a fault of ours, a database that is away."""


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of an endpoint that answers these problems, besides those that all may answer."""
    return {status: {"description": HTTPStatus(status).phrase, **_REFERENCE} for status in statuses}


def install_document(app: FastAPI) -> None:
    """Let `app` describe itself with the problems that every endpoint may answer."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(
                title=app.title, version=app.version, summary=app.summary, routes=app.routes, tags=app.openapi_tags
            )
            _, models = models_json_schema([(Problem, "validation")], ref_template="#/components/schemas/{model}")
            known = made.setdefault("components", {}).setdefault("schemas", {})
            known.update(models["$defs"])
            for unused in ("HTTPValidationError", "ValidationError"):
                known.pop(unused, None)
            for operations in made["paths"].values():
                for operation in operations.values():
                    answers = operation["responses"]
                    for status, described in problems(*_EVERYWHERE).items():
                        if str(status) not in answers or status == HTTPStatus.UNPROCESSABLE_ENTITY:
                            answers[str(status)] = described
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way
