"""What a search may be narrowed to, before anything is ranked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, func, or_, select

from pipeline.tables import entries, paper_records, papers
from workflows.model.errors import CeleriacError


class SearchError(CeleriacError):
    """The search was asked something that it cannot answer."""


@dataclass(frozen=True, slots=True)
class Filters:
    """Which papers, and which parts of them, are searched; what is None narrows nothing.

    Attributes:
        year_from: First year of publication, inclusive; papers without a year are then left out.
        year_to: Last year, inclusive.
        source: Kind of source: `local`, `arxiv` ...; a paper that several sources have is found under each.
        section: Part of a section's heading, in any case: `method` finds "2 Materials and Methods".

    Raises:
        SearchError: the years end before they begin.
    """

    year_from: int | None = None
    year_to: int | None = None
    source: str | None = None
    section: str | None = None

    def __post_init__(self) -> None:
        if self.year_from is not None and self.year_to is not None and self.year_from > self.year_to:
            raise SearchError(f"no year is from {self.year_from} and to {self.year_to}; exchange the two")

    def __bool__(self) -> bool:
        return any(value is not None for value in (self.year_from, self.year_to, self.source, self.section))

    def conditions(self) -> Sequence[ColumnElement[bool]]:
        """What an entry must fulfil, in SQL."""
        found: list[ColumnElement[bool]] = []
        of_paper: list[ColumnElement[bool]] = []
        if self.year_from is not None:
            of_paper.append(papers.c.year >= self.year_from)
        if self.year_to is not None:
            of_paper.append(papers.c.year <= self.year_to)
        if self.source is not None:
            described = select(paper_records.c.paper_id).where(paper_records.c.source == self.source)
            of_paper.append(or_(papers.c.source == self.source, papers.c.id.in_(described)))
        if of_paper:
            found.append(entries.c.paper_id.in_(select(papers.c.id).where(*of_paper)))
        if self.section is not None:
            found.append(func.lower(entries.c.section).contains(self.section.lower(), autoescape=True))
        return found


EVERYTHING = Filters()
