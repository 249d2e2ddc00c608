"""Every request has an id: its answer carries it, and so does every line that is logged for it."""

from __future__ import annotations

import logging
import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from workflows.engine import logs

_log = logging.getLogger("celeriac.access")

HEADER = "X-Request-ID"
_TAKEN = re.compile(r"[A-Za-z0-9._-]{1,100}")


class Requests:
    """ASGI middleware around everything else.

    Args:
        logs_access: Log a line when an answer has ended; uvicorn's own knows no request id.
    """

    def __init__(self, app: ASGIApp, *, logs_access: bool) -> None:
        self._app = app
        self._logs_access = logs_access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(HEADER, "")
        request_id = given if _TAKEN.fullmatch(given) else uuid.uuid4().hex
        began = time.perf_counter()
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[HEADER] = request_id
            await send(message)

        with logs.about(request_id=request_id):
            try:
                await self._app(scope, receive, answer)
            finally:
                if self._logs_access:
                    fields = {
                        "method": scope["method"],
                        "path": scope["path"],
                        "status": status,
                        "seconds": round(time.perf_counter() - began, 4),
                    }
                    _log.info("%(method)s %(path)s %(status)s", fields, extra=fields)
