"""The state of a run's Celery task mirrors the run, for whoever looks at `AsyncResult(task_id)` or at Flower.

A thread of the worker's parent that leads writes it to the result backend, at most once a second for each run, so no
step waits for it. Progress is written when it has changed; the end of a run is noted in the database as told, so that
it is told also when the worker dies before, and once. Flower hears of ends alone, as events: until then the task that
started the run is STARTED.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from celery import states
from celery.app.backends import by_url
from celery.exceptions import TaskRevokedError

from workflows.db import mirroring
from workflows.db.mirroring import Face
from workflows.engine.runtime import Runtime
from workflows.model.errors import CeleriacError, DatabaseUnavailableError
from workflows.model.states import State, is_terminal

_log = logging.getLogger(__name__)

TICK_SECONDS = 1.0
AFTER_ERROR_SECONDS = 5.0
OUTPUTS_BYTES = 64_000
"""Outputs that are larger are left out of the task's result: the API and the command line have them."""


_EVENTS = {states.SUCCESS: "task-succeeded", states.FAILURE: "task-failed", states.REVOKED: "task-revoked"}


class RunFailedError(CeleriacError):
    """A run ended in FAILURE; what `AsyncResult(task_id).get()` raises."""


class Mirror(threading.Thread):
    """Runs until `stop()`; survives every error, and does nothing while another worker leads."""

    def __init__(
        self, runtime: Runtime, leads: Callable[[], bool], sends_events: Callable[[], bool] = lambda: False
    ) -> None:
        """Start nothing yet.

        Args:
            leads: Whether this worker leads.
            sends_events: Whether this worker tells events of its tasks (`-E`, or Flower has asked for them).
        """
        super().__init__(name="celeriac-mirror", daemon=True)
        self._runtime = runtime
        self._leads = leads
        self._sends_events = sends_events
        # Of its own: a child that is forked meanwhile must not inherit the locks of one that it uses itself.
        backend, url = by_url(runtime.app.conf.result_backend, runtime.app.loader)
        self._backend = backend(app=runtime.app, url=url)
        self._ended = threading.Event()
        self._told: dict[int, tuple[str, int]] = {}

    def leave(self) -> None:
        """The worker is being stopped: let another one mirror."""
        self._ended.set()

    def stop(self) -> None:
        """End the thread."""
        self._ended.set()

    def run(self) -> None:
        """See `threading.Thread.run`."""
        while not self._ended.is_set():
            wait = TICK_SECONDS
            try:
                self.tick()
            except DatabaseUnavailableError as error:
                _log.info("states of runs are not mirrored: %s", error)
            except Exception as error:  # noqa: BLE001 - each result backend has errors of its own, and none matters here
                _log.warning("the result backend does not take the states of runs: %s", error)
                wait = AFTER_ERROR_SECONDS
            self._ended.wait(wait)

    def tick(self) -> None:
        """Tell what has changed, if this worker leads."""
        if not self._leads():
            self._told.clear()
            return
        database = self._runtime.database
        while ended := database.guarded(mirroring.unmirrored, autocommit=True):
            for face in ended:
                self._tell(face)
                self._told.pop(face.run_pk, None)
            database.guarded(partial(mirroring.mark, faces=ended))
        living = database.guarded(mirroring.living, autocommit=True)
        for face in living:
            shown = (face.status, face.progress)
            if self._told.get(face.run_pk) != shown:
                self._tell(face)
                self._told[face.run_pk] = shown
        wanted = {face.run_pk for face in living}
        for run_pk in [known for known in self._told if known not in wanted]:
            del self._told[run_pk]

    def _tell(self, face: Face) -> None:
        state, result = celery_state(face)
        self._backend.store_result(face.run_id, result, state)
        event = _EVENTS.get(state)
        if event is not None and self._sends_events():
            with self._runtime.app.events.default_dispatcher() as dispatcher:
                dispatcher.send(event, uuid=face.run_id, result=repr(result), exception=repr(result), retry=True)


def celery_state(face: Face) -> tuple[str, Any]:
    """The state in Celery's words, and the result or the meta that goes with it."""
    match face.status:
        case State.SUCCESS:
            outputs = face.outputs if face.outputs and len(face.outputs) <= OUTPUTS_BYTES else None
            return states.SUCCESS, {**_meta(face), "outputs": json.loads(outputs) if outputs else None}
        case State.FAILURE:
            return states.FAILURE, RunFailedError(face.error or "the run failed")
        case State.REVOKED | State.SKIPPED:
            return states.REVOKED, TaskRevokedError(face.error or "the run was cancelled")
        case _:
            assert not is_terminal(face.status)
            return State.PROGRESS.value, _meta(face)


def _meta(face: Face) -> dict[str, Any]:
    return {
        "job_run_id": face.run_id,
        "status": face.status,
        "progress": face.progress,
        "description": face.current_step,
        "current": face.steps_total - face.steps_open,
        "total": face.steps_total,
    }
