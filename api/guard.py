"""The door of the API: who calls, from where, how much and how often.

A request is let in when it brings a key, when it brings the cookie of a session, when it comes from an open loopback,
or when what it asks for is public. Which of its caller's scopes an endpoint needs is `api.access`'s affair.

A server on loopback is within reach of every page in a browser of that machine. So for a caller without a key the
address must be loopback, the Host header must name the machine (a page whose foreign name resolves to 127.0.0.1 is
turned away), and an Origin header, when there is one, must be this server's own.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from fastapi.routing import APIRoute
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.access import COOKIE, Identity, needed_scope
from api.access import Scope as Access
from api.keyring import Keyring, csrf_token
from api.problems import (
    ForbiddenError,
    TooLargeError,
    TooManyRequestsError,
    UnauthorizedError,
    answer_of,
)
from api.rates import Rates, caller_name
from workflows.db import api_keys
from workflows.db.database import Database
from workflows.model.errors import CeleriacError, DatabaseUnavailableError
from workflows.settings import Config

CSRF_HEADER = "X-CSRF-Token"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

API_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; "
    "manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""Of HTML: nothing from elsewhere, and nothing that stands in the page itself."""

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
"""Set on every answer that does not say otherwise."""

TOLD_WITHOUT_DATABASE = frozenset({"/metrics", "/api/cronjobs/tasks/health-check"})
"""What is away is told to this machine while nobody can ask the database whether that needs a key."""

WRONG_KEYS_PER_SECOND, WRONG_KEYS_BURST = 0.2, 20.0


@dataclass(frozen=True, slots=True)
class Rules:
    """What is let in.

    Attributes:
        hosts: Names in Host headers beside loopback's own (`CELERIAC_ALLOWED_HOSTS`, comma separated), without port.
            When there are any, no request may name another.
        origins: Further origins of pages (`CELERIAC_ALLOWED_ORIGINS`), as `scheme://host[:port]`.
        open_loopback: Whether programs of this machine need no key; None: as long as no key was ever made
            (`CELERIAC_OPEN_LOOPBACK`).
        per_second: Requests of one key, or of one address without a key (`CELERIAC_RATE_LIMIT`); 0 is no limit.
    """

    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()
    open_loopback: bool | None = None
    per_second: float = 50.0

    @classmethod
    def of(cls, config: Config) -> Rules:
        """The rules of these settings."""
        is_set = bool(config.text("CELERIAC_OPEN_LOOPBACK", ""))
        return cls(
            _names(config.text("CELERIAC_ALLOWED_HOSTS", "")),
            _names(config.text("CELERIAC_ALLOWED_ORIGINS", "")),
            config.boolean("CELERIAC_OPEN_LOOPBACK", False) if is_set else None,
            config.number("CELERIAC_RATE_LIMIT", 50.0),
        )


