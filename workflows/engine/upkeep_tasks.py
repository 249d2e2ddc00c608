"""The Celery tasks that keep an installation well: `health_check` and `cleanup_old_tasks`, and when Beat sends them."""

from __future__ import annotations

import logging
import socket
from typing import Any

from celery import Celery
from celery.schedules import crontab

from workflows.db import retention
from workflows.engine import health
from workflows.engine.runtime import Runtime

_log = logging.getLogger(__name__)

HEALTH_TASK = "health_check"
CLEANUP_TASK = "cleanup_old_tasks"

DAY_SECONDS = 86_400.0
RUNS_AT_ONCE = 20
"""Runs that one transaction deletes: on SQLite nobody else writes meanwhile."""


def install_upkeep(app: Celery, runtime: Runtime) -> None:
    """Register both tasks on `app`; Beat cleans up every night."""

    @app.task(name=HEALTH_TASK, ignore_result=False, acks_late=False, max_retries=0, shared=False)
    def health_check() -> dict[str, Any]:
        """How database, broker and workers are, as a worker sees them."""
        return {"worker": socket.gethostname(), **health.examine(runtime).to_json()}

    @app.task(name=CLEANUP_TASK, ignore_result=False, acks_late=True, max_retries=0, shared=False)
    def cleanup_old_tasks(days: float | None = None) -> dict[str, int]:
        """Delete the runs that ended more than `days` ago (by default CELERIAC_RETENTION_DAYS)."""
        return clean_up(runtime, runtime.config.retention_days if days is None else float(days))

    app.conf.beat_schedule = {
        **(app.conf.beat_schedule or {}),
        CLEANUP_TASK: {"task": CLEANUP_TASK, "schedule": crontab(hour=3, minute=30), "options": {"expires": 3600}},
    }


def clean_up(runtime: Runtime, days: float) -> dict[str, int]:
    """Delete the runs that ended more than `days` days ago, 0 keeps all; `{"runs": how many it were}`."""
    runs = 0
    while days > 0 and (
        deleted := runtime.database.retrying(lambda tx: retention.delete_old_runs(tx, days * DAY_SECONDS, RUNS_AT_ONCE))
    ):
        runs += deleted
    if runs:
        _log.info("deleted %s runs that ended more than %s days ago", runs, days)
    return {"runs": runs}
