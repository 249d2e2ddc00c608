"""The source `openalex`: its API for works (https://docs.openalex.org/api-entities/works)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.sources.crossref import plain
from pipeline.sources.record import Record, RecordError, parse_record
from pipeline.sources.web import Client, Host, Page, Query, check_whole, json_of
from workflows.builtin.outbound import Answer
from workflows.model.errors import TransientError
from workflows.settings import Config

HOST = Host("openalex", "https://api.openalex.org", "CELERIAC_OPENALEX_URL", "5/1s", 200)
KEY_VARIABLE = "CELERIAC_OPENALEX_KEY"

_FIELDS = "id,doi,display_name,publication_year,authorships,abstract_inverted_index,primary_location"
_MOST_WORDS = 20_000


def page(client: Client, query: Query, cursor: str | None, size: int) -> Page:
    """Works by relevance; the cursor is OpenAlex's own and the number of works before it.

    A text such as `cites:W2741809807` is a filter, so that citations can be followed.
    """
    place, _, taken = (cursor or "*\n0").partition("\n")
    params = {"per-page": str(size), "cursor": place, "select": _FIELDS}
    filters = []
    if query.text.partition(":")[0].replace("_", "").replace(".", "").isalpha() and ":" in query.text:
        filters.append(query.text)
    else:
        params["search"] = query.text
    if query.since is not None:
        filters.append(f"from_publication_date:{query.since.isoformat()}")
    if filters:
        params["filter"] = ",".join(filters)
    if client.mailto:
        params["mailto"] = client.mailto
    if key := Config.from_env().text(KEY_VARIABLE, ""):
        params["api_key"] = key
    return client.read("/works", params, lambda answer: _page(answer, int(taken)))


def _page(answer: Answer, taken: int) -> Page:
    told = json_of(answer)
    results = told.get("results") if isinstance(told, Mapping) else None
    if not isinstance(results, list):
        raise TransientError(f"{answer.url} answered something else than works")
    meta = told.get("meta") if isinstance(told.get("meta"), Mapping) else {}
    total, more = meta.get("count"), meta.get("next_cursor")
    end = taken + len(results)
    records = tuple(record for record in map(_record, results) if record is not None)
    found = Page(records, f"{more}\n{end}" if more and results else None, total if isinstance(total, int) else None)
    return found if results else check_whole(found, taken)


def _record(work: Any) -> Record | None:
    if not isinstance(work, Mapping) or not isinstance(work.get("id"), str):
        return None
    doi = str(work.get("doi") or "").removeprefix("https://doi.org/").lower()
    place = work.get("primary_location")
    landing = place.get("landing_page_url") if isinstance(place, Mapping) else None
    try:
        return parse_record(
            {
                "_id": work["id"].rpartition("/")[2],
                "title": plain(str(work.get("display_name") or "")),
                "text": abstract_of(work.get("abstract_inverted_index")),
                "authors": [_author(one) for one in work.get("authorships") or ()],
                "year": work.get("publication_year"),
                "doi": doi,
                "url": landing if isinstance(landing, str) else work["id"],
            }
        )
    except RecordError:
        return None


def abstract_of(index: Any) -> str:
    """The abstract that an inverted index stands for: words by the places at which they stand."""
    if not isinstance(index, Mapping):
        return ""
    places = [
        (place, word)
        for word, found in index.items()
        if isinstance(word, str) and isinstance(found, list)
        for place in found
        if isinstance(place, int) and 0 <= place < _MOST_WORDS
    ]
    return plain(" ".join(word for _, word in sorted(places)))


def _author(authorship: Any) -> str:
    author = authorship.get("author") if isinstance(authorship, Mapping) else None
    name = author.get("display_name") if isinstance(author, Mapping) else None
    return name if isinstance(name, str) else ""
