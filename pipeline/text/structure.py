"""What each row of a paper is: text, a heading, a caption or footnote, a line of a table of contents.

Judged by size and weight of the print, by gaps and indents, and by numbers; by words only where print says nothing.
"""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, takewhile

from pipeline.text import headings
from pipeline.text.document import Kind, Line
from pipeline.text.layout import Row

_CAPTION = re.compile(
    r"(?:figure|fig\.?|table|tab\.?|algorithm|listing|scheme|chart|plate)\s*(?:\d{1,3}|[IVX]{1,6}|[A-Z]\.?\d{1,2})[a-z]?"
    r"(?P<end>\s*[.:|\u2013\u2014-]|$)?",
    re.IGNORECASE,
)
_NOTE_MARK = re.compile(r"(?:\d{1,3}|[*\u2217\u2020\u2021\u00a7\u00b6\u2016#]{1,3}|[a-z])")
_MARKED = re.compile(r"(?:\d{1,2}\s?(?=[A-Z])|[*\u2217\u2020\u2021\u00a7\u00b6\u2016])")
_LEADERS = re.compile(r"(?:\s?\.){4,}\s*\w{0,6}$")
_ENDS_SENTENCE = re.compile(r"[.!?:;][\"'\u201d\u2019)\]]*$")
_PARAGRAPH_GAP = 1.35
_INDENT = 0.7
_LARGER = 1.07
_SMALLER = 0.94
_MOST_NOTE_SHARE = 0.6


@dataclass(frozen=True, slots=True)
class _Measures:
    """What is usual in a paper: size and font of its text, distance of its lines in heights of a letter."""

    size: float
    font: str
    is_bold: bool
    leading: float


@dataclass(frozen=True, slots=True)
class _Item:
    """A row and what is known of it; `gap` is its distance to the row above, in heights of the text's letters."""

    row: Row
    page: int
    text: str
    kind: Kind
    font: str
    is_bold: bool
    opens: bool
    gap: float

    @property
    def width_share(self) -> float:
        """How much of its column the row fills, from 0 to 1."""
        return (self.row.right - self.row.left) / max(self.row.column[1] - self.row.column[0], 1.0)

    @property
    def is_filled(self) -> bool:
        """Whether the row reaches from edge to edge of its column, be it indented."""
        left, right = self.row.column
        return self.row.left < left + 2.5 * self.row.size and self.row.right > right - 0.02 * (right - left)


def lines_of(pages: Sequence[tuple[int, Sequence[Row]]]) -> list[Line]:
    """The lines of a paper, each with what it is.

    Args:
        pages: Number, from 1, and rows in reading order of each page.
    """
    usual = _measure([row for _, rows in pages for row in rows])
    if usual is None:
        return []
    items: list[_Item] = []
    for number, rows in pages:
        page = [_item(row, number, before, usual) for before, row in zip([None, *rows], rows, strict=False)]
        page = _with_captions(_with_notes(page, usual), usual)
        items += _without_marks(page)
    items = _opened(items, usual)
    return _merged(headings.found(_facts(items, usual)), items)


def _measure(rows: Sequence[Row]) -> _Measures | None:
    faces: Counter[tuple[float, str, bool]] = Counter()
    for row in rows:
        for word in row.words:
            faces[round(word.size, 1), word.font, word.is_bold] += len(word.text)
    if not faces:
        return None
    sizes: Counter[float] = Counter()
    for (size, _, _), count in faces.items():
        sizes[size] += count
    size = max(sizes, key=sizes.__getitem__)
    _, font, is_bold = max((face for face in faces if face[0] == size), key=faces.__getitem__)
    gaps = [
        (before.base - after.base) / after.size
        for before, after in pairwise(rows)
        if before.block == after.block and abs(after.size - size) < 0.5 and 0 < before.base - after.base < 4 * size
    ]
    return _Measures(size, font, is_bold, statistics.median(gaps) if gaps else 1.2)


