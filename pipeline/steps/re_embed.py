"""`uses: open_generation` and `uses: switch_generation`: the two ends of embedding a collection anew."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from pipeline import collections
from pipeline.embedding import model_of
from workflows.steps import StepContext, step


class OpenInput(BaseModel):
    """A collection, and the model that it is to have."""

    model_config = ConfigDict(extra="forbid")

    collection: str = Field("papers", min_length=1, max_length=100)
    model: str | None = Field(None, min_length=1, description="The default model without one.")


class OpenOutput(BaseModel):
    """The generation to fill, and what has to be in it."""

    collection: str
    generation: int
    model: str
    revision: str
    paper_ids: list[str] = Field(description="Papers of the live generation; none when that has the model already.")
    papers: int


@step("open_generation")
def open_generation(inp: OpenInput, ctx: StepContext) -> OpenOutput:
    """Make the next generation, or find the one that a run which broke off has left half full."""
    model = model_of(inp.model)
    with ctx.write() as connection:
        collection = collections.opened_next(connection, inp.collection, model)
    paper_ids: list[str] = []
    if collection.is_live:
        ctx.log.info("the collection '%s' has the vectors of %s already", inp.collection, model.name)
    else:
        with ctx.read() as connection:
            now_live = collections.live(connection, inp.collection)
            paper_ids = collections.paper_ids(connection, now_live) if now_live is not None else []
    return OpenOutput(
        collection=inp.collection,
        generation=collection.generation,
        model=model.name,
        revision=model.revision,
        paper_ids=paper_ids,
        papers=len(paper_ids),
    )


class SwitchInput(BaseModel):
    """The generation that searches are to see."""

    model_config = ConfigDict(extra="forbid")

    collection: str = Field("papers", min_length=1, max_length=100)
    generation: int = Field(ge=1)
    allow_missing: bool = Field(False, description="Switch although papers of the live generation are not in it.")
    keep_old: bool = Field(False, description="Keep the generations before it.")


class SwitchOutput(BaseModel):
    """What searches see now."""

    collection: str
    generation: int
    switched: bool = Field(description="False when they saw it before.")
    dropped: list[int] = Field(description="Generations that were deleted.")
    papers: int
    count: int = Field(description="Entries.")


@step("switch_generation")
def switch_generation(inp: SwitchInput, ctx: StepContext) -> SwitchOutput:
    """Let searches see the generation, all at once, and delete those before it."""
    with ctx.write() as connection:
        collection = collections.generation(connection, inp.collection, inp.generation)
        switched = collections.make_live(connection, collection, allow_missing=inp.allow_missing)
    with ctx.read() as connection:
        found = collections.described(connection, inp.collection)
    before = [one.collection for one in found if one.collection.generation < inp.generation]
    doomed = [] if inp.keep_old else [old for old in before if not old.is_live]
    for old in doomed:
        collections.drop(ctx.write, old, ctx.check_cancelled)
    (mine,) = (one for one in found if one.collection.generation == inp.generation)
    return SwitchOutput(
        collection=inp.collection,
        generation=inp.generation,
        switched=switched,
        dropped=[old.generation for old in doomed],
        papers=mine.papers,
        count=mine.entries,
    )
