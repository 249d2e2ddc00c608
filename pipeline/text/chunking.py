"""Chunks that the embedding model takes whole: cut by its own tokenizer, at the ends of sentences where it can be."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

from pipeline import ids
from pipeline.text.document import Document

CHUNKER_VERSION = "2"
"""Raised when the same paper would be read or cut otherwise; every paper is then processed again."""

MAX_TITLE_SHARE = 4
"""The title may take at most a quarter of what the model takes at once."""

OVERLAP_TOKENS = 32
"""As much as one or two sentences: what is said of something stands with it in one chunk, wherever the cut falls."""

_SLACK = 1.2
_SENTENCE_START = re.compile(r"(?<=[.!?])[\"'\u201d\u2019)\]]*\s+(?=\S)|\n\n(?=\S)")
_WORD_START = re.compile(r"\s+(?=\S)")


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a paper's text.

    Attributes:
        heading: The paper's title, shortened, as the model gets it before the text; empty when the text is the title.
        char_start: Offset within the document's text; `char_end` is one past the last character.
        tokens: Of the embedded text, special tokens included.
    """

    id: str
    position: int
    heading: str
    text: str
    section: str
    page: int | None
    char_start: int
    char_end: int
    tokens: int


def embedded_text(heading: str, text: str) -> str:
    """What the model gets for a chunk."""
    return f"{heading}\n{text}" if heading else text


@dataclass(frozen=True, slots=True)
class Limits:
    """What the model takes: its longest input, special tokens included, and how many of those it adds.

    Attributes:
        overlap_tokens: How much of a chunk's end the next one may begin with; never more than half of it.
    """

    max_tokens: int
    special_tokens: int
    overlap_tokens: int = OVERLAP_TOKENS


def cut_name(tokenizer: str, limits: Limits) -> str:
    """Name of a way to cut texts: papers cut for models that read alike share their chunks."""
    return f"{tokenizer}/{limits.max_tokens}/{limits.overlap_tokens}"


class Chunker:
    """Cuts documents for one tokenizer.

    Args:
        count: Tokens of a text, special tokens left out.
        tokenizer: Name of the tokenizer; with the limits it is part of every chunk's id.
    """

    def __init__(self, count: Callable[[str], int], limits: Limits, tokenizer: str) -> None:
        self._count = count
        self._limits = limits
        self._tokenizer = tokenizer

    @property
    def cut_name(self) -> str:
        """What the chunks are cut for; those of one paper under one such name replace each other."""
        return cut_name(self._tokenizer, self._limits)

    def cut(self, paper_id: str, title: str, document: Document) -> list[Chunk]:
        """All chunks of a paper in order; a paper that has only a title gets one chunk, its title."""
        budget = self._limits.max_tokens - self._limits.special_tokens
        heading = self._shortened(title, budget // MAX_TITLE_SHARE)
        room = budget - self._count(heading)
        pieces = [
            (section.name, start, document.text[start:end])
            for section in document.sections
            for start, end in self._spans(document.text, section.start, section.end, room)
        ]
        if not pieces and heading:
            return [self._chunk(paper_id, "", 0, heading, "Title", None, 0, 0)]
        seen: Counter[str] = Counter()
        chunks = []
        for position, (section, start, text) in enumerate(pieces):
            chunks.append(
                self._chunk(paper_id, heading, position, text, section, document.page_at(start), start, seen[text])
            )
            seen[text] += 1
        return chunks

    def _spans(self, text: str, start: int, end: int, room: int) -> list[tuple[int, int]]:
        """Offsets of pieces of `text[start:end]`, each at most `room` tokens and all of about the same length."""
        from semchunk.semchunk import chunk

        part = text[start:end]
        total = self._count(part)
        if total <= room:
            stripped = part.strip()
            first = start + part.index(stripped) if stripped else start
            return [(first, first + len(stripped))] if stripped else []
        overlap = min(self._limits.overlap_tokens, room // 2)
        pieces = -(-total // (room - overlap))
        size = min(room - overlap, int(total / pieces * _SLACK) + 1)
        # Without its cache: it would keep every text that a long-lived worker ever cut.
        _, offsets = chunk(part, size, self._count, memoize=False, offsets=True)
        spans = [span for span in cast("list[tuple[int, int]]", offsets) if part[slice(*span)].strip()]
        starts = [spans[0][0]] if spans else []
        for (before, _), (first, last) in pairwise(spans):
            starts.append(self._earlier(part, before, first, last, overlap))
        return [(start + first, start + last) for first, (_, last) in zip(starts, spans, strict=True)]

    def _earlier(self, text: str, least: int, first: int, last: int, overlap: int) -> int:
        """Where a chunk of `text[first:last]` begins when it takes in what stands before it, from `least` on.

        At the start of a sentence where one is near enough, else of a word; so that what it takes in is at most
        `overlap` tokens, and the chunk as a whole still fits.
        """
        most = self._count(text[first:last]) + overlap
        for pattern in (_SENTENCE_START, _WORD_START):
            starts = [start for found in pattern.finditer(text, least, first) if (start := found.end()) < first]
            # The later a start, the less it takes in; so few of them have to be counted.
            nearest = bisect_left(starts, True, key=lambda start: self._count(text[start:first]) <= overlap)
            for start in starts[nearest:]:
                if self._count(text[start:last]) <= most:  # together they may be a token more
                    return start
        return first

    def _chunk(
        self, paper: str, heading: str, position: int, text: str, section: str, page: int | None, start: int, nth: int
    ) -> Chunk:
        embedded = embedded_text(heading, text)
        return Chunk(
            id=ids.chunk_id(paper, embedded, CHUNKER_VERSION, self.cut_name, nth),
            position=position,
            heading=heading,
            text=text,
            section=section,
            page=page,
            char_start=start,
            char_end=start + len(text),
            tokens=self._count(embedded) + self._limits.special_tokens,
        )

    def _shortened(self, title: str, most: int) -> str:
        words = title.split()
        while words and self._count(" ".join(words)) > most:
            words.pop()
        return " ".join(words)
