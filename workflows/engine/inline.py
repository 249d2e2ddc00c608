"""A run carried out by this process alone: no broker, no worker, one unit after the other.

It is the engine that workers run, and the same rows: claims, retries, timeouts, cancel. Messages are not sent, because
the database says what is ready. Workers that share the database may take a part in it, and it goes on with them should
this process end.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from celery import Celery
from celery.canvas import Signature

from workflows.db import inline, sub_runs, upkeep
from workflows.db.database import Transaction
from workflows.db.units import Unit
from workflows.engine import launch, windows
from workflows.engine.execution import execute_unit
from workflows.engine.leases import RENEWALS_PER_LEASE
from workflows.engine.runtime import Runtime
from workflows.engine.settlement import Settlement
from workflows.model.errors import DatabaseUnavailableError
from workflows.model.states import State

_log = logging.getLogger(__name__)

LONGEST_PAUSE_SECONDS = 0.5


def without_messages(runtime: Runtime) -> Runtime:
    """The same runtime, that sends nothing."""

    def publish(_app: Celery, _signatures: Iterable[Signature]) -> None:
        return

    return replace(runtime, publish=publish)


def carry_out(runtime: Runtime, run_pk: int, tick: Callable[[], bool]) -> None:
    """Carry out an accepted run until `tick`, which is called between two units, answers False.

    Args:
        runtime: One of `without_messages`.
    """
    pause = threading.Event()
    launch.start_run(runtime, run_pk)
    with _leases_kept(runtime):
        while tick():
            if not _go_on(runtime, run_pk) and not _go_on_within(runtime, run_pk):
                pause.wait(LONGEST_PAUSE_SECONDS)


def _go_on(runtime: Runtime, run_pk: int) -> bool:
    """Do what of the run is due next; whether there was something."""
    unit = runtime.database.retrying(lambda tx: inline.next_ready(tx, run_pk), autocommit=True)
    if unit is None:
        return _go_on_with_maps(runtime, run_pk)
    execute_unit(runtime, unit, is_redelivered=False)
    return True


def _go_on_within(runtime: Runtime, run_pk: int) -> bool:
    """The same for the runs that steps of this one have started, and so on."""
    family = runtime.database.retrying(lambda tx: sub_runs.open_family(tx, run_pk), autocommit=True)
    for child, status in family:
        if (status == State.PENDING and launch.start_run(runtime, child)) or _go_on(runtime, child):
            return True
    return False


def _go_on_with_maps(runtime: Runtime, run_pk: int) -> bool:
    """Give maps of which calls are due again the ranges for them; whether there was one."""
    due: list[Unit] = runtime.database.retrying(lambda tx: inline.due_maps(tx, run_pk), autocommit=True)
    context = launch.context_of(runtime, run_pk)
    plan = runtime.plan(context.version_id)
    for unit in due:

        def work(tx: Transaction, unit: Unit = unit) -> Settlement:
            return windows.top_up(tx, plan, context, unit, runtime.config.redispatch_seconds)

        runtime.database.retrying(work)
    return bool(due)


@contextmanager
def _leases_kept(runtime: Runtime) -> Iterator[None]:
    """Renew the leases of this process, which is at work on one of them, from another thread."""
    ended = threading.Event()
    seconds = runtime.config.lease_seconds

    def keep() -> None:
        while not ended.wait(seconds / RENEWALS_PER_LEASE):
            try:
                held = runtime.database.guarded(lambda tx: upkeep.leases(tx, runtime.node), autocommit=True)
                renew = partial(upkeep.renew, node=runtime.node, held=held, lease_seconds=seconds)
                runtime.database.guarded(renew)
            except DatabaseUnavailableError as error:
                _log.warning("leases are not renewed: %s", error)

    thread = threading.Thread(target=keep, name="celeriac-leases", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(10)
