"""The `StepContext` that a running step gets from the engine."""

from __future__ import annotations

import logging
import math
import sqlite3
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, NoReturn

import psycopg
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from workflows.db import limits, runs, units
from workflows.db.database import Transaction, is_passing
from workflows.db.units import Claim
from workflows.engine import sub_runs
from workflows.engine.outcomes import Failure, safe_text
from workflows.engine.runtime import Runtime
from workflows.model.errors import (
    CeleriacError,
    DatabaseUnavailableError,
    PermanentError,
    StepCancelledError,
    StepParked,
)
from workflows.model.policies import Rate, parse_rate
from workflows.steps.context import SubRun

LOG_LINES_PER_TRY = 1_000
LOG_LINE_LENGTH = 4_000

_log = logging.getLogger("celeriac.step")


class FencedError(CeleriacError):
    """Another worker has taken this step over: its lease ended. What this try still does is not kept."""


class EngineContext:
    """Implements `workflows.steps.StepContext` over the database. One per call."""

    def __init__(
        self,
        runtime: Runtime,
        claim: Claim,
        run_id: str,
        step_id: str,
        item_key: str | None = None,
        attempt: int | None = None,
        rates: Mapping[str, Rate] | None = None,
    ) -> None:
        self._rates = rates or {}
        self._runtime = runtime
        self._claim = claim
        self._stack = ExitStack()
        self._open: Connection | None = None
        self._asked_at = 0.0
        self._told_at = 0.0
        self.is_broken = False
        self.lines: list[dict[str, Any]] = []
        self.run_id = run_id
        self.step_id = step_id
        self.item_key = item_key
        self.attempt = claim.token if attempt is None else attempt
        self.idempotency_key = "/".join(part for part in (run_id, step_id, item_key) if part is not None)
        self.round_key = f"{self.idempotency_key}#{claim.generation}.{claim.failures}"
        self.started_at = claim.started_at
        self.parked_since = claim.parked_since
        self.log: logging.LoggerAdapter[logging.Logger] = _KeptLog(self)

    def progress(self, done: int, total: int) -> None:
        """See `StepContext.progress`."""
        now = self._runtime.clock.monotonic()
        if total <= 0 or self._claim.unit.part or self._open is not None or now - self._told_at < 1.0:
            return  # within transaction() the row is locked by ourselves, and the end is near
        self._told_at = now
        share = min(1.0, max(0.0, done / total))

        def work(tx: Transaction) -> bool:
            if not units.write_progress(tx, self._claim, share):
                return False
            runs.show_progress(tx, self._claim.unit.run_pk, share)
            return True

        if not self._runtime.database.retrying(work):
            raise FencedError(f"step '{self.step_id}' was taken over by another worker")

    def check_cancelled(self, every_seconds: float = 1.0) -> None:
        """See `StepContext.check_cancelled`."""
        now = self._runtime.clock.monotonic()
        if now - self._asked_at < every_seconds:
            return
        self._asked_at = now
        run_pk = self._claim.unit.run_pk
        if self._runtime.database.retrying(lambda tx: runs.is_cancel_requested(tx, run_pk), autocommit=True):
            raise StepCancelledError(f"run {self.run_id} was cancelled")

    def rate_limit(self, name: str, default: str | None = None) -> None:
        """See `StepContext.rate_limit`."""
        rate = self._rates.get(name)
        if rate is None and default is not None:
            rate = Rate(parse_rate(default))
        if rate is None:
            known = ", ".join(sorted(self._rates)) or "none"
            raise PermanentError(f"the definition declares no rate limit '{name}'; there is {known}")
        wait, _ = self._runtime.database.retrying(lambda tx: limits.start(tx, name, rate, math.inf))
        while wait > 0:
            pause = min(wait, 0.5)
            self._runtime.machine.sleep(pause)
            wait -= pause
            self.check_cancelled()

    def park(self, seconds: float) -> NoReturn:
        """See `StepContext.park`."""
        if self._claim.unit.part:
            raise PermanentError(f"a call of a map cannot be parked: use '{self.step_id}' in a step without for_each")
        raise StepParked(seconds)

    def run_workflow(self, workflow: str, params: Mapping[str, Any]) -> SubRun:
        """See `StepContext.run_workflow`."""
        if self._claim.unit.part:
            raise PermanentError(f"a call of a map has no run of its own: use '{self.step_id}' without for_each")
        try:
            return sub_runs.follow(self._runtime, self._claim, workflow, params)
        except sub_runs.LostClaimError as error:
            raise FencedError(f"step '{self.step_id}' was taken over by another worker") from error

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """See `StepContext.transaction`: it stays open until the engine has written the completion into it."""
        if self._open is not None or self.is_broken:
            raise CeleriacError("ctx.transaction() was entered twice", "gather all writes in one block at the end")
        try:
            with naming_absence():
                self._open = self._stack.enter_context(self._runtime.database.begin())
                self._guard(self._open)
                yield self._open
        except BaseException:
            # Whatever the step makes of the error: half of the block must not be committed with its result.
            self.is_broken = True
            self.roll_back()
            raise

    def _guard(self, connection: Connection) -> None:
        config = self._runtime.config
        tx = self._runtime.database.wrap(connection)
        if tx.dialect == "postgresql":
            # A process frozen in here would keep everybody from the rows it has locked.
            limit = int(config.lease_seconds * 1000)
            connection.exec_driver_sql(f"SET LOCAL idle_in_transaction_session_timeout = {limit}")
        if not units.hold(tx, self._claim, config.lease_seconds):
            raise FencedError(f"step '{self.step_id}' was taken over by another worker")

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """See `StepContext.read`."""
        with naming_absence(), self._runtime.database.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """See `StepContext.write`."""
        with naming_absence(), self._runtime.database.begin() as connection:
            yield connection

    def check_whole(self) -> None:
        """Refuse the result of a step that went on although its completing transaction had failed."""
        if self.is_broken:
            raise PermanentError("the step returned a result although its ctx.transaction() had failed")

    @property
    def completing(self) -> Transaction | None:
        """The open transaction that the completion has to be written into, None when the step opened none."""
        return None if self._open is None else self._runtime.database.wrap(self._open)

    def commit(self) -> None:
        """Commit what `transaction()` opened."""
        self._open = None
        with naming_absence():
            self._stack.close()

    def roll_back(self) -> None:
        """Undo what `transaction()` opened; nothing happens when it opened nothing."""
        if self._open is not None:
            with suppress(SQLAlchemyError):
                self._open.rollback()
                self._stack.close()
            self._open = None

    def keep(self, level: str, message: str) -> None:
        """Add a line to the run's log; it is written when the try ends."""
        if len(self.lines) >= LOG_LINES_PER_TRY:
            return
        if len(self.lines) == LOG_LINES_PER_TRY - 1:
            message = f"log ends here: a try keeps {LOG_LINES_PER_TRY} lines"
        self._append(level, self._runtime.secrets.redact(message))

    def redact_values(self, text: str) -> str:
        """The JSON text of an output without secrets."""
        return self._runtime.secrets.redact_values(text)

    def keep_failure(self, failure: Failure) -> None:
        """Add the traceback of what the step raised, however much it has logged before: its last lines tell most."""
        if not failure.is_cancellation:
            self._append("ERROR", failure.traceback.rstrip()[-LOG_LINE_LENGTH:])

    def _append(self, level: str, message: str) -> None:
        unit = self._claim.unit
        self.lines.append(
            {
                "run": unit.run_pk,
                "ordinal": unit.ordinal,
                "item_key": self.item_key,
                "attempt": self.attempt,
                "at": self._runtime.clock.time(),
                "level": level,
                "message": safe_text(message)[:LOG_LINE_LENGTH],
            }
        )


@contextmanager
def naming_absence() -> Iterator[None]:
    """A database that is away, locked or broke a deadlock is no fault of the step: it is tried again uncounted."""
    try:
        yield
    except (SQLAlchemyError, psycopg.Error, sqlite3.Error) as error:
        if is_passing(error):
            raise DatabaseUnavailableError(f"the database was away or busy: {error}") from error
        raise


class _KeptLog(logging.LoggerAdapter[logging.Logger]):
    """Logs to the process's log and keeps the line with the run."""

    def __init__(self, context: EngineContext) -> None:
        super().__init__(_log, {})
        self._context = context

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        return f"[{self._context.idempotency_key}] {msg}", kwargs

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        if level >= logging.INFO:
            try:
                text = str(msg) % args if args else str(msg)
            except (TypeError, ValueError):
                text = f"{msg} {args}"
            self._context.keep(logging.getLevelName(level), text)
        super().log(level, msg, *args, **kwargs)
