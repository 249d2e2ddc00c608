"""`/api/v1/session`: a page logs in with a key, and from then on brings a cookie that its scripts cannot read."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Cookie, Request, Response
from pydantic import BaseModel

from api.access import COOKIE, PUBLIC, Scope, identity_of
from api.documents import problems
from api.keyring import Keyring, csrf_token
from api.problems import UnauthorizedError

router = APIRouter(prefix="/api/v1/session", tags=["session"], dependencies=[PUBLIC])

SessionCookie = Annotated[str | None, Cookie(alias=COOKIE, include_in_schema=False)]


class Session(BaseModel):
    """Who is at the page, and what it may do.

    Attributes:
        scope: `read`, `trigger`, `operate` or `admin`, each including those before it; null when a key is needed.
        via: `loopback` when this machine needs no key, else how the caller is known.
        key: Name of the key.
        csrf_token: What the page sends in `X-CSRF-Token` with everything but GET; null when there is no cookie.
    """

    needs_key: bool
    scope: Scope | None = None
    via: Literal["loopback", "key", "session"] | None = None
    key: str | None = None
    csrf_token: str | None = None


@router.get("")
async def get_session(request: Request, cookie: SessionCookie = None) -> Session:
    """Who calls, and whether a key is needed."""
    caller = identity_of(request)
    if caller is None:
        return Session(needs_key=True)
    token = csrf_token(cookie) if cookie and caller.via == "session" else None
    return Session(needs_key=False, scope=caller.scope, via=caller.via, key=caller.name or None, csrf_token=token)


@router.post("", responses=problems(401))
async def log_in(request: Request, response: Response) -> Session:
    """Open a session with the key in `Authorization`; its cookie lasts 12 hours, or as long as the key does."""
    caller = identity_of(request)
    if caller is None or caller.via != "key" or caller.key_id is None:
        raise UnauthorizedError("a session is opened with a key", "send it as `Authorization: Bearer KEY`")
    keyring: Keyring = request.app.state.keyring
    token, seconds = await keyring.open_session(caller.key_id)
    response.set_cookie(
        COOKIE,
        token,
        max_age=int(seconds),
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return Session(
        needs_key=False, scope=caller.scope, via="session", key=caller.name or None, csrf_token=csrf_token(token)
    )


@router.delete("", status_code=204)
async def log_out(request: Request, cookie: SessionCookie = None) -> Response:
    """End the session of the cookie, on this and every other server."""
    if cookie:
        keyring: Keyring = request.app.state.keyring
        await keyring.end_session(cookie)
    answer = Response(status_code=204)
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return answer
