"""How a map goes on: new ranges as far as its window allows, and its end.

Everything here happens under the row lock of the map's part 0, which `maps.count` takes.
"""

from __future__ import annotations

import json

from workflows.compile.plan import Plan
from workflows.db import maps
from workflows.db.database import Transaction
from workflows.db.maps import Counters
from workflows.db.runs import STEP_PROGRESS, RunContext, Transition
from workflows.db.units import Lost, Unit
from workflows.engine.outcomes import engine_failure
from workflows.engine.ranges import Pace, range_size
from workflows.engine.settlement import Settlement, advance, spread
from workflows.model.states import State

_REASON_CHARACTERS = 600


def follow_up(
    tx: Transaction, plan: Plan, unit: Unit, counters: Counters, redispatch_seconds: float, into: Settlement
) -> None:
    """End the map when its calls are done or too many failed; otherwise dispatch more of it.

    Args:
        unit: The map's part 0.
    """
    step = plan.steps[unit.ordinal]
    assert step.for_each is not None
    is_tolerated = step.for_each.tolerate.allows(counters.failure, counters.total)
    if not counters.is_done and is_tolerated and not counters.is_held:
        _allocate(tx, plan, unit, counters, redispatch_seconds, into)
    elif not counters.is_done and (counters.parts_open > 0 or is_tolerated):
        # Too many have failed, or the run is paused: nothing new starts, and what runs is waited for.
        _write(tx, unit, counters, wake_at=None)
    else:
        _end(tx, plan, unit, counters, redispatch_seconds, into, is_tolerated=is_tolerated)


def top_up(tx: Transaction, plan: Plan, context: RunContext, unit: Unit, redispatch_seconds: float) -> Settlement:
    """Go on with a map of which calls are due for another try; what is to be published."""
    settlement = Settlement()
    counters = maps.count(tx, unit)
    if counters is not None:
        follow_up(tx, plan, unit, counters, redispatch_seconds, settlement)
        if settlement.ended:
            advance(tx, plan, context, maps.now(tx), plan.steps[unit.ordinal].id, settlement)
    return settlement


def dissolve(tx: Transaction, unit: Unit, lost: Lost) -> None:
    """The worker of a range is gone: its open calls go on one by one, so that only the one that kills fails.

    The reconciler dispatches them, or ends the map: calls that commit one by one may all have ended before.
    """
    assert lost.item_from is not None
    assert lost.item_to is not None
    maps.set_aside(tx, unit, lost.item_from, lost.item_to, is_counted=lost.crashes > 0)
    maps.drop_range(tx, unit)
    counters = maps.count(tx, unit, parts_ended=1)
    if counters is not None:
        _write(tx, unit, counters, wake_at=None if counters.is_held else maps.now(tx))


def share(counters: Counters, added: int) -> int:
    """What `added` calls, the last ones counted in, add to the run's progress."""
    done = counters.success + counters.failure
    return done * STEP_PROGRESS // counters.total - (done - added) * STEP_PROGRESS // counters.total


def _end(
    tx: Transaction,
    plan: Plan,
    unit: Unit,
    counters: Counters,
    redispatch_seconds: float,
    into: Settlement,
    *,
    is_tolerated: bool,
) -> None:
    status, error = State.SUCCESS, None
    if not is_tolerated:
        status = State.FAILURE
        told = f"{counters.failure} of {counters.total} calls failed, more than 'tolerate' allows"
        failure = engine_failure("ItemsFailedError", told + _first_reason(tx, unit))
        error = failure.to_json()
        maps.end_never_started(tx, unit, State.SKIPPED.value)
    output = json.dumps({"total": counters.total, "success": counters.success, "failure": counters.failure})
    if maps.end_map(tx, unit, status.value, output, error) is None:
        return
    done = counters.success + counters.failure
    into.progress += STEP_PROGRESS - (done * STEP_PROGRESS // counters.total if counters.total else 0)
    into.ended += 1
    into.failed += int(status is State.FAILURE)
    into.transitions.append(Transition(unit.ordinal, 0, status.value, json.loads(output)))
    spread(tx, plan, unit.run_pk, unit.ordinal, status, redispatch_seconds, into)


def _first_reason(tx: Transaction, unit: Unit) -> str:
    """Why the first call failed that did: mostly the others failed of the same."""
    first = maps.failures(tx, unit.run_pk, unit.ordinal, limit=1)
    if not first or not first[0]["error"]:
        return ""
    key, error = first[0]["key"], first[0]["error"]
    return f"; '{key}' by {error['type']}: {error['message']}"[:_REASON_CHARACTERS]


def _allocate(
    tx: Transaction, plan: Plan, unit: Unit, counters: Counters, redispatch_seconds: float, into: Settlement
) -> None:
    """New ranges, as many as the window allows: calls due for another try first, then fresh ones."""
    step = plan.steps[unit.ordinal]
    assert step.for_each is not None
    ended = counters.success + counters.failure
    pace = Pace(maps.live_slots(tx), step.for_each.max_parallel, counters.seconds / ended if ended else None)
    cursor, part, open_parts = counters.cursor, counters.parts, counters.parts_open
    ranges: list[tuple[Unit, int, int]] = []
    for index in maps.take_waiting(tx, unit, pace.window - open_parts):
        part, open_parts = part + 1, open_parts + 1
        ranges.append((Unit(unit.run_pk, unit.ordinal, part), index, index + 1))
    while open_parts < pace.window and cursor < counters.total:
        size = range_size(pace, counters.total - cursor)
        part, open_parts = part + 1, open_parts + 1
        ranges.append((Unit(unit.run_pk, unit.ordinal, part), cursor, cursor + size))
        cursor += size
    maps.add_ranges(
        tx,
        ranges,
        step_id=step.id,
        queue=step.queue,
        priority=step.priority,
        generation=counters.generation,
        redispatch_seconds=redispatch_seconds,
    )
    # With a full window nobody has to wake for calls that wait: the next range that ends looks for them.
    wake_at = maps.next_waiting(tx, unit) if open_parts < pace.window else None
    maps.allocate(tx, unit, cursor=cursor, parts=part, parts_open=open_parts, wake_at=wake_at)
    into.ranges.extend(new for new, _, _ in ranges)


def _write(tx: Transaction, unit: Unit, counters: Counters, *, wake_at: float | None) -> None:
    maps.allocate(
        tx, unit, cursor=counters.cursor, parts=counters.parts, parts_open=counters.parts_open, wake_at=wake_at
    )
