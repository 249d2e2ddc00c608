"""What embedders share: tokenizers, chunkers, and batches of bounded size."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.embedding import EmbeddingModel, ModelUnavailableError
from pipeline.text.chunking import Chunker

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class Tokenized:
    """A model whose tokenizer lies in a file, with the SHA-256 `checksum` where one is known."""

    def __init__(self, model: EmbeddingModel, tokenizer_file: Path, checksum: str | None = None) -> None:
        self.model = model
        self._tokenizer_file = tokenizer_file
        self._checksum = checksum

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The model's own tokenizer, neither cutting nor padding."""
        from tokenizers import Tokenizer

        if self._checksum is not None:
            check(self._tokenizer_file, self._checksum)
        try:
            tokenizer: Tokenizer = Tokenizer.from_file(str(self._tokenizer_file))
        except Exception as error:  # tokenizers raises nothing narrower
            raise ModelUnavailableError(
                f"the tokenizer {self._tokenizer_file} of the model '{self.model.name}' cannot be read: {error}",
                "name a tokenizer.json as Hugging Face has them",
            ) from error
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    @cached_property
    def special_tokens(self) -> int:
        """Tokens that stand around every text."""
        return len(self.tokenizer.encode("").ids)

    def count_tokens(self, text: str) -> int:
        """Tokens of a text, special tokens left out."""
        return len(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def chunker(self) -> Chunker:
        """A chunker whose chunks this model takes whole."""
        limits = replace(self.model.limits, special_tokens=self.special_tokens)
        return Chunker(self.count_tokens, limits, self.model.tokenizer)


def check(file: Path, checksum: str) -> None:
    """Refuse a file that is not what it should be.

    Raises:
        ModelUnavailableError: its SHA-256 is another.
    """
    with file.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if found != checksum:
        raise ModelUnavailableError(
            f"{file} is not the file that it should be: its SHA-256 is {found}, not {checksum}",
            "install it again; a broken model would give vectors that nothing can be compared with",
        )


def batches(
    lengths: Sequence[int], most_texts: int, most_tokens: int, *, is_padded: bool = True
) -> Iterator[list[int]]:
    """Indexes in ascending order of length, in runs that one call of a model takes.

    Args:
        lengths: Tokens of each text.
        is_padded: Every text of a call counts as long as its longest, as a model in this process takes them.
    """
    batch: list[int] = []
    total = 0
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        with_it = (len(batch) + 1) * lengths[index] if is_padded else total + lengths[index]
        if batch and (len(batch) == most_texts or with_it > most_tokens):
            yield batch
            batch, total = [], 0
        batch.append(index)
        total += lengths[index]
    if batch:
        yield batch
