"""The source `arxiv`: its API for queries (https://info.arxiv.org/help/api/user-manual.html)."""

from __future__ import annotations

import re
from datetime import date
from xml.etree import ElementTree as ET

from pipeline.sources.record import Record, parse_record
from pipeline.sources.values import person
from pipeline.sources.web import Client, Host, Page, Query, check_whole, words, xml_of
from workflows.builtin.outbound import Answer
from workflows.model.errors import PermanentError

HOST = Host("arxiv", "https://export.arxiv.org/api", "CELERIAC_ARXIV_URL", "1/3s", 200)

ATOM = "{http://www.w3.org/2005/Atom}"
ARXIV = "{http://arxiv.org/schemas/atom}"
OPENSEARCH = "{http://a9.com/-/spec/opensearch/1.1/}"

_VERSION = re.compile(r"v(\d+)$")
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
    feed = xml_of(answer if answer.status != 400 else _as_read(answer), f"{ATOM}feed")
    entries = feed.findall(f"{ATOM}entry")
    for entry in entries:
        if "/api/errors" in words(entry, f"{ATOM}id"):
            raise PermanentError(f"arXiv refuses the query: {words(entry, f'{ATOM}summary')}")
    total = int(words(feed, f"{OPENSEARCH}totalResults") or 0)
    wanted = [entry for entry in entries if since is None or words(entry, f"{ATOM}updated")[:10] >= since.isoformat()]
    found = tuple(_record(entry) for entry in wanted if "/abs/" in words(entry, f"{ATOM}id"))
    end = start + len(entries)
    if len(wanted) < len(entries):
        return Page(found, None, start + len(wanted))
    return check_whole(Page(found, str(end) if entries and end < total else None, total), start)


def _as_read(answer: Answer) -> Answer:
    return Answer(200, answer.url, answer.headers, answer.body)


def _record(entry: ET.Element) -> Record:
    address = words(entry, f"{ATOM}id")
    number = address.partition("/abs/")[2]
    version = _VERSION.search(number)
    authors = entry.findall(f"{ATOM}author")
    primary = entry.find(f"{ARXIV}primary_category")
    categories = [category.get("term") for category in entry.findall(f"{ATOM}category")]
    links = entry.findall(f"{ATOM}link")
    pdf = next((link.get("href") for link in links if link.get("title") == "pdf"), "")
    return parse_record(
        {
            "_id": _VERSION.sub("", number),
            "title": words(entry, f"{ATOM}title"),
            "text": (entry.findtext(f"{ATOM}summary") or "").strip(),
            "authors": [words(author, f"{ATOM}name") for author in authors],
            "year": words(entry, f"{ATOM}published")[:4],
            "doi": words(entry, f"{ARXIV}doi"),
            "url": _VERSION.sub("", address).replace("http://", "https://", 1),
            "arxiv_id": _VERSION.sub("", number),
            "venue": words(entry, f"{ARXIV}journal_ref"),
            "pdf_url": (pdf or "").replace("http://", "https://", 1),
            "version": int(version[1]) if version else None,
            "published": words(entry, f"{ATOM}published")[:10],
            "updated": words(entry, f"{ATOM}updated")[:10],
            "subjects": categories,
            "primary_subject": primary.get("term") if primary is not None else None,
            "comment": words(entry, f"{ARXIV}comment"),
            "contributors": [
                person(words(author, f"{ATOM}name"), None, map(words, author.findall(f"{ARXIV}affiliation")))
                for author in authors
            ],
            "links": [link.get("href") for link in links],
        },
        original=ET.tostring(entry, encoding="unicode"),
    )
