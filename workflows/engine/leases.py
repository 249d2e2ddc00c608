"""The lease-keeper: a thread of the worker's parent that renews the leases of its living children.

A child that computes keeps its lease without doing anything for it; one that is stopped or dead loses it. The keeper
also ends children that have run over the time of their step, and gives back the steps of dead ones.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable

import psutil

from workflows.db import upkeep
from workflows.db.units import Unit
from workflows.db.upkeep import Lease
from workflows.engine import recovery
from workflows.engine.runtime import Runtime
from workflows.model.errors import DatabaseUnavailableError

_log = logging.getLogger(__name__)

RENEWALS_PER_LEASE = 5
LOOK_SECONDS = 0.5
"""How often the children are looked at; the database is asked only when one has gone, or a renewal is due."""


class LeaseKeeper(threading.Thread):
    """Runs until `stop()`; survives every error of the database."""

    def __init__(
        self,
        runtime: Runtime,
        slots: int,
        queues: tuple[str, ...],
        end_over_time: Callable[[Runtime, Unit, int], bool],
    ) -> None:
        super().__init__(name="celeriac-lease-keeper", daemon=True)
        self._runtime = runtime
        self._slots = slots
        self._queues = ",".join(queues)
        self._end_over_time = end_over_time
        self._ended = threading.Event()
        self._children: set[int] = set()
        self._beat_due = 0.0

    def stop(self) -> None:
        """End the thread; leases are left to run out or to be ended by their owners."""
        self._ended.set()

    def run(self) -> None:
        """See `threading.Thread.run`."""
        lease = self._runtime.config.lease_seconds
        renewal_due = 0.0
        while not self._ended.is_set():
            try:
                children = _living_children()
                now = time.monotonic()
                if now >= renewal_due or self._children - children.keys():
                    with self._runtime.fork_lock:
                        self.renew(children)
                    renewal_due = now + lease / RENEWALS_PER_LEASE
                self._children = set(children)
            except Exception:  # noqa: BLE001 - a thread that dies here would let every lease of this worker run out
                _log.warning("the lease-keeper goes on after an error", exc_info=True)
            self._ended.wait(LOOK_SECONDS)

    def renew(self, children: dict[int, bool]) -> None:
        """One round: heartbeat, renewal, the dead and those over time.

        Args:
            children: Process ids of the living children (and this process) with whether they are running, not stopped.
        """
        runtime = self._runtime
        held = runtime.database.retrying(
            lambda tx: upkeep.leases(tx, runtime.node), autocommit=True, patience_seconds=5
        )
        running = sorted({lease.pid for lease in held if children.get(lease.pid)})
        if running:
            seconds = runtime.config.lease_seconds
            runtime.database.retrying(
                lambda tx: upkeep.renew(tx, runtime.node, running, seconds), autocommit=True, patience_seconds=5
            )
        for lease in held:
            if lease.pid not in children:
                recovery.take_back_from_dead(runtime, lease.unit, lease.pid, "worker lost: its process ended")
            elif lease.is_over_time:
                self._end(lease)
        if time.monotonic() >= self._beat_due:
            self.beat()

    def beat(self) -> None:
        """Tell the database that this worker is alive."""
        runtime = self._runtime
        runtime.database.retrying(
            lambda tx: upkeep.beat(tx, runtime.node, socket.gethostname(), os.getpid(), self._slots, self._queues),
            autocommit=True,
            patience_seconds=5,
        )
        self._beat_due = time.monotonic() + 3.0

    def _end(self, lease: Lease) -> None:
        try:
            ended = self._end_over_time(self._runtime, lease.unit, lease.token)
        except DatabaseUnavailableError:
            return
        # Only after its step was ended in SQL, and only when this child still had it: never an innocent one.
        if ended and lease.pid != os.getpid():
            os.kill(lease.pid, signal.SIGKILL)


def _living_children() -> dict[int, bool]:
    """Children of this process, and itself (a pool without processes), with whether they run (True) or are stopped."""
    found = {os.getpid(): True}
    for child in psutil.Process().children(recursive=False):
        try:
            status = child.status()
        except psutil.NoSuchProcess:
            continue
        if status not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            found[child.pid] = status not in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
    return found
