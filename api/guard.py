"""Who may speak to an API without keys: programs of the same machine, and pages that this API served itself.

A server on loopback is within reach of every page in a browser of that machine. So the client's address must be
loopback, the Host header must name the machine (a page whose foreign name resolves to 127.0.0.1 is turned away), and an
Origin header, when there is one, must be this server's own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.access import Identity
from api.access import Scope as Access
from api.problems import ForbiddenError, TooLargeError, problem_of
from workflows.model.errors import CeleriacError
from workflows.settings import Config

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
"""Set on every answer that does not say otherwise."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What is let in beside loopback's own names.

    Attributes:
        hosts: Further names in Host headers (`CELERIAC_ALLOWED_HOSTS`, comma separated), without port.
        origins: Further origins of pages (`CELERIAC_ALLOWED_ORIGINS`), as `scheme://host[:port]`.
    """

    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()

    @classmethod
    def of(cls, config: Config) -> Rules:
        """The rules of these settings."""
        return cls(
            _names(config.text("CELERIAC_ALLOWED_HOSTS", "")), _names(config.text("CELERIAC_ALLOWED_ORIGINS", ""))
        )


class Guard:
    """ASGI middleware: refuses what the rules do not let in, and adds headers to what is answered.

    Args:
        most_bytes: A larger body is refused; before it is read when it says so.
    """

    def __init__(self, app: ASGIApp, rules: Rules, most_bytes: int) -> None:
        self._app = app
        self._rules = rules
        self._most_bytes = most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        refusal = refusal_of(scope, self._rules, self._most_bytes)
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        if refusal is not None:
            await problem_of(refusal)(scope, receive, answer)
            return
        scope["celeriac.identity"] = Identity(Access.ADMIN, "loopback")
        await self._app(scope, self._counted(receive), answer)

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


def refusal_of(scope: Scope, rules: Rules, most_bytes: int) -> CeleriacError | None:
    """Why a request is turned away; None when it is let in."""
    headers = Headers(scope=scope)
    client, server = scope.get("client"), scope.get("server")
    is_unix_socket = client is None and server is not None and server[1] is None
    if not is_unix_socket and not (client and _is_loopback(client[0])):
        return ForbiddenError(
            "this API has no keys yet, so it serves its own machine only",
            "call it from there, by an SSH tunnel for instance",
        )
    host = headers.get("host", "")
    name = _host_name(host)
    if not (name == "localhost" or _is_loopback(name) or name in rules.hosts):
        return ForbiddenError(
            f"the Host header names {host[:100]!r}, which is not this machine",
            "use http://localhost or http://127.0.0.1; further names go into CELERIAC_ALLOWED_HOSTS",
        )
    origin = headers.get("origin")
    if origin is not None and origin.lower() not in {f"{scope['scheme']}://{host}".lower(), *rules.origins}:
        return ForbiddenError(
            f"pages of {origin[:100]!r} may not call this API",
            "serve the page from the same address, or list its origin in CELERIAC_ALLOWED_ORIGINS",
        )
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > most_bytes:
        return TooLargeError(f"the body has {length[:20]} bytes, more than {most_bytes}")
    return None


def _host_name(host: str) -> str:
    """The name of a Host header without its port; empty when it is none."""
    if host.startswith("["):
        name, bracket, port = host[1:].partition("]")
        return name.lower() if bracket and (not port or port.startswith(":")) else ""
    return host.partition(":")[0].lower()


def _is_loopback(address: str) -> bool:
    try:
        found = ip_address(address)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_loopback


def _names(listed: str) -> frozenset[str]:
    names: Iterable[str] = (name.strip().lower().rstrip("/") for name in listed.split(","))
    return frozenset(name for name in names if name)
