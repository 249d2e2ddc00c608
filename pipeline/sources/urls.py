"""The source `urls`: addresses of PDFs, pages and texts, one paper each."""

from __future__ import annotations

from types import TracebackType
from typing import Self
from urllib.parse import urldefrag, urlsplit

from pipeline import downloads
from pipeline.sources.record import Record, RecordError
from pipeline.sources.web import Client, Host
from pipeline.sources.webpage import from_html, from_text
from pipeline.text.faults import Code
from workflows.builtin.outbound import Answer, Limits, TooLargeAnswerError
from workflows.model.errors import PermanentError, TransientError
from workflows.settings import Config
from workflows.steps import StepContext

ORIGIN = "urls"
LIMITS = Limits(total_bytes=10_000_000, total_seconds=60.0, step_seconds=20.0)
LAST_ATTEMPT = 3
"""A server that did not answer at this try of the step, or a later one, is given up."""

_HTML = frozenset({"text/html", "application/xhtml+xml"})
_TEXT = frozenset({"text/plain", "text/markdown", "text/x-markdown"})
_TEXT_NAMES = (".md", ".markdown", ".txt")


def distinct(urls: list[str]) -> list[str]:
    """The addresses in their order, each once, without what stands behind `#`."""
    return list(dict.fromkeys(urldefrag(url.strip()).url for url in urls))


class Reader:
    """Reads addresses of any hosts. A context manager; connections are kept for further requests."""

    def __init__(self, ctx: StepContext, config: Config) -> None:
        self._ctx = ctx
        self._config = config
        self._clients: dict[str, Client] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._clients.values():
            client.__exit__(kind, error, trace)

    def read(self, url: str) -> Record:
        """The paper at an address; with a fault where there is none.

        Raises:
            TransientError: the server does not answer well, however often it was asked; the step may be tried again.
        """
        try:
            return self._read(url)
        except (RecordError, PermanentError, TransientError) as error:
            if isinstance(error, TransientError) and self._ctx.attempt < LAST_ATTEMPT:
                raise
            return Record(url, url=url).set_aside(Code.UNAVAILABLE, f"the address gives no paper: {error}")

    def _read(self, url: str) -> Record:
        if urlsplit(url).path.lower().endswith(".pdf"):
            return self._pdf(url)
        try:
            answer = self._ask(url)
        except TooLargeAnswerError:
            return self._pdf(url)
        kind, _, params = answer.headers.get("content-type", "").partition(";")
        kind = kind.strip().lower()
        if kind == "application/pdf" or answer.body.lstrip()[:5] == b"%PDF-":
            return self._pdf(url)
        if kind in _TEXT or (not kind and urlsplit(url).path.lower().endswith(_TEXT_NAMES)):
            return from_text(url, answer.text())
        if kind in _HTML or not kind:
            return from_html(url, answer.body, params.partition("charset=")[2].strip("\"' ;"))
        raise RecordError(f"{answer.url} answers {kind[:100]}, which is neither a PDF nor a page nor a text")

    def _ask(self, url: str) -> Answer:
        parts = urlsplit(url)
        base = f"{parts.scheme}://{parts.netloc}"
        if base not in self._clients:
            host = parts.hostname or ""
            rate = downloads.RATES.get(host, downloads.RATE)
            self._clients[base] = Client(Host(host, base, "", rate, 1), self._ctx, self._config)
        headers = {"Accept": "text/html, application/pdf, text/markdown, text/plain, */*;q=0.5"}
        return self._clients[base].read(url.removeprefix(base), None, Answer.check, headers=headers, limits=LIMITS)

    def _pdf(self, url: str) -> Record:
        found = downloads.fetch_pdf(url, self._ctx, self._config, refresh=True)
        return Record(url, url=url, pdf_url=url, pdf=found.path, pdf_hash=found.hash)
