"""Schedules are kept in step with the definitions that declare them.

A definition that is not found leaves its schedules alone: a scheduler that was started in the wrong folder must not
take the schedules of all others away. `prune` removes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from workflows.catalogue import Entry
from workflows.compile.plan import Plan
from workflows.db import runs, schedules
from workflows.db.database import Transaction
from workflows.db.schedules import FROM_DEFINITION, FROM_PERSON, Schedule
from workflows.engine.runtime import Runtime
from workflows.model.cron import Cron
from workflows.model.errors import ParamError
from workflows.model.params import coerce_params
from workflows.model.spec import ScheduleSpec

HAS_ERRORS = "the definition has errors; the version before it runs"


@dataclass(slots=True)
class Synced:
    """What a sync has done, by the names of schedules.

    Attributes:
        missing: Their definition is not there; they go on as they are.
        problems: What could not be done, by name.
    """

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """What is worth a line of a log."""
        done = (("added", self.added), ("changed", self.changed), ("removed", self.removed))
        return [f"schedule {name} was {what}" for what, names in done for name in names]

    def join(self, other: Synced) -> None:
        """Take over what another sync has done."""
        for name in ("added", "changed", "removed", "unchanged", "missing"):
            getattr(self, name).extend(getattr(other, name))
        self.problems.update(other.problems)


def sync(runtime: Runtime, entries: Iterable[Entry], *, prune: bool = False, patience_seconds: float = 5.0) -> Synced:
    """Bring the schedules in step with these definitions, one workflow a transaction.

    Args:
        prune: Remove the schedules of definitions that are not among these.

    Raises:
        DatabaseUnavailableError: some may be in step, others not yet; a sync is repeatable.
    """
    found = Synced()
    known = set()
    scheduled = set(runtime.database.guarded(schedules.workflows, autocommit=True, patience_seconds=patience_seconds))
    for entry in entries:
        known.add(entry.id)
        declared = entry.workflow.schedules if entry.workflow is not None else ()
        if not declared and entry.id not in scheduled:
            continue

        def work(tx: Transaction, entry: Entry = entry) -> Synced:
            return _sync_one(tx, entry)

        found.join(runtime.database.guarded(work, patience_seconds=patience_seconds))
    for workflow in sorted(scheduled - known):

        def leave(tx: Transaction, workflow: str = workflow) -> Synced:
            return _sync_missing(tx, workflow, prune=prune)

        found.join(runtime.database.guarded(leave, patience_seconds=patience_seconds))
    return found


def _sync_one(tx: Transaction, entry: Entry) -> Synced:
    found = Synced()
    stored = schedules.of_workflow(tx, entry.id)
    if entry.plan is None or entry.workflow is None:
        for schedule in stored:
            _store(tx, schedule, replace(schedule, problem=HAS_ERRORS), found)
            found.problems[schedule.name] = HAS_ERRORS
        return found
    declared = {spec.name_in(entry.id): spec for spec in entry.workflow.schedules}
    version_id = runs.register_version(tx, entry.plan, entry.text)
    now = schedules.now(tx)
    for schedule in stored:
        spec = declared.pop(schedule.name, None)
        if schedule.origin == FROM_PERSON:
            if spec is not None:
                found.problems[schedule.name] = "the definition declares a schedule of this name, and a person made one"
            _store(tx, schedule, _moved_on(schedule, entry.plan, version_id), found)
        elif spec is None:
            schedules.delete(tx, schedule)
            found.removed.append(schedule.name)
        else:
            _store(tx, schedule, _declared(schedule, spec, version_id, now), found)
    for name, spec in declared.items():
        _add(tx, entry, name, spec, version_id, now, found)
    return found


def _sync_missing(tx: Transaction, workflow: str, *, prune: bool) -> Synced:
    found = Synced()
    for schedule in schedules.of_workflow(tx, workflow):
        if prune:
            schedules.delete(tx, schedule)
            found.removed.append(schedule.name)
        else:
            found.missing.append(schedule.name)
    return found


def _add(
    tx: Transaction, entry: Entry, name: str, spec: ScheduleSpec, version_id: int, now: float, found: Synced
) -> None:
    is_new = schedules.add(
        tx,
        name=name,
        workflow=entry.id,
        version_id=version_id,
        origin=FROM_DEFINITION,
        cron=spec.cron,
        timezone=spec.timezone,
        catchup=spec.catchup,
        overlap=spec.overlap,
        params=spec.params,
        is_enabled=True,
        next_fire_at=Cron.parse(spec.cron, spec.timezone).next_after(now),
    )
    if is_new:
        found.added.append(name)
    else:
        found.problems[name] = "another workflow has a schedule of this name"


def _declared(schedule: Schedule, spec: ScheduleSpec, version_id: int, now: float) -> Schedule:
    """The stored schedule as its definition has it now; that it is disabled stays."""
    next_fire_at = schedule.next_fire_at
    if schedule.is_enabled:
        upcoming = Cron.parse(spec.cron, spec.timezone).next_after(now)
        is_same = (schedule.cron, schedule.timezone) == (spec.cron, spec.timezone)
        # A time that has come and not been dealt with stays due; one that has not come is told anew, because laws about
        # clocks change.
        next_fire_at = next_fire_at if is_same and next_fire_at is not None and next_fire_at <= now else upcoming
    return replace(
        schedule,
        version_id=version_id,
        cron=spec.cron,
        timezone=spec.timezone,
        catchup=spec.catchup,
        overlap=spec.overlap,
        params=dict(spec.params),
        next_fire_at=next_fire_at,
        problem=None,
    )


def _moved_on(schedule: Schedule, plan: Plan, version_id: int) -> Schedule:
    """A schedule that a person made goes with its workflow, as long as its params fit."""
    problem = params_problem(plan, schedule.params)
    if problem:
        return replace(schedule, problem=f"the version before runs: {problem}")
    return replace(schedule, version_id=version_id, problem=None)


def params_problem(plan: Plan, params: Mapping[str, Any]) -> str:
    """Why params do not fit a version; empty when they do."""
    try:
        coerce_params(plan.params, params)
    except ParamError as error:
        return str(error)
    return ""


def _store(tx: Transaction, old: Schedule, new: Schedule, found: Synced) -> None:
    if new == old:
        found.unchanged.append(old.name)
        return
    schedules.change(tx, new)
    found.changed.append(old.name)
    if new.problem:
        found.problems[old.name] = new.problem