def _item(row: Row, page: int, before: Row | None, usual: _Measures) -> _Item:
    letters = [word for word in row.words if any(c.isalpha() for c in word.text)]
    fonts = Counter({word.font: 0 for word in row.words})
    for word in letters:
        fonts[word.font] += len(word.text)
    same = before is not None and before.block == row.block
    gap = (before.base - row.base) / usual.size if same and before is not None else 100.0
    return _Item(
        row=row,
        page=page,
        text=row.text,
        kind=Kind.CONTENTS if _LEADERS.search(row.text) else Kind.TEXT,
        font=max(fonts, key=fonts.__getitem__),
        is_bold=bool(letters) and all(word.is_bold for word in letters) and not usual.is_bold,
        opens=False,
        gap=gap,
    )


def _with_notes(page: list[_Item], usual: _Measures) -> list[_Item]:
    """Small print at the foot of a column made notes: it begins with a mark, or a gap parts it from larger print."""
    found = list(page)
    for first, last in _blocks(page):
        start = last
        while start > first and page[start - 1].row.size < _SMALLER * usual.size:
            start -= 1
        while start < last and not _begins_note(page, start, first, usual):
            start += 1
        if first < start < last and last - start <= _MOST_NOTE_SHARE * (last - first):
            for index in range(start, last):
                opens = index == start or bool(_marked(page[index].row))
                found[index] = replace(page[index], kind=Kind.ASIDE, opens=opens)
    return found


def _blocks(page: Sequence[_Item]) -> Iterator[tuple[int, int]]:
    start = 0
    for index in range(1, len(page) + 1):
        if index == len(page) or page[index].row.block != page[start].row.block:
            yield start, index
            start = index


def _begins_note(page: Sequence[_Item], index: int, first: int, usual: _Measures) -> bool:
    if index == first or page[index - 1].row.size < _SMALLER * usual.size:
        return bool(_marked(page[index].row))
    return bool(_marked(page[index].row)) or page[index].gap > 1.2 * usual.leading


def _marked(row: Row) -> str:
    """The mark with which a note begins, empty if there is none."""
    first = row.words[0]
    if first.size < 0.85 * row.size and _NOTE_MARK.fullmatch(first.text):
        return first.text
    match = _MARKED.match(row.text)
    return match[0].strip() if match else ""


def _without_marks(page: list[_Item]) -> list[_Item]:
    """The rows without the raised marks that refer to notes on the same page."""
    marks = {_marked(item.row) for item in page if item.kind is Kind.ASIDE} - {""}
    cleaned = []
    for item in page:
        size = item.row.size
        words = tuple(
            word
            for index, word in enumerate(item.row.words)
            if not (
                index
                and word.text.strip(",") in marks
                and word.size < 0.85 * size
                and word.base > item.row.base + 0.15 * size
            )
        )
        cleaned.append(replace(item, text=replace(item.row, words=words).text) if words else item)
    return cleaned


def _with_captions(page: list[_Item], usual: _Measures) -> list[_Item]:
    """Captions, and what they stand under or over, made asides: text flows around them."""
    found = list(page)
    index = 0
    while index < len(page):
        if found[index].kind is not Kind.TEXT or not _is_caption(page, index, usual):
            index += 1
            continue
        end = index + 1
        while end < len(page) and _continues_caption(page, index, end, usual):
            end += 1
        for at in range(index, end):
            found[at] = replace(page[at], kind=Kind.ASIDE, opens=at == index)
        for beside in (range(index - 1, -1, -1), range(end, len(page))):
            for at in takewhile(lambda at: found[at].kind is Kind.TEXT and _is_drawn(page, at, usual), beside):
                if page[at].row.block != page[index].row.block:
                    break
                found[at] = replace(page[at], kind=Kind.ASIDE, opens=True)
        index = end
    return found


def _is_caption(page: Sequence[_Item], index: int, usual: _Measures) -> bool:
    item = page[index]
    match = _CAPTION.match(item.text)
    if match is None or not item.text[0].isupper():
        return False
    differs = abs(item.row.size - usual.size) > 0.06 * usual.size or item.row.words[0].font != usual.font
    stands_apart = 1.15 * usual.leading < item.gap < 100
    if match["end"] is None:
        return differs and item.row.size < _SMALLER * usual.size and index > 0
    return differs or stands_apart or item.gap >= 100


