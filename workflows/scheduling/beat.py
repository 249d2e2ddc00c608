"""Celery Beat over our tables: schedules by the scheduler's thread, static entries by one Beat at a time.

`celery -A celery_app beat` uses it by default. Any number of Beats may run: the thread fires schedules where it leads,
and an entry of `beat_schedule` is sent by the Beat that claims it in the database.
"""

from __future__ import annotations

import logging
from datetime import datetime
from functools import partial
from typing import Any

from celery import Celery
from celery.beat import ScheduleEntry
from celery.beat import Scheduler as CeleryScheduler

from workflows.catalogue import Catalogue
from workflows.db import schedules
from workflows.db.database import Transaction
from workflows.engine.runtime import Runtime
from workflows.model.errors import DatabaseUnavailableError
from workflows.scheduling.scheduler import LEADER_LEASE_SECONDS, Scheduler
from workflows.steps.registry import schemas

_log = logging.getLogger(__name__)

LONGEST_SLEEP_SECONDS = 5.0
AFTER_ERROR_SECONDS = 2.0


class DatabaseBeat(CeleryScheduler):
    """What Celery's Beat service runs.

    Args:
        runtime: Of this process.
    """

    max_interval: float

    def __init__(self, app: Celery, *args: Any, runtime: Runtime, lazy: bool = False, **options: Any) -> None:
        self._runtime = runtime
        self._is_ready = False
        self._scheduler: Scheduler | None = None
        super().__init__(app, *args, lazy=lazy, **options)
        self.max_interval = min(self.max_interval, LONGEST_SLEEP_SECONDS)

    @property
    def info(self) -> str:
        """What Beat's banner tells of it."""
        return "    . schedules -> the database"

    def setup_schedule(self) -> None:
        """See `celery.beat.Scheduler.setup_schedule`; begins to fire schedules."""
        super().setup_schedule()
        config = self._runtime.config
        catalogue = Catalogue(config.definition_folders, schemas(self._runtime.steps))
        lease = config.number("CELERIAC_SCHEDULER_LEASE_SECONDS", LEADER_LEASE_SECONDS)
        self._scheduler = Scheduler(self._runtime, catalogue, lease_seconds=lease)
        self._scheduler.start()

    def tick(self, *args: Any, **options: Any) -> float:
        """One round of the static entries; seconds to sleep. Waits, and does not end, while the database is away."""
        try:
            if not self._is_ready:
                self._read_entries()
            wait: float = super().tick(*args, **options)
        except DatabaseUnavailableError as error:
            _log.warning("beat waits: %s", error)
        except Exception:  # noqa: BLE001 - Beat would end, and nothing be sent any more
            _log.warning("beat goes on after an error", exc_info=True)
        else:
            return wait
        self._is_ready = False
        return AFTER_ERROR_SECONDS

    def apply_entry(self, entry: ScheduleEntry, producer: Any = None) -> None:
        """Send an entry that is due, unless another Beat has done so since this one last heard of it."""
        at, seen = self.schedule[entry.name].last_run_at.timestamp(), entry.last_run_at.timestamp()
        if self._runtime.database.guarded(lambda tx: schedules.claim_entry(tx, entry.name, at, seen), autocommit=True):
            super().apply_entry(entry, producer=producer)
        else:
            self._is_ready = False

    def close(self) -> None:
        """See `celery.beat.Scheduler.close`; gives up the lead."""
        if self._scheduler is not None:
            self._scheduler.stop()
            self._scheduler = None
        super().close()
        self._runtime.database.close()

    def _read_entries(self) -> None:
        """When each entry was sent last, by whichever Beat; one that is new counts from now on."""

        def work(tx: Transaction) -> dict[str, float]:
            for entry in self.schedule.values():
                schedules.know_entry(tx, entry.name, entry.last_run_at.timestamp())
            return schedules.last_sent(tx)

        for name, at in self._runtime.database.guarded(work).items():
            if name in self.schedule:
                self.schedule[name].last_run_at = datetime.fromtimestamp(at, self.app.timezone)
        self._heap = None
        self._is_ready = True


def install_beat(app: Celery, runtime: Runtime) -> None:
    """Let `celery beat` of this application use `DatabaseBeat`."""
    app.conf.beat_scheduler = partial(DatabaseBeat, runtime=runtime)
