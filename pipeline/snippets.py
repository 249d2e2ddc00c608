"""The part of a text to show for a query, and which of its words are the query's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.lexical import WORD

MOST_CHARACTERS = 300

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9(\"'])")
_ELLIPSIS = "\u2026"


@dataclass(frozen=True, slots=True)
class Snippet:
    """A piece of text.

    Attributes:
        spans: Start and end of each word of the query in `text`, in characters (Unicode code points), in order.
    """

    text: str
    spans: tuple[tuple[int, int], ...]


def snippet(chunk: str, terms: Sequence[str], most: int = MOST_CHARACTERS) -> Snippet:
    """The sentence with most of the terms and what follows it, at most `most` characters.

    A sentence that is longer is cut to the part around its first term.
    """
    wanted = {_stem(term) for term in terms}
    sentences = _SENTENCE_END.split(" ".join(chunk.split()))
    counts = [len({_stem(word) for word in WORD.findall(sentence.lower())} & wanted) for sentence in sentences]
    best = counts.index(max(counts))
    shown = _around(sentences[best], wanted, most)
    for sentence in sentences[best + 1 :]:
        if len(shown) + 1 + len(sentence) > most:
            break
        shown = f"{shown} {sentence}"
    return Snippet(shown, tuple(_spans(shown, wanted)))


def _around(sentence: str, wanted: set[str], most: int) -> str:
    """The sentence, or `most` characters of it, beginning some words before the first that is wanted."""
    if len(sentence) <= most:
        return sentence
    first = next((start for start, _ in _spans(sentence, wanted)), 0)
    begin = 0
    if first > most * 2 // 3:
        begin = sentence.rfind(" ", 0, max(0, first - most // 4)) + 1
    before = _ELLIPSIS if begin else ""
    kept = before + sentence[begin:]
    return kept if len(kept) <= most else kept[: most - 1].rsplit(" ", 1)[0] + _ELLIPSIS


def _spans(shown: str, wanted: set[str]) -> list[tuple[int, int]]:
    return [word.span() for word in WORD.finditer(shown) if _stem(word.group().lower()) in wanted]


def _stem(word: str) -> str:
    """A crude stem, good enough to choose a sentence and to mark words in it."""
    return word[:5] if len(word) > 5 else word.removesuffix("s")
