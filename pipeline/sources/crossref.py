"""The source `crossref`: its REST API for works (https://www.crossref.org/documentation/retrieve-metadata/rest-api/)."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import Any

from pipeline.sources.record import Record, RecordError, parse_record
from pipeline.sources.web import Client, Host, Page, Query, check_whole, json_of
from workflows.builtin.outbound import Answer
from workflows.model.errors import TransientError

HOST = Host("crossref", "https://api.crossref.org", "CELERIAC_CROSSREF_URL", "5/1s", 100)

_INLINE_TAG = re.compile(
    r"</?(?:jats:)?(?:i|b|em|strong|sub|sup|sc|u|tt|italic|bold|underline|monospace)\b[^>]*>", re.IGNORECASE
)
_TAG = re.compile(r"<[^>]*>")
_ABSTRACT_TITLE = re.compile(r"^<jats:title>\s*abstract\s*</jats:title>", re.IGNORECASE)
_FIELDS = "DOI,title,abstract,author,issued,published,URL,type"


def page(client: Client, query: Query, cursor: str | None, size: int) -> Page:
    """Works by relevance; the cursor is Crossref's own deep cursor and the number of works before it."""
    place, _, taken = (cursor or "*\n0").partition("\n")
    params = {"query": query.text, "rows": str(size), "cursor": place, "select": _FIELDS}
    if query.since is not None:
        params["filter"] = f"from-index-date:{query.since.isoformat()}"
    if client.mailto:
        params["mailto"] = client.mailto
    return client.read("/works", params, lambda answer: _page(answer, int(taken)))


def _page(answer: Answer, taken: int) -> Page:
    told = json_of(answer)
    message = told.get("message") if isinstance(told, Mapping) else None
    if not isinstance(message, Mapping) or not isinstance(message.get("items"), list):
        raise TransientError(f"{answer.url} answered something else than works")
    items, total = message["items"], message.get("total-results")
    end = taken + len(items)
    more = message.get("next-cursor") if items and (not isinstance(total, int) or end < total) else None
    records = tuple(record for record in map(_record, items) if record is not None)
    found = Page(records, f"{more}\n{end}" if more else None, total if isinstance(total, int) else None)
    return found if items else check_whole(found, taken)


def _record(work: Any) -> Record | None:
    if not isinstance(work, Mapping) or not isinstance(work.get("DOI"), str):
        return None
    doi = work["DOI"].lower()
    try:
        return parse_record(
            {
                "_id": doi,
                "title": plain(_first(work.get("title"))),
                "text": plain(_ABSTRACT_TITLE.sub("", _string(work.get("abstract")).strip())),
                "authors": [_name(author) for author in work.get("author") or () if isinstance(author, Mapping)],
                "year": _year(work.get("issued")) or _year(work.get("published")),
                "doi": doi,
                "url": _string(work.get("URL")) or f"https://doi.org/{doi}",
            }
        )
    except RecordError:
        return None


def plain(text: str) -> str:
    """Text without the JATS or HTML in it."""
    return " ".join(html.unescape(_TAG.sub(" ", _INLINE_TAG.sub("", text))).split())


def _name(author: Mapping[Any, Any]) -> str:
    parts = [_string(author.get("given")), _string(author.get("family"))]
    return " ".join(part for part in parts if part) or _string(author.get("name"))


def _year(value: Any) -> int | None:
    parts = value.get("date-parts") if isinstance(value, Mapping) else None
    first = parts[0] if isinstance(parts, list) and parts else None
    year = first[0] if isinstance(first, list) and first else None
    return year if isinstance(year, int) else None


def _first(value: Any) -> str:
    return _string(value[0]) if isinstance(value, list) and value else _string(value)


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""
