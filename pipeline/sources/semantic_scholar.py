"""The source `semantic_scholar`: its bulk search (https://api.semanticscholar.org/api-docs/graph)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pipeline.sources.record import Record, RecordError, parse_record
from pipeline.sources.values import items, mapping, objects, string, strings
from pipeline.sources.web import Client, Host, Page, Query, check_whole, json_of
from workflows.builtin.outbound import Answer
from workflows.model.errors import TransientError
from workflows.settings import Config

HOST = Host(
    "semantic_scholar", "https://api.semanticscholar.org/graph/v1", "CELERIAC_SEMANTIC_SCHOLAR_URL", "1/1s", 1000
)
KEY_VARIABLE = "CELERIAC_SEMANTIC_SCHOLAR_KEY"

_FIELDS = (
    "paperId,corpusId,externalIds,url,title,abstract,venue,publicationVenue,year,referenceCount,citationCount,"
    "influentialCitationCount,isOpenAccess,openAccessPdf,fieldsOfStudy,s2FieldsOfStudy,publicationTypes,"
    "publicationDate,journal,authors"
)


def page(client: Client, query: Query, cursor: str | None, size: int) -> Page:  # noqa: ARG001 - pages are its own size
    """Papers, up to 1,000 a page; the cursor is its token and the number of papers before it."""
    token, _, taken = (cursor or "\n0").partition("\n")
    params = {"query": query.text, "fields": _FIELDS}
    if token:
        params["token"] = token
    if query.since is not None:
        params["publicationDateOrYear"] = f"{query.since.isoformat()}:"
    key = Config.from_env().text(KEY_VARIABLE, "")
    return client.read(
        "/paper/search/bulk",
        params,
        lambda answer: _page(answer, int(taken)),
        headers={"x-api-key": key} if key else {},
    )


def _page(answer: Answer, taken: int) -> Page:
    told = mapping(json_of(answer))
    data = told.get("data")
    if not isinstance(data, list):
        raise TransientError(f"{answer.url} answered something else than papers")
    total, token = told.get("total"), told.get("token")
    end = taken + len(data)
    records = tuple(record for record in map(_record, data) if record is not None)
    goes_on = bool(token) and bool(data)
    read = Page(records, f"{token}\n{end}" if goes_on else None, total if isinstance(total, int) else None)
    return read if data else check_whole(read, taken)


def _record(paper: Any) -> Record | None:
    if not isinstance(paper, Mapping):
        return None
    known = {str(name).lower(): string(number) for name, number in mapping(paper.get("externalIds")).items()}
    journal, authors = mapping(paper.get("journal")), objects(paper.get("authors"))
    kept = ("pubmed", "pubmedcentral", "arxiv", "doi")
    try:
        return parse_record(
            {
                "_id": paper.get("paperId"),
                "title": string(paper.get("title")),
                "text": string(paper.get("abstract")),
                "authors": [string(author.get("name")) for author in authors],
                "year": paper.get("year"),
                "doi": known.get("doi", "").lower(),
                "url": string(paper.get("url")),
                "arxiv_id": known.get("arxiv", ""),
                "venue": string(journal.get("name")) or string(paper.get("venue")),
                "pdf_url": string(mapping(paper.get("openAccessPdf")).get("url")),
                "published": string(paper.get("publicationDate")),
                "type": strings(items(paper.get("publicationTypes"))),
                "volume": string(journal.get("volume")),
                "pages": string(journal.get("pages")),
                "issn": strings((mapping(paper.get("publicationVenue")).get("issn"),)),
                "subjects": strings(
                    [
                        *items(paper.get("fieldsOfStudy")),
                        *(one.get("category") for one in objects(paper.get("s2FieldsOfStudy"))),
                    ]
                ),
                "is_open_access": paper.get("isOpenAccess"),
                "citations": paper.get("citationCount"),
                "influential_citations": paper.get("influentialCitationCount"),
                "references": paper.get("referenceCount"),
                "ids": {
                    "pmid": known.get("pubmed"),
                    "pmcid": known.get("pubmedcentral"),
                    "semantic_scholar": string(paper.get("corpusId")),
                    **{name: number for name, number in known.items() if name not in kept},
                },
                "contributors": [
                    {"name": string(author.get("name")), "semantic_scholar": string(author.get("authorId"))}
                    for author in authors
                ],
            },
            original=json.dumps(paper),
        )
    except RecordError:
        return None
