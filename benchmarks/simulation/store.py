"""The real database, reached by a simulated process: each transaction has a border before and after it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from benchmarks.simulation.loop import Loop
from workflows.db.database import Database, Params, Row, Statement, Transaction


@dataclass
class Weather:
    """How the database is.

    Attributes:
        away_until: It does not answer before.
        lost_replies: Share of commits of which nobody hears that they went through.
    """

    away_until: float = 0.0
    lost_replies: float = 0.0
    replies_lost: int = 0


class SimulatedDatabase(Database):
    """One simulated process's way to the SQLite file."""

    def __init__(self, url: str, loop: Loop, weather: Weather) -> None:
        super().__init__(url, loop)
        self._loop = loop
        self._weather = weather
        self._is_completing = False

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """See `Database.transaction`."""
        self._enter("before transaction")
        with super().transaction() as tx:
            yield tx
        self._leave("after commit")

    @contextmanager
    def autocommit(self) -> Iterator[Transaction]:
        """See `Database.autocommit`: of several statements each is alone."""
        self._enter("before statement")
        with super().autocommit() as tx:
            yield _Singly(tx, self)
        self._leave("after statement")

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """See `Database.begin`; nobody else can write until it ends, so nobody moves."""
        self._enter("before a step's transaction")
        with super().begin() as connection:
            self._is_completing = True
            try:
                yield connection
            finally:
                self._is_completing = False
        self._leave("after a step's commit")

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """See `Database.connect`."""
        self._enter("before a step reads")
        with super().connect() as connection:
            yield connection

    def border(self, name: str) -> None:
        """Where another process may come first, unless this one holds the lock of all writers."""
        if not self._is_completing:
            self._loop.pause(name)

    def _enter(self, name: str) -> None:
        self.border(name)
        if self._loop.now < self._weather.away_until and not self._is_completing:
            raise sqlite3.OperationalError("database is locked")

    def _leave(self, name: str) -> None:
        self.border(name)
        if self._weather.lost_replies and self._loop.random.random() < self._weather.lost_replies:
            self._weather.replies_lost += 1
            self._loop.note("the reply is lost")
            raise sqlite3.OperationalError("disk I/O error: committed, but the reply was lost")

    def _configure_file(self, connection: sqlite3.Connection) -> None:
        super()._configure_file(connection)
        # Processes die here, the machine does not.
        connection.execute("PRAGMA synchronous=OFF")


class _Singly(Transaction):
    """Statements that are transactions of their own, with a border between them."""

    __slots__ = ("_database", "_is_first")

    def __init__(self, tx: Transaction, database: SimulatedDatabase) -> None:
        super().__init__(tx._connection, tx.dialect)  # noqa: SLF001 - it stands in the place of that transaction
        self._database = database
        self._is_first = True

    def rows(self, statement: Statement, params: Params = {}) -> list[Row]:  # noqa: B006 - never written to
        self._border()
        return super().rows(statement, params)

    def run(self, statement: Statement, params: Params = {}) -> int:  # noqa: B006 - never written to
        self._border()
        return super().run(statement, params)

    def many(self, statement: Statement, params: Any) -> None:
        self._border()
        super().many(statement, params)

    def _border(self) -> None:
        if not self._is_first:
            self._database.border("between statements")
        self._is_first = False
