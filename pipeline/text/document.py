"""The text of a paper with its sections and pages, references left out."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from pipeline.text.clean import clean, clean_line, composed
from pipeline.text.headings import AFTER_REFERENCES, CONTENTS, NAMED, NUMBERED, REFERENCES, unspaced
from pipeline.text.hyphens import joint, parted, vocabulary

ABSTRACT = "Abstract"
FRONT_MATTER = "Front matter"

_PLAIN_NUMBERED = re.compile(r"(?:\d{1,2}(?:\.\d{1,2}){0,3}\.?|[IVX]{1,5}\.|[A-Z]\.)\s+(?P<name>[A-Z][^.;!?]{2,70})")
_RUN_IN_ABSTRACT = re.compile(
    r"(?:abstract|summary)(?:\s*[-\u2010-\u2015.:]+\s*|\s+[-\u2010-\u2015]\s*)(?P<rest>\S.*)", re.IGNORECASE
)
_MAX_HEADING_WORDS = 10


class Kind(Enum):
    """What a line is, as far as its print tells.

    `UNKNOWN` is a line without print: its words decide. `ASIDE` is a caption or note: text flows around it.
    """

    UNKNOWN = "unknown"
    TEXT = "text"
    HEADING = "heading"
    ASIDE = "aside"
    CONTENTS = "contents"


@dataclass(frozen=True, slots=True)
class Line:
    """One printed line; `page` counts from 1, None where there are no pages.

    Attributes:
        opens_paragraph: A gap stands above it.
        height: Size of the letters, in points; 0 where that is not known.
    """

    text: str
    page: int | None = None
    opens_paragraph: bool = False
    height: float = 0.0
    kind: Kind = Kind.UNKNOWN


@dataclass(frozen=True, slots=True)
class Section:
    """A stretch `text[start:end]` of a document under one heading."""

    name: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Document:
    """Cleaned text, the sections worth searching, and where the pages start.

    Attributes:
        page_starts: `(offset, page)` in ascending order; empty where there are no pages.
    """

    text: str
    sections: tuple[Section, ...]
    page_starts: tuple[tuple[int, int], ...] = ()

    def page_at(self, offset: int) -> int | None:
        """The page on which the character at `offset` stands, from 1; None where there are no pages."""
        index = bisect_right(self.page_starts, offset, key=lambda start: start[0]) - 1
        return self.page_starts[index][1] if index >= 0 else None


def from_record(text: str) -> Document:
    """The document of a record's text: an abstract, or a full text whose headings stand on lines of their own."""
    lines = [Line(line, None, not line) for line in clean(text).split("\n")]
    return _Builder(ABSTRACT, lines).build()


def from_pdf_lines(lines: Sequence[Line]) -> Document:
    """The document of a PDF's lines in reading order."""
    return _Builder(FRONT_MATTER, lines).build()


class _Builder:
    """Reads lines once, top to bottom, and keeps where sections and pages start.

    Captions and notes wait until the paragraph that they interrupt has come to its end.
    """

    def __init__(self, first_section: str, lines: Sequence[Line]) -> None:
        self._lines = [replace(line, text=composed(clean_line(line.text.replace("\x02", "-")))) for line in lines]
        self._words = vocabulary(line.text for line in self._lines)
        self._parts: list[str] = []
        self._length = 0
        self._section: str | None = first_section
        self._section_start = 0
        self._sections: list[Section] = []
        self._pages: list[tuple[int, int]] = []
        self._broken = ""
        self._asides: list[Line] = []

    def build(self) -> Document:
        for line in self._lines:
            self._read(line)
        self._end_paragraph()
        self._close_section()
        return Document("".join(self._parts).rstrip("\n"), _worth_searching(self._sections), tuple(self._pages))

    def _read(self, line: Line) -> None:
        if not line.text:
            self._end_paragraph()
        elif line.kind is Kind.ASIDE:
            if self._section is not None:
                self._asides.append(line)
        elif (name := _heading(line, within_references=self._section is None)) is not None:
            self._open(None if _is_left_out(name) else name)
        elif self._section is None or line.kind is Kind.CONTENTS:
            return
        elif match := _RUN_IN_ABSTRACT.fullmatch(line.text):
            self._open(ABSTRACT)
            self._append(replace(line, text=match["rest"], opens_paragraph=False))
        else:
            if line.opens_paragraph and not self._broken:
                self._end_paragraph()
            self._append(line)

    def _append(self, line: Line) -> None:
        text, is_broken = parted(line.text)
        if self._broken:
            self._put(joint(self._broken, text, self._words))
        elif self._length > self._section_start and not self._parts[-1].endswith("\n"):
            self._put(" ")
        if line.page is not None and (not self._pages or self._pages[-1][1] != line.page):
            self._pages.append((self._length, line.page))
        self._put(text)
        self._broken = text if is_broken else ""

    def _end_paragraph(self) -> None:
        self._break()
        waiting, self._asides = self._asides, []
        for line in waiting:
            if line.opens_paragraph:
                self._break()
            self._append(line)
        if waiting:
            self._break()

    def _break(self) -> None:
        if self._broken:
            self._put("-")
            self._broken = ""
        if self._parts and not self._parts[-1].endswith("\n"):
            self._put("\n\n")

    def _open(self, name: str | None) -> None:
        self._end_paragraph()
        self._close_section()
        self._section, self._section_start = name, self._length

    def _close_section(self) -> None:
        if self._section is not None and self._length > self._section_start:
            trailing = len(self._parts[-1]) if self._parts[-1] == "\n\n" else 0
            self._sections.append(Section(self._section, self._section_start, self._length - trailing))

    def _put(self, text: str) -> None:
        if text:
            self._parts.append(text)
            self._length += len(text)


def _worth_searching(sections: list[Section]) -> tuple[Section, ...]:
    """Titles and affiliations above an abstract are no text to find; without an abstract they may be all there is."""
    has_abstract = any(section.name == ABSTRACT for section in sections)
    return tuple(section for section in sections if not (has_abstract and section.name == FRONT_MATTER))


def _is_left_out(name: str) -> bool:
    return bool(REFERENCES.fullmatch(name) or CONTENTS.fullmatch(name))


def _heading(line: Line, *, within_references: bool) -> str | None:
    """The name of the section that a line opens; None when it opens none."""
    text = unspaced(line.text)
    if line.kind is Kind.HEADING:
        match = NAMED.fullmatch(text) or NUMBERED.fullmatch(text)
        return _title_case(match["name"] if match else text)
    if line.kind is not Kind.UNKNOWN:
        return None
    if REFERENCES.fullmatch(text):
        return text
    if within_references:
        return _title_case(text) if AFTER_REFERENCES.fullmatch(text) else None
    match = NAMED.fullmatch(text)
    if match is None:
        match = _PLAIN_NUMBERED.fullmatch(text)
        if match is None or len(text.split()) > _MAX_HEADING_WORDS or text.endswith((",", "-", ":")):
            return None
    return _title_case(match["name"])


def _title_case(name: str) -> str:
    name = name.strip().rstrip(":.")
    return name.capitalize() if name.isupper() or name.islower() else name
