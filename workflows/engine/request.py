"""What the worker's parent sees of a message: it learns of a child's death here, before Celery requeues the message."""

from __future__ import annotations

from typing import Any

from billiard.einfo import ExceptionInfo
from billiard.exceptions import WorkerLostError
from celery.worker.request import Request

from workflows.db.units import Unit
from workflows.engine import recovery
from workflows.engine.runtime import Runtime

_watched: list[Runtime] = []


def watch(runtime: Runtime) -> None:
    """From now on the deaths that this process sees are written to this runtime's database."""
    _watched[:] = [runtime]


class StepRequest(Request):
    """Request of `celeriac.step`: gives the step of a dead child back at once, not only when its lease ends."""

    worker_pid: int | None = None

    def on_failure(self, exc_info: ExceptionInfo, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        """See `celery.worker.request.Request.on_failure`."""
        error = exc_info.exception
        error = getattr(error, "exc", error)
        died = isinstance(error, WorkerLostError | SystemExit | KeyboardInterrupt)
        if died and _watched and self.worker_pid:
            run_pk, ordinal, *rest = self.args
            recovery.take_back_from_dead(
                _watched[0], Unit(run_pk, ordinal, rest[0] if rest else 0), self.worker_pid, f"worker lost: {error}"
            )
        return super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)
