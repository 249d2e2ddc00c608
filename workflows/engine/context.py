"""The `StepContext` that a running step gets from the engine."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, MutableMapping
from contextlib import ExitStack, contextmanager
from typing import Any

from sqlalchemy import Connection

from workflows.db import runs, units
from workflows.db.database import Transaction
from workflows.db.units import Claim
from workflows.engine.runtime import Runtime
from workflows.model.errors import CeleriacError, StepCancelledError

LOG_LINES_PER_TRY = 1_000
LOG_LINE_LENGTH = 4_000

_log = logging.getLogger("celeriac.step")


class FencedError(CeleriacError):
    """Another worker has taken this step over: its lease ended. What this try still does is not kept."""


class EngineContext:
    """Implements `workflows.steps.StepContext` over the database. One per call."""

    def __init__(self, runtime: Runtime, claim: Claim, run_id: str, step_id: str, item_key: str | None) -> None:
        self._runtime = runtime
        self._claim = claim
        self._stack = ExitStack()
        self._open: Connection | None = None
        self._asked_at = 0.0
        self._told_at = 0.0
        self.lines: list[dict[str, Any]] = []
        self.run_id = run_id
        self.step_id = step_id
        self.item_key = item_key
        self.attempt = claim.token
        self.idempotency_key = "/".join(part for part in (run_id, step_id, item_key) if part is not None)
        self.log: logging.LoggerAdapter[logging.Logger] = _KeptLog(self)

    def progress(self, done: int, total: int) -> None:
        """See `StepContext.progress`."""
        now = time.monotonic()
        if total <= 0 or self._claim.unit.part or now - self._told_at < 1.0:
            return
        self._told_at = now
        share = min(1.0, max(0.0, done / total))
        if not self._runtime.database.retrying(
            lambda tx: units.write_progress(tx, self._claim, share), autocommit=True
        ):
            raise FencedError(f"step '{self.step_id}' was taken over by another worker")

    def check_cancelled(self) -> None:
        """See `StepContext.check_cancelled`."""
        now = time.monotonic()
        if now - self._asked_at < 1.0:
            return
        self._asked_at = now
        run_pk = self._claim.unit.run_pk
        if self._runtime.database.retrying(lambda tx: runs.is_cancel_requested(tx, run_pk), autocommit=True):
            raise StepCancelledError(f"run {self.run_id} was cancelled")

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """See `StepContext.transaction`: it stays open until the engine has written the completion into it."""
        if self._open is not None:
            raise CeleriacError("ctx.transaction() was entered twice", "gather all writes in one block at the end")
        connection = self._stack.enter_context(self._runtime.database.begin())
        self._open = connection
        tx = self._runtime.database.wrap(connection)
        if not units.hold(tx, self._claim, self._runtime.config.lease_seconds):
            raise FencedError(f"step '{self.step_id}' was taken over by another worker")
        yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """See `StepContext.read`."""
        with self._runtime.database.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """See `StepContext.write`."""
        with self._runtime.database.begin() as connection:
            yield connection

    @property
    def completing(self) -> Transaction | None:
        """The open transaction that the completion has to be written into, None when the step opened none."""
        return None if self._open is None else self._runtime.database.wrap(self._open)

    def commit(self) -> None:
        """Commit what `transaction()` opened."""
        self._open = None
        self._stack.close()

    def roll_back(self) -> None:
        """Undo what `transaction()` opened; nothing happens when it opened nothing."""
        if self._open is not None:
            self._open.rollback()
            self._open = None
            self._stack.close()

    def keep(self, level: str, message: str) -> None:
        """Add a line to the run's log; it is written when the try ends."""
        if len(self.lines) >= LOG_LINES_PER_TRY:
            return
        unit = self._claim.unit
        if len(self.lines) == LOG_LINES_PER_TRY - 1:
            message = f"log ends here: a try keeps {LOG_LINES_PER_TRY} lines"
        text = message.encode("utf-8", "replace").decode("utf-8").replace("\x00", "\ufffd")
        self.lines.append(
            {
                "run": unit.run_pk,
                "ordinal": unit.ordinal,
                "item_key": self.item_key,
                "attempt": self.attempt,
                "at": time.time(),
                "level": level,
                "message": text[:LOG_LINE_LENGTH],
            }
        )


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
