"""The source `europe_pmc`: PubMed, PubMed Central and preprints (https://europepmc.org/RestfulWebService)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.sources.crossref import plain
from pipeline.sources.record import Record, RecordError, parse_record
from pipeline.sources.web import Client, Host, Page, Query, check_whole, json_of
from workflows.builtin.outbound import Answer
from workflows.model.errors import PermanentError, TransientError

HOST = Host("europe_pmc", "https://www.ebi.ac.uk/europepmc/webservices/rest", "CELERIAC_EUROPE_PMC_URL", "5/1s", 500)


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
    told = json_of(answer)
    if isinstance(told, Mapping) and told.get("errMsg"):
        raise PermanentError(f"Europe PMC refuses the query: {str(told['errMsg'])[:300]}")
    results = told.get("resultList") if isinstance(told, Mapping) else None
    found = results.get("result") if isinstance(results, Mapping) else None
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
    authors = value.get("authorList")
    listed = authors.get("author") if isinstance(authors, Mapping) else None
    try:
        return parse_record(
            {
                "_id": f"{kind}:{number}" if number else None,
                "title": plain(str(value.get("title") or "")).rstrip("."),
                "text": plain(str(value.get("abstractText") or "")),
                "authors": [_name(author) for author in listed or () if isinstance(author, Mapping)],
                "year": str(value.get("pubYear") or ""),
                "doi": str(value.get("doi") or "").lower(),
                "url": f"https://europepmc.org/article/{kind}/{number}",
            }
        )
    except RecordError:
        return None


def _name(author: Mapping[Any, Any]) -> str:
    """A person, or a group that wrote together."""
    parts = [str(author.get(name) or "") for name in ("firstName", "lastName")]
    person = " ".join(part for part in parts if part)
    return person or str(author.get("fullName") or author.get("collectiveName") or "")
