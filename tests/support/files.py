"""A server of one file on loopback: it knows ranges and ETags, and misbehaves as it is told to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

from tests.support.loopback import answering


class FileSite:
    """What is served, what was asked, and how the next requests are answered instead.

    Attributes:
        seen: Path and `Range` of each request, in order.
        script: Taken one by one, each for one request; when there is none left, the file is served well.
    """

    def __init__(self) -> None:
        self.content = b""
        self.etag = '"1"'
        self.url = ""
        self.seen: list[tuple[str, str | None]] = []
        self.script: list[Callable[[BaseHTTPRequestHandler], None]] = []

    def serve(self, request: BaseHTTPRequestHandler, *, cut_after: int | None = None, ranges: bool = True) -> None:
        """Answer the file, or the part that is asked for; `cut_after` breaks off behind so many bytes."""
        if request.headers.get("If-None-Match") == self.etag:
            return answer(304)(request)
        asked = request.headers.get("Range")
        is_same = request.headers.get("If-Range") in (None, self.etag)
        begin = int(asked.removeprefix("bytes=").rstrip("-")) if asked and is_same and ranges else 0
        part = self.content[begin:]
        request.send_response(206 if begin else 200)
        request.send_header("Content-Type", "application/pdf")
        request.send_header("ETag", self.etag)
        if begin:
            request.send_header("Content-Range", f"bytes {begin}-{len(self.content) - 1}/{len(self.content)}")
        request.send_header("Content-Length", str(len(part)))
        request.end_headers()
        request.wfile.write(part[:cut_after])
        request.close_connection = True
        return None


def answer(status: int, body: bytes = b"", **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    """An answer of that status; `Retry_After` stands for the header `Retry-After`."""

    def send(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(body)

    return send


def endless(request: BaseHTTPRequestHandler) -> None:
    """A PDF that never ends."""
    request.send_response(200)
    request.send_header("Content-Type", "application/pdf")
    request.end_headers()
    request.wfile.write(b"%PDF-1.7\n")
    try:
        while True:
            request.wfile.write(bytes(65_536))
    except OSError:
        request.close_connection = True


@contextmanager
def file_site() -> Iterator[FileSite]:
    site = FileSite()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.seen.append((self.path, self.headers.get("Range")))
            action = site.script.pop(0) if site.script else site.serve
            action(self)

    with answering(Handler) as site.url:
        yield site
