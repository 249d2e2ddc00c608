"""What a caller may do: scopes, and how an endpoint says which one it needs.

Every endpoint needs a scope; `create_app` refuses to build an application with one that does not say so. A router says
it for all of its endpoints, and an endpoint that needs more says it again:

    router = APIRouter(prefix="/api/v1/runs", dependencies=[needs(Scope.READ)])

    @router.post("/{run_id}/cancel", dependencies=[needs(Scope.OPERATE)])

Scopes are a ladder: who may operate may trigger, who may trigger may read. `PUBLIC` in place of `needs(...)` lets
anybody in, from anywhere, without a key: for what tells nothing, such as whether the process turns.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from fastapi import Depends, Request
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from api.problems import ForbiddenError, UnauthorizedError


class Scope(StrEnum):
    """What a caller may do, from the least to the most; each includes those before it."""

    READ = "read"
    """See definitions, runs, their outputs and logs; search."""

    TRIGGER = "trigger"
    """Start runs of the definitions that are there."""

    OPERATE = "operate"
    """Cancel, pause, retry and rerun runs; approve and reject; switch schedules."""

    ADMIN = "admin"
    """Make and revoke keys."""

    def covers(self, needed: Scope) -> bool:
        """Whether who has this scope may do what needs the other."""
        return _RANK[self] >= _RANK[needed]


_RANK = {scope: rank for rank, scope in enumerate(Scope)}

COOKIE = "celeriac_session"
"""Holds the session of a page."""

Via = Literal["loopback", "key", "session"]


@dataclass(frozen=True, slots=True)
class Identity:
    """Who calls, as far as the API knows.

    Attributes:
        via: An open loopback, a key in a header, or the cookie of a session.
        key_id: Public part of the key; None on an open loopback.
    """

    scope: Scope
    via: Via
    key_id: str | None = None
    name: str = ""


class Needs:
    """Dependency that lets a request in when its caller has the scope; `None` lets everybody in."""

    def __init__(self, scope: Scope | None) -> None:
        self.scope = scope

    async def __call__(self, request: Request) -> None:
        """Check the caller, whom the guard has looked at before.

        Raises:
            UnauthorizedError: the caller is not known.
            ForbiddenError: the caller may not do this.
        """
        if self.scope is None:
            return
        caller = identity_of(request)
        if caller is None:
            raise UnauthorizedError("this needs a key", "send it as `Authorization: Bearer KEY`")
        if not caller.scope.covers(self.scope):
            raise ForbiddenError(
                f"this needs a key of scope '{self.scope}', and this one has '{caller.scope}'",
                "ask whoever keeps the keys for another one",
            )


def needs(scope: Scope) -> Any:
    """For `dependencies=[...]` of a router or an endpoint: whoever calls must have this scope."""
    return Depends(Needs(scope))


PUBLIC: Any = Depends(Needs(None))
"""For `dependencies=[...]`: anybody may call, without a key."""


def identity_of(request: Request) -> Identity | None:
    """Who makes this request; None for somebody without a key."""
    found: Identity | None = request.scope.get("celeriac.identity")
    return found


def declared(route: APIRoute) -> list[Needs]:
    """What this endpoint and its router have declared."""
    return [found.dependency for found in route.dependencies if isinstance(found.dependency, Needs)]


def needed_scope(route: APIRoute) -> Scope | None:
    """The scope that a caller of this endpoint needs; None when it is public."""
    scopes = [found.scope for found in declared(route) if found.scope is not None]
    return max(scopes, key=_RANK.__getitem__, default=None)


def require_declared(routes: Iterable[BaseRoute]) -> None:
    """Refuse endpoints that do not say who may call them.

    Raises:
        RuntimeError: names the first of them.
    """
    for route in routes:
        if not isinstance(route, APIRoute) or not declared(route):
            name = f"{getattr(route, 'methods', '')} {getattr(route, 'path', route)}"
            raise RuntimeError(f"the endpoint {name} does not say who may call it: see api/access.py")
