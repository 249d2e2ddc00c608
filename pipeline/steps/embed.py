"""`uses: embed`: vectors for a batch of chunks."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from pipeline import vectors
from pipeline.embedding import embedder
from workflows.steps import StepContext, step


class EmbedInput(BaseModel):
    """Chunks, by the ids that `process_papers` gave."""

    model_config = ConfigDict(extra="forbid")

    chunks: list[str]
    force: bool = Field(False, description="Compute vectors that are known already once more.")


class EmbedOutput(BaseModel):
    """What was done, in numbers of distinct texts; the vectors lie in the database."""

    vectors: int = Field(description="Texts of this call that have a vector now.")
    embedded: int = Field(description="Those that the model was asked for.")
    cached: int = Field(description="Those whose vector was known.")


@step("embed")
def embed(inp: EmbedInput, ctx: StepContext) -> EmbedOutput:
    """Embed what this model has not embedded before: equal text is never embedded twice."""
    encoder = embedder()
    with ctx.read() as connection:
        texts = vectors.texts_of(connection, inp.chunks)
        hashes = [text.text_hash for text in texts]
        known = set() if inp.force else vectors.embedded_hashes(connection, encoder.model, hashes)
    missing = [text for text in texts if text.text_hash not in known]

    def after_batch(done: int) -> None:
        ctx.check_cancelled()
        ctx.progress(done, len(missing))

    found = encoder.embed([text.text for text in missing], after_batch)
    rows = {text.text_hash: vector.astype("<f4").tobytes() for text, vector in zip(missing, found, strict=True)}
    with ctx.transaction() as connection:
        vectors.save_embeddings(connection, encoder.model, rows)
    return EmbedOutput(vectors=len(texts), embedded=len(missing), cached=len(known))
