"""The source `crossref`: its REST API for works (https://www.crossref.org/documentation/retrieve-metadata/rest-api/)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from pipeline.sources.record import Record, RecordError, parse_record
from pipeline.sources.values import first, items, joined, mapping, objects, person, plain, string, strings
from pipeline.sources.web import Client, Host, Page, Query, check_whole, json_of
from workflows.builtin.outbound import Answer
from workflows.model.errors import TransientError

HOST = Host("crossref", "https://api.crossref.org", "CELERIAC_CROSSREF_URL", "5/1s", 100)

_ABSTRACT_TITLE = re.compile(r"^<jats:title>\s*abstract\s*</jats:title>", re.IGNORECASE)


def page(client: Client, query: Query, cursor: str | None, size: int) -> Page:
    """Works by relevance; the cursor is Crossref's own deep cursor and the number of works before it."""
    place, _, taken = (cursor or "*\n0").partition("\n")
    params = {"query": query.text, "rows": str(size), "cursor": place}
    if query.since is not None:
        params["filter"] = f"from-index-date:{query.since.isoformat()}"
    if client.mailto:
        params["mailto"] = client.mailto
    return client.read("/works", params, lambda answer: _page(answer, int(taken)))


def _page(answer: Answer, taken: int) -> Page:
    message = mapping(json_of(answer)).get("message")
    if not isinstance(message, Mapping) or not isinstance(message.get("items"), list):
        raise TransientError(f"{answer.url} answered something else than works")
    works, total = message["items"], message.get("total-results")
    end = taken + len(works)
    more = message.get("next-cursor") if works and (not isinstance(total, int) or end < total) else None
    records = tuple(record for record in map(_record, works) if record is not None)
    found = Page(records, f"{more}\n{end}" if more else None, total if isinstance(total, int) else None)
    return found if works else check_whole(found, taken)


def _record(work: Any) -> Record | None:
    if not isinstance(work, Mapping) or not isinstance(work.get("DOI"), str):
        return None
    doi = work["DOI"].lower()
    issued = _day(work.get("issued")) or _day(work.get("published"))
    contributors = [_person(one) for one in objects(work.get("author"))]
    links = [link for link in objects(work.get("link")) if string(link.get("content-type")) == "application/pdf"]
    try:
        return parse_record(
            {
                "_id": doi,
                "title": plain(first(work.get("title"))),
                "text": plain(_ABSTRACT_TITLE.sub("", string(work.get("abstract")))),
                "authors": [one["name"] for one in contributors],
                "year": issued[:4],
                "doi": doi,
                "url": string(work.get("URL")) or f"https://doi.org/{doi}",
                "venue": plain(first(work.get("container-title"))),
                "pdf_url": string(links[0].get("URL")) if links else "",
                "subtitle": plain(first(work.get("subtitle"))),
                "published": issued,
                "updated": string(mapping(work.get("indexed")).get("date-time"))[:10],
                "type": string(work.get("type")),
                "language": string(work.get("language")),
                "publisher": string(work.get("publisher")),
                "volume": string(work.get("volume")),
                "issue": string(work.get("issue")),
                "pages": string(work.get("page")) or string(work.get("article-number")),
                "issn": strings(items(work.get("ISSN"))),
                "isbn": strings(items(work.get("ISBN"))),
                "subjects": strings(items(work.get("subject"))),
                "event": string(mapping(work.get("event")).get("name")),
                "license": strings(one.get("URL") for one in objects(work.get("license"))),
                "funders": strings(one.get("name") for one in objects(work.get("funder"))),
                "editors": [_person(one)["name"] for one in objects(work.get("editor"))],
                "citations": work.get("is-referenced-by-count"),
                "references": work.get("references-count"),
                "contributors": contributors,
            },
            original=json.dumps(work),
        )
    except RecordError:
        return None


def _person(author: Mapping[str, Any]) -> dict[str, Any]:
    name = joined(author.get("given"), author.get("family")) or string(author.get("name"))
    return person(name, author.get("ORCID"), (one.get("name") for one in objects(author.get("affiliation"))))


def _day(value: Any) -> str:
    """A date as precise as it is known: `2012`, `2012-03` or `2012-03-21`."""
    parts = next(iter(items(mapping(value).get("date-parts"))), None)
    numbers = [part for part in items(parts) if isinstance(part, int)]
    return "-".join(f"{part:02d}" for part in numbers)
