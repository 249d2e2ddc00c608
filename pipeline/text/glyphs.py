"""The words of a PDF's pages with their places and fonts, as PDFium tells them."""

from __future__ import annotations

import ctypes
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.text.clean import clean_line
from pipeline.text.faults import Code, UnreadablePdfError

if TYPE_CHECKING:
    import pypdfium2

MAX_GLYPHS_PER_PAGE = 200_000
MAX_GLYPHS = 10_000_000
"""Of a whole file: about as many as 3,000 full pages have."""

_SPACES = frozenset(" \t\r\n\f\v\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u3000")
_HYPHEN = 0x02  # PDFium's own mark for a hyphen at a line's end
_NEW_WORD_GAP = 0.2
_SAME_BASE = 0.1
_BOLD = re.compile(r"bold|black|heavy|demi|medi(?!um)|cmbx|sfbx|cmssbx|ptmb|phvb", re.IGNORECASE)
_SUBSET = re.compile(r"^[A-Z]{6}\+")
_BOLD_WEIGHT = 600


@dataclass(frozen=True, slots=True)
class Word:
    """Letters without a gap, in points from the lower left corner of the page as it is read.

    Attributes:
        base: The line that the letters stand on.
        size: Of the font, as printed.
        is_spaced: A space stands before it in the file.
    """

    left: float
    right: float
    base: float
    size: float
    text: str
    font: str
    is_bold: bool
    is_spaced: bool

    @property
    def bottom(self) -> float:
        """Where letters such as `p` end."""
        return self.base - 0.2 * self.size

    @property
    def top(self) -> float:
        """Where capital letters end."""
        return self.base + 0.7 * self.size


@dataclass(frozen=True, slots=True)
class Page:
    """The upright words of a page in the order of the file; `number` counts from 1."""

    number: int
    width: float
    height: float
    words: tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class _Face:
    """What the letters of one text object share; `turn` is how often it is turned by 90 degrees, None: askew."""

    size: float
    turn: int | None
    font: str
    is_bold: bool


@dataclass(frozen=True, slots=True)
class _Glyph:
    text: str
    x: float
    y: float
    end_x: float
    end_y: float
    face: _Face
    is_spaced: bool


def read_pages(document: pypdfium2.PdfDocument) -> Iterator[Page]:
    """The pages of an open PDF, one after the other.

    What stands on its side or askew (stamps, watermarks, labels of axes) is left out: most letters say what is upright.

    Raises:
        UnreadablePdfError: more letters than any paper has.
    """
    left = MAX_GLYPHS
    for number in range(1, len(document) + 1):
        page = document[number - 1]
        try:
            glyphs = _glyphs(page)
            left -= len(glyphs)
            if left < 0:
                raise UnreadablePdfError(Code.TOO_LARGE, f"it has more than {MAX_GLYPHS:,} letters")
            yield _upright(number, page.get_cropbox(), glyphs)
        finally:
            page.close()


def _glyphs(page: pypdfium2.PdfPage) -> list[_Glyph]:
    from pypdfium2 import raw

    textpage = page.get_textpage()
    try:
        handle = textpage.raw
        count = raw.FPDFText_CountChars(handle)
        if count > MAX_GLYPHS_PER_PAGE:
            raise UnreadablePdfError(Code.TOO_LARGE, f"a page has {count:,} letters, more than {MAX_GLYPHS_PER_PAGE:,}")
        faces: dict[int | None, _Face] = {}
        x, y, box = ctypes.c_double(), ctypes.c_double(), raw.FS_RECTF()
        found: list[_Glyph] = []
        is_spaced = True
        high = 0
        for index in range(count):
            code = raw.FPDFText_GetUnicode(handle, index)
            if 0xD800 <= code < 0xDC00:
                high = code
                continue
            if 0xDC00 <= code < 0xE000 and high:
                code = 0x10000 + ((high - 0xD800) << 10) + (code - 0xDC00)
            high = 0
            text = "-" if code == _HYPHEN else chr(code)
            if text in _SPACES:
                is_spaced = True
                continue
            if text < " ":
                continue
            owner = raw.FPDFText_GetTextObject(handle, index)
            key = ctypes.cast(owner, ctypes.c_void_p).value
            face = faces.get(key)
            if face is None:
                face = faces[key] = _face(raw, handle, index)
            raw.FPDFText_GetCharOrigin(handle, index, x, y)
            raw.FPDFText_GetLooseCharBox(handle, index, box)
            ends = {0: (box.right, y.value), 1: (x.value, box.top), 2: (box.left, y.value), 3: (x.value, box.bottom)}
            end = ends[face.turn or 0]
            found.append(_Glyph(text, x.value, y.value, *end, face, is_spaced))
            is_spaced = False
        return found
    finally:
        textpage.close()


