"""`uses: embed`: vectors for a batch of chunks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from pipeline import collections, usage, vectors
from pipeline.embedding import EmbeddingModel, embedder, model_of
from pipeline.sources.web import nap
from pipeline.usage import Budget
from workflows.compile.charges import Charge
from workflows.steps import PermanentError, StepContext, step


class EmbedInput(BaseModel):
    """Chunks, by the ids that `process_papers` gave."""

    model_config = ConfigDict(extra="forbid")

    chunks: list[str]
    model: str | None = Field(None, min_length=1, description="Embedding model; that of the collection by default.")
    collection: str | None = Field(None, min_length=1, description="Collection whose model is taken by default.")
    budget: float | None = Field(
        None,
        ge=0,
        description="What all embeddings of this run may cost together, in the currency of the file of models.",
    )
    budget_tokens: int | None = Field(None, ge=0, description="Tokens of all embeddings of this run together at most.")
    force: bool = Field(False, description="Compute vectors that are known already once more.")


class EmbedOutput(BaseModel):
    """What was done, in numbers of distinct texts; the vectors lie in the database."""

    model: str
    vectors: int = Field(description="Texts of this call that have a vector now.")
    embedded: int = Field(description="Those that the model was asked for.")
    cached: int = Field(description="Those whose vector was known.")
    tokens: int = Field(0, description="Tokens that the model was asked to embed in this call.")
    cost: float = Field(0.0, description="What they cost, in the currency of the file of models.")


class ModelChangedError(PermanentError):
    """A collection was embedded anew with another model while a run was at work for it."""


def charge(given: Mapping[str, Any], items: int) -> Charge:
    """What embedding so many chunks takes at most: as if each were new, and as long as chunks get.

    The collection is not looked at: where no model is given, the default one is counted.
    """
    model = model_of(given.get("model"))
    tokens = items * model.limits.max_tokens
    limits = [given.get("budget"), model.cost(given["budget_tokens"]) if given.get("budget_tokens") else None]
    limit = min((limit for limit in limits if limit is not None), default=None)
    return Charge(tokens, "tokens", model.name, model.cost(tokens), limit)


@step("embed", charging=charge)
def embed(inp: EmbedInput, ctx: StepContext) -> EmbedOutput:
    """Embed what this model has not embedded before: equal text is never embedded twice."""
    with ctx.read() as connection:
        model = collections.model_for(connection, inp.collection, inp.model)
        texts = vectors.texts_of(connection, inp.chunks)
        hashes = [text.text_hash for text in texts]
        known = set() if inp.force else vectors.embedded_hashes(connection, model, hashes)
    if any(text.cut != model.cut for text in texts):
        raise ModelChangedError(
            f"the texts of this run were cut for another model than {model.name}, which the collection "
            f"'{inp.collection}' has now; run the workflow again: it goes on from what is there"
        )
    missing = [text for text in texts if text.text_hash not in known]
    watch = _StepWatch(ctx, model, Budget(inp.budget_tokens, inp.budget), len(missing))
    found = embedder(model.name).embed([text.text for text in missing], watch)
    rows = {text.text_hash: vector.astype("<f4").tobytes() for text, vector in zip(missing, found, strict=True)}
    with ctx.transaction() as connection:
        vectors.save_embeddings(connection, model, rows)
    return EmbedOutput(
        model=model.name,
        vectors=len(texts),
        embedded=len(missing),
        cached=len(known),
        tokens=watch.tokens,
        cost=model.cost(watch.tokens),
    )


class _StepWatch:
    """Keeps the limits of a run, and tells it how far a call is.

    Attributes:
        tokens: That the model was asked to embed, tries that failed among them.
    """

    def __init__(self, ctx: StepContext, model: EmbeddingModel, budget: Budget, texts: int) -> None:
        self.tokens = 0
        self._ctx = ctx
        self._model = model
        self._budget = budget
        self._texts = texts
        self._is_counted = bool(budget) or model.price > 0
        self._asked = 0

    def before(self, tokens: int) -> None:
        """See `pipeline.embedding.Watch`."""
        self._ctx.check_cancelled()
        if self._model.rate is not None:
            self._ctx.rate_limit(f"embedding:{self._model.name}", default=self._model.rate)
        if self._is_counted:
            with self._ctx.write() as connection:
                usage.reserve(connection, self._ctx.run_id, self._model, tokens, self._budget)
        self._asked = tokens
        self.tokens += tokens

    def after(self, done: int, used: int | None = None) -> None:
        """See `pipeline.embedding.Watch`."""
        if used is not None:
            if self._is_counted:
                with self._ctx.write() as connection:
                    usage.correct(connection, self._ctx.run_id, self._model, used - self._asked)
            self.tokens += used - self._asked
        self._ctx.progress(done, self._texts)

    def wait(self, seconds: float, why: str) -> None:
        """See `pipeline.embedding.Watch`."""
        self._ctx.log.warning("%s; asking again in %.0f s", why, seconds)
        nap(self._ctx, seconds)
