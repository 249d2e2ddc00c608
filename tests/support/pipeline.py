"""The research pipeline without the engine: its steps called in order, in this process, on a real database."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

from sqlalchemy import Connection

from pipeline.steps.embed import EmbedInput, EmbedOutput, embed
from pipeline.steps.fetch import FetchInput, FetchOutput, fetch
from pipeline.steps.process_papers import ProcessInput, ProcessOutput, process_papers
from pipeline.steps.store import StoreInput, StoreOutput, store
from workflows.db.database import Database
from workflows.model.errors import StepParked
from workflows.steps.context import SubRun


@dataclass
class DirectContext:
    """A step context whose transactions are the database's own."""

    database: Database
    run_id: str = "run"
    step_id: str = "step"
    item_key: str | None = None
    attempt: int = 1
    idempotency_key: str = "run/step"
    round_key: str = "run/step#1.0"
    started_at: float = 0.0
    parked_since: float | None = None
    log: logging.LoggerAdapter[logging.Logger] = field(
        default_factory=lambda: logging.LoggerAdapter(logging.getLogger("tests.pipeline"), {})
    )
    progressed: list[tuple[int, int]] = field(default_factory=list)

    def progress(self, done: int, total: int) -> None:
        self.progressed.append((done, total))

    def park(self, seconds: float) -> NoReturn:
        raise StepParked(seconds)

    def rate_limit(self, name: str, default: str | None = None) -> None:
        assert default is not None, f"no rate limit {name} is declared outside of a run"

    def run_workflow(self, workflow: str, params: Mapping[str, Any]) -> SubRun:
        raise AssertionError(f"no workflow {workflow} runs outside of a run")

    def check_cancelled(self) -> None:
        return None

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        with self.database.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        with self.database.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        with self.database.begin() as connection:
            yield connection


@dataclass(frozen=True)
class Result:
    """The outputs of one pass over all steps."""

    fetch: FetchOutput
    process: list[ProcessOutput]
    embed: list[EmbedOutput]
    store: StoreOutput

    @property
    def embedded(self) -> int:
        return sum(output.embedded for output in self.embed)


def run_pipeline(database: Database, *, force: bool = False, collection: str = "papers", **fetch_input: Any) -> Result:
    """What `definitions/literature-review.yaml` says, step by step."""
    context = DirectContext(database)
    fetched = fetch(FetchInput(**fetch_input), context)
    processed = [process_papers(ProcessInput(paper=paper, force=force), context) for paper in fetched.paper_ids]
    chunks = [chunk for output in processed for chunk in output.chunk_ids]
    embedded = [embed(EmbedInput(chunks=chunks[i : i + 64], force=force), context) for i in range(0, len(chunks), 64)]
    stored = store(StoreInput(papers=fetched.paper_ids, collection=collection, force=force), context)
    return Result(fetched, processed, embedded, stored)
