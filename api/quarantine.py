"""`/api/v1/quarantine`: papers that could not be read, and reading them once more."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel

from api.access import Scope, needs
from api.bodies import RawBody, json_object
from api.documents import problems
from api.problems import RequestError
from api.services import Served
from pipeline import quarantine
from pipeline.text.faults import Code

router = APIRouter(prefix="/api/v1/quarantine", tags=["papers"], dependencies=[needs(Scope.READ)])

CHOICE: dict[str, Any] = {
    "requestBody": {
        "required": False,
        "content": {
            "application/json": {
                "schema": {
                    "type": ["object", "null"],
                    "properties": {
                        "papers": {"type": "array", "items": {"type": "string"}, "maxItems": quarantine.MAX_REDRIVEN},
                        "code": {"type": ["string", "null"], "enum": [*sorted(Code), None]},
                        "collection": {"type": "string", "minLength": 1, "maxLength": 100},
                        "text_backend": {"type": "string", "enum": ["pdfium", "grobid"]},
                    },
                    "additionalProperties": False,
                }
            }
        },
    }
}


class Aside(BaseModel):
    """A paper in quarantine.

    Attributes:
        reason: What is wrong, and how to mend it.
        quarantined_at: In seconds since 1970.
        can_redrive: Reading it once more may help; else only a fetch does.
    """

    paper_id: str
    source: str
    origin: str
    external_id: str
    title: str
    code: str
    reason: str
    quarantined_at: float | None
    can_redrive: bool


class Listing(BaseModel):
    """Papers in quarantine, the latest first; `counts` says for each code how many there are in all."""

    papers: list[Aside]
    counts: dict[str, int]


class Redriven(BaseModel):
    """What is read once more.

    Attributes:
        run_id: The run that reads; null when there is nothing to be read.
        to_fetch: Papers of the choice that only a fetch can mend.
        left_out: How many more there are than one redrive takes.
    """

    run_id: str | None
    paper_ids: list[str]
    to_fetch: list[str]
    left_out: int


@router.get("")
def list_quarantine(
    served: Served,
    code: Annotated[Code | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=quarantine.MAX_LISTED)] = 100,
) -> Listing:
    """Papers that were set aside, or whose PDF was, with the reason and how to mend it."""
    with served.runtime.database.connect() as connection:
        found = quarantine.listed(connection, code, limit)
    return Listing(papers=[Aside(**asdict(one)) for one in found.papers], counts=found.counts)


@router.post(
    "/redrive",
    status_code=202,
    dependencies=[needs(Scope.OPERATE)],
    openapi_extra=CHOICE,
    responses=problems(404, 413, 422),
)
def redrive(body: RawBody, served: Served) -> Redriven:
    """Read papers once more: `{"papers": [ID, ...]}`, `{"code": CODE}`, or all that are in quarantine.

    A paper leaves the quarantine when it has been read.
    """
    papers, code, params = _choice(json_object(body))
    entry = served.catalogue.get(quarantine.WORKFLOW)
    with served.runtime.database.connect() as connection:
        found = quarantine.to_redrive(connection, papers, code)
    run_id = None
    if found.paper_ids:
        params |= {"papers": list(found.paper_ids), "force_reprocess": True, "download_pdf": True}
        run_id = served.submit(entry, params).run_id
    return Redriven(run_id=run_id, **{name: getattr(found, name) for name in ("paper_ids", "to_fetch", "left_out")})


def _choice(given: dict[str, Any]) -> tuple[list[str], str | None, dict[str, Any]]:
    """Ids, code, and how the papers are to be read."""
    papers, code = given.pop("papers", []), given.pop("code", None)
    collection, backend = given.pop("collection", "papers"), given.pop("text_backend", "pdfium")
    are_ids = isinstance(papers, list) and all(isinstance(one, str) and 0 < len(one) <= 100 for one in papers)
    is_name = isinstance(collection, str) and 0 < len(collection) <= 100 and collection.isprintable()
    is_backend = backend in ("pdfium", "grobid")
    is_choice = are_ids and len(papers) <= quarantine.MAX_REDRIVEN and isinstance(code, str | None)
    if given or not (is_choice and is_name and is_backend):
        raise RequestError(
            "the body is no choice of papers",
            'send {"papers": [ID, ...]}, {"code": CODE}, either with "collection" and "text_backend", or nothing',
        )
    chosen = quarantine.checked_code(code) if code is not None else None
    return papers, chosen, {"collection": collection, "text_backend": backend}
