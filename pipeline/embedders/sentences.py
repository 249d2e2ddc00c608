"""Models of sentence-transformers (torch): `pip install 'celeriac[sentence-transformers]'`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.embedders.local import Tokenized, batches
from pipeline.embedding import EmbeddingModel, ModelUnavailableError, Watch, unit_vectors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.embedding import Vectors

MODEL_BATCH = 32
MODEL_BATCH_TOKENS = 8192


class SentenceTransformerEmbedder(Tokenized):
    """A model in a folder, as `SentenceTransformer.save` writes it.

    Args:
        folder: Nothing is downloaded.
        device: Where it computes, as torch calls it: `cpu`, `cuda`, `cuda:1`, `mps`.
        threads: Threads of torch, on the processor.
        query_prefix: Put before what is looked for; `document_prefix` before the texts of papers.
    """

    def __init__(
        self,
        model: EmbeddingModel,
        folder: Path,
        *,
        device: str = "cpu",
        threads: int = 1,
        query_prefix: str = "",
        document_prefix: str = "",
    ) -> None:
        super().__init__(model, folder / "tokenizer.json")
        self._folder = folder
        self._device = device
        self._threads = threads
        self._query_prefix = query_prefix
        self._document_prefix = document_prefix

    def embed(self, texts: Sequence[str], watch: Watch | None = None) -> Vectors:
        """See `pipeline.embedding.Embedder`."""
        import numpy as np

        given = [self._document_prefix + text for text in texts]
        lengths = [self.count_tokens(text) + self.special_tokens for text in given]
        vectors = np.zeros((len(texts), self.model.dimension), dtype=np.float32)
        done = 0
        for batch in batches(lengths, MODEL_BATCH, MODEL_BATCH_TOKENS):
            if watch is not None:
                watch.before(sum(lengths[index] for index in batch))
            vectors[batch] = self._run([given[index] for index in batch])
            done += len(batch)
            if watch is not None:
                watch.after(done)
        return vectors

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """See `pipeline.embedding.Embedder`."""
        found: NDArray[np.float32] = self._run([self._query_prefix + text])[0]
        return found

    def _run(self, texts: Sequence[str]) -> Vectors:
        found = self._loaded.encode(list(texts), batch_size=len(texts), show_progress_bar=False, convert_to_numpy=True)
        return unit_vectors(found, self.model, len(texts))

    @cached_property
    def _loaded(self) -> Any:
        try:
            import torch
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise ModelUnavailableError(
                f"the model '{self.model.name}' needs the package sentence-transformers",
                "pip install 'celeriac[sentence-transformers]'",
            ) from error
        torch.set_num_threads(self._threads)
        try:
            return SentenceTransformer(str(self._folder), device=self._device, local_files_only=True)
        except Exception as error:  # what it raises is not documented
            raise ModelUnavailableError(
                f"sentence-transformers cannot load {self._folder}: {str(error)[:300]}",
                "name a folder that `SentenceTransformer(...).save(folder)` has written",
            ) from error
