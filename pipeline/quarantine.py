"""Papers that were set aside: which, why, and which of them may be read once more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, func, select

from pipeline.tables import papers, slices
from pipeline.text.faults import Code
from workflows.model.errors import CeleriacError, NotFoundError

WORKFLOW = "process-papers"
"""The definition that reads papers once more."""

MAX_LISTED = 1000
MAX_REDRIVEN = 10_000
"""Their ids fit into the params of one run."""


_CAN_REDRIVE = papers.c.pdf_path.is_not(None) | (papers.c.quarantine_code == Code.PDF_UNAVAILABLE)


class UnknownCodeError(CeleriacError):
    """A word is no quarantine code."""


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A paper that was set aside, or whose PDF was.

    Attributes:
        code: See `pipeline.text.faults.Code`.
        quarantined_at: In seconds since 1970.
        can_redrive: Reading it once more may help; else only a fetch does, for its source gave nothing to be read.
    """

    paper_id: str
    source: str
    origin: str
    external_id: str
    title: str
    code: str
    reason: str
    quarantined_at: float | None
    can_redrive: bool


@dataclass(frozen=True, slots=True)
class Listing:
    """Papers in quarantine, the latest first; `counts` says for each code how many there are in all."""

    papers: tuple[Quarantined, ...]
    counts: dict[str, int]


@dataclass(frozen=True, slots=True)
class Redrive:
    """What a redrive will do.

    Attributes:
        paper_ids: Papers to be read once more.
        to_fetch: Papers of the choice that only a fetch can mend.
        left_out: How many more there are than one redrive takes.
    """

    paper_ids: tuple[str, ...]
    to_fetch: tuple[str, ...]
    left_out: int


def checked_code(code: str) -> str:
    """The code, if it is one.

    Raises:
        UnknownCodeError: it is none; the hint lists them.
    """
    if code not in set(Code):
        raise UnknownCodeError(f"there is no quarantine code {code[:50]!r}", f"the codes are {', '.join(sorted(Code))}")
    return code


def listed(connection: Connection, code: str | None = None, limit: int = MAX_LISTED) -> Listing:
    """Papers in quarantine, those of one code or all."""
    query = (
        select(
            papers.c.id,
            papers.c.source,
            papers.c.origin,
            papers.c.external_id,
            papers.c.title,
            func.coalesce(papers.c.quarantine_code, ""),
            papers.c.quarantine_reason,
            papers.c.quarantined_at,
            _CAN_REDRIVE,
        )
        .where(_chosen(code))
        .order_by(papers.c.quarantined_at.desc(), papers.c.id)
        .limit(limit)
    )
    found = tuple(Quarantined(*row) for row in connection.execute(query))
    by_code = select(papers.c.quarantine_code, func.count()).where(_chosen(code)).group_by(papers.c.quarantine_code)
    return Listing(found, dict(sorted((row[0] or "", row[1]) for row in connection.execute(by_code))))


def to_redrive(connection: Connection, paper_ids: Sequence[str] = (), code: str | None = None) -> Redrive:
    """The papers in quarantine that a redrive reads once more: those named, those of a code, or all.

    They stay in quarantine until they have been read: a redrive that does not come to its end loses none.

    Raises:
        NotFoundError: a paper that was named is not in quarantine.
    """
    query = (
        select(papers.c.id, _CAN_REDRIVE.label("can_redrive"))
        .where(_chosen(code))
        .order_by(papers.c.quarantined_at, papers.c.id)
    )
    wanted = list(dict.fromkeys(paper_ids))
    queries = [query.where(papers.c.id.in_(some)) for some in slices(wanted)] if wanted else [query]
    can_be_read = {row.id: bool(row.can_redrive) for one in queries for row in connection.execute(one)}
    if missing := sorted(set(wanted) - set(can_be_read)):
        where = f" with the code {code}" if code else ""
        raise NotFoundError(f"{', '.join(missing[:5])}: not in quarantine{where}", "`celeriac quarantine ls` lists it")
    again = [paper for paper, can in can_be_read.items() if can]
    left = tuple(paper for paper, can in can_be_read.items() if not can)
    return Redrive(tuple(again[:MAX_REDRIVEN]), left, max(0, len(again) - MAX_REDRIVEN))


def _chosen(code: str | None) -> ColumnElement[bool]:
    is_aside = papers.c.quarantine_reason.is_not(None)
    return is_aside if code is None else is_aside & (papers.c.quarantine_code == code)
