"""Lines of a PDF in the order in which a person reads them, two-column pages included."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.text.clean import clean_line
from pipeline.text.document import Line

if TYPE_CHECKING:
    import pypdfium2

MAX_PAGES = 1000
MAX_RECTANGLES_PER_PAGE = 20_000
MIN_COLUMN_LINES = 4
_PARAGRAPH_GAP = 0.8
_RUNNING_LINES_FROM_PAGES = 3
_TITLE_WITHIN_LINES = 20
_MAX_TITLE_LINES = 4
_LARGER_THAN_TEXT = 1.2
_LIKE_TITLE = 0.7  # a line without descenders is that much lower than one of the same size with them
_NUMBERS = re.compile(r"\d+")
_WORD = re.compile(r"\w\w")


class UnreadablePdfError(Exception):
    """A PDF gives no text; the message is the reason for its quarantine."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a printed line, in PDF points; `top` is greater than `bottom`."""

    left: float
    bottom: float
    right: float
    top: float
    text: str

    @property
    def height(self) -> float:
        """Height in points, never 0."""
        return max(self.top - self.bottom, 0.1)


def read_pdf(path: Path) -> list[Line]:
    """All lines of a PDF in reading order, running heads and page numbers left out.

    Raises:
        UnreadablePdfError: not a PDF, damaged, encrypted, too long, or without a text layer.
    """
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(path)
    except FileNotFoundError:
        raise UnreadablePdfError(f"the file {path.name} is gone") from None
    except (pypdfium2.PdfiumError, OSError) as error:
        raise UnreadablePdfError(f"the file {path.name} cannot be opened as a PDF: {error}") from error
    try:
        if len(document) > MAX_PAGES:
            raise UnreadablePdfError(f"the file {path.name} has {len(document)} pages, more than {MAX_PAGES}")
        pages = [_page_lines(document, number) for number in range(1, len(document) + 1)]
    except (pypdfium2.PdfiumError, ValueError, RuntimeError) as error:
        # The binding raises the latter two for values that only a damaged file holds.
        raise UnreadablePdfError(f"a page of {path.name} cannot be read: {error}") from error
    finally:
        document.close()
    lines = without_running_lines(pages)
    if not any(_WORD.search(line.text) for line in lines):
        raise UnreadablePdfError(f"the file {path.name} has no text layer (a scan?)")
    return lines


def pdf_title(path: Path, lines: Sequence[Line]) -> str:
    """The title of a PDF: what its metadata say, else the largest print near the top of its first page."""
    return _metadata_title(path) or printed_title(lines)


def printed_title(lines: Sequence[Line]) -> str:
    """The largest print among the first lines, as far as such lines follow one another; else the first line."""
    top = [line for line in lines[:_TITLE_WITHIN_LINES] if line.page == lines[0].page]
    worded = [line for line in top if len(_WORD.findall(line.text)) > 1]
    if not worded:
        return clean_line(top[0].text) if top else ""
    title = max(worded, key=lambda line: line.height)
    if title.height <= _LARGER_THAN_TEXT * statistics.median(line.height for line in lines):
        return clean_line(worded[0].text)

    def belongs(index: int) -> bool:
        return 0 <= index < len(top) and _LIKE_TITLE * title.height <= top[index].height <= title.height

    first = last = top.index(title)
    while belongs(first - 1):
        first -= 1
    while belongs(last + 1):
        last += 1
    return clean_line(" ".join(line.text for line in top[first : last + 1][:_MAX_TITLE_LINES]))


def _metadata_title(path: Path) -> str:
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(path)
    except (pypdfium2.PdfiumError, OSError):
        return ""
    try:
        title = clean_line(document.get_metadata_value("Title"))
    finally:
        document.close()
    return "" if re.search(r"\.(docx?|pdf|tex|dvi|indd)$|^untitled$", title, re.IGNORECASE) else title


def _page_lines(document: pypdfium2.PdfDocument, number: int) -> list[Line]:
    page = document[number - 1]
    text = page.get_textpage()
    try:
        boxes = [text.get_rect(index) for index in range(min(text.count_rects(), MAX_RECTANGLES_PER_PAGE))]
        segments = joined(
            Segment(left, bottom, right, top, text.get_text_bounded(left, bottom, right, top))
            for left, bottom, right, top in boxes
        )
    finally:
        text.close()
        page.close()
    return _paragraphs(reading_order(segments), number)


