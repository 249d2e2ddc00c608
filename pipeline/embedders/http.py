"""Models behind `POST /v1/embeddings`, as OpenAI, Ollama, vLLM and Text Embeddings Inference answer it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pipeline.embedders.local import Tokenized, batches
from pipeline.embedding import BadVectorsError, EmbeddingModel, Watch, unit_vectors
from workflows.builtin.networks import NetworkRules
from workflows.builtin.outbound import Answer, Limits, Outbound
from workflows.model.errors import AuthenticationError, PermanentError, TransientError
from workflows.settings import Config

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.embedding import Vectors

TRIES = 4
FIRST_DELAY_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 60.0
LIMITS = Limits(total_bytes=200_000_000, total_seconds=300.0, step_seconds=120.0, redirects=0)


class HttpEmbedder(Tokenized):
    """A model that a server runs.

    Args:
        url: Base URL, as in `http://localhost:11434/v1`.
        served_name: How the server calls the model.
        key_variable: Environment variable that holds the API key; None for a server that wants none.
        most_texts: Texts of one request at most; `most_tokens` all their tokens.
        shorten: Ask for vectors of the model's dimension, which must be one that the server can shorten them to.
        query_prefix: Put before what is looked for; `document_prefix` before the texts of papers.
    """

    def __init__(
        self,
        model: EmbeddingModel,
        tokenizer_file: Path,
        *,
        url: str,
        served_name: str,
        key_variable: str | None = None,
        most_texts: int = 64,
        most_tokens: int = 8192,
        shorten: bool = False,
        query_prefix: str = "",
        document_prefix: str = "",
    ) -> None:
        super().__init__(model, tokenizer_file)
        self._url = f"{url.rstrip('/')}/embeddings"
        self._served_name = served_name
        self._key_variable = key_variable
        self._most_texts = most_texts
        self._most_tokens = most_tokens
        self._shorten = shorten
        self._query_prefix = query_prefix
        self._document_prefix = document_prefix
        # The operator has named this host, so it may be reached wherever it lies; nothing else may.
        self._outbound = Outbound(NetworkRules(hosts=frozenset({(urlsplit(url).hostname or "").lower()})))

    def embed(self, texts: Sequence[str], watch: Watch | None = None) -> Vectors:
        """See `pipeline.embedding.Embedder`.

        Raises:
            TransientError: the server did not answer well, however often it was asked.
            AuthenticationError: it does not take the key.
            PermanentError: it says no.
            BadVectorsError: it gives something else than the model's vectors.
        """
        import numpy as np

        given = [self._document_prefix + text for text in texts]
        lengths = [self.count_tokens(text) + self.special_tokens for text in given]
        vectors = np.zeros((len(texts), self.model.dimension), dtype=np.float32)
        done = 0
        for batch in batches(lengths, self._most_texts, self._most_tokens, is_padded=False):
            tokens = sum(lengths[index] for index in batch)
            found, used = self._asked([given[index] for index in batch], tokens, watch)
            vectors[batch] = found
            done += len(batch)
            if watch is not None:
                watch.after(done, used)
        return vectors

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """See `pipeline.embedding.Embedder`."""
        found: NDArray[np.float32] = self._asked([self._query_prefix + text], 0, None)[0][0]
        return found

    def _asked(self, texts: Sequence[str], tokens: int, watch: Watch | None) -> tuple[Vectors, int | None]:
        """Vectors, and the tokens that the server has counted."""
        body: dict[str, Any] = {"model": self._served_name, "input": list(texts), "encoding_format": "float"}
        if self._shorten:
            body["dimensions"] = self.model.dimension
        sent = json.dumps(body).encode()
        for attempt in range(1, TRIES + 1):
            if watch is not None:
                watch.before(tokens)
            wait: float | None = None
            try:
                answer = self._outbound.request("POST", self._url, headers=self._headers(), body=sent, limits=LIMITS)
                wait = answer.retry_after_seconds(time.time())
                return self._parsed(answer, len(texts))
            except TransientError as error:
                # Someone waits for the answer to a search.
                if attempt == TRIES or watch is None or (wait is not None and wait > LONGEST_WAIT_SECONDS):
                    raise
                watch.wait(FIRST_DELAY_SECONDS * 2 ** (attempt - 1) if wait is None else wait, str(error))
        raise AssertionError("the last try returns or raises")

    def _headers(self) -> dict[str, str]:
        headers = {"content-type": "application/json", "accept": "application/json"}
        if self._key_variable is not None:
            key = Config.from_env().text(self._key_variable, "").strip()
            if not key:
                raise AuthenticationError(
                    f"the model '{self.model.name}' needs an API key in the environment variable "
                    f"{self._key_variable}, which this process has not"
                )
            headers["authorization"] = f"Bearer {key}"
        return headers

    def _parsed(self, answer: Answer, count: int) -> tuple[Vectors, int | None]:
        import numpy as np

        _check(answer, self.model.name, self._key_variable)
        try:
            found = json.loads(answer.body)
        except (ValueError, RecursionError) as error:
            raise TransientError(f"{answer.url} answered no whole JSON: {error}") from error
        try:
            rows = sorted(found["data"], key=lambda row: row["index"])
            if [row["index"] for row in rows] != list(range(count)):
                raise BadVectorsError(f"{answer.url} answered {len(rows)} vectors for {count} texts")
            vectors = np.array([row["embedding"] for row in rows], dtype=np.float32)
        except (KeyError, TypeError, ValueError) as error:
            raise BadVectorsError(
                f"{answer.url} did not answer vectors as OpenAI's API does ({type(error).__name__}: {error}); "
                "is its URL the base of such an API, as http://localhost:11434/v1 is?"
            ) from error
        usage = found.get("usage")
        used = usage.get("prompt_tokens") if isinstance(usage, dict) else None
        return unit_vectors(vectors, self.model, count), used if isinstance(used, int) and used >= 0 else None


def _check(answer: Answer, model: str, key_variable: str | None) -> None:
    """Refuse an error, by what mends it.

    Raises:
        TransientError: 429, 5xx and the like.
        AuthenticationError: 401 or 403.
        PermanentError: another one, or 429 because nothing is left to pay with.
    """
    if answer.status == 429 and "insufficient_quota" in answer.text()[:5000]:
        raise PermanentError(f"{answer.url} says that the account of the model '{model}' has no money left")
    if answer.status in (401, 403):
        where = f"the API key in {key_variable}" if key_variable else "a request without a key; name `api_key_variable`"
        raise AuthenticationError(f"{answer.url} answered {answer.status}: it does not take {where}")
    if answer.status in (400, 413, 422):
        text = " ".join(answer.text()[:500].split())[:300]
        raise PermanentError(
            f"{answer.url} answered {answer.status}: {text} (if a text is too long for the model '{model}', "
            "lower `max_tokens` or `chunk_tokens` in the file of models, or name its `tokenizer`)"
        )
    if answer.status == 404:
        raise PermanentError(
            f"{answer.url} answered 404: the server has no such model, or the URL is not the base of its API"
        )
    answer.check()
