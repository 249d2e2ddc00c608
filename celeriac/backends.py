"""What a command works on: the database, and the broker that was named or the embedded stack of the home."""

from __future__ import annotations

import re
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workflows.model.errors import BrokerUnavailableError, DatabaseUnavailableError, NotFoundError
from workflows.settings import Config

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    from workflows.db.database import Database
    from workflows.engine.runtime import Runtime
    from workflows.stack import EmbeddedStack
    from workflows.steps.registry import StepRegistry

READ_PATIENCE_SECONDS = 5.0
"""How long a command that only reads waits for a database that is away or busy."""


@dataclass
class Backend:
    """Broker and workers of a run.

    Attributes:
        config: The settings, with the URL of the broker that is used.
        is_embedded: Whether broker and worker are those of the home.
        is_up: Whether there is a broker to publish to. An embedded one that nobody has brought up is not.
    """

    config: Config
    is_embedded: bool
    is_up: bool
    _stack: EmbeddedStack | None = None
    _starting: Future[None] | None = None

    def ready(self) -> None:
        """Wait until the broker answers, as far as it is ours to bring up.

        Raises:
            StackError: it cannot be brought up.
        """
        if self._starting is not None:
            self._starting.result()
            self._starting = None

    def keep_up(self) -> None:
        """Bring the embedded stack up again, should it have died; call it every second."""
        if self._stack is not None:
            self._stack.ensure()

    def slots(self) -> int | None:
        """Worker processes of the embedded stack; None when it is not ours."""
        status = self._stack.status() if self._stack is not None else None
        return status.slots if status else None

    @property
    def holds_stack(self) -> bool:
        """Whether this process holds the embedded stack up."""
        return self._stack is not None


@contextmanager
def backend(config: Config, *, slots: int | None = None, start: bool = True) -> Iterator[Backend]:
    """The broker of the settings; without one, the embedded stack, held up while inside when `start` says so.

    The stack comes up while the caller does other things: call `ready()` before something is published.
    """
    if config.has_explicit_broker:
        yield Backend(config, is_embedded=False, is_up=True)
        return
    from workflows.stack import EmbeddedStack, find

    stack = EmbeddedStack(config, slots)
    if not start:
        status = find(config)
        is_up = status is not None and status.broker_answers and status.phase != "stopping"
        yield Backend(Config.from_env(stack.env()), is_embedded=True, is_up=is_up)
        return
    from concurrent.futures import ThreadPoolExecutor

    with ExitStack() as cleanup:
        cleanup.callback(_leave, stack)
        # Left first: a start on its way comes to its end before the stack is closed.
        starter = cleanup.enter_context(ThreadPoolExecutor(1, "stack"))
        yield Backend(Config.from_env(stack.env()), True, True, stack, starter.submit(stack.start))


def _leave(stack: EmbeddedStack) -> None:
    """Stop using the stack; its last user waits, a few seconds, until nothing of it runs any more."""
    from celeriac.output import console

    err = console(err=True)
    if not err.is_terminal:
        stack.close()
        return
    with err.status("[dim]leaving the embedded stack", spinner_style="dim"):
        stack.close()


def runtime_of(config: Config, steps: StepRegistry | None = None) -> Runtime:
    """A runtime that publishes and writes; without `steps`, one that knows none, which is enough to control runs.

    Raises:
        BrokerUnavailableError: the broker's URL cannot be used by any transport.
        DatabaseUnavailableError: the database's URL cannot be used.
    """
    import logging

    from workflows.db.database import Database
    from workflows.engine.app import make_app
    from workflows.engine.runtime import Runtime
    from workflows.engine.signing import signer_of_database
    from workflows.steps.registry import StepRegistry

    if not logging.getLogger().handlers:
        # What the engine logs is for a worker's log; here the command itself says it.
        logging.getLogger().addHandler(logging.NullHandler())
    app = make_app(config)
    remedy = "use e.g. redis://localhost:6379/0, or unset it for the embedded broker"
    if config.has_explicit_broker and "://" not in config.broker_url:
        # kombu would take it for the name of a RabbitMQ host
        raise BrokerUnavailableError(f"CELERY_BROKER_URL cannot be used: '{config.broker_url}' is no URL", remedy)
    try:
        app.connection_for_write()
        _ = app.backend
    except Exception as error:
        raise BrokerUnavailableError(
            f"CELERY_BROKER_URL or CELERY_RESULT_BACKEND cannot be used: {error}", remedy
        ) from error
    database = Database(config.database_url)
    app.signer = signer_of_database(database)
    return Runtime(config, database, app, steps if steps is not None else StepRegistry())


def prepare(database: Database) -> None:
    """Make the tables of a SQLite file or of an empty database; on a PostgreSQL in use, only check them.

    Raises:
        DatabaseUnavailableError: the database does not answer, or its tables are of another version.
    """
    from sqlalchemy import inspect
    from sqlalchemy.exc import SQLAlchemyError

    from workflows.db.migrate import require_current, upgrade

    try:
        if database.dialect == "postgresql":
            with database.connect() as connection:
                is_used = inspect(connection).has_table("job_runs")
            if is_used:
                # Others may be at work on it, perhaps of an earlier release: to change it is the operator's decision.
                require_current(database)
                return
        upgrade(database)
    except OSError as error:
        raise DatabaseUnavailableError(
            f"the folder of the database cannot be used: {error}", "set CELERIAC_HOME to a folder that you may write"
        ) from error
    except SQLAlchemyError as error:
        raise unavailable(error.__cause__ or error) from error


def check_broker(runtime: Runtime) -> None:
    """See to it that workers may be started on this broker.

    Raises:
        BrokerUnavailableError: it does not answer.
        BrokerUnsafeError: it may throw messages away.
    """
    from workflows.engine.broker import Broker

    broker = Broker(runtime.app)
    try:
        broker.check()  # what it warns about the worker says itself, in its log
    finally:
        broker.close()


@contextmanager
def reading(config: Config) -> Iterator[Database]:
    """The database, for a command that only looks: nothing is created.

    Raises:
        NotFoundError: there is no database yet.
        DatabaseUnavailableError: it cannot be read, or its tables are of another version.
    """
    import sqlite3

    import psycopg
    from sqlalchemy.exc import DBAPIError

    from workflows.db.database import Database

    database = Database(config.database_url)
    if database.path is not None and not database.path.exists():
        raise NotFoundError(
            f"there are no runs in {config.home} yet", "start one with `celeriac run`, or set CELERIAC_HOME"
        )
    try:
        yield database
    except DBAPIError as error:
        raise unavailable(error.orig or error) from error
    except (sqlite3.Error, psycopg.Error) as error:
        raise unavailable(error) from error
    finally:
        database.close()


def unavailable(error: BaseException) -> DatabaseUnavailableError:
    """What to tell when the database refuses: its tables are of another version, or it does not answer."""
    error = getattr(error, "orig", None) or error
    if re.search(r"no such (table|column)|(relation|column) .* does not exist", str(error)):
        return DatabaseUnavailableError(
            "the tables of this database are not those of this version", "run `celeriac db upgrade` once"
        )
    first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return DatabaseUnavailableError(
        f"the database cannot be used: {first_line}", "check DATABASE_URL and CELERIAC_HOME, and that it runs"
    )
