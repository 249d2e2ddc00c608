"""From the words of a page to its lines in the order in which a person reads them, columns one after the other."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from pipeline.text.glyphs import Page, Word

_LEAST_GUTTER = 6.0  # points
_LEAST_GUTTER_SHARE = 0.6  # of the letters' size
_STEP = 2.0
_LEAST_ROWS = 4
_LEAST_WORDS_A_ROW = 3.0  # tables have less
_MOST_COLUMNS_DEEP = 2
_STICKING_OUT = 6  # one row of so many


@dataclass(frozen=True, slots=True)
class Row:
    """A printed line within a column.

    Attributes:
        column: Left and right edge of the text that it stands in.
        block: Number of the stretch of column, counted over the page in reading order.
        words: From left to right.
    """

    words: tuple[Word, ...]
    base: float
    size: float
    column: tuple[float, float]
    block: int

    @property
    def left(self) -> float:
        """Where its first letter begins."""
        return self.words[0].left

    @property
    def right(self) -> float:
        """Where its last letter ends."""
        return max(word.right for word in self.words)

    @property
    def text(self) -> str:
        """Its words, with a space wherever there is one on paper."""
        parts = [self.words[0].text]
        for before, word in pairwise(self.words):
            gap = (word.left - before.right) / self.size
            parts.append(f" {word.text}" if gap > 0.2 or (word.is_spaced and gap > 0.05) else word.text)
        return "".join(parts)

    def wide_gaps(self, least: float = 1.5) -> int:
        """How many gaps within it are at least so many letters wide, as those between the cells of a table are."""
        return sum(after.left - before.right > least * self.size for before, after in pairwise(self.words))


def rows_of(words: Iterable[Word], column: tuple[float, float] | None = None, block: int = 0) -> list[Row]:
    """Words that stand beside each other made rows, from top to bottom; raised and lowered marks join their row."""
    level: list[list[Word]] = []
    for word in sorted(words, key=lambda word: (-word.base, word.left)):
        if level and level[-1][-1].base - word.base <= 0.12 * word.size and _alike(level[-1][0], word):
            level[-1].append(word)
        else:
            level.append([word])
    rows: list[tuple[Word, list[Word]]] = []  # the widest parts first: each takes in the marks at its height
    for part in sorted(level, key=lambda part: -sum(word.right - word.left for word in part)):
        near = (row for row in rows if abs(row[0].base - part[0].base) < row[0].size + part[0].size)
        host = max(near, key=lambda row: _shared(row[0], part[0]), default=None)
        # Marks that are raised high hardly reach their row.
        if host is not None and _shared(host[0], part[0]) > (0.5 if part[0].size > 0.9 * host[0].size else 0.1):
            host[1].extend(part)
        else:
            rows.append((part[0], list(part)))
    rows.sort(key=lambda row: -row[0].base)
    edges = column or _edges([words for _, words in rows])
    return [
        Row(tuple(sorted(found, key=lambda word: word.left)), host.base, host.size, edges, block)
        for host, found in rows
    ]


def reading_order(page: Page, gutters: Sequence[float] = ()) -> list[Row]:
    """The rows of a page: left column before right column, between rows that run over the full width.

    Args:
        gutters: Where other pages of the paper have gaps between columns; they are believed sooner.
    """
    ordered: list[Row] = []
    for words in _blocks(rows_of(page.words), gutters, 0):
        ordered += rows_of(words, block=len(ordered))
    return _with_columns(ordered)


def find_gutters(page: Page) -> list[float]:
    """Where gaps between columns run on a page, in points from the left."""
    found: list[float] = []
    _blocks(rows_of(page.words), (), 0, found)
    return found


def shared_gutters(pages: Iterable[Page]) -> list[float]:
    """Gaps between columns that at least two pages of a paper have at the same place."""
    found = Counter(round(x / 4) for page in pages for x in set(find_gutters(page)))
    return [4.0 * x for x, _ in found.most_common() if found[x] + found[x - 1] + found[x + 1] >= 2]


def _alike(one: Word, other: Word) -> bool:
    return min(one.size, other.size) > 0.85 * max(one.size, other.size)


def _shared(one: Word, other: Word) -> float:
    """How much of the lower of two words lies beside the other, from 0 to 1."""
    overlap = min(one.top, other.top) - max(one.bottom, other.bottom)
    return overlap / min(one.top - one.bottom, other.top - other.bottom)


def _edges(rows: Sequence[Sequence[Word]]) -> tuple[float, float]:
    if not rows:
        return (0.0, 0.0)
    return min(word.left for row in rows for word in row), max(word.right for row in rows for word in row)


def _blocks(
    rows: Sequence[Row], gutters: Sequence[float], depth: int, seen: list[float] | None = None
) -> list[list[Word]]:
    """The words of each stretch of a column, in reading order."""
    if not rows:
        return []
    gutter = _gutter(rows, gutters) if depth < _MOST_COLUMNS_DEEP else None
    if gutter is None:
        return [[word for row in rows for word in row.words]]
    if seen is not None:
        seen.append(gutter)
    blocks: list[list[Word]] = []
    across: list[Word] = []
    beside: list[Row] = []
    for row in rows:
        if _crosses(row, gutter):
            blocks += _columns(beside, gutter, gutters, depth, seen)
            beside = []
            across += row.words
        else:
            if across:
                blocks.append(across)
                across = []
            beside.append(row)
    blocks += _columns(beside, gutter, gutters, depth, seen)
    return [*blocks, across] if across else blocks


def _columns(
    rows: Sequence[Row], gutter: float, gutters: Sequence[float], depth: int, seen: list[float] | None
) -> list[list[Word]]:
    blocks: list[list[Word]] = []
    for is_left in (True, False):
        side = [word for row in rows for word in row.words if (word.right <= gutter) == is_left]
        blocks += _blocks(rows_of(side), gutters, depth + 1, seen)
    return blocks


def _crosses(row: Row, x: float) -> bool:
    """Whether a row runs over `x`: a word stands there, or only a gap as there is one between any two words."""
    if any(word.left < x < word.right for word in row.words):
        return True
    left = max((word.right for word in row.words if word.right <= x), default=None)
    right = min((word.left for word in row.words if word.left >= x), default=None)
    return left is not None and right is not None and right - left < max(_LEAST_GUTTER, 0.45 * row.size)


def _gutter(rows: Sequence[Row], known: Sequence[float]) -> float | None:
    """Where two columns part; None when the rows are of one column."""
    start, end = _edges([row.words for row in rows])
    margin = 0.12 * (end - start)
    best: tuple[tuple[int, int], float] | None = None
    for x in sorted({round(x / _STEP) * _STEP for row in rows for x in _gaps(row)} | set(known)):
        if not start + margin < x < end - margin:
            continue
        is_known = any(abs(x - gutter) <= 4 for gutter in known)
        worth, middle = _worth(rows, x, is_known=is_known)
        if worth[0] and (best is None or worth > best[0]):
            best = (worth, middle)
    return best[1] if best is not None else None


def _gaps(row: Row) -> Iterator[float]:
    """The middles of gaps that may be those between columns, and places just beside the row."""
    least = max(_LEAST_GUTTER, 0.45 * row.size)
    yield row.left - least / 2
    yield row.right + least / 2
    for before, after in pairwise(row.words):
        if after.left - before.right >= least:
            yield (before.right + after.left) / 2


def _worth(rows: Sequence[Row], x: float, *, is_known: bool) -> tuple[tuple[int, int], float]:
    """How much speaks for a gap at `x`, and the middle of that gap.

    That is the number of rows of text that stand beside each other left and right of it; where that is equal, how few
    rows run across.
    """
    total, across, left, right = 0, 0, -math.inf, math.inf
    band: list[Row] = []
    for row in [*rows, None]:
        if row is not None and not _crosses(row, x):
            band.append(row)
            continue
        count, gap = _beside(band, x, is_known=is_known)
        across += row is not None
        if count:
            total, left, right = total + count, max(left, gap[0]), min(right, gap[1])
        band = []
    return (total, -across), (left + right) / 2 if total else x


def _beside(band: Sequence[Row], x: float, *, is_known: bool) -> tuple[int, tuple[float, float]]:
    left = [row for row in band if row.left < x]
    right = [row for row in band if row.right > x]
    least = 1 if is_known else _LEAST_ROWS
    if min(len(left), len(right)) < least:
        return 0, (x, x)
    gap = (
        max(word.right for row in left for word in row.words if word.right <= x),
        min(word.left for row in right for word in row.words if word.left >= x),
    )
    size = statistics.median(row.size for row in band)
    both = min(left[0].base, right[0].base) - max(left[-1].base, right[-1].base)
    if gap[1] - gap[0] < max(_LEAST_GUTTER, _LEAST_GUTTER_SHARE * size):
        return 0, gap
    if not is_known:
        words = min(
            sum(word.right <= x for row in left for word in row.words) / len(left),
            sum(word.left >= x for row in right for word in row.words) / len(right),
        )
        if words < _LEAST_WORDS_A_ROW or both < (least - 1) * size:
            return 0, gap
    return min(len(left), len(right)), gap


def _with_columns(rows: Sequence[Row]) -> list[Row]:
    """The rows, each with the edges of the text that stands in one column with it; a few rows may stick out."""
    blocks: dict[int, list[Row]] = {}
    for row in rows:
        blocks.setdefault(row.block, []).append(row)
    edges: dict[int, tuple[float, float]] = {}
    for block, found in blocks.items():
        few = len(found) // _STICKING_OUT if len(found) >= 2 * _LEAST_ROWS else 0
        lefts, rights = sorted(row.left for row in found), sorted(row.right for row in found)
        edges[block] = lefts[few // 2], rights[-1 - few]
    return [Row(row.words, row.base, row.size, edges[row.block], row.block) for row in rows]
