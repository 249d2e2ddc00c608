"""The lease-keeper: a thread of the worker's parent that renews the leases of what its children run.

A lease is renewed for a unit while the parent knows its message to be in progress and the child runs. So a child that
computes keeps its lease without doing anything for it, one that is stopped or dead loses it, and what a child has given
up without a word runs out. The keeper also ends children that have run over the time of their step, and gives back the
steps of dead ones.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

from workflows.db import upkeep
from workflows.db.units import Unit
from workflows.db.upkeep import Lease
from workflows.engine import recovery
from workflows.engine.runtime import Runtime
from workflows.model.errors import DatabaseUnavailableError

_log = logging.getLogger(__name__)

RENEWALS_PER_LEASE = 5
"""How often a lease is renewed, and the worker says that it is alive, while a lease lasts."""

LOOK_SECONDS = 0.5
"""How often the children are looked at; the database is asked only when one has gone, or a renewal is due."""


def _at_work(held: Sequence[Lease], in_progress: set[tuple[Unit | None, int]]) -> list[Lease]:
    """Leases whose units are being run: those of messages in progress, and what their processes have gone on with.

    A process runs one unit at a time, so of the leases that it holds only the latest may be one that it has gone on
    with (`workflows.engine.relay`): an earlier one it has given up without a word, and that has to run out.
    """
    busy = {pid for _, pid in in_progress}
    latest: dict[int, Lease] = {}
    for lease in held:
        if lease.pid not in latest or lease.started_at > latest[lease.pid].started_at:
            latest[lease.pid] = lease
    return [
        lease
        for lease in held
        if (lease.unit, lease.pid) in in_progress or (lease.pid in busy and latest[lease.pid] is lease)
    ]


class LeaseKeeper(threading.Thread):
    """Runs until `stop()`; survives every error of the database."""

    def __init__(
        self,
        runtime: Runtime,
        slots: int,
        queues: tuple[str, ...],
        in_progress: Callable[[], set[tuple[Unit | None, int]]],
        end_over_time: Callable[[Runtime, Unit, int], bool],
    ) -> None:
        """Start nothing yet.

        Args:
            in_progress: Units, None for the start of a run, with the process ids that run them, as the parent knows
                them from its messages.
            end_over_time: Ends a try in SQL; whether it did.
        """
        super().__init__(name="celeriac-lease-keeper", daemon=True)
        self._runtime = runtime
        self._slots = slots
        self._queues = ",".join(queues)
        self._in_progress = in_progress
        self._end_over_time = end_over_time
        self._wake = threading.Event()
        self._is_ended = False
        self._children: set[int] = set()
        self._beat_due = 0.0
        self._renewal_due = 0.0

    def leave(self) -> None:
        """The worker is being stopped: say so at once, so that nothing of what is killed now is blamed on a step."""
        self._runtime.is_leaving = True
        self._beat_due = 0.0
        self._wake.set()

    def stop(self) -> None:
        """End the thread; leases are left to run out or to be ended by their owners."""
        self._is_ended = True
        self._wake.set()

    def run(self) -> None:
        """See `threading.Thread.run`."""
        while not self._is_ended:
            self.look()
            self._wake.wait(LOOK_SECONDS)
            self._wake.clear()
        if self._runtime.is_leaving:
            # The pool is gone by now: what it was killed over is given back while we can still say that we leave.
            with suppress(DatabaseUnavailableError):
                self.renew()

    def look(self) -> None:
        """See whether a child has gone; renew when that, or the time, asks for it. Whatever goes wrong."""
        try:
            children = set(self._runtime.machine.family())
            now = self._runtime.clock.monotonic()
            if now >= self._renewal_due or now >= self._beat_due or self._children - children:
                self._renewal_due = now + self._runtime.config.lease_seconds / RENEWALS_PER_LEASE
                self.renew()
            self._children = children
        except DatabaseUnavailableError as error:
            _log.warning("leases are not renewed: %s", error)
            self._end_frozen()
        except Exception:  # noqa: BLE001 - a thread that dies here would let every lease of this worker run out
            _log.warning("the lease-keeper goes on after an error", exc_info=True)

    def renew(self) -> None:
        """One round: heartbeat, renewal, the dead and those over time."""
        runtime = self._runtime
        if runtime.clock.monotonic() >= self._beat_due:
            self.beat()
        held = runtime.database.guarded(lambda tx: upkeep.leases(tx, runtime.node), autocommit=True)
        # Only now: a child that was born since, and claimed, would look dead in an older list.
        children = runtime.machine.family()
        in_progress = self._in_progress()
        working = [lease for lease in _at_work(held, in_progress) if children.get(lease.pid)]
        if working:
            seconds = runtime.config.lease_seconds
            runtime.database.guarded(lambda tx: upkeep.renew(tx, runtime.node, working, seconds))
        for lease in held:
            if lease.pid not in children:
                recovery.take_back_from_dead(runtime, lease.unit, lease.pid, "worker lost: its process ended")
            elif lease.is_over_time:
                self._end(lease)

    def beat(self) -> None:
        """Tell the database that this worker is alive."""
        runtime = self._runtime
        runtime.database.guarded(
            lambda tx: upkeep.beat(
                tx,
                runtime.node,
                socket.gethostname(),
                runtime.machine.pid(),
                self._slots,
                self._queues,
                is_leaving=runtime.is_leaving,
                gap_seconds=runtime.steady_gap_seconds,
            ),
            autocommit=True,
        )
        self._beat_due = runtime.clock.monotonic() + runtime.config.lease_seconds / RENEWALS_PER_LEASE

    def _end_frozen(self) -> None:
        """SQLite has one lock for all writers: whoever is stopped while holding it stops them all, and the recovery."""
        if self._runtime.database.dialect != "sqlite":
            return
        for pid, is_running in self._runtime.machine.family().items():
            if not is_running:
                _log.warning("child %s is stopped while the database is locked: it is ended", pid)
                self._runtime.machine.kill(pid)

    def _end(self, lease: Lease) -> None:
        # The child is killed only after its try was ended in SQL while it was still this one.
        machine = self._runtime.machine
        if self._end_over_time(self._runtime, lease.unit, lease.token) and lease.pid != machine.pid():
            machine.kill(lease.pid)
