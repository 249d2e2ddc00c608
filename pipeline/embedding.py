"""Embedding models: what stamps their vectors, what all of them can do, and the one that a name stands for.

`pipeline.models` says which there are. Each is loaded once per process, on first use: a worker's children load their
own after the fork.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pipeline.text.chunking import Chunker, Limits, cut_name
from workflows.model.errors import CeleriacError, PermanentError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]
    """One row per text."""


class ModelUnavailableError(PermanentError, CeleriacError):
    """The files or packages of an embedding model are not installed."""


class ModelDefinitionError(PermanentError, CeleriacError):
    """The file of models cannot be read, or says something that no model can be made of."""


class UnknownModelError(PermanentError, CeleriacError):
    """No model has that name."""


class BadVectorsError(PermanentError, CeleriacError):
    """A model gave something else than it was said to give: another dimension, a number that is none."""


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """What stamps a vector: vectors of different models or revisions are never compared.

    Attributes:
        name: As `--param model=` names it.
        revision: Changes whenever the same text would get another vector.
        tokenizer: Name of what the texts are counted by; models that count alike share the chunks of a paper.
        price: Of a million tokens, in the currency of the operator's choice; 0 costs nothing.
        rate: Requests that its server takes, as in `50/s`; None for a model in this process.
    """

    name: str
    revision: str
    dimension: int
    limits: Limits
    tokenizer: str
    price: float = 0.0
    rate: str | None = None

    @property
    def cut(self) -> str:
        """Name of the cut whose chunks this model takes whole."""
        return cut_name(self.tokenizer, self.limits)

    def cost(self, tokens: int) -> float:
        """What embedding so many tokens costs."""
        return tokens * self.price / 1_000_000


class Watch(Protocol):
    """Whoever is told of each call of a model."""

    def before(self, tokens: int) -> None:
        """A call with about so many tokens is to be made; what this raises prevents it."""
        ...

    def after(self, done: int, used: int | None = None) -> None:
        """So many texts are done in all; `used` are the tokens that a server says it has counted in the last call."""
        ...

    def wait(self, seconds: float, why: str) -> None:
        """A server asked for patience: return after so long."""
        ...


class Embedder(Protocol):
    """Turns texts into vectors of length 1.

    Attributes:
        model: What stamps the vectors.
    """

    model: EmbeddingModel

    def count_tokens(self, text: str) -> int:
        """Tokens of a text, special tokens left out."""
        ...

    def chunker(self) -> Chunker:
        """A chunker whose chunks this model takes whole."""
        ...

    def embed(self, texts: Sequence[str], watch: Watch | None = None) -> Vectors:
        """One vector per text of a paper, in the order of the texts."""
        ...

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """The vector of what is looked for: models may take it otherwise than the texts in which it is looked for."""
        ...


def model_of(name: str | None = None) -> EmbeddingModel:
    """The model of a name, without loading it; the default one without a name.

    Raises:
        UnknownModelError: there is none.
    """
    from pipeline import models

    return models.find(name).to_model()


def embedder(name: str | None = None) -> Embedder:
    """The embedder of this process for a model; the default one without a name.

    Raises:
        UnknownModelError: there is none of that name.
        ModelUnavailableError: its files or packages are missing.
    """
    from pipeline import models

    spec = models.find(name)
    key = (os.getpid(), spec.key())
    found = _embedders.get(key)
    if found is None:
        found = _embedders.setdefault(key, spec.load())
    return found


_embedders: dict[tuple[int, str], Embedder] = {}


def unit_vectors(vectors: NDArray[np.floating], model: EmbeddingModel, count: int) -> Vectors:
    """The vectors scaled to length 1, after a look at whether they are what the model was said to give.

    Raises:
        BadVectorsError: they are not.
    """
    import numpy as np

    if vectors.shape != (count, model.dimension):
        given = vectors.shape[1] if vectors.ndim == 2 else 0
        if vectors.ndim == 2 and len(vectors) == count:
            raise BadVectorsError(
                f"the model '{model.name}' gives vectors of {given} numbers, not of {model.dimension}; "
                f"say `dimension: {given}` in the file of models"
            )
        raise BadVectorsError(f"the model '{model.name}' gave {len(vectors)} vectors for {count} texts")
    if not np.isfinite(vectors).all():
        raise BadVectorsError(f"the model '{model.name}' gave vectors with numbers that are none; is it set up well?")
    found = np.asarray(vectors, dtype=np.float32)
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    if (lengths < 1e-12).any():
        raise BadVectorsError(f"the model '{model.name}' gave a vector of zeros, which no search could find")
    unit: Vectors = found / lengths
    return unit
