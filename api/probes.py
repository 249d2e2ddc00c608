"""`/livez` and `/readyz`: whether the process turns, and whether it can accept runs."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from api.access import PUBLIC
from api.services import Served
from workflows.db.database import Statement
from workflows.model.errors import DatabaseUnavailableError

router = APIRouter(tags=["probes"], dependencies=[PUBLIC])

_PING = Statement("SELECT 1")


class Probe(BaseModel):
    """All is well."""

    status: str


@router.get("/livez")
async def livez() -> Probe:
    """The process answers. Looks at nothing else, so that nobody restarts it for a database that is away."""
    return Probe(status="ok")


@router.get("/readyz")
def readyz(served: Served) -> Probe:
    """Runs can be accepted: the database answers, with this version's tables. The broker may be away for that."""
    if not served.prepare():
        raise DatabaseUnavailableError(
            "the database does not answer, or its tables are of another version",
            "check DATABASE_URL; `celeriac db upgrade` brings tables to this version",
        )
    served.read(lambda tx: tx.rows(_PING))
    return Probe(status="ready")