def joined(segments: Iterable[Segment]) -> list[Segment]:
    """Neighbours on one line made one: a change of font splits a line, the gutter between columns must stay a gap."""
    lines: list[Segment] = []
    for segment in segments:
        if not segment.text.strip():
            continue
        last = lines[-1] if lines else None
        if last is not None and _continues(last, segment):
            gap = segment.left - last.right
            space = "" if last.text.endswith((" ", "\x02")) or gap < 0.1 * last.height else " "
            lines[-1] = Segment(
                min(last.left, segment.left),
                min(last.bottom, segment.bottom),
                max(last.right, segment.right),
                max(last.top, segment.top),
                last.text + space + segment.text,
            )
        else:
            lines.append(segment)
    return lines


def _continues(last: Segment, segment: Segment) -> bool:
    overlap = min(last.top, segment.top) - max(last.bottom, segment.bottom)
    gap = segment.left - last.right
    same_line = overlap > 0.4 * min(last.height, segment.height)
    return same_line and -last.height < gap < max(last.height, segment.height)


def reading_order(segments: Sequence[Segment]) -> list[Segment]:
    """Left column before right column, between lines that run over the full width; else the order of the file."""
    gutter = find_gutter(segments)
    if gutter is None:
        return list(segments)
    ordered: list[Segment] = []
    left: list[Segment] = []
    right: list[Segment] = []
    for segment in sorted(segments, key=lambda s: (-s.top, s.left)):
        if segment.right <= gutter:
            left.append(segment)
        elif segment.left >= gutter:
            right.append(segment)
        else:
            ordered += [*left, *right, segment]
            left, right = [], []
    return [*ordered, *left, *right]


def find_gutter(segments: Sequence[Segment]) -> float | None:
    """Where the gap between two columns runs, in points from the left; None when the page has one column.

    Two columns are believed when at least four lines stand on either side, most of them beside one another, and
    less than half of all lines run across.
    """
    if len(segments) < 2 * MIN_COLUMN_LINES:
        return None
    start, end = min(s.left for s in segments), max(s.right for s in segments)
    candidates = [start + (end - start) * share / 100 for share in range(35, 66)]
    crossings = [sum(s.left < x < s.right for s in segments) for x in candidates]
    fewest = min(crossings)
    best = [x for x, count in zip(candidates, crossings, strict=True) if count == fewest]
    gutter = best[len(best) // 2]
    left = [s for s in segments if s.right <= gutter]
    right = [s for s in segments if s.left >= gutter]
    if min(len(left), len(right)) < MIN_COLUMN_LINES or 2 * fewest > len(segments):
        return None
    beside = sum(any(a.bottom < b.top and b.bottom < a.top for a in left) for b in right)
    return gutter if 2 * beside >= min(len(left), len(right)) else None


def _paragraphs(segments: Sequence[Segment], page: int) -> list[Line]:
    lines: list[Line] = []
    previous: Segment | None = None
    usual = statistics.median(s.height for s in segments) if segments else 0.0
    for segment in segments:
        gap = previous.bottom - segment.top if previous else 0.0
        text = segment.text.replace("\r", "").replace("\n", " ")
        upright = segment.right - segment.left > segment.height
        lines.append(Line(text, page, gap > _PARAGRAPH_GAP * usual, segment.height if upright else 0.0))
        previous = segment
    return lines


def without_running_lines(pages: Sequence[Sequence[Line]]) -> list[Line]:
    """All lines but page numbers and those that open or close most pages with the same words.

    The first page keeps what is not a number: later pages often repeat its title.
    """
    seen = Counter(shape for lines in pages for shape in {_shape(line) for line in (*lines[:2], *lines[-2:])})
    often = max(_RUNNING_LINES_FROM_PAGES, len(pages) // 2)
    kept: list[Line] = []
    for number, lines in enumerate(pages):
        for index, line in enumerate(lines):
            at_edge = index < 2 or index >= len(lines) - 2
            shape = _shape(line)
            repeated = number > 0 and seen[shape] >= often
            if at_edge and (repeated or shape in {"#", "- # -", "page #"}):
                continue
            kept.append(line)
    return kept


def _shape(line: Line) -> str:
    return _NUMBERS.sub("#", line.text).strip().lower()
