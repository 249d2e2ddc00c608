"""Access to the database: SQLAlchemy for people's code and reads, the bare driver for the hot path.

Two doors to one database:

- `begin()` and `connect()` give SQLAlchemy connections (write transaction, read): steps, migrations, reports.
- `transaction()`, `autocommit()` and `retrying()` run `Statement`s on a driver connection that this thread keeps.
  Claims and completions go through it; SQLAlchemy's cost per statement was the largest single cost of a step when it
  was measured.

Connections are keyed by process: a forked worker child never touches a socket of its parent. SQLite wants more: its
file locks are the process's, but its table of them is memory that a child inherits, so a child forked while a
connection was open would hold locks that are none. Threads of a process that forks hold `fork_lock` while they use the
database; a fork takes the same lock and closes SQLite's connections first.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

import psycopg
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlalchemy.pool import NullPool

from workflows.db import sessions
from workflows.db.clock import Clock
from workflows.model.errors import DatabaseUnavailableError

Dialect = Literal["sqlite", "postgresql"]
Row = tuple[Any, ...]
Params = Mapping[str, Any]
T = TypeVar("T")

_BUSY_TIMEOUT_SECONDS = 20.0
_NAMED = re.compile(r"(?<![:\w]):(\w+)(\[\])?")
_RETRIED_STATES = frozenset(
    {
        "40001",  # serialization failure
        "40P01",  # deadlock
        "55P03",  # lock timeout
        "25P03",  # cut off because it was idle in a transaction; psycopg calls this an internal error
    }
)

_SQLITE_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    f"busy_timeout={int(_BUSY_TIMEOUT_SECONDS * 1000)}",
    "cache_size=-16000",
    "temp_store=MEMORY",
)


class Statement:
    """SQL in one text for both databases, translated once.

    `:name` is a parameter, `IN :name[]` a list of integers or texts, `{now}` the database's clock in seconds
    since 1970.
    """

    __slots__ = ("_lists", "_texts", "sql")

    def __init__(self, sql: str) -> None:
        self.sql = sql
        self._lists = tuple(name for name, many in _NAMED.findall(sql) if many)
        self._texts: dict[Dialect, str] = {
            "sqlite": _NAMED.sub(
                lambda m: f"(SELECT value FROM json_each(:{m[1]}))" if m[2] else m[0],
                sql.replace("{now}", "db_now()"),
            ),
            "postgresql": _NAMED.sub(
                lambda m: f"%({m[1]})s",
                re.sub(r"IN :(\w+)\[\]", r"= ANY(:\1)", sql.replace("%", "%%")),
            ).replace("{now}", "extract(epoch FROM clock_timestamp())::double precision"),
        }

    def text(self, dialect: Dialect) -> str:
        """The text that this database's driver takes."""
        return self._texts[dialect]

    def bind(self, dialect: Dialect, params: Params) -> Params:
        """The parameters as this database's driver takes them."""
        if dialect == "postgresql" or not self._lists:
            return params
        return {
            **params,
            **{name: json.dumps(list(params[name])) for name in self._lists},
        }


class Transaction:
    """Statements on one driver connection, inside one transaction."""

    __slots__ = ("_connection", "_dialect")

    def __init__(self, connection: Any, dialect: Dialect) -> None:
        self._connection = connection
        self._dialect = dialect

    @property
    def dialect(self) -> Dialect:
        """`sqlite` or `postgresql`."""
        return self._dialect

    def rows(self, statement: Statement, params: Params = {}) -> list[Row]:  # noqa: B006 - never written to
        """Run a statement that answers rows."""
        cursor = self._connection.execute(statement.text(self._dialect), statement.bind(self._dialect, params))
        found: list[Row] = cursor.fetchall()
        return found

    def row(self, statement: Statement, params: Params = {}) -> Row | None:  # noqa: B006 - never written to
        """The first row, None when there is none."""
        found = self.rows(statement, params)
        return found[0] if found else None

    def run(self, statement: Statement, params: Params = {}) -> int:  # noqa: B006 - never written to
        """Run a statement that answers no rows; the number of rows it changed."""
        cursor = self._connection.execute(statement.text(self._dialect), statement.bind(self._dialect, params))
        changed: int = cursor.rowcount
        return changed

    def many(self, statement: Statement, params: Sequence[Params]) -> None:
        """Run a statement once for each of `params`; one round trip in all on PostgreSQL."""
        if params:
            cursor = self._connection.cursor()
            cursor.executemany(statement.text(self._dialect), params)
            cursor.close()


