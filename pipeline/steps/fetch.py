"""`uses: fetch`: bring papers into the database."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from types import ModuleType
from typing import Annotated, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipeline import ids, merging, pages, papers
from pipeline.sources import arxiv, crossref, europe_pmc, local, openalex, pubmed, semantic_scholar, urls
from pipeline.sources.oai_pmh import Repository
from pipeline.sources.web import Client, Query, Source, StaleCursorError
from pipeline.text.faults import Code
from workflows.settings import Config
from workflows.steps import StepContext, step

MAX_PAPERS = 20_000
"""Their ids fit into one result (1 MB)."""

MAX_URLS = 2000

OVERLAP = timedelta(days=2)
"""Catalogues show a change late: an incremental fetch asks for so much that it has seen before."""

WEB: dict[str, ModuleType] = {
    "arxiv": arxiv,
    "crossref": crossref,
    "europe_pmc": europe_pmc,
    "openalex": openalex,
    "pubmed": pubmed,
    "semantic_scholar": semantic_scholar,
}

_REPORTED_FAULTS = 20


class FetchInput(BaseModel):
    """Where to look for papers, and how many to take."""

    model_config = ConfigDict(extra="forbid")

    source: Literal[
        "local", "urls", "arxiv", "crossref", "europe_pmc", "oai_pmh", "openalex", "pubmed", "semantic_scholar"
    ] = Field("local", description="Kind of source.")
    path: str = Field(
        local.SHIPPED,
        description="Of `local`: folder with corpus.jsonl, bibliographies or PDFs, relative to the working folder; "
        "corpus://shipped is the corpus that comes with the installation.",
    )
    query: str | None = Field(
        None,
        min_length=1,
        max_length=2000,
        description="Of a source on the web: what to look for, in its own words; of `oai_pmh` a set, all without one.",
    )
    url: str | None = Field(
        None,
        pattern=r"^https?://[^\s?#]+$",
        max_length=1000,
        description="Of `oai_pmh`: base URL of the repository; arXiv's without one.",
    )
    urls: list[Annotated[str, Field(pattern=r"^https?://\S+$", max_length=2000)]] | None = Field(
        None, min_length=1, max_length=MAX_URLS, description="Of `urls`: addresses of PDFs, pages and texts."
    )
    since: date | None = Field(None, description="Only what is new or has changed since this day.")
    incremental: bool = Field(False, description="Only what has changed since the last fetch of the same query.")
    prune: bool = Field(False, description="Of `local`: forget the papers of this folder that are not in it any more.")
    limit: int = Field(MAX_PAPERS, ge=1, le=MAX_PAPERS, description="Papers to take at most.")

    @model_validator(mode="after")
    def _fits_its_source(self) -> FetchInput:
        if self.source in ("local", "urls") and (self.query or self.since or self.incremental):
            raise ValueError(
                "`query`, `since` and `incremental` are for catalogues; folders and addresses are read whole"
            )
        if (self.source == "urls") != (self.urls is not None):
            raise ValueError("the source 'urls' needs `urls`, and no other takes them")
        if self.source not in ("local", "urls", "oai_pmh") and not (self.query and self.query.strip()):
            raise ValueError(f"the source '{self.source}' needs a `query`")
        if self.prune and self.source != "local":
            raise ValueError("`prune` is for the source 'local'; catalogues tell what they have taken back")
        if self.url is not None and self.source != "oai_pmh":
            raise ValueError("`url` is for the source 'oai_pmh'; the others have their own")
        return self


class FetchOutput(BaseModel):
    """All papers that were found; those without a change are among them, and cost the next steps next to nothing."""

    paper_ids: list[str]
    fetched: int = Field(description="Papers found: new, updated and unchanged.")
    new: int
    updated: int
    unchanged: int
    quarantined: int = Field(description="Records that could not be read; the steps after this one count them too.")
    removed: int = Field(0, description="Papers that the source does not have any more; nor does the search.")
    left_out: int = Field(description="Papers beyond the limit.")


@step("fetch")
def fetch(inp: FetchInput, ctx: StepContext) -> FetchOutput:
    """Read a source and keep what is new or changed; equal input changes nothing."""
    if inp.source == "local":
        return _fetch_folder(inp, ctx)
    if inp.source == "urls":
        return _fetch_urls(inp, ctx)
    source = Repository(inp.url) if inp.source == "oai_pmh" else WEB[inp.source]
    return _fetch_from_web(inp, cast("Source", source), ctx)


def _fetch_folder(inp: FetchInput, ctx: StepContext) -> FetchOutput:
    place = local.locate(inp.path)
    found = local.read(place)
    taken = found[: inp.limit]
    faulty = [record for record in taken if record.fault is not None]
    for record in faulty[:_REPORTED_FAULTS]:
        ctx.log.warning("quarantined %s: %s", record.external_id, record.fault)
    if len(faulty) > _REPORTED_FAULTS:
        ctx.log.warning("and %d more; their reasons are kept with the papers", len(faulty) - _REPORTED_FAULTS)
    broken = sum(record.fault_code == Code.BAD_RECORD for record in found if record.fault is not None)
    if inp.prune and broken:
        ctx.log.warning("nothing is forgotten while %d entries cannot be read: their papers would go, too", broken)
    with ctx.transaction() as connection:
        fetched = papers.save_records(connection, inp.source, place.origin, taken)
        removed = 0
        if inp.prune and not broken:
            everything = {ids.paper_id(inp.source, place.origin, record.external_id) for record in found}
            removed = papers.forget_missing(connection, inp.source, place.origin, everything)
    return FetchOutput(
        paper_ids=list(fetched.paper_ids),
        fetched=len(fetched.paper_ids),
        new=fetched.new,
        updated=fetched.updated,
        unchanged=fetched.unchanged,
        quarantined=len(faulty),
        removed=removed,
        left_out=len(found) - len(taken),
    )


def _fetch_urls(inp: FetchInput, ctx: StepContext) -> FetchOutput:
    """One address after the other, each saved before the next is asked for; a try that follows goes on behind it.

    A paper that is there stays as it is when its address fails.
    """
    given = urls.distinct(inp.urls or [])
    wanted = given[: inp.limit]
    with ctx.read() as connection:
        done = pages.progress(connection, ctx.run_id, ctx.step_id)
    quarantined = 0
    with urls.Reader(ctx, Config.from_env()) as reader:
        for index, url in enumerate(wanted[done.pages :], start=done.pages + 1):
            ctx.check_cancelled()
            record = reader.read(url)
            if record.fault is not None:
                ctx.log.warning("%s: %s", url, record.fault)
            with ctx.write() as connection:
                paper = ids.paper_id(inp.source, urls.ORIGIN, url)
                if record.fault is not None and papers.readable(connection, [paper]):
                    saved = papers.Fetched((paper,), 0, 0, 1)
                else:
                    quarantined += record.fault is not None
                    saved = papers.save_records(connection, inp.source, urls.ORIGIN, [record])
                following = str(index) if index < len(wanted) else None
                pages.save(connection, ctx.run_id, ctx.step_id, index - 1, following, saved, len(wanted))
            done = done.with_page(following, saved, len(wanted))
            ctx.progress(index, len(wanted))
    with ctx.transaction() as connection:
        pages.forget(connection, ctx.run_id, ctx.step_id)
    return FetchOutput(
        paper_ids=list(done.paper_ids),
        fetched=len(done.paper_ids),
        new=done.new,
        updated=done.updated,
        unchanged=len(done.paper_ids) - done.new - done.updated,
        quarantined=quarantined,
        left_out=len(given) - len(wanted),
    )


def _fetch_from_web(inp: FetchInput, source: Source, ctx: StepContext) -> FetchOutput:
    """Page by page, each saved before the next is asked for; a try that follows goes on behind the last."""
    text = " ".join((inp.query or "").split())
    origin = inp.url or inp.source
    asked = f"{inp.url} {text}".strip() if inp.url else text
    with ctx.read() as connection:
        done = pages.progress(connection, ctx.run_id, ctx.step_id)
        last = pages.mark(connection, inp.source, asked) if inp.incremental else None
    query = Query(text, _since(inp.since, last))
    if done.pages:
        ctx.log.info("going on behind page %d, with %d papers", done.pages, len(done.paper_ids))
    removed = 0
    with Client(source.HOST, ctx, Config.from_env()) as client:
        while not done.is_done and len(done.paper_ids) < inp.limit:
            ctx.check_cancelled()
            wanted = inp.limit - len(done.paper_ids)
            try:
                page = source.page(client, query, done.cursor, min(source.HOST.page_size, wanted))
            except StaleCursorError as error:
                if not done.pages:
                    raise
                ctx.log.warning("%s; beginning anew, what is there already costs little", error)
                with ctx.transaction() as connection:
                    pages.forget(connection, ctx.run_id, ctx.step_id)
                done = pages.Progress()
                continue
            taken = [record for record in page.records if record.title or record.text][:wanted]
            with ctx.write() as connection:
                saved = papers.save_records(connection, inp.source, origin, taken)
                removed += merging.forget(connection, inp.source, origin, page.removed)
                pages.save(connection, ctx.run_id, ctx.step_id, done.pages, page.next, saved, page.total)
            done = done.with_page(page.next, saved, page.total)
            ctx.progress(len(done.paper_ids), min(inp.limit, done.total or inp.limit))
    found = done.paper_ids[: inp.limit]
    with ctx.transaction() as connection:
        pages.forget(connection, ctx.run_id, ctx.step_id)
        if done.is_done:
            pages.set_mark(connection, inp.source, asked, done.begun_at or ctx.started_at)
    return FetchOutput(
        paper_ids=list(found),
        fetched=len(found),
        new=done.new,
        updated=done.updated,
        unchanged=max(0, len(found) - done.new - done.updated),
        quarantined=0,
        removed=removed,
        left_out=max(0, (done.total or 0) - len(found) - removed),
    )


def _since(given: date | None, last: float | None) -> date | None:
    marked = None if last is None else (datetime.fromtimestamp(last, UTC) - OVERLAP).date()
    return max((day for day in (given, marked) if day is not None), default=None)
