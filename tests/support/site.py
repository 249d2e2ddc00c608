"""A web site on loopback that writes down what it is asked, and answers what it was told to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.support.loopback import answering


class Site:
    """What was asked, and what is answered next."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.answers: list[tuple[int, str, bytes]] = []
        self.url = ""


@contextmanager
def site_on_loopback() -> Iterator[Site]:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode(errors="replace")
            site.seen.append({"method": self.command, "path": self.path, "body": body, "headers": self.headers})
            status, kind, content = site.answers.pop(0)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Set-Cookie", "session=1")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_PUT = do_GET  # noqa: N815 - the names that http.server calls

    with answering(Handler) as site.url:
        yield site
