"""The Celery tasks of the engine, and what a worker starts beside them."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import suppress
from typing import Any

import psycopg
from celery import Celery, Task
from celery.exceptions import Ignore
from celery.platforms import EX_FAILURE
from celery.signals import celeryd_init, worker_ready, worker_shutdown, worker_shutting_down
from celery.worker import state

from workflows.db import upkeep
from workflows.db.units import Unit
from workflows.engine import launch, relaying, request
from workflows.engine.broker import Broker
from workflows.engine.canvas import EXECUTE_TASK, STEP_TASK
from workflows.engine.execution import end_over_time, execute_message, go_on
from workflows.engine.leases import LeaseKeeper
from workflows.engine.mirror import Mirror
from workflows.engine.outcomes import Outcome
from workflows.engine.reconciler import Reconciler
from workflows.engine.runtime import Runtime
from workflows.engine.signing import SigningApp, verify_all
from workflows.model.errors import BrokerUnavailableError, BrokerUnsafeError, DatabaseUnavailableError

_log = logging.getLogger(__name__)


def install(app: SigningApp, runtime: Runtime) -> None:
    """Register the engine's tasks on `app`, and let its workers keep leases and reconcile."""

    @app.task(
        name=STEP_TASK,
        bind=True,
        acks_late=True,
        reject_on_worker_lost=True,
        ignore_result=True,
        max_retries=0,
        shared=False,
        Request="workflows.engine.request:StepRequest",
    )
    def run_step(self: Task[Any, Any], run_pk: int, ordinal: int, part: int = 0) -> None:
        """Run one unit of work. Returns nothing: outputs live in SQL."""
        redelivered = bool((self.request.delivery_info or {}).get("redelivered"))
        relay = relaying.of_message(runtime, self.request, run_pk)
        unit = Unit(run_pk, ordinal, part)
        if execute_message(runtime, unit, is_redelivered=redelivered, relay=relay) is not Outcome.RETURN:
            raise Ignore
        relaying.leave_to_celery(runtime, self.request, run_pk, relay)

    @app.task(
        name=EXECUTE_TASK,
        bind=True,
        acks_late=True,
        reject_on_worker_lost=True,
        ignore_result=True,
        max_retries=0,
        shared=False,
        Request="workflows.engine.request:RunRequest",
    )
    def execute_research_job(self: Task[Any, Any], run_pk: int) -> None:
        """Start a run: its steps become rows, and the first fragments are published or begun with."""
        relay = relaying.of_message(runtime, self.request, run_pk)
        if launch.start_run(runtime, run_pk, relay) and go_on(runtime, run_pk, relay) is Outcome.RETURN:
            relaying.leave_to_celery(runtime, self.request, run_pk, relay)

    _attend_workers(app, runtime)


def _attend_workers(app: SigningApp, runtime: Runtime) -> None:
    threads: list[LeaseKeeper | Reconciler | Mirror] = []

    @celeryd_init.connect(weak=False)
    def be_careful(instance: Any, **_: Any) -> None:
        if instance.app is not app:
            return
        verify_all(app)
        # Before the pool forks, so that no child reads it again. Without a database or tables it is read later.
        with suppress(DatabaseUnavailableError, psycopg.Error, sqlite3.Error):
            app.signer.load()

    @worker_ready.connect(weak=False)
    def begin(sender: Any, **_: Any) -> None:
        if sender.app is not app:
            return
        if trouble := _trouble(app, runtime):
            _log.critical("this worker must not start: %s", trouble)
            state.should_stop = EX_FAILURE
            return
        slots = int(getattr(sender.pool, "num_processes", None) or getattr(sender.pool, "limit", None) or 1)
        queues = tuple(app.amqp.queues.consume_from)
        request.watch(runtime)
        keeper = LeaseKeeper(runtime, slots, queues, request.in_progress, end_over_time)
        reconciler = Reconciler(runtime, Broker(app))

        def sends_events() -> bool:
            dispatcher = sender.event_dispatcher
            return dispatcher.enabled and (not dispatcher.groups or "task" in dispatcher.groups)

        threads.extend([keeper, reconciler, Mirror(runtime, lambda: reconciler.is_leading, sends_events)])
        for thread in threads:
            thread.start()

    @worker_shutting_down.connect(weak=False)
    def wind_down(**_: Any) -> None:
        # Steps that still run keep their leases: the keeper goes on until the worker is gone.
        for thread in threads:
            thread.leave()

    @worker_shutdown.connect(weak=False)
    def end(**_: Any) -> None:
        for thread in threads:
            thread.stop()
        for thread in threads:
            thread.join(timeout=5.0)
        launch.leave(runtime)


def _trouble(app: Celery, runtime: Runtime) -> str:
    """Why a worker must not take messages from this broker, or not for this database; empty when it may."""
    if not upkeep.has_tables(runtime.database):
        return "the database has no tables yet, or those of another version: run `celeriac db upgrade`"
    broker = Broker(app)
    try:
        if caution := broker.check():
            _log.warning("%s", caution)
    except BrokerUnsafeError as error:
        return f"{error}; {error.hint}"
    except BrokerUnavailableError as error:
        _log.warning("%s", error)  # it has gone again; the worker waits for its return
    finally:
        broker.close()
    return ""
