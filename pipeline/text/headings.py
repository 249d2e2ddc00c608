"""Which lines of a paper are headings, judged by their print and by what the paper's other headings look like."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

_NAMES = (
    "abstract|summary|introduction|background|motivation|preliminaries|related works?|literature review|prior work"
    "|problem statement|overview|materials? and methods?|methods?|methodology|approach|model|experiments?"
    "|experimental (?:setup|results|section)|implementation|evaluation|results|results and discussions?|discussions?"
    "|limitations|threats to validity|case stud(?:y|ies)|conclusions?|conclud(?:ing remarks)|conclusions? and (?:future"
    " work|outlook)|discussions? and conclusions?|summary and conclusions?|future work|outlook|acknowledge?ments?"
    "|appendix|appendices|supplementary materials?|supporting information|data availability(?: statement)?|funding"
    "|author contributions?|conflicts? of interest|competing interests|ethics(?: statement)?|(?:table of )?contents"
    "|keywords|nomenclature|notation"
)
_NUMBER = (
    r"(?:(?:section|chapter|part)\s+)?"
    r"(?:\d{1,2}(?:\.\d{1,2}){0,4}\.?|[IVXL]{1,7}\.?|[A-Z](?:\.\d{1,2})+\.?|[A-Z]\.)"
)
NAMED = re.compile(rf"(?:{_NUMBER}[\s:]+)?(?P<name>{_NAMES})\s*[:.]?", re.IGNORECASE)
"""A heading that papers usually have, with or without a number."""

NUMBERED = re.compile(rf"(?P<number>{_NUMBER})[\s:]+(?P<name>[^\W\d_a-z][^;]{{2,120}})")
"""A number and a name that begins with a capital letter."""

REFERENCES = re.compile(
    rf"(?:{_NUMBER}\s+)?(?:references|bibliography|literature cited|literature|works cited|reference list"
    r"|references cited|(?:references and notes|notes and references))\s*[:.]?",
    re.IGNORECASE,
)
CONTENTS = re.compile(r"(?:table of )?contents|list of (?:figures|tables)", re.IGNORECASE)
AFTER_REFERENCES = re.compile(
    r"(?:[A-Z]\.?\s+)?(?:appendix|appendices|annex|supplement(?:ary|al)?|supporting information)\b.{0,80}",
    re.IGNORECASE,
)
_LETTERED = re.compile(r"[A-Z]\.?\s+[^\W\d_a-z].{2,100}")
_SPACED = re.compile(r"(?:\b\w\s){3,}\w\b")
_MOST_WORDS = 16
_MOST_WORDS_PLAIN = 10
_PROSE_ROWS = 3


@dataclass(frozen=True, slots=True)
class Fact:
    """A row as it stands on paper, measured by what is usual there.

    Attributes:
        can_be: No caption, note or line of a table of contents.
        is_short: It ends before its column does.
        is_apart: A gap stands above it, or it is the first of its column.
        is_tight: It follows the row above as rows of one paragraph do.
    """

    text: str
    page: int
    can_be: bool
    is_larger: bool
    is_smaller: bool
    is_bold: bool
    is_other_font: bool
    size: float
    is_short: bool
    is_apart: bool
    is_tight: bool
    is_apart_below: bool
    is_table_row: bool

    @property
    def is_strong(self) -> bool:
        """Whether the print itself says that this is no text."""
        return self.is_larger or (self.is_bold and not self.is_smaller) or self.is_capitals

    @property
    def is_capitals(self) -> bool:
        """Whether it is written in capital letters."""
        return self.text.isupper() and sum(c.isalpha() for c in self.text) > 3

    def looks_like(self, other: Fact) -> bool:
        """Whether both are printed alike."""
        return (
            abs(self.size - other.size) < 0.4
            and self.is_bold == other.is_bold
            and self.is_other_font == other.is_other_font
            and self.is_capitals == other.is_capitals
        )


class Mark(Enum):
    """What a row is."""

    NONE = "none"
    HEADING = "heading"
    GOES_ON = "goes_on"  # a further row of the heading above


def unspaced(text: str) -> str:
    """`A B S T R A C T` as a word."""
    return _SPACED.sub(lambda match: match[0].replace(" ", ""), text)


def found(facts: Sequence[Fact]) -> list[Mark]:
    """What each row is."""
    has_printed_heads = sum(fact.can_be and fact.is_strong and _is_titled(fact) for fact in facts) >= 2
    marks: list[Mark] = []
    prose = 0
    references: Fact | None = None
    head: Fact | None = None
    for fact in facts:
        if head is not None and _goes_on(fact, head):
            marks.append(Mark.GOES_ON)
            continue
        is_head = fact.can_be and _is_heading(fact, has_prose=prose >= _PROSE_ROWS, printed=has_printed_heads)
        if is_head and references is not None:
            is_head = _ends_references(fact, references)
        if is_head:
            references = fact if REFERENCES.fullmatch(unspaced(fact.text)) else None
            prose = max(prose, _PROSE_ROWS if _is_titled(fact) else 0)
        elif fact.can_be and prose < _PROSE_ROWS:
            is_prose = not fact.is_strong and (not fact.is_short or prose > 0) and len(fact.text.split()) > 5
            prose = prose + 1 if is_prose else 0
        head = fact if is_head else None
        marks.append(Mark.HEADING if is_head else Mark.NONE)
    return marks


def _is_titled(fact: Fact) -> bool:
    text = unspaced(fact.text)
    return bool(NAMED.fullmatch(text) or REFERENCES.fullmatch(text) or NUMBERED.fullmatch(text))


def _is_heading(fact: Fact, *, has_prose: bool, printed: bool) -> bool:
    text = unspaced(fact.text)
    words = len(text.split())
    if fact.is_table_row or words > _MOST_WORDS or sum(c.isalpha() for c in text) < 3:
        return False
    named = NAMED.fullmatch(text) or REFERENCES.fullmatch(text) or CONTENTS.fullmatch(text)
    if named:
        stands_alone = fact.is_other_font or (fact.is_short and (fact.is_apart or fact.is_apart_below))
        return fact.is_strong or (not text[0].islower() and (stands_alone or not printed))
    if text[-1] in ",;-:" or (text[-1] == "." and not NUMBERED.fullmatch(text)):
        return False
    if NUMBERED.fullmatch(text) or AFTER_REFERENCES.fullmatch(text):
        if fact.is_strong or (fact.is_other_font and not fact.is_smaller and fact.is_apart):
            return True
        return not printed and words <= _MOST_WORDS_PLAIN and text[-1] != "."
    if not has_prose or not (fact.is_apart or fact.is_apart_below):
        return False
    is_printed = fact.is_larger or fact.is_bold or (fact.is_apart and fact.is_apart_below)
    return fact.is_strong and is_printed and fact.is_short and (text[0].isdigit() or text[0].isupper())


def _goes_on(fact: Fact, head: Fact) -> bool:
    text = unspaced(fact.text)
    if not (fact.can_be and fact.is_strong and fact.is_tight and fact.looks_like(head) and fact.page == head.page):
        return False
    return not (_is_titled(fact) or _is_named(head) or AFTER_REFERENCES.fullmatch(text))


def _is_named(fact: Fact) -> bool:
    text = unspaced(fact.text)
    return bool(NAMED.fullmatch(text) or REFERENCES.fullmatch(text))


def _ends_references(fact: Fact, references: Fact) -> bool:
    text = unspaced(fact.text)
    if fact.looks_like(references) and (fact.is_strong or fact.is_other_font):
        return True
    titled = AFTER_REFERENCES.fullmatch(text) or NAMED.fullmatch(text)
    return bool(titled) or (fact.is_strong and bool(_LETTERED.fullmatch(text)))
