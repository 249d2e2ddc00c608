"""The source `arxiv`: its API for queries (https://info.arxiv.org/help/api/user-manual.html)."""

from __future__ import annotations

import re
from datetime import date
from xml.etree import ElementTree as ET

from pipeline.sources.record import Record, parse_record
from pipeline.sources.web import Client, Host, Page, Query, check_whole, xml_of
from workflows.builtin.outbound import Answer
from workflows.model.errors import PermanentError

HOST = Host("arxiv", "https://export.arxiv.org/api", "CELERIAC_ARXIV_URL", "1/3s", 200)

ATOM = "{http://www.w3.org/2005/Atom}"
ARXIV = "{http://arxiv.org/schemas/atom}"
OPENSEARCH = "{http://a9.com/-/spec/opensearch/1.1/}"

_VERSION = re.compile(r"v\d+$")
_FIELD = re.compile(r"\b(ti|au|abs|co|jr|cat|rn|id|all|submittedDate|lastUpdatedDate):")


def page(client: Client, query: Query, cursor: str | None, size: int) -> Page:
    """Records by relevance, with `since` by when they were changed last; the cursor is the number of the first.

    A range over `lastUpdatedDate` in a query means the day of the first submission, whatever it is called. So what has
    changed is read from the latest on, until something is older.
    """
    start = int(cursor or 0)
    # Words alone are looked for in all fields and have to be there, each of them.
    text = query.text if _FIELD.search(query.text) else " AND ".join(f"all:{word}" for word in query.text.split())
    params = {
        "search_query": text,
        "start": str(start),
        "max_results": str(size),
        "sortBy": "relevance" if query.since is None else "lastUpdatedDate",
        "sortOrder": "descending",
    }
    return client.read("/query", params, lambda answer: _page(answer, start, query.since))


def _page(answer: Answer, start: int, since: date | None) -> Page:
    # A wrong query is answered by an entry that says so, with the status 400 or 200.
    feed = xml_of(answer) if answer.status != 400 else xml_of(_as_read(answer))
    entries = feed.findall(f"{ATOM}entry")
    for entry in entries:
        if "/api/errors" in _text(entry, f"{ATOM}id"):
            raise PermanentError(f"arXiv refuses the query: {_text(entry, f'{ATOM}summary')}")
    total = int(_text(feed, f"{OPENSEARCH}totalResults") or 0)
    wanted = [entry for entry in entries if since is None or _text(entry, f"{ATOM}updated")[:10] >= since.isoformat()]
    found = tuple(_record(entry) for entry in wanted if "/abs/" in _text(entry, f"{ATOM}id"))
    end = start + len(entries)
    if len(wanted) < len(entries):
        return Page(found, None, start + len(wanted))
    return check_whole(Page(found, str(end) if entries and end < total else None, total), start)


def _as_read(answer: Answer) -> Answer:
    return Answer(200, answer.url, answer.headers, answer.body)


def _record(entry: ET.Element) -> Record:
    address = _text(entry, f"{ATOM}id")
    return parse_record(
        {
            "_id": _VERSION.sub("", address.partition("/abs/")[2]),
            "title": _text(entry, f"{ATOM}title"),
            "text": (entry.findtext(f"{ATOM}summary") or "").strip(),
            "authors": [_text(author, f"{ATOM}name") for author in entry.findall(f"{ATOM}author")],
            "year": _text(entry, f"{ATOM}published")[:4],
            "doi": _text(entry, f"{ARXIV}doi"),
            "url": _VERSION.sub("", address).replace("http://", "https://", 1),
        }
    )


def _text(element: ET.Element, name: str) -> str:
    return " ".join((element.findtext(name) or "").split())
