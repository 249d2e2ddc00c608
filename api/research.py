"""`/api/v1/search`, `/api/v1/schema`: the papers, and the language of definitions."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel

from api.access import Scope, needs
from api.documents import problems
from api.services import Served
from pipeline.citations import citations, written
from pipeline.filters import Filters
from pipeline.search import DEFAULT_COLLECTION, MAX_LIMIT, MAX_QUERY_CHARACTERS, search
from workflows.model.json_schema import definition_schema

router = APIRouter(prefix="/api/v1", dependencies=[needs(Scope.READ)])


class Hit(BaseModel):
    """A paper that was found, with the part of it that speaks for it.

    Attributes:
        id: The paper's own id here; `paper_id` is the one that its source gives.
        score: 1 at best: 0.65 times the likeness of meaning and 0.35 times the share of the query's words.
        highlights: Start and end of the query's words in `snippet`, counted in Unicode code points.
        page: Page of the PDF from 1; null when the text came from a record.
        source: Where to read it.
        run_id: The run that has stored it; it may have been cleaned up since.
    """

    id: str
    paper_id: str
    title: str
    score: float
    snippet: str
    highlights: list[tuple[int, int]]
    section: str
    page: int | None
    source: str
    run_id: str | None


class Hits(BaseModel):
    """Papers that fit a query, best first."""

    hits: list[Hit]


MEDIA_TYPES = {"bibtex": "application/x-bibtex", "csl-json": "application/vnd.citationstyles.csl+json"}

CITED: dict[int | str, dict[str, Any]] = {
    200: {"content": {kind: {"schema": {"type": "string"}} for kind in MEDIA_TYPES.values()}}
}


@router.get("/search", tags=["search"], response_model=Hits, responses={**CITED, **problems(404)})
def find_papers(
    served: Served,
    q: Annotated[str, Query(min_length=1, max_length=MAX_QUERY_CHARACTERS)],
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 10,
    collection: Annotated[str, Query(pattern=r"^[^\x00-\x1f]{1,100}$")] = DEFAULT_COLLECTION,
    year_from: Annotated[int | None, Query(ge=0, le=9999)] = None,
    year_to: Annotated[int | None, Query(ge=0, le=9999)] = None,
    source: Annotated[str | None, Query(pattern=r"^[^\x00-\x1f]{1,100}$")] = None,
    section: Annotated[str | None, Query(pattern=r"^[^\x00-\x1f]{1,200}$")] = None,
    format: Annotated[Literal["json", "bibtex", "csl-json"], Query()] = "json",  # noqa: A002 - the query's own name
) -> Hits | Response:
    """Papers by meaning and words, each once; 404 while nothing is stored.

    `year_from` and `year_to` are inclusive, `source` is a kind of source such as `arxiv`, `section` a part of a
    section's heading. They narrow what is searched, before anything is ranked. `format` gives the papers as
    references to cite instead: `bibtex` or `csl-json`.
    """
    filters = Filters(year_from, year_to, source, section)
    found = search(served.runtime.database, q, limit=limit, collection=collection, filters=filters)
    if format != "json":
        with served.runtime.database.connect() as connection:
            cited = citations(connection, [hit.id for hit in found])
        return Response(written(cited, format), media_type=MEDIA_TYPES[format])
    return Hits(hits=[Hit(**asdict(hit)) for hit in found])


@router.get("/schema", tags=["workflows"])
def schema() -> dict[str, Any]:
    """The JSON Schema of definitions, for editors."""
    return definition_schema()
