"""A time has come: its run is accepted in the transaction that notes the time as fired.

Whoever decides about times of a schedule holds the lock of its row, and a time is a row of its own: two schedulers that
believe they lead fire a time once.
"""

from __future__ import annotations

import logging

from workflows.db import runs, schedules
from workflows.db.database import Transaction
from workflows.db.runs import Occasion
from workflows.db.schedules import FAILED, FIRED, MISSED, SKIPPED, WAITING, Schedule
from workflows.engine import launch
from workflows.engine.admission import group_of, stop
from workflows.engine.launch import Accepted, Order, Submitted
from workflows.engine.runtime import Runtime
from workflows.model.errors import ParamError
from workflows.model.params import coerce_params
from workflows.model.schedules import MOST_CAUGHT_UP, due
from workflows.model.spec import Overlap

_log = logging.getLogger(__name__)

AT_ONCE = 20
"""Times of one schedule that fire in one transaction: other schedules shall not wait for one that catches up."""

BACKFILL = "backfill"
"""Detail of a time that a person has asked for."""


def fire_due(runtime: Runtime, schedule: Schedule, now: float) -> list[Submitted]:
    """Deal with the times of a schedule that have come by `now`; the runs that this has started."""
    if schedule.next_fire_at is None:
        return []
    times = schedule.times()
    found = due(times, schedule.catchup, schedule.next_fire_at, now, AT_ONCE)
    run_ids = {fire_at: runtime.make_id() for fire_at in found.fire}

    def work(tx: Transaction) -> list[Accepted]:
        if not schedules.advance(tx, schedule, found.next_fire_at):
            return []
        if found.last_missed is not None:
            schedules.add_fire(tx, schedule, found.last_missed, MISSED, missed=found.missed)
        started = (_fire(runtime, tx, schedule, fire_at, run_ids[fire_at]) for fire_at in found.fire)
        return [accepted for accepted in started if accepted is not None]

    started = runtime.database.guarded(work)
    if found.missed:
        _log.warning("schedule %s has missed %s times (catchup: %s)", schedule.name, found.missed, schedule.catchup)
    return _announce(runtime, started)


def start_waiting(runtime: Runtime, name: str) -> list[Submitted]:
    """Start the times of a schedule that wait, as far as its rule lets them; the runs that this has started."""
    run_ids = [runtime.make_id() for _ in range(AT_ONCE)]

    def work(tx: Transaction) -> list[Accepted]:
        schedule = schedules.find(tx, name, for_change=True)
        room = AT_ONCE
        if schedule.overlap is not Overlap.ALLOW:
            room = 0 if schedules.open_runs(tx, schedule) else 1
        started = []
        for (fire_at, detail), run_id in zip(schedules.waiting(tx, schedule, room), run_ids, strict=False):
            accepted = _start(runtime, tx, schedule, fire_at, run_id, manual=detail == BACKFILL)
            if accepted is not None:
                schedules.decide(
                    tx, schedule, fire_at, FIRED, seen=WAITING, detail=detail, run_id=accepted.submitted.run_id
                )
                started.append(accepted)
        return started

    return _announce(runtime, runtime.database.guarded(work))


def run_now(runtime: Runtime, name: str, *, publish: bool = True, patience_seconds: float = 20.0) -> Submitted:
    """Start a run of a schedule because a person asks for it: with its params, at no time of its own.

    Args:
        publish: False leaves its message to the reconciler.

    Raises:
        NotFoundError: there is no such schedule.
        ParamError: its params no longer fit.
    """
    run_id = runtime.make_id()

    def work(tx: Transaction) -> Accepted:
        return launch.accept(runtime, tx, _order(tx, schedules.find(tx, name), run_id, None, manual=True))

    accepted = runtime.database.retrying(work, patience_seconds=patience_seconds)
    return launch.announce(runtime, accepted, publish=publish)


def _fire(runtime: Runtime, tx: Transaction, schedule: Schedule, fire_at: int, run_id: str) -> Accepted | None:
    """What the schedule's rule says to a time that has come."""
    if schedules.is_decided(tx, schedule, fire_at):
        return None  # a person has asked for it before it came
    open_runs = [] if schedule.overlap is Overlap.ALLOW else schedules.open_runs(tx, schedule)
    match schedule.overlap:
        case Overlap.SKIP if open_runs:
            schedules.add_fire(tx, schedule, fire_at, SKIPPED, detail=f"run {open_runs[0][1]} had not ended")
            return None
        case Overlap.QUEUE if open_runs or schedules.count_waiting(tx, schedule):
            count = schedules.count_waiting(tx, schedule)
            if count >= MOST_CAUGHT_UP:
                schedules.add_fire(tx, schedule, fire_at, SKIPPED, detail=f"{count} times are waiting already")
            else:
                schedules.add_fire(tx, schedule, fire_at, WAITING)
            return None
        case _:
            pass
    accepted = _start(runtime, tx, schedule, fire_at, run_id, manual=False)
    if accepted is not None:
        schedules.add_fire(tx, schedule, fire_at, FIRED, run_id=accepted.submitted.run_id)
        if schedule.overlap is Overlap.CANCEL_RUNNING:
            for run_pk, _ in open_runs:
                stop(tx, run_pk, accepted.admission)
    return accepted


def _start(
    runtime: Runtime, tx: Transaction, schedule: Schedule, fire_at: int, run_id: str, *, manual: bool
) -> Accepted | None:
    """Accept the run of a time; None, and the time has failed, when its params do not fit."""
    try:
        order = _order(tx, schedule, run_id, fire_at, manual=manual)
    except ParamError as error:
        if not schedules.add_fire(tx, schedule, fire_at, FAILED, detail=str(error)):
            schedules.decide(tx, schedule, fire_at, FAILED, detail=str(error))
        return None
    return launch.accept(runtime, tx, order)


def _order(tx: Transaction, schedule: Schedule, run_id: str, fire_at: int | None, *, manual: bool) -> Order:
    plan = runs.load_plan(tx, schedule.version_id)
    params = coerce_params(plan.params, schedule.params)
    fire_time = None if fire_at is None else schedule.times().text_of(fire_at)
    return Order(
        run_id=run_id,
        plan=plan,
        params=params,
        given=schedule.params,
        group=group_of(plan, params),
        version_id=schedule.version_id,
        manual=manual,
        # With a space, which no key of a request may have.
        idempotency_key=None if fire_at is None else f"schedule {schedule.id} {fire_at}",
        occasion=Occasion(schedule.name, fire_time),
    )


def _announce(runtime: Runtime, started: list[Accepted]) -> list[Submitted]:
    """Send their messages, up to the first that no broker takes: the others are left to the reconciler."""
    publish = True
    sent = []
    for accepted in started:
        sent.append(launch.announce(runtime, accepted, publish=publish))
        publish = publish and sent[-1].is_published
    return sent
