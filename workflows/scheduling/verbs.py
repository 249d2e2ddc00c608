"""What a person does to schedules, from any process: make, change, remove, fire past times."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from workflows.catalogue import Catalogue, Entry
from workflows.db import runs, schedules
from workflows.db.database import Transaction
from workflows.db.schedules import FROM_DEFINITION, FROM_PERSON, WAITING, Schedule
from workflows.engine.runtime import Runtime
from workflows.model.cron import Cron
from workflows.model.errors import CeleriacError, ConflictError
from workflows.model.names import IDENTIFIER
from workflows.model.params import coerce_params
from workflows.model.schedules import DEFAULT_TIMEZONE, contradiction, default_overlap
from workflows.model.spec import Catchup, Overlap
from workflows.scheduling.firing import BACKFILL

MOST_AT_A_BACKFILL = 1_000
PATIENCE_SECONDS = 20.0

NAME = re.compile(rf"(?:{IDENTIFIER.pattern})(?:\.(?:{IDENTIFIER.pattern}))?")
"""`WORKFLOW`, `WORKFLOW.ID`, or what a person likes that looks so."""


class ScheduleError(CeleriacError):
    """A schedule that cannot be as it is asked for."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A schedule as a person asks for it, or the parts of one that shall change; None leaves a part as it is."""

    cron: str | None = None
    timezone: str | None = None
    catchup: Catchup | None = None
    overlap: Overlap | None = None
    params: Mapping[str, Any] | None = None
    is_enabled: bool | None = None

    @property
    def changes_more_than_the_switch(self) -> bool:
        """Whether it is about anything but enabling and disabling."""
        return replace(self, is_enabled=None) != Wish()


@dataclass(frozen=True, slots=True)
class Backfill:
    """Past times of a schedule that were asked for.

    Attributes:
        queued: Those that wait to fire now.
        decided: Those that had fired, or were waiting already.
    """

    queued: tuple[int, ...]
    decided: tuple[int, ...]


def add(
    runtime: Runtime,
    entry: Entry,
    name: str,
    wish: Wish,
    *,
    from_text: bool = False,
    patience_seconds: float = PATIENCE_SECONDS,
) -> Schedule:
    """Make a schedule of a workflow.

    Args:
        from_text: The params are texts of a command line.

    Raises:
        DefinitionError: the workflow's definition has errors.
        CronError, TimezoneError, ParamError, ScheduleError: it cannot be as it is asked for.
        ConflictError: there is a schedule of that name.
    """
    if not NAME.fullmatch(name):
        raise ScheduleError(f"'{name[:100]}' is no name for a schedule", "use letters, digits, '_' and '-': nightly")
    _, plan = entry.compiled()
    if wish.cron is None:
        raise ScheduleError("a schedule needs a cron expression", 'as in "0 3 * * *"')
    timezone = wish.timezone or DEFAULT_TIMEZONE
    times = Cron.parse(wish.cron, timezone)
    catchup = wish.catchup or Catchup.LAST
    overlap = _rule(catchup, wish.overlap)
    given = dict(wish.params or {})
    params = coerce_params(plan.params, given, from_text=from_text)
    is_enabled = wish.is_enabled is not False

    def work(tx: Transaction) -> Schedule:
        is_new = schedules.add(
            tx,
            name=name,
            workflow=plan.workflow,
            version_id=runs.register_version(tx, plan, entry.text),
            origin=FROM_PERSON,
            cron=wish.cron or "",
            timezone=timezone,
            catchup=catchup,
            overlap=overlap,
            params={key: params[key] for key in given},
            is_enabled=is_enabled,
            next_fire_at=times.next_after(schedules.now(tx)) if is_enabled else None,
        )
        if not is_new:
            raise ConflictError(f"there is a schedule '{name}' already", "choose another name, or remove that one")
        return schedules.find(tx, name)

    return runtime.database.retrying(work, patience_seconds=patience_seconds)


