"""`uses: fetch`: bring papers into the database."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from pipeline import papers
from pipeline.sources import local
from workflows.steps import StepContext, step

MAX_PAPERS = 20_000
"""Their ids fit into one result (1 MB)."""

_REPORTED_FAULTS = 20


class FetchInput(BaseModel):
    """Where to look for papers, and how many to take."""

    model_config = ConfigDict(extra="forbid")

    source: Literal["local"] = Field("local", description="Kind of source.")
    path: str = Field(
        local.SHIPPED,
        description="Folder with corpus.jsonl and/or PDFs, relative to the working folder; corpus://shipped is the "
        "corpus that comes with the installation.",
    )
    limit: int = Field(MAX_PAPERS, ge=1, le=MAX_PAPERS, description="Papers to take at most.")


class FetchOutput(BaseModel):
    """All papers that were found; those without a change are among them, and cost the next steps next to nothing."""

    paper_ids: list[str]
    fetched: int = Field(description="Papers found: new, updated and unchanged.")
    new: int
    updated: int
    unchanged: int
    quarantined: int = Field(description="Records that could not be read; the steps after this one count them too.")
    left_out: int = Field(description="Papers beyond the limit.")


@step("fetch")
def fetch(inp: FetchInput, ctx: StepContext) -> FetchOutput:
    """Read a source and keep what is new or changed; equal input changes nothing."""
    place = local.locate(inp.path)
    found = local.read(place)
    taken = found[: inp.limit]
    faulty = [record for record in taken if record.fault is not None]
    for record in faulty[:_REPORTED_FAULTS]:
        ctx.log.warning("quarantined %s: %s", record.external_id, record.fault)
    if len(faulty) > _REPORTED_FAULTS:
        ctx.log.warning("and %d more; their reasons are kept with the papers", len(faulty) - _REPORTED_FAULTS)
    with ctx.transaction() as connection:
        fetched = papers.save_records(connection, inp.source, place.origin, taken)
    return FetchOutput(
        paper_ids=list(fetched.paper_ids),
        fetched=len(fetched.paper_ids),
        new=fetched.new,
        updated=fetched.updated,
        unchanged=fetched.unchanged,
        quarantined=len(faulty),
        left_out=len(found) - len(taken),
    )
