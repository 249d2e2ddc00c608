"""The Celery tasks that keep an installation well: `health_check` and `cleanup_old_tasks`, and when Beat sends them."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from typing import Any

from celery import Celery
from celery.schedules import crontab

from workflows.db import cache, retention, schedules
from workflows.db.database import Transaction
from workflows.engine import health
from workflows.engine.runtime import Runtime

_log = logging.getLogger(__name__)

HEALTH_TASK = "health_check"
CLEANUP_TASK = "cleanup_old_tasks"

DAY_SECONDS = 86_400.0
CACHED_AT_ONCE = 500
RUNS_AT_ONCE = 20
"""Runs, or versions, that one transaction deletes: on SQLite nobody else writes meanwhile."""


def install_upkeep(app: Celery, runtime: Runtime) -> None:
    """Register both tasks on `app`; Beat cleans up every night."""

    @app.task(name=HEALTH_TASK, ignore_result=False, acks_late=False, max_retries=0, shared=False)
    def health_check() -> dict[str, Any]:
        """How database, broker and workers are, as a worker sees them."""
        return {"worker": socket.gethostname(), **health.examine(runtime).to_json()}

    @app.task(name=CLEANUP_TASK, ignore_result=False, acks_late=True, max_retries=0, shared=False)
    def cleanup_old_tasks(days: float | None = None) -> dict[str, int]:
        """Delete what is older than `days` (by default CELERIAC_RETENTION_DAYS); see `clean_up`."""
        return clean_up(runtime, runtime.config.retention_days if days is None else float(days))

    app.conf.beat_schedule = {
        **(app.conf.beat_schedule or {}),
        CLEANUP_TASK: {"task": CLEANUP_TASK, "schedule": crontab(hour=3, minute=30), "options": {"expires": 3600}},
    }


def clean_up(runtime: Runtime, days: float) -> dict[str, int]:
    """Delete the runs that ended more than `days` days ago, and versions of that age without a run; 0 keeps all.

    Returns:
        `{"runs": how many it were, "versions": how many it were, "cached": outputs of steps too old to serve}`.
    """
    cached = _repeated(runtime, lambda tx: cache.delete_expired(tx, CACHED_AT_ONCE))
    if days <= 0:
        return {"runs": 0, "versions": 0, "cached": cached}
    seconds = days * DAY_SECONDS
    found = {
        "runs": _repeated(runtime, lambda tx: retention.delete_old_runs(tx, seconds, RUNS_AT_ONCE)),
        "versions": _repeated(runtime, lambda tx: retention.delete_old_versions(tx, seconds, RUNS_AT_ONCE)),
        "cached": cached,
    }
    runtime.database.retrying(lambda tx: schedules.delete_old_fires(tx, seconds))
    if any(found.values()):
        _log.info(
            "deleted %(runs)s runs and %(versions)s versions older than %(days)s days, %(cached)s cached outputs",
            {**found, "days": days},
        )
    return found


def _repeated(runtime: Runtime, delete: Callable[[Transaction], int]) -> int:
    """Delete in short transactions until nothing is left to delete; how many it were."""
    total = 0
    while deleted := runtime.database.retrying(delete):
        total += deleted
    return total