def change(
    runtime: Runtime, name: str, wish: Wish, *, from_text: bool = False, patience_seconds: float = PATIENCE_SECONDS
) -> Schedule:
    """Change a schedule; one that a definition declares can only be enabled and disabled.

    Times that pass while it is disabled are not made up for.

    Raises:
        NotFoundError: there is none of that name.
        ConflictError: its definition says otherwise.
        CronError, TimezoneError, ParamError, ScheduleError: it cannot be as it is asked for.
    """

    def work(tx: Transaction) -> Schedule:
        old = schedules.find(tx, name, for_change=True)
        if old.origin == FROM_DEFINITION and wish.changes_more_than_the_switch:
            raise ConflictError(
                f"schedule '{name}' is declared in the definition of '{old.workflow}'",
                "change it there; here it can be enabled and disabled",
            )
        catchup = wish.catchup or old.catchup
        params = old.params
        if wish.params is not None:
            plan = runs.load_plan(tx, old.version_id)
            coerced = coerce_params(plan.params, wish.params, from_text=from_text)
            params = {key: coerced[key] for key in wish.params}
        new = replace(
            old,
            cron=wish.cron or old.cron,
            timezone=wish.timezone or old.timezone,
            catchup=catchup,
            overlap=_rule(catchup, wish.overlap or (None if wish.catchup else old.overlap)),
            params=params,
            is_enabled=old.is_enabled if wish.is_enabled is None else wish.is_enabled,
        )
        schedules.change(tx, replace(new, next_fire_at=_next_of(old, new, schedules.now(tx))))
        return schedules.find(tx, name)

    return runtime.database.retrying(work, patience_seconds=patience_seconds)


def remove(runtime: Runtime, name: str, *, is_declared: bool, patience_seconds: float = PATIENCE_SECONDS) -> Schedule:
    """Remove a schedule and its history; its runs stay.

    Args:
        is_declared: Its definition is there and declares it, so that the next sync would bring it back.

    Raises:
        NotFoundError: there is none of that name.
        ConflictError: it is declared.
    """

    def work(tx: Transaction) -> Schedule:
        schedule = schedules.find(tx, name, for_change=True)
        if is_declared and schedule.origin == FROM_DEFINITION:
            raise ConflictError(
                f"schedule '{name}' is declared in the definition of '{schedule.workflow}'",
                "disable it, or take it out of the definition's triggers",
            )
        schedules.delete(tx, schedule)
        return schedule

    return runtime.database.retrying(work, patience_seconds=patience_seconds)


def backfill(
    runtime: Runtime,
    name: str,
    begin: float,
    end: float,
    *,
    dry_run: bool = False,
    patience_seconds: float = PATIENCE_SECONDS,
) -> Backfill:
    """Let the times from `begin` to before `end` fire that have not: the scheduler starts them by the overlap rule.

    Raises:
        NotFoundError: there is no such schedule.
        ScheduleError: the span is empty, reaches into the future, or holds too many times.
    """

    def work(tx: Transaction) -> Backfill:
        schedule = schedules.find(tx, name, for_change=True)
        if begin < 0 or begin >= end:
            raise ScheduleError("the span is empty", "the beginning comes before the end")
        if end > schedules.now(tx):
            raise ScheduleError("the span reaches into the future", "a backfill is for times that have passed")
        found, has_more = schedule.times().newest(begin, end - 1, MOST_AT_A_BACKFILL)
        if has_more:
            raise ScheduleError(
                f"the span holds more than {MOST_AT_A_BACKFILL} times", "fill it in several shorter spans"
            )
        decided = tuple(fire_at for fire_at in found if schedules.is_decided(tx, schedule, fire_at))
        queued = tuple(fire_at for fire_at in found if fire_at not in decided)
        if not dry_run:
            for fire_at in queued:
                if not schedules.add_fire(tx, schedule, fire_at, WAITING, detail=BACKFILL):
                    schedules.decide(tx, schedule, fire_at, WAITING, detail=BACKFILL)
        return Backfill(queued, decided)

    return runtime.database.retrying(work, patience_seconds=patience_seconds)


def is_declared(catalogue: Catalogue, name: str) -> bool:
    """Whether a definition that is there declares a schedule of this name, so that a sync would make it."""
    for entry in catalogue.all():
        declared = entry.workflow.schedules if entry.workflow is not None else ()
        if any(spec.name_in(entry.id) == name for spec in declared):
            return True
    return False


def upcoming(schedule: Schedule, now: float, count: int) -> list[int]:
    """The next times of a schedule, also of one that is disabled."""
    begin = now if schedule.next_fire_at is None else min(now, schedule.next_fire_at - 1)
    return [fire_at for fire_at, _ in zip(schedule.times().after(begin), range(count), strict=False)]


def _rule(catchup: Catchup, overlap: Overlap | None) -> Overlap:
    rule = default_overlap(catchup) if overlap is None else overlap
    against = contradiction(catchup, rule)
    if against:
        raise ScheduleError(against, "use overlap: queue")
    return rule


def _next_of(old: Schedule, new: Schedule, now: float) -> int | None:
    """When a changed schedule fires next: as before, unless that is what was changed."""
    if not new.is_enabled:
        return None
    if old.is_enabled and (old.cron, old.timezone) == (new.cron, new.timezone):
        return old.next_fire_at
    return new.times().next_after(now)
