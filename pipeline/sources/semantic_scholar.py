"""The source `semantic_scholar`: its bulk search (https://api.semanticscholar.org/api-docs/graph)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.sources.record import Record, RecordError, parse_record
from pipeline.sources.web import Client, Host, Page, Query, check_whole, json_of
from workflows.builtin.outbound import Answer
from workflows.model.errors import TransientError
from workflows.settings import Config

HOST = Host(
    "semantic_scholar", "https://api.semanticscholar.org/graph/v1", "CELERIAC_SEMANTIC_SCHOLAR_URL", "1/1s", 1000
)
KEY_VARIABLE = "CELERIAC_SEMANTIC_SCHOLAR_KEY"

_FIELDS = "title,abstract,authors,year,externalIds,url"


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
    told = json_of(answer)
    data = told.get("data") if isinstance(told, Mapping) else None
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
    ids = paper.get("externalIds")
    doi = ids.get("DOI") if isinstance(ids, Mapping) else None
    try:
        return parse_record(
            {
                "_id": paper.get("paperId"),
                "title": str(paper.get("title") or ""),
                "text": str(paper.get("abstract") or ""),
                "authors": [str(a.get("name") or "") for a in paper.get("authors") or () if isinstance(a, Mapping)],
                "year": paper.get("year"),
                "doi": str(doi or "").lower(),
                "url": str(paper.get("url") or ""),
            }
        )
    except RecordError:
        return None
