"""The source `openalex`: its API for works (https://docs.openalex.org/api-entities/works)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from pipeline.sources.record import Record, RecordError, parse_record
from pipeline.sources.values import items, joined, mapping, objects, person, plain, string, strings
from pipeline.sources.web import Client, Host, Page, Query, check_whole, json_of
from workflows.builtin.outbound import Answer
from workflows.model.errors import TransientError
from workflows.settings import Config

HOST = Host("openalex", "https://api.openalex.org", "CELERIAC_OPENALEX_URL", "5/1s", 200)
KEY_VARIABLE = "CELERIAC_OPENALEX_KEY"

_ARXIV = re.compile(r"arxiv\.org/abs/([\w.-]+(?:/\d{7})?)", re.IGNORECASE)
_MOST_WORDS = 20_000


def page(client: Client, query: Query, cursor: str | None, size: int) -> Page:
    """Works by relevance; the cursor is OpenAlex's own and the number of works before it.

    A text such as `cites:W2741809807` is a filter, so that citations can be followed.
    """
    place, _, taken = (cursor or "*\n0").partition("\n")
    params = {"per-page": str(size), "cursor": place}
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
    place, best = mapping(work.get("primary_location")), mapping(work.get("best_oa_location"))
    journal, biblio = mapping(place.get("source")), mapping(work.get("biblio"))
    contributors = [_person(one) for one in objects(work.get("authorships"))]
    known = {
        str(name): string(one).rpartition("/")[2] for name, one in mapping(work.get("ids")).items() if name != "doi"
    }
    landings = [string(one.get("landing_page_url")) for one in (place, best, *objects(work.get("locations")))]
    try:
        return parse_record(
            {
                "_id": work["id"].rpartition("/")[2],
                "title": plain(string(work.get("display_name")) or string(work.get("title"))),
                "text": abstract_of(work.get("abstract_inverted_index")),
                "authors": [one["name"] for one in contributors],
                "year": work.get("publication_year"),
                "doi": string(work.get("doi")).lower(),
                "url": string(place.get("landing_page_url")) or work["id"],
                "arxiv_id": next((found[1] for found in map(_ARXIV.search, landings) if found), ""),
                "venue": plain(string(journal.get("display_name"))),
                "pdf_url": string(best.get("pdf_url")) or string(place.get("pdf_url")),
                "published": string(work.get("publication_date")),
                "updated": string(work.get("updated_date"))[:10],
                "type": string(work.get("type")),
                "language": string(work.get("language")),
                "publisher": string(journal.get("host_organization_name")),
                "volume": string(biblio.get("volume")),
                "issue": string(biblio.get("issue")),
                "pages": joined(biblio.get("first_page"), biblio.get("last_page"), by="-"),
                "issn": strings(items(journal.get("issn"))),
                "keywords": strings(one.get("display_name") for one in objects(work.get("keywords"))),
                "subjects": strings(
                    one.get("display_name") for one in objects(work.get("topics")) or objects(work.get("concepts"))
                ),
                "license": strings((best.get("license") or place.get("license"),)),
                "funders": strings(
                    one.get("funder_display_name") or one.get("display_name")
                    for one in objects(work.get("grants")) or objects(work.get("funders"))
                ),
                "is_open_access": mapping(work.get("open_access")).get("is_oa"),
                "is_retracted": work.get("is_retracted"),
                "citations": work.get("cited_by_count"),
                "references": work.get("referenced_works_count"),
                "ids": known,
                "contributors": contributors,
                "links": strings(landings),
            },
            original=json.dumps(work),
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


def _person(authorship: Mapping[str, Any]) -> dict[str, Any]:
    author = mapping(authorship.get("author"))
    name = string(author.get("display_name")) or string(authorship.get("raw_author_name"))
    places = (one.get("display_name") for one in objects(authorship.get("institutions")))
    return person(name, author.get("orcid"), places)
