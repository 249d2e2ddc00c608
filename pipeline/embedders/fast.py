"""Models of fastembed (ONNX, without torch): `pip install 'celeriac[fastembed]'`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.embedders.local import Tokenized, batches
from pipeline.embedders.onnx import MODEL_BATCH, MODEL_BATCH_TOKENS
from pipeline.embedding import EmbeddingModel, ModelUnavailableError, Watch, unit_vectors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.embedding import Vectors


class FastEmbedder(Tokenized):
    """A model that fastembed knows, read from a folder.

    Args:
        known_name: As fastembed calls it.
        folder: With its ONNX file and `tokenizer.json`; nothing is downloaded.
        threads: Threads of one call of the model.
    """

    def __init__(self, model: EmbeddingModel, known_name: str, folder: Path, *, threads: int = 1) -> None:
        super().__init__(model, folder / "tokenizer.json")
        self._known_name = known_name
        self._folder = folder
        self._threads = threads

    def embed(self, texts: Sequence[str], watch: Watch | None = None) -> Vectors:
        """See `pipeline.embedding.Embedder`."""
        import numpy as np

        lengths = [self.count_tokens(text) + self.special_tokens for text in texts]
        vectors = np.zeros((len(texts), self.model.dimension), dtype=np.float32)
        done = 0
        for batch in batches(lengths, MODEL_BATCH, MODEL_BATCH_TOKENS):
            if watch is not None:
                watch.before(sum(lengths[index] for index in batch))
            found = list(self._loaded.passage_embed([texts[index] for index in batch]))
            vectors[batch] = unit_vectors(np.array(found), self.model, len(batch))
            done += len(batch)
            if watch is not None:
                watch.after(done)
        return vectors

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """See `pipeline.embedding.Embedder`."""
        import numpy as np

        found: NDArray[np.float32] = unit_vectors(np.array(list(self._loaded.query_embed([text]))), self.model, 1)[0]
        return found

    @cached_property
    def _loaded(self) -> Any:
        try:
            from fastembed import TextEmbedding
        except ImportError as error:
            raise ModelUnavailableError(
                f"the model '{self.model.name}' needs the package fastembed", "pip install 'celeriac[fastembed]'"
            ) from error
        try:
            return TextEmbedding(
                self._known_name,
                threads=self._threads,
                providers=["CPUExecutionProvider"],
                specific_model_path=str(self._folder),
            )
        except Exception as error:  # what it raises is not documented
            raise ModelUnavailableError(
                f"fastembed cannot load '{self._known_name}' from {self._folder}: {str(error)[:300]}",
                "`TextEmbedding.list_supported_models()` has the names; download the folder of the model first",
            ) from error
