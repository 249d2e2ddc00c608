"""The source `europe_pmc`: PubMed, PubMed Central and preprints (https://europepmc.org/RestfulWebService)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pipeline.sources.record import Record, RecordError, parse_record
from pipeline.sources.values import items, joined, mapping, objects, person, plain, string, strings
from pipeline.sources.web import Client, Host, Page, Query, check_whole, json_of
from workflows.builtin.outbound import Answer
from workflows.model.errors import PermanentError, TransientError

HOST = Host("europe_pmc", "https://www.ebi.ac.uk/europepmc/webservices/rest", "CELERIAC_EUROPE_PMC_URL", "5/1s", 500)

_FREE = frozenset({"OA", "F"})
"""Codes of availability: open access, free."""


def page(client: Client, query: Query, cursor: str | None, size: int) -> Page:
    """Records by relevance; the cursor is Europe PMC's own mark and the number of records before it."""
    mark, _, taken = (cursor or "*\n0").partition("\n")
    text = query.text
    if query.since is not None:
        text = f"({text}) AND (UPDATE_DATE:[{query.since.isoformat()} TO 2999-12-31])"
    params = {"query": text, "format": "json", "resultType": "core", "pageSize": str(size), "cursorMark": mark}
    if client.mailto:
        params["email"] = client.mailto
    return client.read("/search", params, lambda answer: _page(answer, mark, int(taken)))


def _page(answer: Answer, mark: str, taken: int) -> Page:
    told = mapping(json_of(answer))
    if told.get("errMsg"):
        raise PermanentError(f"Europe PMC refuses the query: {str(told['errMsg'])[:300]}")
    found = mapping(told.get("resultList")).get("result")
    if not isinstance(found, list):
        raise TransientError(f"{answer.url} answered something else than records")
    total, more = told.get("hitCount"), told.get("nextCursorMark")
    end = taken + len(found)
    records = tuple(record for record in map(_record, found) if record is not None)
    # The mark stays the same on the last page.
    goes_on = isinstance(more, str) and more != mark and found and (not isinstance(total, int) or end < total)
    read = Page(records, f"{more}\n{end}" if goes_on else None, total if isinstance(total, int) else None)
    return read if found else check_whole(read, taken)


def _record(value: Any) -> Record | None:
    if not isinstance(value, Mapping):
        return None
    kind, number = str(value.get("source") or "MED"), str(value.get("id") or "")
    contributors = [_person(one) for one in objects(mapping(value.get("authorList")).get("author"))]
    issue = mapping(value.get("journalInfo"))
    journal = mapping(issue.get("journal"))
    book = mapping(value.get("bookOrReportDetails"))
    addresses = objects(mapping(value.get("fullTextUrlList")).get("fullTextUrl"))
    free = [one for one in addresses if one.get("availabilityCode") in _FREE and one.get("documentStyle") == "pdf"]
    published = string(value.get("firstPublicationDate")) or string(issue.get("printPublicationDate"))
    try:
        return parse_record(
            {
                "_id": f"{kind}:{number}" if number else None,
                "title": plain(string(value.get("title"))).rstrip("."),
                "text": plain(string(value.get("abstractText"))),
                "authors": [one["name"] for one in contributors],
                "year": string(value.get("pubYear")),
                "doi": string(value.get("doi")).lower(),
                "url": f"https://europepmc.org/article/{kind}/{number}",
                "venue": plain(string(journal.get("title")) or string(book.get("comprisingTitle"))),
                "pdf_url": string(free[0].get("url")) if free else "",
                "published": published,
                "updated": string(value.get("dateOfRevision")),
                "type": strings(items(mapping(value.get("pubTypeList")).get("pubType"))),
                "language": string(value.get("language")),
                "publisher": string(book.get("publisher")),
                "volume": string(issue.get("volume")),
                "issue": string(issue.get("issue")),
                "pages": string(value.get("pageInfo")),
                "issn": strings((journal.get("issn"), journal.get("essn"))),
                "keywords": strings(items(mapping(value.get("keywordList")).get("keyword"))),
                "subjects": strings(
                    one.get("descriptorName")
                    for one in objects(mapping(value.get("meshHeadingList")).get("meshHeading"))
                ),
                "license": strings((value.get("license"),)),
                "funders": strings(one.get("agency") for one in objects(mapping(value.get("grantsList")).get("grant"))),
                "is_open_access": {"Y": True, "N": False}.get(string(value.get("isOpenAccess"))),
                "citations": value.get("citedByCount"),
                "ids": {name: string(value.get(name)) for name in ("pmid", "pmcid")},
                "contributors": contributors,
                "links": strings(one.get("url") for one in addresses),
            },
            original=json.dumps(value),
        )
    except RecordError:
        return None


def _person(author: Mapping[str, Any]) -> dict[str, Any]:
    """A person, or a group that wrote together."""
    name = (
        joined(author.get("firstName"), author.get("lastName"))
        or string(author.get("fullName"))
        or string(author.get("collectiveName"))
    )
    known = mapping(author.get("authorId"))
    places = objects(mapping(author.get("authorAffiliationDetailsList")).get("authorAffiliation"))
    orcid = known.get("value") if known.get("type") == "ORCID" else None
    return person(name, orcid, (one.get("affiliation") for one in places))
