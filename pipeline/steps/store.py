"""`uses: store`: make embedded papers searchable in a collection."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection

from pipeline import collections, vectors
from pipeline.collections import Collection
from pipeline.embedding import EmbeddingModel, model_of
from pipeline.indexes import choice
from workflows.steps import StepContext, step


class StoreInput(BaseModel):
    """Papers, by the ids that `fetch` gave, and the collection that a search will name."""

    model_config = ConfigDict(extra="forbid")

    papers: list[str]
    collection: str = Field("papers", min_length=1, max_length=100)
    model: str | None = Field(None, min_length=1, description="Embedding model; that of the collection by default.")
    generation: int | None = Field(
        None, ge=1, description="Generation of the collection that `open_generation` gave; the live one by default."
    )
    force: bool = Field(False, description="Write entries that are right already once more.")


class StoreOutput(BaseModel):
    """What the collection holds of these papers now, in chunks; `count = new + unchanged`."""

    collection: str
    count: int = Field(description="Entries of these papers in the collection.")
    new: int
    unchanged: int
    removed: int = Field(description="Entries of text that these papers no longer have.")
    missing: int = Field(description="Chunks that have no vector, because a call of 'embed' failed.")
    collection_papers: int = Field(description="Papers in the whole collection.")
    collection_count: int = Field(description="Entries in the whole collection.")


@step("store")
def store(inp: StoreInput, ctx: StepContext) -> StoreOutput:
    """Bring the entries of each paper up to its chunks, one transaction a paper; a second time nothing is written."""
    with ctx.write() as connection:
        collection, model = _opened(connection, inp)
    with ctx.read() as connection:
        stale, total = vectors.papers_to_store(connection, collection, model, inp.papers)
        if inp.force:
            stale, total = list(inp.papers), vectors.Changes()
    origin = vectors.Origin(ctx.run_id, ctx.step_id, ctx.attempt)
    for done, paper in enumerate(stale, start=1):
        ctx.check_cancelled()
        with ctx.write() as connection:
            total += vectors.store_paper(connection, collection, model, paper, origin=origin, force=inp.force)
        ctx.progress(done, len(stale))
    with ctx.read() as connection:
        missing = vectors.count_unembedded(connection, model, inp.papers)
        papers_in_it, entries_in_it = vectors.count_entries(connection, collection)
    choice.follow(ctx.write, collection, entries_in_it, ctx.check_cancelled)
    return StoreOutput(
        collection=inp.collection,
        count=total.new + total.unchanged,
        new=total.new,
        unchanged=total.unchanged,
        removed=total.removed,
        missing=missing,
        collection_papers=papers_in_it,
        collection_count=entries_in_it,
    )


def _opened(connection: Connection, inp: StoreInput) -> tuple[Collection, EmbeddingModel]:
    if inp.generation is None:
        model = collections.model_for(connection, inp.collection, inp.model)
        return collections.opened(connection, inp.collection, model), model
    collection = collections.generation(connection, inp.collection, inp.generation)
    model = model_of(inp.model or collection.model)
    collection.check(model)
    return collection, model
