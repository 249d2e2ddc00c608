"""`uses: process_papers`: one paper's text, cut into chunks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from pipeline import papers
from pipeline.embedding import embedder
from pipeline.papers import Paper
from pipeline.text.document import Document, from_pdf_lines, from_record
from pipeline.text.pdf import UnreadablePdfError, pdf_title, read_pdf
from workflows.steps import PermanentError, StepContext, step

MAX_TITLE_CHARACTERS = 300
"""Of a title that had to be read off a PDF's first page."""


class ProcessInput(BaseModel):
    """One paper, by the id that `fetch` gave."""

    model_config = ConfigDict(extra="forbid")

    paper: str
    force: bool = Field(False, description="Process the paper even if it has not changed.")


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
    reason: str | None = Field(None, description="Why the paper, or only its PDF, was set aside.")


@step("process_papers")
def process_papers(inp: ProcessInput, ctx: StepContext) -> ProcessOutput:
    """Extract, clean and cut the text of one paper. A PDF that cannot be read falls back to the abstract."""
    encoder = embedder()
    chunker = encoder.chunker()
    with ctx.read() as connection:
        paper = papers.load_paper(connection, inp.paper)
        if paper is None:
            raise PermanentError(f"there is no paper {inp.paper!r}; run the step 'fetch' of this run again")
        if not inp.force and papers.is_cut(connection, paper, chunker.cut_name):
            pending = papers.chunks_without_vector(connection, paper.id, encoder.model)
            known = len(papers.chunk_ids(connection, paper.id, chunker.cut_name))
            return _output(paper, pending, known, unchanged=True)
    document, paper = _extract(paper)
    pieces = chunker.cut(paper.id, paper.title, document)
    if not pieces and paper.quarantine_reason is None:
        paper = replace(paper, quarantine_reason="it has neither a title nor a text")
    if paper.quarantine_reason is not None:
        ctx.log.warning("quarantined %s: %s", paper.title or paper.id, paper.quarantine_reason)
    with ctx.transaction() as connection:
        papers.replace_chunks(connection, paper, chunker.cut_name, pieces)
    return _output(paper, [piece.id for piece in pieces], len(pieces), unchanged=False)


def _extract(paper: Paper) -> tuple[Document, Paper]:
    """The paper's text, and the paper with the title or the reason for quarantine that reading it brought to light."""
    if paper.pdf_path is None:
        return from_record(paper.abstract), paper
    path = Path(paper.pdf_path)
    try:
        lines = read_pdf(path)
    except UnreadablePdfError as error:
        return from_record(paper.abstract), replace(paper, quarantine_reason=str(error))
    title = paper.title or pdf_title(path, lines)[:MAX_TITLE_CHARACTERS]
    return from_pdf_lines(lines), replace(paper, title=title, quarantine_reason=None)


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
        reason=paper.quarantine_reason,
    )
