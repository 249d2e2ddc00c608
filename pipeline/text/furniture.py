"""What stands on the pages of a paper but is not its text: running heads, page numbers, numbers of lines.

Nothing is known by its words: what comes again at the same place of other pages, or counts from page to page, is it.
"""

from __future__ import annotations

import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from pipeline.text.glyphs import Page, Word
from pipeline.text.layout import Row, rows_of

_ROWS_AT_EDGE = 3
_SAME_PLACE = 4.0  # points
_MOST_DEEP = 0.2  # of a page's height: further within the page there is no head and no foot
_LEAST_LINE_NUMBERS = 5
_NUMBER = re.compile(r"\d+")
_ROMAN = re.compile(r"m{0,3}(?:c[md]|d?c{0,3})(?:x[cl]|l?x{0,3})(?:i[xv]|v?i{0,3})", re.IGNORECASE)
_PAGE_NUMBER = re.compile(
    r"(?:\W|page|p\.|pg\.|seite)*(?P<number>\d{1,5}|[ivxlc]{1,8})(?:\s*(?:of|/|von|\|)\s*\d{1,5})?\W*", re.IGNORECASE
)
_VALUES = {"i": 1, "v": 5, "x": 10, "l": 50, "c": 100, "d": 500, "m": 1000}


@dataclass(frozen=True, slots=True)
class _Edge:
    """A row near the top or the bottom of a page.

    Attributes:
        depth: Distance from that edge of the page, in points.
        gap: To the next row further within, in heights of a letter.
    """

    page: int
    is_top: bool
    index: int
    row: Row
    shape: str
    depth: float
    gap: float


def without_furniture(pages: Sequence[Page]) -> list[Page]:
    """The pages without numbers of lines, running heads and feet, and page numbers."""
    pages = _without_line_numbers(pages)
    edges = [edge for index, page in enumerate(pages) for edge in _edge_rows(index, page)]
    running = _repeated(edges, len(pages)) | _at_one_place(edges, pages) | _counting(edges, len(pages))
    dropped: dict[int, set[int]] = defaultdict(set)
    for edge in _reachable(edges, running):
        dropped[edge.page].update(map(id, edge.row.words))
    return [
        replace(page, words=tuple(word for word in page.words if id(word) not in dropped[index]))
        for index, page in enumerate(pages)
    ]


def _edge_rows(index: int, page: Page) -> Iterator[_Edge]:
    rows = rows_of(page.words)
    for is_top in (True, False):
        ordered = rows if is_top else rows[::-1]
        for nth, row in enumerate(ordered[:_ROWS_AT_EDGE]):
            depth = page.height - row.base if is_top else row.base
            if depth > _MOST_DEEP * page.height:
                break
            yield _Edge(index, is_top, nth, row, _shape(row.text), depth, _gap(row, ordered[nth + 1 :]))


def _shape(text: str) -> str:
    """The text with all numbers alike, Roman ones at its ends, too."""
    words = _NUMBER.sub("#", text.lower()).split()
    for end in {0, -1} if words else set():
        if _ROMAN.fullmatch(words[end].strip(".|-")):
            words[end] = "#"
    return " ".join(words)


def _key(edge: _Edge) -> tuple[int, bool, int]:
    return edge.page, edge.is_top, edge.index


def _repeated(edges: Sequence[_Edge], pages: int) -> set[tuple[int, bool, int]]:
    """Rows that stand on several pages at the same place with the same words, be it on every second page only."""
    alike: dict[tuple[str, bool], list[_Edge]] = defaultdict(list)
    for edge in edges:
        if edge.shape:
            alike[edge.shape, edge.is_top].append(edge)
    found: set[tuple[int, bool, int]] = set()
    least = 2 if pages < 8 else 3
    for group in alike.values():
        for edge in group:
            there = {other.page for other in group if _same_place(edge, other) and _count_alike(edge, other)}
            if len(there) >= least:
                found.add(_key(edge))
    return found


def _count_alike(one: _Edge, other: _Edge) -> bool:
    """Whether the numbers of two rows are equal or count with the pages; those of footnotes do not."""
    pairs = zip(_NUMBER.findall(one.row.text), _NUMBER.findall(other.row.text), strict=False)
    return all(a == b or int(a[:9]) - int(b[:9]) == one.page - other.page for a, b in pairs)


def _same_place(one: _Edge, other: _Edge) -> bool:
    return abs(one.depth - other.depth) <= _SAME_PLACE and abs(one.row.size - other.row.size) < 0.6


def _at_one_place(edges: Sequence[_Edge], pages: Sequence[Page]) -> set[tuple[int, bool, int]]:
    """Heads whose words change with the section: they stand at one place of most pages, parted from the text."""
    if len(pages) < 6:
        return set()
    sizes = Counter(round(word.size, 1) for page in pages for word in page.words for _ in word.text)
    body = max(sizes, key=sizes.__getitem__) if sizes else 0.0
    inner = [rows_of(page.words)[_ROWS_AT_EDGE:-_ROWS_AT_EDGE] for page in pages]
    gaps = [_gap(row, rows[index + 1 :]) for rows in inner for index, row in enumerate(rows[:-2])]
    leading = statistics.median(gaps or [1.2])
    found: set[tuple[int, bool, int]] = set()
    for is_top in (True, False):
        outer = [edge for edge in edges if edge.is_top == is_top and edge.index == 0 and edge.row.size < 1.05 * body]
        for edge in outer:
            same = [other for other in outer if _same_place(edge, other)]
            apart = sum(other.gap > 1.4 * leading for other in same)
            if len(same) >= 0.6 * len(pages) and apart >= 0.8 * len(same) and edge.gap > 1.4 * leading:
                found.add(_key(edge))
    return found