def _face(raw: object, handle: object, index: int) -> _Face:
    matrix = raw.FS_MATRIX()  # type: ignore[attr-defined]
    raw.FPDFText_GetMatrix(handle, index, matrix)  # type: ignore[attr-defined]
    scale = math.hypot(matrix.c, matrix.d) or 1.0
    size = max(abs(raw.FPDFText_GetFontSize(handle, index)) * scale, 0.1)  # type: ignore[attr-defined]
    quarters = math.degrees(math.atan2(matrix.b, matrix.a)) / 90
    turn = round(quarters) % 4 if abs(quarters - round(quarters)) < 0.05 else None
    name = ctypes.create_string_buffer(200)
    flags = ctypes.c_int()
    length = raw.FPDFText_GetFontInfo(handle, index, name, len(name), flags)  # type: ignore[attr-defined]
    font = _SUBSET.sub("", name.value.decode("utf-8", "replace")) if 0 < length <= len(name) else ""
    weight = raw.FPDFText_GetFontWeight(handle, index)  # type: ignore[attr-defined]
    return _Face(size, turn, font, bool(_BOLD.search(font)) or weight >= _BOLD_WEIGHT)


def _upright(number: int, box: tuple[float, float, float, float], glyphs: list[_Glyph]) -> Page:
    turns = Counter(glyph.face.turn for glyph in glyphs if glyph.face.turn is not None)
    turn = max(turns, key=lambda one: (turns[one], one == 0)) if turns else 0
    corners = [_turned(x, y, turn) for x in (box[0], box[2]) for y in (box[1], box[3])]
    left, bottom = min(x for x, _ in corners), min(y for _, y in corners)
    width, height = max(x for x, _ in corners) - left, max(y for _, y in corners) - bottom
    words: list[Word] = []
    part: list[tuple[float, float, float, _Glyph]] = []
    for glyph in glyphs:
        if glyph.face.turn != turn:
            continue
        x, y = _turned(glyph.x, glyph.y, turn)
        end, _ = _turned(glyph.end_x, glyph.end_y, turn)
        x, y, end = x - left, y - bottom, end - left
        if not (-1 <= x <= width + 1 and -1 <= y <= height + 1):
            continue  # beside the page: nobody sees it
        if part and not _goes_on(part[-1], x, y, glyph):
            words.append(_word(part))
            part = []
        part.append((x, y, end, glyph))
    if part:
        words.append(_word(part))
    return Page(number, width, height, tuple(word for word in words if word.text))


def _turned(x: float, y: float, turn: int) -> tuple[float, float]:
    return ((x, y), (y, -x), (-x, -y), (-y, x))[turn]


def _goes_on(last: tuple[float, float, float, _Glyph], x: float, y: float, glyph: _Glyph) -> bool:
    _, base, end, before = last
    size = max(before.face.size, glyph.face.size)
    alike = min(before.face.size, glyph.face.size) > 0.85 * size
    near = -0.5 * size < x - end < _NEW_WORD_GAP * size
    return not glyph.is_spaced and alike and near and abs(y - base) <= _SAME_BASE * size


def _word(part: list[tuple[float, float, float, _Glyph]]) -> Word:
    first = part[0][3]
    faces = Counter(glyph.face for _, _, _, glyph in part)
    face = max(faces, key=lambda one: faces[one])
    left, right = min(x for x, *_ in part), max(max(x, end) for x, _, end, _ in part)
    text = "".join(glyph.text for *_, glyph in part)
    text = text if text.isascii() and text.isprintable() else clean_line(text)
    return Word(left, max(right, left + 0.1), part[0][1], face.size, text, face.font, face.is_bold, first.is_spaced)