def _continues_caption(page: Sequence[_Item], first: int, index: int, usual: _Measures) -> bool:
    item, head = page[index], page[first]
    if item.row.block != head.row.block or abs(item.row.size - head.row.size) > 0.04 * usual.size:
        return False
    pitch = page[first + 1].gap if page[first + 1].row.block == head.row.block else item.gap
    return item.gap <= min(1.15 * pitch, 1.4 * usual.leading) and not _is_caption(page, index, usual)


def _is_drawn(page: Sequence[_Item], index: int, usual: _Measures) -> bool:
    """Whether a row is one of a table or of the letters in a drawing, and no prose."""
    item = page[index]
    if item.is_bold and not item.row.wide_gaps():
        return False
    if item.row.size < 0.9 * usual.size:
        return True
    words = sum(sum(c.isalpha() for c in word.text) > 1 for word in item.row.words)
    if item.row.wide_gaps() > 0:
        return not item.is_filled or words < 2  # words are spread to fill a line
    if index and item.gap < 1.12 * usual.leading and page[index - 1].width_share > 0.6:
        return False  # the last words of a paragraph
    if _ENDS_SENTENCE.search(item.text) and abs(item.row.size - usual.size) < 0.3:
        return False  # the same, at the top of a column
    return words < 3 and item.width_share < 0.5


def _opened(items: list[_Item], usual: _Measures) -> list[_Item]:
    """The items, with those marked that open a paragraph."""
    found: list[_Item] = []
    before: _Item | None = None
    for index, item in enumerate(items):
        if item.kind is Kind.ASIDE:
            found.append(item)
            continue
        following = items[index + 1] if index + 1 < len(items) else None
        found.append(replace(item, opens=before is None or _opens(item, before, following, usual)))
        before = item
    return found


def _opens(item: _Item, before: _Item, following: _Item | None, usual: _Measures) -> bool:
    if abs(item.row.size - before.row.size) > 0.08 * usual.size:
        return True
    ended = bool(_ENDS_SENTENCE.search(before.text))
    first = item.row.words[0]
    was_short = before.row.column[1] - before.row.right > first.right - first.left + 0.5 * usual.size
    indent = _INDENT * usual.size
    left = item.row.left
    if item.row.block != before.row.block or item.page != before.page:
        indented = (
            following is not None and following.row.block == item.row.block and left > following.row.left + indent
        )
        return ended and (was_short or indented)
    if item.gap > _PARAGRAPH_GAP * usual.leading:
        return True
    return (left > before.row.left + indent and (ended or was_short)) or (ended and was_short)


def _facts(items: Sequence[_Item], usual: _Measures) -> list[headings.Fact]:
    facts = []
    for index, item in enumerate(items):
        following = items[index + 1] if index + 1 < len(items) else None
        below = following.gap if following is not None else 100.0
        facts.append(
            headings.Fact(
                text=item.text,
                page=item.page,
                can_be=item.kind is Kind.TEXT,
                is_larger=item.row.size > _LARGER * usual.size,
                is_smaller=item.row.size < _SMALLER * usual.size,
                is_bold=item.is_bold,
                is_other_font=item.font != usual.font,
                size=item.row.size,
                is_short=item.width_share < 0.9,
                is_apart=item.gap > 1.12 * usual.leading,
                is_tight=0 < item.gap * usual.size < 1.3 * max(usual.leading, 1.2) * item.row.size,
                is_apart_below=below > 1.12 * usual.leading,
                is_table_row=item.row.wide_gaps(0.9) > 1,
            )
        )
    return facts


def _merged(marks: Sequence[headings.Mark], items: Sequence[_Item]) -> list[Line]:
    """The lines; a heading of several rows is one line."""
    lines: list[Line] = []
    for mark, item in zip(marks, items, strict=True):
        kind = item.kind
        if kind is Kind.TEXT and mark is not headings.Mark.NONE:
            kind = Kind.HEADING
        if mark is headings.Mark.GOES_ON:
            lines[-1] = replace(lines[-1], text=f"{lines[-1].text} {item.text}")
            continue
        lines.append(Line(item.text, item.page, item.opens or kind is Kind.HEADING, item.row.size, kind))
    return lines