class Guard:
    """ASGI middleware: refuses what the rules do not let in, and adds headers to what is answered.

    Args:
        routes: All endpoints; the public ones among them are open to everybody.
        most_bytes: A larger body is refused; before it is read when it says so.
    """

    def __init__(self, app: ASGIApp, rules: Rules, routes: Sequence[BaseRoute], most_bytes: int) -> None:
        self._app = app
        self._rules = rules
        self._public = [route for route in routes if isinstance(route, APIRoute) and needed_scope(route) is None]
        self._most_bytes = most_bytes
        self._rates = Rates(rules.per_second, 4 * rules.per_second)
        self._wrong_keys = Rates(WRONG_KEYS_PER_SECOND, WRONG_KEYS_BURST)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                is_page = headers.get("content-type", "").startswith("text/html")
                headers.setdefault("Content-Security-Policy", PAGE_POLICY if is_page else API_POLICY)
            await send(message)

        headers = Headers(scope=scope)
        try:
            self._check_size_and_host(headers)
            identity = await self._identify(scope, headers)
            self._check_rate(scope, identity)
        except Exception as error:  # noqa: BLE001 - the application's own handlers lie further in
            await answer_of(error)(scope, receive, answer)
            return
        scope["celeriac.identity"] = identity
        await self._app(scope, self._counted(receive), answer)

    def _check_size_and_host(self, headers: Headers) -> None:
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > self._most_bytes:
            raise TooLargeError(f"the body has {length[:20]} bytes, more than {self._most_bytes}")
        if self._rules.hosts and not _is_known_host(headers, self._rules):
            raise _wrong_host(headers)

    async def _identify(self, scope: Scope, headers: Headers) -> Identity | None:
        """Who calls; None for somebody without a key who asks for something public."""
        keyring: Keyring = scope["app"].state.keyring
        token = _key_of(headers)
        if token is not None:
            return await self._by_key(keyring, token, caller_name(_client(scope)))
        cookie = cookie_parser(headers.get("cookie", "")).get(COOKIE)
        if cookie:
            identity = await keyring.by_session(cookie)
            if identity is not None:
                self._check_page(scope, headers, cookie)
                return identity
        if any(route.matches(scope)[0] is Match.FULL for route in self._public):
            # Whether there are keys is asked of the database, which a probe must not wait for.
            wants_identity = scope["path"].startswith("/api/")
            return await self._own_machine(keyring, scope, headers) if wants_identity else None
        refusal = refusal_of(scope, self._rules)
        try:
            is_open = await self._is_open(keyring)
        except DatabaseUnavailableError:
            if refusal is None and scope["path"] in TOLD_WITHOUT_DATABASE:
                return _READER
            raise
        if not is_open:
            raise UnauthorizedError("this needs a key", "send it as `Authorization: Bearer KEY`")
        if refusal is not None:
            raise refusal
        return _LOOPBACK

    async def _by_key(self, keyring: Keyring, token: str, caller: str) -> Identity:
        wait = self._wrong_keys.wait(caller)
        if wait:
            raise TooManyRequestsError("too many wrong keys came from this address", wait)
        found = await keyring.by_key(token)
        if isinstance(found, Identity):
            return found
        self._wrong_keys.take(caller)
        if found == "expired":
            raise UnauthorizedError("this key has expired", "ask whoever keeps the keys for a new one")
        raise UnauthorizedError("this key is not valid", "it was mistyped, or revoked")

    async def _own_machine(self, keyring: Keyring, scope: Scope, headers: Headers) -> Identity | None:
        """The open loopback, if that is where a request for something public comes from."""
        if not (headers.get("origin") is None or _is_own_origin(scope, headers, self._rules)):
            raise _wrong_origin(headers)
        if refusal_of(scope, self._rules) is None and await self._is_open(keyring):
            return _LOOPBACK
        return None

    async def _is_open(self, keyring: Keyring) -> bool:
        if self._rules.open_loopback is not None:
            return self._rules.open_loopback
        return not await keyring.has_keys()

    def _check_page(self, scope: Scope, headers: Headers, cookie: str) -> None:
        """A browser sends the cookie by itself; what changes something must come from our own page."""
        if headers.get("origin") is not None and not _is_own_origin(scope, headers, self._rules):
            raise _wrong_origin(headers)
        if scope["method"] not in SAFE_METHODS:
            given = headers.get(CSRF_HEADER, "").encode("utf-8", "replace")
            if not hmac.compare_digest(given, csrf_token(cookie).encode()):
                raise ForbiddenError(
                    f"a page must send the header {CSRF_HEADER} with its session",
                    "GET /api/v1/session tells its value",
                )

    def _check_rate(self, scope: Scope, identity: Identity | None) -> None:
        if identity is not None and identity.via == "loopback":
            return
        caller = f"key {identity.key_id}" if identity else caller_name(_client(scope))
        wait = self._rates.take(caller)
        if wait:
            raise TooManyRequestsError(f"more than {self._rules.per_second:g} requests a second", wait)

    def _counted(self, receive: Receive) -> Receive:
        """The request's messages; an error that its reader raises when they bring more than may be read."""
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._most_bytes:
                raise TooLargeError(f"the body has more than {self._most_bytes} bytes")
            return message

        return counted


