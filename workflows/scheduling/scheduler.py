"""The scheduler: a thread that fires what is due, while it leads.

It runs in Beat, in `celeriac worker` with the embedded stack, and wherever else `Scheduler(...).start()` is called. One
of them all leads at a time, by a lease in the database; when it dies another one takes over within the lease.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from workflows.catalogue import Catalogue
from workflows.db import schedules, upkeep
from workflows.db.database import Transaction
from workflows.db.schedules import Schedule
from workflows.engine.runtime import Runtime
from workflows.model.errors import DatabaseUnavailableError
from workflows.scheduling import firing
from workflows.scheduling.sync import sync

_log = logging.getLogger(__name__)
T = TypeVar("T")

LEADER = "scheduler"
LEADER_LEASE_SECONDS = 6.0
TICK_SECONDS = 1.0
SHORTEST_TICK_SECONDS = 0.02
AFTER_ERROR_SECONDS = 2.0
SYNC_SECONDS = 10.0
SET_ASIDE_SECONDS = 60.0


class Scheduler(threading.Thread):
    """Runs until `stop()`; survives every error.

    Args:
        catalogue: The definitions whose schedules are kept in step with their text; None leaves them as they are.
        now: What time it is, in seconds since 1970; the database's clock by default, which is one for all.
        lease_seconds: How long the lead lasts without being renewed.
    """

    def __init__(
        self,
        runtime: Runtime,
        catalogue: Catalogue | None = None,
        *,
        now: Callable[[], float] | None = None,
        lease_seconds: float = LEADER_LEASE_SECONDS,
    ) -> None:
        super().__init__(name="celeriac-scheduler", daemon=True)
        self._runtime = runtime
        self._catalogue = catalogue
        self._now = now
        self._lease_seconds = lease_seconds
        self._holder = f"{runtime.node} {runtime.make_id()[:8]}"
        self._ended = threading.Event()
        self._lead_until = 0.0
        self._sync_at = 0.0
        self._set_aside: dict[int, float] = {}

    @property
    def is_leading(self) -> bool:
        """Whether it led when it last looked."""
        return self._lead_until > self._runtime.clock.monotonic()

    def stop(self, timeout: float | None = 5.0) -> None:
        """End the thread and give up the lead, so that another one takes over at once."""
        self._ended.set()
        if self.is_alive() and self is not threading.current_thread():
            self.join(timeout)

    def run(self) -> None:
        """See `threading.Thread.run`."""
        while not self._ended.is_set():
            wait = AFTER_ERROR_SECONDS
            try:
                wait = self.tick()
            except DatabaseUnavailableError as error:
                _log.warning("the scheduler waits: %s", error)
            except Exception:  # noqa: BLE001 - whatever it is, schedules must go on
                _log.warning("the scheduler goes on after an error", exc_info=True)
            self._ended.wait(wait)
        try:
            self._do(lambda tx: upkeep.resign(tx, LEADER, self._holder))
        except Exception as error:  # noqa: BLE001 - the process ends, and the lease with it
            _log.info("the lead is not given up, it will run out: %s", error)
        self._runtime.database.close()

    def tick(self) -> float:
        """One round, if this scheduler leads. Seconds to sleep until the next."""
        if not self._leads():
            return TICK_SECONDS
        self._sync()
        now = self._time()
        for schedule in self._do(lambda tx: schedules.due(tx, now)):
            self._alone(schedule, partial(firing.fire_due, self._runtime, schedule, now))
        for schedule in self._do(schedules.with_waiting):
            self._alone(schedule, partial(firing.start_waiting, self._runtime, schedule.name))
        next_fire_at = self._do(schedules.next_fire_at)
        if next_fire_at is None or self._set_aside:
            return TICK_SECONDS
        return min(TICK_SECONDS, max(SHORTEST_TICK_SECONDS, next_fire_at - self._time()))

    def _leads(self) -> bool:
        now = self._runtime.clock.monotonic()
        if now < self._lead_until - self._lease_seconds / 2:
            return True
        if not self._do(lambda tx: upkeep.lead(tx, LEADER, self._holder, self._lease_seconds)):
            self._lead_until = 0.0
            return False
        if not self._lead_until:
            _log.info("this scheduler leads")
            self._sync_at = 0.0
        self._lead_until = now + self._lease_seconds
        return True

    def _sync(self) -> None:
        """Whoever begins to lead looks at the definitions, and again every few seconds."""
        now = self._runtime.clock.monotonic()
        if self._catalogue is None or now < self._sync_at:
            return
        self._sync_at = now + SYNC_SECONDS
        for line in sync(self._runtime, self._catalogue.all()).lines():
            _log.info("%s", line)

    def _alone(self, schedule: Schedule, act: Callable[[], object]) -> None:
        """Do something for one schedule; whatever is wrong with it stays with it, and it is left alone for a minute."""
        now = self._runtime.clock.monotonic()
        if self._set_aside.get(schedule.id, 0.0) > now:
            return
        self._set_aside.pop(schedule.id, None)
        try:
            act()
        except DatabaseUnavailableError:
            raise
        except Exception:  # noqa: BLE001 - whatever it is, it must not hold up the other schedules
            self._set_aside[schedule.id] = now + SET_ASIDE_SECONDS
            _log.exception("schedule %s is set aside for %.0f s", schedule.name, SET_ASIDE_SECONDS)

    def _time(self) -> float:
        return self._do(schedules.now) if self._now is None else self._now()

    def _do(self, work: Callable[[Transaction], T]) -> T:
        return self._runtime.database.guarded(work, autocommit=True)