def _gap(row: Row, following: Sequence[Row]) -> float:
    """The distance to the next row over or under this one, in heights of a letter; columns beside it do not count."""
    beyond = (other for other in following if other.left < row.right and row.left < other.right)
    return next((abs(row.base - other.base) / row.size for other in beyond), 100.0)


def _counting(edges: Sequence[_Edge], pages: int) -> set[tuple[int, bool, int]]:
    """Numbers alone on their row that count with the pages; where there is one page, one that stands apart."""
    numbers = {_key(edge): (edge, value) for edge in edges if (value := _page_number(edge.row.text)) is not None}
    offsets = Counter((value - edge.page, _is_roman(edge)) for edge, value in numbers.values())
    found: set[tuple[int, bool, int]] = set()
    for key, (edge, value) in numbers.items():
        agree = offsets[value - edge.page, _is_roman(edge)]
        if agree >= 2 or (edge.index == 0 and edge.gap > 1.6 and (pages <= 2 or not _is_roman(edge))):
            found.add(key)
    return found | _beside_numbers(edges)


def _beside_numbers(edges: Sequence[_Edge]) -> set[tuple[int, bool, int]]:
    """Rows apart from the text that begin or end with a number that counts with the pages."""
    ends: list[tuple[_Edge, int]] = []
    for edge in edges:
        if edge.index == 0 and edge.gap > 1.6:
            words = {edge.row.words[0].text, edge.row.words[-1].text}
            ends += [(edge, int(word)) for word in words if word.isdecimal() and len(word) <= 5]
    return {
        _key(edge)
        for edge, value in ends
        for other, beside in ends
        if edge.page != other.page and value - edge.page == beside - other.page and _same_place(edge, other)
    }


def _page_number(text: str) -> int | None:
    match = _PAGE_NUMBER.fullmatch(text.strip())
    if match is None:
        return None
    number = match["number"].lower()
    if number.isdigit():
        return int(number)
    if not _ROMAN.fullmatch(number):
        return None
    values = [_VALUES[letter] for letter in number]
    return sum(-value if value < max(values[index:]) else value for index, value in enumerate(values))


def _is_roman(edge: _Edge) -> bool:
    return not any(character.isdigit() for character in edge.row.text)


def _reachable(edges: Sequence[_Edge], running: set[tuple[int, bool, int]]) -> Iterator[_Edge]:
    """The running rows that no row of text parts from the edge of their page."""
    blocked: set[tuple[int, bool]] = set()
    for edge in edges:
        if _key(edge) in running and (edge.page, edge.is_top) not in blocked:
            yield edge
        else:
            blocked.add((edge.page, edge.is_top))


def _without_line_numbers(pages: Sequence[Page]) -> list[Page]:
    places: list[tuple[float, bool]] = []
    for page in pages:
        places += _line_number_places(page)
    often = Counter((round(x / 3), is_right) for x, is_right in places)
    if not often or max(often.values()) < max(1, 0.3 * len(pages)):
        return list(pages)
    return [replace(page, words=tuple(_text_words(page, places))) for page in pages]


def _text_words(page: Page, places: Sequence[tuple[float, bool]]) -> Iterator[Word]:
    numbers = set(map(id, _standing_apart(page)))
    for word in page.words:
        at_place = any(abs((word.right if is_right else word.left) - x) < 2.5 for x, is_right in places)
        if not (at_place and id(word) in numbers):
            yield word


def _standing_apart(page: Page) -> list[Word]:
    """Numbers that begin or end their row, with a gap to the text beside them."""
    found: list[Word] = []
    for row in rows_of(page.words):
        for word in row.words:
            if not word.text.isdecimal() or len(word.text) > 5:
                continue
            # Beside large letters stand several numbers of lines, one under the other.
            before = [word.left - other.right for other in row.words if other.left < word.left - 2 * word.size]
            after = [other.left - word.right for other in row.words if other.left > word.right - 0.5 * word.size]
            if min([1000.0, *before, *after]) > 0.55 * word.size:
                found.append(word)
    return found


def _line_number_places(page: Page) -> list[tuple[float, bool]]:
    """Where numbers stand under each other that count from row to row, over most of the page's height.

    Returns:
        The edge that they share, and whether it is their right one.
    """
    numbers = _standing_apart(page)
    if len(numbers) < _LEAST_LINE_NUMBERS:
        return []
    bases = [word.base for word in page.words]
    height = max(bases) - min(bases)
    places: list[tuple[float, bool]] = []
    for is_right in (True, False):
        groups: list[list[tuple[float, Word]]] = []
        for edge, word in sorted(((w.right if is_right else w.left, w) for w in numbers), key=lambda one: one[0]):
            if groups and edge - groups[-1][-1][0] < 1.0:
                groups[-1].append((edge, word))
            else:
                groups.append([(edge, word)])
        for group in groups:
            found = sorted((word for _, word in group), key=lambda word: -word.base)
            steps = Counter(int(b.text) - int(a.text) for a, b in pairwise(found))
            if len(found) < _LEAST_LINE_NUMBERS or found[0].base - found[-1].base < 0.4 * height:
                continue
            step, count = steps.most_common(1)[0]
            pitch = (found[0].base - found[-1].base) / (len(found) - 1)
            if step in (1, 2, 5, 10) and count >= 0.8 * (len(found) - 1) and pitch < 5 * step * found[0].size:
                places.append((statistics.median(w.right if is_right else w.left for w in found), is_right))
    return places
