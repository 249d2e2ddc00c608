"""`uses: process_papers`: one paper's text, cut into chunks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from pipeline import collections, downloads, papers
from pipeline.embedding import embedder
from pipeline.papers import Paper
from pipeline.text import grobid
from pipeline.text.document import Document, from_record
from pipeline.text.faults import MENDING, Code, UnreadablePdfError
from pipeline.text.reader import reader
from workflows.settings import Config
from workflows.steps import PermanentError, StepContext, TransientError, step

MAX_TITLE_CHARACTERS = 300
"""Of a title that had to be read off a PDF's first page."""


LAST_ATTEMPT = 3
"""A server that did not answer at this try of the step, or a later one, does not have the PDF."""


class ProcessInput(BaseModel):
    """One paper, by the id that `fetch` gave."""

    model_config = ConfigDict(extra="forbid")

    paper: str
    model: str | None = Field(None, min_length=1, description="Embedding model; that of the collection by default.")
    collection: str | None = Field(None, min_length=1, description="Collection whose model is taken by default.")
    force: bool = Field(False, description="Process the paper even if it has not changed.")
    text_backend: Literal["pdfium", "grobid"] = Field(
        "pdfium", description="What reads PDFs: this installation, or the GROBID server of CELERIAC_GROBID_URL."
    )
    download_pdf: bool = Field(False, description="Get the PDF of a paper that has its address and no file.")


class ProcessOutput(BaseModel):
    """What became of the paper.

    Attributes:
        chunk_ids: Chunks that still need an embedding; empty for a paper that is known in every respect.
        processed: 1 if the text was cut in this call, else 0; like `unchanged` and `quarantined`, so that sums count.
    """

    paper: str
    status: Literal["processed", "unchanged", "quarantined"]
    chunk_ids: list[str]
    chunks: int
    processed: int
    unchanged: int
    quarantined: int
    code: str | None = Field(None, description="Kind of the reason, a word that programs can tell apart.")
    reason: str | None = Field(None, description="Why the paper, or only its PDF, was set aside, and how to mend it.")


@step("process_papers")
def process_papers(inp: ProcessInput, ctx: StepContext) -> ProcessOutput:
    """Extract, clean and cut the text of one paper. A PDF that cannot be read falls back to the abstract."""
    with ctx.read() as connection:
        model = collections.model_for(connection, inp.collection, inp.model)
        known = papers.load_paper(connection, inp.paper)
    if known is None:
        raise PermanentError(f"there is no paper {inp.paper!r}; run the step 'fetch' of this run again")
    paper = _with_download(known, ctx, again=inp.force) if inp.download_pdf else known
    with ctx.read() as connection:
        if not inp.force and paper == known and papers.is_cut(connection, paper, model.cut, inp.text_backend):
            pending = papers.chunks_without_vector(connection, paper.id, model)
            chunks = len(papers.chunk_ids(connection, paper.id, model.cut))
            return _output(paper, pending, chunks, unchanged=True)
    document, paper = _extract(paper, inp.text_backend, ctx)
    pieces = embedder(model.name).chunker().cut(paper.id, paper.title, document)
    if not pieces and paper.quarantine_reason is None:
        reason = f"it has neither a title nor a text; {MENDING[Code.NO_TEXT]}"
        paper = replace(paper, quarantine_code=Code.NO_TEXT, quarantine_reason=reason)
    if paper.quarantine_reason is not None:
        ctx.log.warning("quarantined %s: %s", paper.title or paper.id, paper.quarantine_reason)
    with ctx.transaction() as connection:
        papers.replace_chunks(connection, paper, model.cut, pieces, inp.text_backend)
    return _output(paper, [piece.id for piece in pieces], len(pieces), unchanged=False)


def _with_download(paper: Paper, ctx: StepContext, *, again: bool) -> Paper:
    """The paper with its PDF, if it has an address of one; where there is none for good, it is set aside.

    A paper that was set aside so before is asked for only `again`.
    """
    has_file = paper.pdf_path is not None and (paper.pdf_hash is None or Path(paper.pdf_path).is_file())
    is_given_up = paper.quarantine_code == Code.PDF_UNAVAILABLE and not again
    if not paper.pdf_url or has_file or is_given_up:
        return paper
    try:
        found = downloads.fetch_pdf(paper.pdf_url, ctx, Config.from_env())
    except (PermanentError, TransientError) as error:
        if isinstance(error, TransientError) and ctx.attempt < LAST_ATTEMPT:
            raise
        reason = f"its PDF cannot be downloaded: {error}; {MENDING[Code.PDF_UNAVAILABLE]}"
        fault = {"quarantine_code": Code.PDF_UNAVAILABLE, "quarantine_reason": reason}
        return replace(paper, pdf_path=None, pdf_hash=None, **fault)
    return replace(paper, pdf_path=str(found.path), pdf_hash=found.hash)


def _extract(paper: Paper, text_backend: str, ctx: StepContext) -> tuple[Document, Paper]:
    """The paper's text, and the paper with the title or the reason for quarantine that reading it brought to light."""
    if paper.pdf_path is None:
        return from_record(paper.abstract), paper
    path = Path(paper.pdf_path)
    try:
        if text_backend == papers.PDFIUM:
            found = reader().read(path, ctx.check_cancelled)
        else:
            found = grobid.read(path, ctx, Config.from_env())
    except UnreadablePdfError as error:
        return from_record(paper.abstract), replace(paper, quarantine_code=error.code, quarantine_reason=str(error))
    title = paper.title or found.title[:MAX_TITLE_CHARACTERS]
    return found.document, replace(paper, title=title, quarantine_code=None, quarantine_reason=None)


def _output(paper: Paper, chunk_ids: list[str], chunks: int, *, unchanged: bool) -> ProcessOutput:
    quarantined = paper.quarantine_reason is not None
    return ProcessOutput(
        paper=paper.id,
        status="quarantined" if quarantined else "unchanged" if unchanged else "processed",
        chunk_ids=chunk_ids,
        chunks=chunks,
        processed=int(not unchanged),
        unchanged=int(unchanged),
        quarantined=int(quarantined),
        code=paper.quarantine_code,
        reason=paper.quarantine_reason,
    )
