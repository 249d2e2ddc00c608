"""Errors as RFC 9457 problem documents. The domain's errors know no HTTP: this table does."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from http import HTTPStatus
from typing import Any, NamedTuple

import psycopg
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from pipeline.embedding import ModelUnavailableError
from workflows.db.database import is_passing
from workflows.model.errors import (
    BrokerUnavailableError,
    CeleriacError,
    ConflictError,
    DatabaseUnavailableError,
    DefinitionError,
    NotFoundError,
    ParamError,
)
from workflows.settings import SettingsError
from workflows.steps.registry import StepRegistrationError

_log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 2


class RequestError(CeleriacError):
    """A request cannot be read, or asks for something that does not exist in this form."""


class ForbiddenError(CeleriacError):
    """The request comes from a place that may not make it."""


class UnauthorizedError(CeleriacError):
    """The request comes without a key, or with one that is not valid."""


class TooManyRequestsError(CeleriacError):
    """A caller asks too often; after `seconds` it may ask again."""

    def __init__(self, message: str, seconds: int) -> None:
        super().__init__(message, f"ask again in {seconds} s")
        self.seconds = seconds


class TooLargeError(CeleriacError):
    """The body of a request is larger than any that could be meant."""


class Kind(NamedTuple):
    """What a class of errors is over HTTP; `slug` ends the problem's `type`."""

    status: int
    slug: str


KINDS: Mapping[type[CeleriacError], Kind] = {
    NotFoundError: Kind(404, "not-found"),
    ConflictError: Kind(409, "conflict"),
    UnauthorizedError: Kind(401, "unauthorized"),
    ForbiddenError: Kind(403, "forbidden"),
    TooManyRequestsError: Kind(429, "too-many-requests"),
    TooLargeError: Kind(413, "content-too-large"),
    ParamError: Kind(422, "params"),
    DefinitionError: Kind(422, "definition"),
    BrokerUnavailableError: Kind(503, "broker-unavailable"),
    DatabaseUnavailableError: Kind(503, "database-unavailable"),
    ModelUnavailableError: Kind(503, "model-unavailable"),
    SettingsError: Kind(500, "settings"),
    StepRegistrationError: Kind(500, "settings"),
    CeleriacError: Kind(422, "request"),
}
"""The nearest class of an error's MRO decides."""


class ProblemPart(BaseModel):
    """One of several things that are wrong: what it is, and where when that is known."""

    detail: str
    pointer: str | None = None
    file: str | None = None
    line: int | None = None
    column: int | None = None
    code: str | None = None
    severity: str | None = None
    hint: str | None = None


class Problem(BaseModel):
    """A problem document (RFC 9457). `type` is stable; `hint` says how to mend it."""

    type: str
    title: str
    status: int
    detail: str
    hint: str | None = None
    errors: list[ProblemPart] | None = None


def kind_of(error: CeleriacError) -> Kind:
    """What this error is over HTTP."""
    return next(KINDS[base] for base in type(error).__mro__ if base in KINDS)