_LOOPBACK = Identity(Access.ADMIN, "loopback")
_READER = Identity(Access.READ, "loopback")


def require_keys_beyond_loopback(host: str, database: Database) -> None:
    """For a program that binds to an address: others than loopback are for installations with keys.

    Raises:
        ForbiddenError: no key was ever made, and `host` is within reach of other machines.
        DatabaseUnavailableError: the database does not answer.
    """
    if is_loopback(host):
        return
    if not database.retrying(api_keys.has_keys, autocommit=True, patience_seconds=5.0):
        raise ForbiddenError(
            f"an API without keys is not served on {host}, where other machines can reach it",
            "make a key first: `celeriac keys create --scope admin`",
        )


def refusal_of(scope: Scope, rules: Rules) -> CeleriacError | None:
    """Why a request without a key is turned away where loopback is open; None when it is let in."""
    headers = Headers(scope=scope)
    client, server = scope.get("client"), scope.get("server")
    is_unix_socket = client is None and server is not None and server[1] is None
    if not is_unix_socket and not (client and is_loopback(client[0])):
        return ForbiddenError(
            "without a key this API serves its own machine only",
            "make one with `celeriac keys create` on the server, and send it as `Authorization: Bearer KEY`",
        )
    if not _is_known_host(headers, rules):
        return _wrong_host(headers)
    if headers.get("origin") is not None and not _is_own_origin(scope, headers, rules, exactly=True):
        return _wrong_origin(headers)
    return None


def _is_known_host(headers: Headers, rules: Rules) -> bool:
    name = _host_name(headers.get("host", ""))
    return is_loopback(name) or name in rules.hosts


def _is_own_origin(scope: Scope, headers: Headers, rules: Rules, *, exactly: bool = False) -> bool:
    """Whether the page that calls came from this server, or from one that is listed.

    Args:
        exactly: By the same scheme too. Behind a proxy that ends TLS the server does not know the page's.
    """
    origin, host = headers.get("origin", "").lower(), headers.get("host", "").lower()
    schemes = (scope["scheme"],) if exactly else ("http", "https")
    return origin in rules.origins or any(origin == f"{scheme}://{host}" for scheme in schemes)


def _wrong_host(headers: Headers) -> ForbiddenError:
    return ForbiddenError(
        f"the Host header names {headers.get('host', '')[:100]!r}, which is not this machine",
        "use http://localhost or http://127.0.0.1; further names go into CELERIAC_ALLOWED_HOSTS",
    )


def _wrong_origin(headers: Headers) -> ForbiddenError:
    return ForbiddenError(
        f"pages of {headers.get('origin', '')[:100]!r} may not call this API",
        "serve the page from the same address, or list its origin in CELERIAC_ALLOWED_ORIGINS",
    )


def _key_of(headers: Headers) -> str | None:
    """The key that a request brings; empty when it brings something that is none."""
    given = headers.get("x-api-key")
    if given is not None:
        return given.strip()
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if not scheme:
        return None
    return token.strip() if scheme.lower() == "bearer" else ""


def _client(scope: dict[str, Any] | Scope) -> str | None:
    client = scope.get("client")
    return client[0] if client else None


def _host_name(host: str) -> str:
    """The name of a Host header without its port; empty when it is none."""
    if host.startswith("["):
        name, bracket, port = host[1:].partition("]")
        return name.lower() if bracket and (not port or port.startswith(":")) else ""
    return host.partition(":")[0].lower()


def is_loopback(host: str) -> bool:
    """Whether an address, or the name localhost, is this machine's own."""
    if host == "localhost":
        return True
    try:
        found = ip_address(host)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_loopback


def _names(listed: str) -> frozenset[str]:
    names: Iterable[str] = (name.strip().lower().rstrip("/") for name in listed.split(","))
    return frozenset(name for name in names if name)
