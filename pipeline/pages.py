"""Pages that a fetch has saved, and when a query was last fetched to its end: what a step goes on from."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from sqlalchemy import Connection, delete, select

from pipeline.papers import Fetched
from pipeline.tables import fetch_marks, fetch_pages, insert, now

FORGOTTEN_AFTER_SECONDS = 30 * 86_400.0
"""Pages of runs that never came to their end."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What earlier tries of a step have saved.

    Attributes:
        pages: How many.
        cursor: Where to go on; None at the beginning, and when the last page was there.
        is_done: Whether the last page is among them.
        total: Records in all, as the source said last.
        begun_at: When the first page was saved, in seconds since 1970.
    """

    pages: int = 0
    cursor: str | None = None
    is_done: bool = False
    paper_ids: tuple[str, ...] = ()
    new: int = 0
    updated: int = 0
    total: int | None = None
    begun_at: float | None = None

    def with_page(self, cursor: str | None, saved: Fetched, total: int | None) -> Progress:
        """And one page more."""
        return replace(
            self,
            pages=self.pages + 1,
            cursor=cursor,
            is_done=cursor is None,
            paper_ids=tuple(dict.fromkeys((*self.paper_ids, *saved.paper_ids))),
            new=self.new + saved.new,
            updated=self.updated + saved.updated,
            total=total,
        )


def progress(connection: Connection, run_id: str, step_id: str) -> Progress:
    """What is saved of a step's fetch."""
    of_step = (fetch_pages.c.run_id == run_id) & (fetch_pages.c.step_id == step_id)
    rows = connection.execute(select(fetch_pages).where(of_step).order_by(fetch_pages.c.number)).all()
    if not rows:
        return Progress()
    ids = dict.fromkeys(paper for row in rows for paper in json.loads(row.paper_ids))
    return Progress(
        pages=len(rows),
        cursor=rows[-1].next_cursor,
        is_done=rows[-1].next_cursor is None,
        paper_ids=tuple(ids),
        new=sum(row.new for row in rows),
        updated=sum(row.updated for row in rows),
        total=rows[-1].total,
        begun_at=rows[0].saved_at,
    )


def save(
    connection: Connection,
    run_id: str,
    step_id: str,
    number: int,
    cursor: str | None,
    saved: Fetched,
    total: int | None,
) -> None:
    """Keep a page, in the transaction that has saved its papers."""
    row = {
        "run_id": run_id,
        "step_id": step_id,
        "number": number,
        "next_cursor": cursor,
        "paper_ids": json.dumps(saved.paper_ids),
        "new": saved.new,
        "updated": saved.updated,
        "total": total,
    }
    statement = insert(connection, fetch_pages).values(**row, saved_at=now(connection))
    connection.execute(statement.on_conflict_do_nothing(index_elements=["run_id", "step_id", "number"]))


def forget(connection: Connection, run_id: str, step_id: str) -> None:
    """The fetch has come to its end: its pages are not needed any more, nor those of runs that never did."""
    of_step = (fetch_pages.c.run_id == run_id) & (fetch_pages.c.step_id == step_id)
    too_old = fetch_pages.c.saved_at < now(connection) - FORGOTTEN_AFTER_SECONDS
    connection.execute(delete(fetch_pages).where(of_step | too_old))


def mark(connection: Connection, source: str, query: str) -> float | None:
    """When the last fetch of this query that came to its end had begun, in seconds since 1970; None: there was none."""
    where = (fetch_marks.c.source == source) & (fetch_marks.c.query == query)
    return connection.execute(select(fetch_marks.c.fetched_at).where(where)).scalar_one_or_none()


def set_mark(connection: Connection, source: str, query: str, fetched_at: float) -> None:
    """A fetch of this query, begun then, has come to its end."""
    statement = insert(connection, fetch_marks).values(source=source, query=query, fetched_at=fetched_at)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["source", "query"], set_={"fetched_at": statement.excluded.fetched_at}
        )
    )