class Database:
    """One database, from any thread of any process.

    Args:
        url: SQLAlchemy URL of SQLite or PostgreSQL.
        clock: This process's time. SQLite is on one machine, so it is also what SQLite answers to `now`.

    Raises:
        DatabaseUnavailableError: the URL names another kind of database, or a file that cannot be made.
    """

    def __init__(self, url: str, clock: Clock = time) -> None:
        self.url = url
        self.clock = clock
        try:
            self._parsed = make_url(url)
        except ArgumentError:
            raise DatabaseUnavailableError(
                "DATABASE_URL is no database URL",
                "use sqlite:///path/to/file.db or postgresql://user@host/name",
            ) from None
        backend = self._parsed.get_backend_name()
        if backend not in ("sqlite", "postgresql"):
            raise DatabaseUnavailableError(
                f"DATABASE_URL names {backend!r}",
                "Celeriac works on SQLite (sqlite:///file) and PostgreSQL",
            )
        self.dialect: Dialect = "sqlite" if backend == "sqlite" else "postgresql"
        self._engines: dict[tuple[int, bool], Engine] = {}
        self._local = threading.local()
        self._lock = threading.Lock()
        self._open_files: weakref.WeakSet[_SqliteConnection] = weakref.WeakSet()
        self.fork_lock = threading.RLock()
        _databases.add(self)

    @cached_property
    def path(self) -> Path | None:
        """The file of a SQLite database."""
        return Path(self._parsed.database or "") if self.dialect == "sqlite" else None

    # SQLAlchemy's door

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A write transaction (BEGIN IMMEDIATE on SQLite), committed at exit, rolled back on an error."""
        with self._engine(read_only=False).begin() as connection:
            yield connection

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """A connection for reading; it sees what is committed, and blocks nobody."""
        with self._engine(read_only=True).connect() as connection:
            yield connection

    def _engine(self, *, read_only: bool) -> Engine:
        key = (os.getpid(), read_only)
        with self._lock:
            engine = self._engines.get(key)
            if engine is None:
                engine = self._engines[key] = self._make_engine(read_only=read_only)
            return engine

    def _make_engine(self, *, read_only: bool) -> Engine:
        try:
            if self.dialect == "postgresql":
                engine = create_engine(
                    self._parsed, pool_pre_ping=True, pool_size=2, max_overflow=20, connect_args=sessions.OPTIONS
                )
                event.listen(engine, "connect", lambda connection, _: sessions.configure(connection, sessions.NOTICE))
                return engine
            engine = create_engine(
                self._parsed,
                connect_args={"timeout": _BUSY_TIMEOUT_SECONDS},
                poolclass=NullPool,
            )
        except (ArgumentError, NoSuchModuleError, ImportError) as error:
            raise DatabaseUnavailableError(f"DATABASE_URL cannot be used: {error}") from error
        begin = "BEGIN" if read_only else "BEGIN IMMEDIATE"

        @event.listens_for(engine, "connect")
        def configure(connection: sqlite3.Connection, _record: object) -> None:
            self._configure_file(connection)

        @event.listens_for(engine, "begin")
        def start(connection: Connection) -> None:
            connection.exec_driver_sql(begin)

        return engine

    # The bare driver's door

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """A short write transaction on this thread's own connection."""
        connection = self._connection()
        try:
            connection.execute("BEGIN IMMEDIATE" if self.dialect == "sqlite" else "BEGIN")
            yield Transaction(connection, self.dialect)
            connection.execute("COMMIT")
        except BaseException:
            self._roll_back(connection)
            raise

    @contextmanager
    def autocommit(self) -> Iterator[Transaction]:
        """Each statement is a transaction of its own: one round trip; for reads and for one guarded update."""
        connection = self._connection()
        try:
            yield Transaction(connection, self.dialect)
        except BaseException:
            self._roll_back(connection)
            raise

    def retrying(
        self, work: Callable[[Transaction], T], *, patience_seconds: float = 60.0, autocommit: bool = False
    ) -> T:
        """Run `work` in a transaction; once more as a whole when the database was away, busy or broke a deadlock.

        `work` must be repeatable: it decides on nothing but what it reads in this transaction.

        Args:
            patience_seconds: How long to go on trying.
            autocommit: Without BEGIN and COMMIT, for work that is a single statement or only reads.

        Raises:
            DatabaseUnavailableError: it did not succeed within `patience_seconds`.
        """
        give_up = self.clock.monotonic() + patience_seconds
        pause = 0.02
        while True:
            try:
                with self.autocommit() if autocommit else self.transaction() as tx:
                    return work(tx)
            except (psycopg.Error, sqlite3.Error) as error:
                if not is_passing(error):
                    raise
                if self.clock.monotonic() + pause > give_up:
                    raise DatabaseUnavailableError(
                        f"the database did not answer for {patience_seconds:.0f} s: {error}",
                        "check DATABASE_URL and that the database runs and has room",
                    ) from error
                self.clock.sleep(pause)
                pause = min(pause * 2, 1.0)

    def guarded(
        self, work: Callable[[Transaction], T], *, patience_seconds: float = 5.0, autocommit: bool = False
    ) -> T:
        """`retrying` for a thread of a process that forks: no fork happens meanwhile. With little patience."""
        with self.fork_lock:
            return self.retrying(work, patience_seconds=patience_seconds, autocommit=autocommit)

    def wrap(self, connection: Connection) -> Transaction:
        """A `Transaction` over the driver connection of a SQLAlchemy transaction that is already open."""
        return Transaction(connection.connection.driver_connection, self.dialect)

    def close(self) -> None:
        """Close what this thread and this process hold."""
        connection = getattr(self._local, "connection", None)
        if connection is not None and self._local.pid == os.getpid():
            connection.close()
        self._local = threading.local()
        for (pid, _), engine in list(self._engines.items()):
            engine.dispose(close=pid == os.getpid())
        self._engines.clear()

    def _connection(self) -> Any:
        local = self._local
        connection = getattr(local, "connection", None)
        if connection is None or local.pid != os.getpid() or connection.closed:
            local.connection, local.pid = self._open(), os.getpid()
        return local.connection

    def _open(self) -> Any:
        if self.dialect == "sqlite":
            return self._open_file()
        return sessions.open_session(self._parsed.set(drivername="postgresql").render_as_string(hide_password=False))

    def _open_file(self) -> _SqliteConnection:
        assert self.path is not None
        try:
            connection = sqlite3.connect(
                self.path,
                timeout=_BUSY_TIMEOUT_SECONDS,
                isolation_level=None,
                cached_statements=512,
                check_same_thread=False,  # the thread that forks closes it
                factory=_SqliteConnection,
            )
        except sqlite3.OperationalError as error:
            raise DatabaseUnavailableError(
                f"cannot open the database file {self.path}: {error}", "check that its folder exists and is writable"
            ) from error
        self._configure_file(connection)
        self._open_files.add(connection)
        return connection

    def _configure_file(self, connection: sqlite3.Connection) -> None:
        connection.isolation_level = None
        connection.create_function("db_now", 0, self.clock.time)
        for pragma in _SQLITE_PRAGMAS:
            connection.execute(f"PRAGMA {pragma}").fetchall()

    def _roll_back(self, connection: Any) -> None:
        try:
            if self.dialect == "sqlite":
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            elif not connection.closed and connection.info.transaction_status != 0:
                connection.execute("ROLLBACK")
        except (psycopg.Error, sqlite3.Error):
            connection.close()
            self._local.connection = None

    def before_fork(self) -> None:
        """Wait until no thread uses the database, and close SQLite's connections: they are opened again when needed."""
        self.fork_lock.acquire()
        for connection in list(self._open_files):
            connection.close()

    def after_fork_in_child(self) -> None:
        """Forget the parent's connections: its sockets must be neither used nor closed here."""
        _inherited.append((self._local, self._engines))
        self._local = threading.local()
        self._engines = {}
        self._lock = threading.Lock()
        self.fork_lock = threading.RLock()


class _SqliteConnection(sqlite3.Connection):
    """Knows whether it was closed, as psycopg's connections do."""

    closed = False

    def close(self) -> None:
        self.closed = True
        super().close()


_databases: weakref.WeakSet[Database] = weakref.WeakSet()
_inherited: list[object] = []
_forking: list[Database] = []


def _before_fork() -> None:
    _forking[:] = sorted(_databases, key=id)
    for database in _forking:
        database.before_fork()


def _after_fork_in_parent() -> None:
    for database in reversed(_forking):
        database.fork_lock.release()
    _forking.clear()


def _after_fork_in_child() -> None:
    for database in reversed(_forking):
        database.after_fork_in_child()
    _forking.clear()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)


def is_passing(error: BaseException) -> bool:
    """Whether the same transaction may succeed when tried again: busy, restarted, deadlock, dropped connection.

    Also of an error that SQLAlchemy has wrapped.
    """
    error = getattr(error, "orig", None) or error
    if isinstance(error, psycopg.Error):
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) or error.sqlstate in _RETRIED_STATES
    if isinstance(error, sqlite3.OperationalError):
        text = str(error)
        return "locked" in text or "busy" in text or "disk" in text or "full" in text
    return False
