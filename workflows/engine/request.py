"""What the worker's parent sees of a message: it learns of a child's death here, before Celery requeues the message."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from billiard.einfo import ExceptionInfo
from billiard.exceptions import WorkerLostError
from celery.worker.request import Request
from celery.worker.state import active_requests

from workflows.db.units import Unit
from workflows.engine import recovery
from workflows.engine.runtime import Runtime

_watched: list[Runtime] = []


def watch(runtime: Runtime) -> None:
    """From now on the deaths that this process sees are written to this runtime's database."""
    _watched[:] = [runtime]


def in_progress() -> set[tuple[Unit | None, int]]:
    """Units whose messages this worker has in progress, None for one that starts a run, and who runs them."""
    while True:
        try:
            requests = list(active_requests)
            break
        except RuntimeError:  # the set changed while it was read: the worker's main thread has gone on
            continue
    return {
        (unit_of(request.args) if isinstance(request, StepRequest) else None, request.worker_pid)
        for request in requests
        if isinstance(request, StepRequest | RunRequest)
    }


def unit_of(args: Sequence[int]) -> Unit:
    """The unit that a message's arguments name."""
    run_pk, ordinal, *rest = args
    return Unit(run_pk, ordinal, rest[0] if rest else 0)


class _OurRequest(Request):
    """Gives the steps of a dead child back at once, not only when their leases end."""

    worker_pid: int = 0

    def cancel(self, pool: Any, signal: Any = None, emit_retry: bool = True) -> None:
        """See `celery.worker.request.Request.cancel`: a cold shutdown kills its children before it announces itself."""
        for runtime in _watched:
            runtime.is_leaving = True
        super().cancel(pool, signal=signal, emit_retry=emit_retry)

    def on_failure(self, exc_info: ExceptionInfo, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        """See `celery.worker.request.Request.on_failure`."""
        error = exc_info.exception
        error = getattr(error, "exc", error)
        died = isinstance(error, WorkerLostError | SystemExit | KeyboardInterrupt)
        if died and _watched and self.worker_pid:
            recovery.take_back_all_from_dead(_watched[0], self.worker_pid, f"worker lost: {error}")
        return super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)


class StepRequest(_OurRequest):
    """Request of `celeriac.step`."""


class RunRequest(_OurRequest):
    """Request of `execute_research_job`: to Flower the task goes on until the run ends (`workflows.engine.mirror`)."""

    def send_event(self, type: str, **fields: Any) -> None:  # noqa: A002 - Celery's signature
        """See `celery.worker.request.Request.send_event`.

        The task itself returns. `Ignore` would send no event either, but for each exception Celery copies the code
        positions of every frame, and pickles them for the parent: 6 ms of processor time, and 0.3 MB, for each run.
        """
        if type != "task-succeeded":
            super().send_event(type, **fields)
