"""Papers set for tests: text that flows over columns and pages around footnotes and figures, as printers have it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from reportlab.lib.pagesizes import A4
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.pdfmetrics import stringWidth
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas

WIDTH, HEIGHT = A4

VOCABULARY = re.findall(
    r"\w+",
    "measurement apparatus temperature gradient observation coefficient hypothesis regression distribution estimate "
    "sampling procedure laboratory experiment reproducible configuration parameter threshold sensitivity analysis "
    "significance correlation interaction participant instrument calibration uncertainty approximation convergence "
    "algorithm representation architecture transformation evaluation benchmark performance improvement efficient the a "
    "of in with for under between across without about several many most each every small large stable common early "
    "shows gives needs takes keeps yields follows suggests indicates remains becomes office difficult field reflects",
)


def prose(seed: int, sentences: int = 6) -> str:
    """Sentences like those of a paper, equal for an equal seed."""
    chance = Random(seed)
    found = []
    for _ in range(sentences):
        words = [chance.choice(VOCABULARY) for _ in range(chance.randrange(9, 22))]
        found.append(" ".join(words).capitalize() + ".")
    return " ".join(found)


@dataclass(frozen=True)
class Ink:
    """Words at a place."""

    x: float
    y: float
    text: str
    font: str
    size: float
    turned: bool = False


@dataclass
class Typesetter:
    """Sets a paper into frames, one a column, and draws it when it is `saved`.

    Args:
        notes: Footnote of a frame, by the frame's number from 0.
        floats: Caption of a figure at the top of a frame.
        running: Texts of a page's head and foot: left, middle and right of each, by the page's number from 1.
        order: Draw in the order of reading, row by row over all columns, or in none.
    """

    columns: int = 1
    size: float = 10.0
    gutter: float = 18.0
    margin: float = 72.0
    leading: float = 1.2
    font: str = "Times-Roman"
    bold: str = "Times-Bold"
    notes: Mapping[int, str] = field(default_factory=dict)
    floats: Mapping[int, str] = field(default_factory=dict)
    running: Callable[[int], tuple[str, str, str, str, str, str]] | None = None
    stamp: str = ""
    numbers_lines: bool = False
    order: str = "reading"
    indent: float = 0.0
    gap: float = 0.6

    def __post_init__(self) -> None:
        self.pages: list[list[Ink]] = []
        self._frame = -1
        self._top = HEIGHT - self.margin
        self._y = 0.0
        self._bottom = self.margin
        self._next_frame()

    @property
    def _page(self) -> list[Ink]:
        return self.pages[-1]

    @property
    def _width(self) -> float:
        width: float = (WIDTH - 2 * self.margin - (self.columns - 1) * self.gutter) / self.columns
        return width

    @property
    def _left(self) -> float:
        left: float = self.margin + (self._frame % self.columns) * (self._width + self.gutter)
        return left

    def across(self, text: str, size: float, font: str | None = None, gap: float = 1.0) -> None:
        """Text over the full width at the top of the first page, above all columns."""
        font = font or self.font
        for line, _ in _broken(text, WIDTH - 2 * self.margin, font, size, hyphenate=False):
            self._y -= 1.2 * size
            self._page.append(Ink(self.margin, self._y, line, font, size))
        self._y -= gap * size
        self._top = self._y

    def heading(self, text: str, size: float = 12.0, font: str | None = None) -> None:
        """A heading of its own; it never stands last in a frame."""
        if self._y - 4 * self.size * self.leading < self._bottom:
            self._next_frame()
        self._y -= 1.8 * size
        self._page.append(Ink(self._left, self._y, text, font or self.bold, size))
        self._y -= 0.4 * size

    def paragraph(self, text: str, size: float | None = None, font: str | None = None) -> None:
        """Justified text, words broken where they do not fit."""
        size, font = size or self.size, font or self.font
        lines = _broken(text, self._width, font, size, first_indent=self.indent)
        for number, (line, is_last) in enumerate(lines):
            if self._y - self.leading * size < self._bottom:
                self._next_frame()
            self._y -= self.leading * size
            shift = self.indent if number == 0 else 0.0
            self._justified(line, self._left + shift, self._width - shift, font, size, is_last=is_last)
        self._y -= self.gap * size

    def saved(self, path: Path) -> Path:
        """Draw all pages and write the file."""
        canvas = Canvas(str(path), pagesize=A4, invariant=1)
        for number, inks in enumerate(self.pages, start=1):
            for ink in self._ordered(inks, number):
                canvas.setFont(ink.font, ink.size)
                if ink.turned:
                    canvas.saveState()
                    canvas.translate(ink.x, ink.y)
                    canvas.rotate(90)
                    canvas.drawString(0, 0, ink.text)
                    canvas.restoreState()
                else:
                    canvas.drawString(ink.x, ink.y, ink.text)
            canvas.showPage()
        canvas.save()
        return path

    def _ordered(self, inks: list[Ink], number: int) -> list[Ink]:
        found = [*inks, *self._furniture(inks, number)]
        if self.order == "rows":
            found.sort(key=lambda ink: (-ink.y, ink.x))
        elif self.order == "none":
            Random(number).shuffle(found)
        return found

    def _furniture(self, inks: list[Ink], number: int) -> list[Ink]:
        found = []
        if self.running is not None:
            for index, text in enumerate(self.running(number)):
                y = HEIGHT - 40 if index < 3 else 36
                wide = stringWidth(text, self.font, 8)
                x = (self.margin, (WIDTH - wide) / 2, WIDTH - self.margin - wide)[index % 3]
                if text:
                    found.append(Ink(x, y, text, self.font, 8))
        if self.stamp and number == 1:
            found.append(Ink(30, 250, self.stamp, self.font, 20, turned=True))
        if self.numbers_lines:
            sides = [ink for ink in inks if not ink.turned]
            for nth, y in enumerate(sorted({ink.y for ink in sides}, reverse=True), start=1):
                count = str(nth + 60 * (number - 1))
                found.append(Ink(self.margin - 24 - stringWidth(count, self.font, 7), y, count, self.font, 7))
        return found

    def _next_frame(self) -> None:
        self._frame += 1
        if self._frame % self.columns == 0:
            self.pages.append([])
            self._top = HEIGHT - self.margin
        self._y, self._bottom = self._top, self.margin
        if note := self.notes.get(self._frame):
            lines = _broken(note, self._width, self.font, 8, hyphenate=False)
            for number, (line, _) in enumerate(reversed(lines)):
                self._page.append(Ink(self._left, self.margin + 9.5 * number, line, self.font, 8))
            self._bottom = self.margin + 9.5 * len(lines) + 8
        if caption := self.floats.get(self._frame):
            for nth in range(4):
                self._page.append(Ink(self._left + 20 + 30 * nth, self._y - 40, f"{nth * 5}", "Helvetica", 6))
            self._y -= 80
            for line, _ in _broken(caption, self._width, self.font, 9, hyphenate=False):
                self._y -= 10.5
                self._page.append(Ink(self._left, self._y, line, self.font, 9))
            self._y -= 14

    def _justified(self, line: str, x: float, width: float, font: str, size: float, *, is_last: bool) -> None:
        words = line.split(" ")
        natural = sum(stringWidth(word, font, size) for word in words)
        space = stringWidth(" ", font, size)
        if not is_last and len(words) > 1:
            space = (width - natural) / (len(words) - 1)
        for word in words:
            self._page.append(Ink(x, self._y, word, font, size))
            x += stringWidth(word, font, size) + space


def use_ligatures() -> str:
    """The name of a font that has letters for `fi` and `fl`."""
    pdfmetrics.registerFont(TTFont("Vera", "Vera.ttf"))
    return "Vera"


def _broken(
    text: str, width: float, font: str, size: float, *, hyphenate: bool = True, first_indent: float = 0.0
) -> list[tuple[str, bool]]:
    """Lines of at most `width`, each with whether it is the last."""
    lines: list[str] = []
    line = ""
    for word in text.split():
        rest = word
        while True:
            room = width - (first_indent if not lines else 0.0)
            longer = f"{line} {rest}".strip()
            if stringWidth(longer, font, size) <= room:
                line = longer
                break
            cut = _cut(line, rest, room, font, size) if hyphenate else 0
            lines.append(f"{line} {rest[:cut]}-".strip() if cut else line)
            line, rest = "", rest[cut:]
    lines.append(line)
    return [(line, index == len(lines) - 1) for index, line in enumerate(lines)]


def _cut(line: str, word: str, width: float, font: str, size: float) -> int:
    """How many letters of a word still fit with a hyphen; 0 where no part of at least three letters does."""
    if not word.strip(".,").isalpha() or len(word) < 7:
        return 0
    for cut in range(len(word.strip(".,")) - 3, 2, -1):
        if stringWidth(f"{line} {word[:cut]}-".strip(), font, size) <= width:
            return cut
    return 0
