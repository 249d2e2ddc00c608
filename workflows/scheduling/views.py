"""Schedules as command line and API show them: values of JSON, instants in seconds since 1970."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

from workflows.db import schedules
from workflows.db.database import Transaction
from workflows.db.schedules import Fire, Schedule
from workflows.scheduling.scheduler import LEADER
from workflows.scheduling.verbs import ScheduleError, upcoming


def views(tx: Transaction, found: list[Schedule]) -> list[dict[str, Any]]:
    """One object for each schedule; `last_fire_at` is the latest time that has fired."""
    fired = schedules.last_fired(tx, found) if found else {}
    return [_view(schedule, fired.get(schedule.id)) for schedule in found]


def view(tx: Transaction, schedule: Schedule) -> dict[str, Any]:
    """The object of one schedule."""
    return views(tx, [schedule])[0]


def times(schedule: Schedule, now: float, count: int) -> list[dict[str, Any]]:
    """Its next times: `fire_at`, and `fire_time` as its zone's clocks show it."""
    zone = schedule.times()
    return [{"fire_at": at, "fire_time": zone.text_of(at)} for at in upcoming(schedule, now, count)]


def fire_view(schedule: Schedule, fire: Fire) -> dict[str, Any]:
    """The object of a time that was decided about."""
    return {"fire_time": schedule.times().text_of(fire.fire_at), **asdict(fire)}


def is_watched(tx: Transaction) -> bool:
    """Whether a scheduler leads, so that schedules fire."""
    return schedules.is_led(tx, LEADER)


def instant_of(text: str, schedule: Schedule) -> float:
    """Seconds since 1970 of a date or time in ISO 8601; without an offset, by the clocks of the schedule's zone.

    Raises:
        ScheduleError: it is none, or one before 1970.
    """
    try:
        found = datetime.fromisoformat(text.strip())
        at = (found if found.tzinfo is not None else found.replace(tzinfo=schedule.times().zone)).timestamp()
    except (ValueError, OverflowError):
        at = -1.0
    if at < 0:
        raise ScheduleError(f"'{text[:60]}' is no date or time", "write it as 2026-03-01 or 2026-03-01T06:00")
    return at


def _view(schedule: Schedule, last_fire_at: int | None) -> dict[str, Any]:
    return {
        "name": schedule.name,
        "workflow": schedule.workflow,
        "origin": schedule.origin,
        "cron": schedule.cron,
        "timezone": schedule.timezone,
        "catchup": schedule.catchup.value,
        "overlap": schedule.overlap.value,
        "params": schedule.params,
        "is_enabled": schedule.is_enabled,
        "next_fire_at": schedule.next_fire_at,
        "last_fire_at": last_fire_at,
        "problem": schedule.problem,
        "created_at": schedule.created_at,
        "updated_at": schedule.updated_at,
    }