def problem(
    kind: Kind,
    detail: str,
    hint: str = "",
    errors: Sequence[Mapping[str, Any]] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The answer for an error."""
    document: dict[str, Any] = {
        "type": f"urn:celeriac:problem:{kind.slug}",
        "title": HTTPStatus(kind.status).phrase,
        "status": kind.status,
        "detail": detail,
    }
    if hint:
        document["hint"] = hint
    if errors:
        document["errors"] = list(errors)
    answer = _AsciiJson(document, kind.status, headers=dict(headers or {}), media_type=MEDIA_TYPE)
    if kind.status == HTTPStatus.SERVICE_UNAVAILABLE:
        answer.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    elif kind.status == HTTPStatus.UNAUTHORIZED:
        answer.headers["WWW-Authenticate"] = 'Bearer realm="celeriac"'
    return answer


def problem_of(error: CeleriacError) -> Response:
    """The answer for an error of the domain."""
    detail, errors = str(error), []
    if isinstance(error, DefinitionError):
        detail = "the definition has errors"
        errors = [{"detail": found.pop("message"), **found} for found in map(asdict, error.diagnostics)]
    elif isinstance(error, ParamError):
        errors = [
            {"detail": text, "pointer": f"/params/{_escaped(name)}"} if name else {"detail": text}
            for name, text in error.problems
        ]
    headers = {"Retry-After": str(error.seconds)} if isinstance(error, TooManyRequestsError) else None
    return problem(kind_of(error), detail, error.hint, errors, headers)


def _escaped(name: str) -> str:
    """A name as a part of a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")


def answer_of(error: Exception) -> Response:
    """The answer for whatever went wrong."""
    if isinstance(error, CeleriacError):
        return problem_of(error)
    if isinstance(error, DBAPIError):
        return _database_problem(error.orig or error)
    if isinstance(error, sqlite3.Error | psycopg.Error):
        return _database_problem(error)
    _log.error("a request failed", exc_info=error)
    return problem(Kind(500, "internal"), "something went wrong here; the server's log has the details")


def install_problems(app: FastAPI, routes: Sequence[BaseRoute]) -> None:
    """Let every error of `app` be answered by a problem document; `routes` are all that it has."""

    @app.exception_handler(CeleriacError)
    async def domain(_request: Request, error: CeleriacError) -> Response:
        return problem_of(error)

    @app.exception_handler(RequestValidationError)
    async def validation(_request: Request, error: RequestValidationError) -> Response:
        errors = [
            {"detail": found["msg"], "pointer": "/" + "/".join(str(part) for part in found["loc"])}
            for found in error.errors()
        ]
        return problem(Kind(422, "request"), "the request is not valid", errors=errors)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        if error.status_code == HTTPStatus.NO_CONTENT:
            return Response(status_code=error.status_code)
        if error.status_code == HTTPStatus.BAD_REQUEST:
            # A body that is no text at all; what is text and no JSON is refused by validation, with the same status.
            return problem(Kind(422, "request"), error.detail)
        headers = dict(error.headers or {})
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            # By itself it names the methods of the first route with this path only.
            headers["Allow"] = ", ".join(sorted(_methods(routes, request.url.path)))
        return problem(Kind(error.status_code, _slug(error.status_code)), error.detail, headers=headers)

    @app.exception_handler(sqlite3.Error)
    @app.exception_handler(psycopg.Error)
    @app.exception_handler(DBAPIError)
    async def database(_request: Request, error: Exception) -> Response:
        return answer_of(error)

    @app.exception_handler(Exception)
    async def unforeseen(_request: Request, _error: Exception) -> Response:
        return problem(Kind(500, "internal"), "something went wrong here; the server's log has the details")


class _AsciiJson(JSONResponse):
    """What a client sent may come back in a message, halves of surrogate pairs included, which UTF-8 cannot carry."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, separators=(",", ":")).encode("ascii")


def _database_problem(error: BaseException) -> Response:
    text = str(error)
    if (
        "no such table" in text
        or "no such column" in text
        or isinstance(error, psycopg.errors.UndefinedTable | psycopg.errors.UndefinedColumn)
    ):
        return problem(
            Kind(503, "database-unavailable"),
            "the tables of the database are not those of this version",
            "run `celeriac db upgrade` once",
        )
    if isinstance(error, psycopg.ProgrammingError | psycopg.DataError | psycopg.IntegrityError) or not (
        is_passing(error) or isinstance(error, sqlite3.OperationalError | psycopg.OperationalError)
    ):
        _log.error("the database refused a statement", exc_info=error)
        return problem(Kind(500, "internal"), "something went wrong here; the server's log has the details")
    _log.warning("the database is away: %s", text)
    return problem(Kind(503, "database-unavailable"), "the database does not answer", "try again in a moment")


def _methods(routes: Sequence[BaseRoute], path: str) -> set[str]:
    """The methods of all routes with this path."""
    found: set[str] = set()
    for route in routes:
        if isinstance(route, Route) and route.path_regex.match(path):
            found |= route.methods or set()
    return found


def _slug(status: int) -> str:
    return HTTPStatus(status).phrase.lower().replace(" ", "-")
