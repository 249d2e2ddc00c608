"""What the sources on the web share: a client that asks politely, and pages that a step goes through.

A source turns a query and a cursor into a request, and an answer into a `Page` (`docs/adr/0023-web-sources.md`).
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol, Self, TypeVar
from xml.etree import ElementTree as ET

from pipeline.sources.record import Record
from workflows.builtin.networks import NetworkRules
from workflows.builtin.outbound import Answer, Limits, Outbound
from workflows.model.errors import PermanentError, TransientError
from workflows.settings import Config
from workflows.steps import StepContext

TRIES = 4
FIRST_DELAY_SECONDS = 2.0
LONGEST_NAP_SECONDS = 30.0
"""A longer wait parks the step."""

LIMITS = Limits(total_bytes=50_000_000, total_seconds=120.0, step_seconds=60.0)

_PLAIN_DOCTYPE = re.compile(
    rb"""<!DOCTYPE\s+[\w:.-]+(?:\s+(?:PUBLIC\s+(?:"[^"<>]*"|'[^'<>]*')|SYSTEM)\s+(?:"[^"<>]*"|'[^'<>]*'))?\s*>"""
)
"""Names a DTD, which is not loaded; it declares nothing by itself."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Host:
    """A catalogue on the web.

    Attributes:
        name: Also of its rate limit.
        url: Its base URL, without a slash at the end; the setting `variable`, where there is one, may name another.
        rate: What it asks all clients of one user to keep, as in `1/3s`.
        page_size: Records that are asked for at once.
    """

    name: str
    url: str
    variable: str
    rate: str
    page_size: int


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for.

    Attributes:
        text: In the words of the catalogue.
        since: Only what is new or has changed since this day.
    """

    text: str
    since: date | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """A part of what was found.

    Attributes:
        next: Cursor of the next page; None when this is the last.
        total: How many records there are in all, as far as the catalogue says.
        removed: Ids of records that the catalogue has taken back.
    """

    records: tuple[Record, ...]
    next: str | None
    total: int | None
    removed: tuple[str, ...] = ()


class StaleCursorError(PermanentError):
    """The catalogue does not know a cursor any more; the query has to be begun anew."""


class Source(Protocol):
    """A module such as `pipeline.sources.arxiv`."""

    HOST: Host

    @staticmethod
    def page(client: Client, query: Query, cursor: str | None, size: int) -> Page:
        """The page at a cursor, the first without one; of at most `size` records."""
        ...


class Client:
    """Asks one catalogue. A context manager; connections are kept for further requests."""

    def __init__(self, host: Host, ctx: StepContext, config: Config) -> None:
        self._host = host
        self._ctx = ctx
        self._base = (config.text(host.variable, host.url) if host.variable else host.url).rstrip("/")
        self.mailto = config.text("CELERIAC_MAILTO", "")
        self._outbound = Outbound(NetworkRules.of(config), user_agent=user_agent(self.mailto))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._outbound.close()

    def read(
        self,
        path: str,
        params: Mapping[str, str] | None,
        parse: Callable[[Answer], T],
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        limits: Limits = LIMITS,
    ) -> T:
        """Ask, and parse the answer; what passes is tried again.

        Args:
            params: None when the path has them.
            body: Sent by POST; without one it is a GET.
            parse: Raises TransientError for an answer that is not whole, PermanentError for one that says no.

        Raises:
            TransientError: the catalogue did not answer well, however often it was asked.
            PermanentError: it says no.
        """
        for attempt in range(1, TRIES + 1):
            self._ctx.rate_limit(self._host.name, default=self._host.rate)
            wait: float | None = None
            try:
                url = f"{self._base}{path}"
                answer = self._outbound.request(
                    "GET" if body is None else "POST", url, params=params, headers=headers, body=body, limits=limits
                )
                wait = answer.retry_after_seconds(time.time())
                return parse(answer)
            except TransientError as error:
                if attempt == TRIES:
                    raise
                self._wait(FIRST_DELAY_SECONDS * 2 ** (attempt - 1) if wait is None else wait, str(error))
        raise AssertionError("the last try returns or raises")

    def _wait(self, seconds: float, why: str) -> None:
        self._ctx.log.warning("%s; asking again in %.0f s", why, seconds)
        if seconds > LONGEST_NAP_SECONDS and self._ctx.item_key is not None:
            raise TransientError(f"{why}; it asks for {seconds:.0f} s")  # a call of a map is left to its `retry`
        if seconds > LONGEST_NAP_SECONDS:
            self._ctx.park(seconds)
        nap(self._ctx, seconds)


def nap(ctx: StepContext, seconds: float) -> None:
    """Wait; a cancel of the run ends it."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        ctx.check_cancelled()
        time.sleep(min(left, 0.5))


def json_of(answer: Answer) -> Any:
    """The answer's JSON.

    Raises:
        TransientError: it broke off on the way.
    """
    try:
        return json.loads(answer.check().body)
    except (ValueError, RecursionError) as error:
        raise TransientError(f"{answer.url} answered no whole JSON: {error}") from error


def xml_of(answer: Answer, root: str) -> ET.Element:
    """The answer's XML, whose outermost element must be `root`.

    Raises:
        TransientError: it broke off on the way, or is another document: busy servers answer pages that say so.
        PermanentError: it declares entities, which could grow without end.
    """
    body = _PLAIN_DOCTYPE.sub(b"", answer.check().body, count=1)
    if b"<!DOCTYPE" in body[:100_000] or b"<!ENTITY" in body:
        raise PermanentError(f"{answer.url} answered XML with a DTD of its own, which is not read")
    try:
        found = ET.fromstring(body)  # noqa: S314 - without a DTD there is nothing to expand
    except ET.ParseError as error:
        raise TransientError(f"{answer.url} answered no whole XML: {error}") from error
    if found.tag != root:
        raise TransientError(f"{answer.url} answered <{found.tag[:100]}> instead of <{root}>")
    return found


def words(element: ET.Element | None, path: str = "") -> str:
    """All text within an element, or within the first at a path under it, as one line."""
    found = element.find(path) if element is not None and path else element
    return " ".join("".join(found.itertext()).split()) if found is not None else ""


def check_whole(page: Page, taken: int) -> Page:
    """Refuse a page that is empty although more is there: catalogues that are busy answer so.

    Raises:
        TransientError: it is.
    """
    if not page.records and page.total is not None and taken < page.total:
        raise TransientError(f"a page came back empty after {taken} of {page.total} records")
    return page


def user_agent(mailto: str) -> str:
    """How we call ourselves, with the mail address of whoever runs this when there is one."""
    try:
        release = version("celeriac")
    except PackageNotFoundError:
        release = "0"
    return f"celeriac/{release} (mailto:{mailto})" if mailto else f"celeriac/{release}"
