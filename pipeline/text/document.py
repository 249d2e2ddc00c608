"""The text of a paper with its sections and pages, references left out."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.text.clean import clean, clean_line

ABSTRACT = "Abstract"
FRONT_MATTER = "Front matter"

_NAMES = (
    "abstract|summary|introduction|background|motivation|preliminaries|related work|literature review|problem statement"
    "|materials and methods|methods?|methodology|approach|model|experiments?|experimental setup|evaluation|results"
    "|results and discussion|discussion|limitations|threats to validity|case study|conclusions?"
    "|conclusions? and future work|future work|acknowledge?ments?|appendix|supplementary materials?|data availability"
    "|funding|author contributions"
)
_NAMED_HEADING = re.compile(rf"(?:(?:\d{{1,2}}|[IVX]{{1,5}})\.?\s+)?(?P<name>{_NAMES})\s*:?", re.IGNORECASE)
_NUMBERED_HEADING = re.compile(r"(?:\d{1,2}(?:\.\d{1,2}){0,3}\.?|[IVX]{1,5}\.|[A-Z]\.)\s+(?P<name>[A-Z][^.;!?]{2,70})")
_RUN_IN_ABSTRACT = re.compile(r"(?:abstract|summary)\s*[-\u2010-\u2015.:]+\s*(?P<rest>\S.*)", re.IGNORECASE)
_REFERENCES = re.compile(
    r"(?:(?:\d{1,2}|[IVX]{1,5})\.?\s+)?(?:references|bibliography|literature cited|works cited|reference list"
    r"|references and notes)\s*:?",
    re.IGNORECASE,
)
_AFTER_REFERENCES = re.compile(
    r"(?:[A-Z]\.?\s+)?(?:appendix|appendices|supplementary|supporting information)\b.{0,60}", re.IGNORECASE
)
_MAX_HEADING_WORDS = 10


@dataclass(frozen=True, slots=True)
class Line:
    """One printed line; `page` counts from 1, None where there are no pages.

    Attributes:
        opens_paragraph: A gap stands above it.
        height: Of the letters, in points; 0 where that is not known or they stand on their side.
    """

    text: str
    page: int | None = None
    opens_paragraph: bool = False
    height: float = 0.0


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
    return _Builder(ABSTRACT).build(lines)


def from_pdf_lines(lines: Iterable[Line]) -> Document:
    """The document of a PDF's lines in reading order."""
    return _Builder(FRONT_MATTER).build(lines)


class _Builder:
    """Reads lines once, top to bottom, and keeps where sections and pages start."""

    def __init__(self, first_section: str) -> None:
        self._parts: list[str] = []
        self._length = 0
        self._section: str | None = first_section
        self._section_start = 0
        self._sections: list[Section] = []
        self._pages: list[tuple[int, int]] = []
        self._hyphen = False

    def build(self, lines: Iterable[Line]) -> Document:
        for line in lines:
            self._read(line)
        self._close_section()
        return Document("".join(self._parts), _worth_searching(self._sections), tuple(self._pages))

    def _read(self, line: Line) -> None:
        broken = line.text.rstrip().endswith(("\x02", "\u00ad"))
        text = clean_line(line.text)
        if not text:
            self._break()
            return
        if line.page is not None and (not self._pages or self._pages[-1][1] != line.page):
            self._pages.append((self._length, line.page))
        if _REFERENCES.fullmatch(text):
            self._open(None)
        elif self._section is None:
            if _AFTER_REFERENCES.fullmatch(text):
                self._open(_title_case(text))
        elif (name := _heading(text)) is not None:
            self._open(name)
        elif match := _RUN_IN_ABSTRACT.fullmatch(text):
            self._open(ABSTRACT)
            self._append(match["rest"], opens_paragraph=False, broken=broken)
        else:
            self._append(text, opens_paragraph=line.opens_paragraph, broken=broken)

    def _append(self, text: str, *, opens_paragraph: bool, broken: bool) -> None:
        if self._length > self._section_start:
            if opens_paragraph and not self._hyphen:
                self._break()
            elif not self._hyphen and not (self._parts and self._parts[-1].endswith("\n")):
                self._put(" ")
        self._put(text)
        self._hyphen = broken

    def _break(self) -> None:
        if self._parts and not self._parts[-1].endswith("\n"):
            self._put("\n\n")
        self._hyphen = False

    def _open(self, name: str | None) -> None:
        self._close_section()
        self._break()
        self._section, self._section_start = name, self._length

    def _close_section(self) -> None:
        if self._section is not None and self._length > self._section_start:
            self._sections.append(Section(self._section, self._section_start, self._length))

    def _put(self, text: str) -> None:
        self._parts.append(text)
        self._length += len(text)


def _worth_searching(sections: list[Section]) -> tuple[Section, ...]:
    """Titles and affiliations above an abstract are no text to find; without an abstract they may be all there is."""
    has_abstract = any(section.name == ABSTRACT for section in sections)
    return tuple(section for section in sections if not (has_abstract and section.name == FRONT_MATTER))


def _heading(text: str) -> str | None:
    match = _NAMED_HEADING.fullmatch(text)
    if match is None:
        match = _NUMBERED_HEADING.fullmatch(text)
        if match is None or len(text.split()) > _MAX_HEADING_WORDS or text.endswith((",", "-", ":")):
            return None
    return _title_case(match["name"])


def _title_case(name: str) -> str:
    name = name.strip().rstrip(":")
    return name.capitalize() if name.isupper() or name.islower() else name
