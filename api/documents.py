"""The OpenAPI document: problems are described once, and referred to."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic.json_schema import models_json_schema
from starlette.routing import BaseRoute

from api.access import COOKIE, Scope, needed_scope
from api.problems import MEDIA_TYPE, Problem

_REFERENCE = {"content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
_EVERYWHERE = (401, 403, 422, 429, 500, 503)
"""What any endpoint may answer: the guard, a wrong argument, a fault of ours, a database that is away."""

_SCHEMES = {
    "key": {"type": "http", "scheme": "bearer", "description": "A key; also taken in `X-API-Key`."},
    "session": {"type": "apiKey", "in": "cookie", "name": COOKIE, "description": "The cookie of `/api/v1/session`."},
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of an endpoint that answers these problems, besides those that all may answer."""
    return {status: {"description": HTTPStatus(status).phrase, **_REFERENCE} for status in statuses}


def install_document(app: FastAPI, routes: Sequence[BaseRoute]) -> None:
    """Let `app` describe itself with the problems that every endpoint may answer, and the scope that each needs."""

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
            made["components"]["securitySchemes"] = _SCHEMES
            needed = _needed_scopes(routes)
            for path, operations in made["paths"].items():
                for method, operation in operations.items():
                    scope = needed[path, method]
                    if scope is not None:
                        operation["security"] = [{}, *({name: []} for name in _SCHEMES)]  # {}: an open loopback
                        operation["x-scope"] = scope
                    answers = operation["responses"]
                    for status, described in problems(*_EVERYWHERE).items():
                        if str(status) not in answers or status == HTTPStatus.UNPROCESSABLE_ENTITY:
                            answers[str(status)] = described
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way


def _needed_scopes(routes: Sequence[BaseRoute]) -> dict[tuple[str, str], Scope | None]:
    """By path and method, as the document writes them."""
    return {
        (route.path_format, method.lower()): needed_scope(route)
        for route in routes
        if isinstance(route, APIRoute)
        for method in route.methods or ()
    }
