"""Maps: `for_each` expanded to calls, ranges of calls run, counted and followed up.

A map's part 0 is claimed once, writes the calls (1,000 a transaction, going on where a dead predecessor stopped) and
opens the map. From then on each ended range counts itself in, and takes as many new ranges as the window allows.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from workflows.db import maps, runs, units
from workflows.db.database import Transaction
from workflows.db.maps import Counters, Item, ItemResult
from workflows.db.runs import STEP_PROGRESS, Transition
from workflows.db.units import Unit
from workflows.engine import dispatch
from workflows.engine.calls import call
from workflows.engine.context import EngineContext, FencedError
from workflows.engine.outcomes import Failure, Outcome, engine_failure, failure_of
from workflows.engine.ranges import Pace, range_size
from workflows.engine.scope import make_scope
from workflows.engine.settlement import Settlement, advance, spread
from workflows.model.errors import StepCancelledError, ValidationError
from workflows.model.expressions import render
from workflows.model.spec import ForEach
from workflows.model.states import State
from workflows.steps.registry import StepDefinition

if TYPE_CHECKING:
    from workflows.compile.plan import Plan
    from workflows.engine.execution import Job

ITEMS_PER_TRANSACTION = 1_000
MAX_ITEMS = 1_000_000


def expand(job: Job) -> Settlement | None:
    """Write the calls of a map and open it; None when the claim was lost on the way.

    Raises:
        ValidationError: `items` is no list, is too long, or two calls have the same key.
    """
    database, claim = job.runtime.database, job.claim
    calls, keys = _calls(job)
    lease = job.runtime.config.lease_seconds
    first = claim.items_inserted or 0
    while first < len(calls) or first == 0:
        upto = first + ITEMS_PER_TRANSACTION
        chunk, names = calls[first:upto], keys[first:upto]
        if not database.retrying(
            lambda tx, first=first, chunk=chunk, names=names: maps.add_items(  # type: ignore[misc]
                tx, claim, first, names, chunk, len(calls), lease
            )
        ):
            return None
        first = min(upto, len(calls))
        if not calls:
            break
    return database.retrying(lambda tx: _open(tx, job, len(calls)))


def run(job: Job, definition: StepDefinition) -> Outcome:
    """Run the calls of a range one after the other, then count them in."""
    return _Range(job, definition).run()


def fail_range(job: Job, failure: Failure) -> Outcome:
    """Every open call of the range fails for the same reason, which lies outside of it."""
    items = _load(job)
    now = job.claim.started_at
    results = [
        ItemResult(item.index, State.FAILURE.value, item.failures, now, now, error=failure.to_json())
        for item in items
        if item.status in (State.PENDING, State.RETRY)
    ]
    return _finish_range(job, results, 0.0, [])


def top_up(tx: Transaction, plan: Plan, unit: Unit, pace_slots: int, redispatch: float, into: Settlement) -> None:
    """Dispatch calls whose next try is due; also after a range was set aside. `unit` is the map's part 0."""
    counters = maps.count(tx, unit)
    if counters is not None:
        _allocate(tx, plan, unit, counters, pace_slots, redispatch, into)


def take_back(tx: Transaction, plan: Plan, unit: Unit, lost: units.Lost, redispatch: float, into: Settlement) -> None:
    """The worker of a range is gone: its open calls go on one by one, so that only the one that kills fails."""
    assert lost.item_from is not None
    assert lost.item_to is not None
    maps.set_aside(tx, unit, lost.item_from, lost.item_to)
    counters = maps.count(tx, unit, parts_ended=1)
    if counters is not None:
        _allocate(tx, plan, unit, counters, maps.live_slots(tx), redispatch, into)


class _Range:
    """One try of a range."""

    def __init__(self, job: Job, definition: StepDefinition) -> None:
        self._job = job
        self._definition = definition
        self._results: list[ItemResult] = []
        self._lines: list[dict[str, Any]] = []
        self._seconds = 0.0
        self._scope: dict[str, Any] | None = None

    def run(self) -> Outcome:
        job = self._job
        wanted = [i for i in _load(job) if i.status in (State.PENDING, State.RETRY)]
        watch = EngineContext(job.runtime, job.claim, job.context.run_id, job.step.id, None)
        try:
            for item in wanted:
                watch.check_cancelled()
                self._run_item(item)
        except StepCancelledError:
            pass  # What was done is counted; cancelling has ended the rest.
        except FencedError:
            return Outcome.IGNORE
        return _finish_range(job, self._results, self._seconds, self._lines)

    def _run_item(self, item: Item) -> None:
        job = self._job
        ctx = EngineContext(job.runtime, job.claim, job.context.run_id, job.step.id, item.key)
        started, clock = time.time(), time.perf_counter()
        result: ItemResult
        try:
            _refuse_poison(item, job.runtime.config.max_crashes)
            output = call(self._definition, self._values(item), ctx, job.step.timeout_seconds)
            seconds = time.perf_counter() - clock
            result = ItemResult(
                item.index, State.SUCCESS.value, item.failures, started, started + seconds, output=output
            )
            if ctx.completing is not None:
                self._commit(ctx, result, seconds)
                return
        except FencedError:
            ctx.roll_back()
            raise
        except Exception as error:  # noqa: BLE001 - step code may raise anything; its failure lives in SQL
            ctx.roll_back()
            seconds = time.perf_counter() - clock
            result = self._failed(item, failure_of(error), started, started + seconds)
        self._seconds += seconds
        self._results.append(result)
        self._lines += ctx.lines

    def _commit(self, ctx: EngineContext, result: ItemResult, seconds: float) -> None:
        """The call opened its completing transaction: it is committed there, alone."""
        job, tx = self._job, ctx.completing
        assert tx is not None
        unit = Unit(job.claim.unit.run_pk, job.claim.unit.ordinal)
        maps.end_items(tx, unit, [result])
        counters = maps.count(tx, unit, success=1, seconds=seconds)
        if counters is None:
            raise StepCancelledError("the map was ended while this call ran")
        runs.add_logs(tx, ctx.lines)
        runs.advance(tx, unit.run_pk, result.finished_at, [], step_id=job.step.id, progress=_share(counters, 1))
        ctx.commit()

    def _values(self, item: Item) -> dict[str, object]:
        job = self._job
        for_each = job.step.for_each
        assert for_each is not None
        name = "item" if for_each.batch is None else "batch"

        if self._scope is None:
            with job.runtime.database.autocommit() as tx:
                self._scope = make_scope(tx, job.plan, job.context, job.step.reads)
        values = render(dict(job.step.with_), {**self._scope, name: item.item})
        if not isinstance(values, dict):
            raise ValidationError(f"'with' of step '{job.step.id}' is no mapping")
        return values

    def _failed(self, item: Item, failure: Failure, started: float, ended: float) -> ItemResult:
        policy, failures = self._job.step.retry, item.failures + 1
        if failures < policy.max_attempts and policy.is_retryable(failure.names) and not failure.is_cancellation:
            delay = policy.delay_before_next(failures, random.random())
            return ItemResult(
                item.index, State.RETRY.value, failures, started, ended, error=failure.to_json(), delay_seconds=delay
            )
        return ItemResult(item.index, State.FAILURE.value, failures, started, ended, error=failure.to_json())


class _WorkerLostError(ValidationError):
    """A call that keeps killing its process is not tried again."""


def _refuse_poison(item: Item, max_crashes: int) -> None:
    if item.crashes >= max_crashes:
        raise _WorkerLostError(f"worker lost: this call took its worker process down {item.crashes} times")


def _load(job: Job) -> list[Item]:
    claim = job.claim
    assert claim.item_from is not None
    assert claim.item_to is not None
    first, last = claim.item_from, claim.item_to
    return job.runtime.database.retrying(lambda tx: maps.load_items(tx, claim.unit, first, last), autocommit=True)


def _calls(job: Job) -> tuple[list[Any], list[str]]:
    """The values of the calls (an item each, or a list of `batch` items) and their keys."""
    for_each = job.step.for_each
    assert for_each is not None

    def read(tx: Transaction) -> Any:
        return render(for_each.items, make_scope(tx, job.plan, job.context, job.step.reads))

    items = job.runtime.database.retrying(read, autocommit=True)
    if not isinstance(items, list):
        raise ValidationError(f"'items' of step '{job.step.id}' is {type(items).__name__}, not a list")
    if len(items) > MAX_ITEMS:
        raise ValidationError(f"'items' of step '{job.step.id}' has {len(items)} elements, the limit is {MAX_ITEMS}")
    calls = items if for_each.batch is None else _batches(items, for_each.batch)
    return calls, _keys(job, for_each, calls)


def _batches(items: Sequence[Any], size: int) -> list[Any]:
    return [list(items[start : start + size]) for start in range(0, len(items), size)]


def _keys(job: Job, for_each: ForEach, calls: list[Any]) -> list[str]:
    if for_each.key is None:
        return [str(index) for index in range(len(calls))]
    name = "item" if for_each.batch is None else "batch"
    roots = {"params": job.context.params, "run": {"id": job.context.run_id}, "steps": {}}
    keys = [_as_key(render(for_each.key, {**roots, name: value})) for value in calls]
    seen: set[str] = set()
    for key in keys:
        if key in seen:
            raise ValidationError(f"two calls of step '{job.step.id}' have the key {key!r}: make 'key' unique")
        seen.add(key)
    return keys


def _as_key(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, separators=(",", ":"))


def _open(tx: Transaction, job: Job, total: int) -> Settlement | None:
    claim = job.claim
    at = maps.open_map(tx, claim)
    if at is None:
        return None
    settlement = Settlement()
    settlement.transitions.append(Transition(job.step.ordinal, 0, State.PROGRESS.value, {"items": total}))
    units.record_attempt(tx, claim, State.SUCCESS, at)
    counters = maps.count(tx, claim.unit)
    assert counters is not None
    _follow_up(tx, job, counters, settlement)
    run = advance(tx, job.plan, job.context, at, job.step.id, settlement)
    if run is not None and run.cancel_requested:
        return _revoke(tx, job, at)
    return settlement


def _revoke(tx: Transaction, job: Job, at: float) -> Settlement:
    """The run was cancelled while the map was being expanded: none of its calls starts."""
    unit = Unit(job.claim.unit.run_pk, job.step.ordinal)
    settlement = Settlement()
    if maps.end_map(tx, unit, State.REVOKED.value, None, None) is not None:
        maps.drop_ranges(tx, unit)
        maps.end_never_started(tx, unit, State.REVOKED.value)
        settlement.ended = 1
        settlement.transitions.append(Transition(unit.ordinal, 0, State.REVOKED.value))
        advance(tx, job.plan, job.context, at, job.step.id, settlement)
    return settlement


def _finish_range(job: Job, results: list[ItemResult], seconds: float, lines: list[dict[str, Any]]) -> Outcome:
    claim = job.claim
    unit = Unit(claim.unit.run_pk, claim.unit.ordinal)
    success = sum(r.status == State.SUCCESS for r in results)
    failed = sum(r.status == State.FAILURE for r in results)

    def work(tx: Transaction) -> Settlement | None:
        at = maps.end_range(tx, claim)
        if at is None:
            return None
        maps.end_items(tx, unit, results)
        for result in results:
            if result.status != State.SUCCESS:
                units.record_attempt(
                    tx,
                    claim,
                    State.FAILURE,
                    result.finished_at,
                    error=result.error,
                    item_index=result.index,
                    number=result.failures,
                )
        runs.add_logs(tx, lines)
        settlement = Settlement()
        counters = maps.count(tx, unit, success=success, failure=failed, seconds=seconds, parts_ended=1)
        if counters is None:
            return settlement
        settlement.progress = _share(counters, success + failed)
        _follow_up(tx, job, counters, settlement)
        advance(tx, job.plan, job.context, at, job.step.id, settlement)
        return settlement

    settlement = job.runtime.database.retrying(work)
    if settlement is None:
        return Outcome.IGNORE
    dispatch.publish(job.runtime, job.plan, unit.run_pk, settlement)
    return Outcome.RETURN


def _follow_up(tx: Transaction, job: Job, counters: Counters, settlement: Settlement) -> None:
    """End the map when its calls are done or too many failed; otherwise dispatch more of it."""
    step, redispatch = job.step, job.runtime.config.redispatch_seconds
    unit = Unit(job.claim.unit.run_pk, step.ordinal)
    assert step.for_each is not None
    tolerated = step.for_each.tolerate.allows(counters.failure, counters.total)
    if not counters.is_done and tolerated:
        _allocate(tx, job.plan, unit, counters, maps.live_slots(tx), redispatch, settlement)
        return
    if not counters.is_done and counters.parts_open > 0:
        # Too many have failed: nothing new starts, and what runs is waited for.
        maps.allocate(
            tx, unit, cursor=counters.cursor, parts=counters.parts, parts_open=counters.parts_open, wake_at=None
        )
        return
    status, error = State.SUCCESS, None
    if not tolerated:
        status = State.FAILURE
        failure = engine_failure(
            "ItemsFailedError", f"{counters.failure} of {counters.total} calls failed, more than 'tolerate' allows"
        )
        error = failure.to_json()
        maps.end_never_started(tx, unit, State.SKIPPED.value)
    output = json.dumps({"total": counters.total, "success": counters.success, "failure": counters.failure})
    if maps.end_map(tx, unit, status.value, output, error) is None:
        return
    done = counters.success + counters.failure
    settlement.progress += STEP_PROGRESS - done * STEP_PROGRESS // counters.total if counters.total else STEP_PROGRESS
    settlement.ended += 1
    settlement.failed += int(status is State.FAILURE)
    settlement.transitions.append(Transition(step.ordinal, 0, status.value, json.loads(output)))
    spread(tx, job.plan, unit.run_pk, step.ordinal, status, redispatch, settlement)


def _allocate(
    tx: Transaction, plan: Plan, unit: Unit, counters: Counters, slots: int, redispatch: float, into: Settlement
) -> None:
    """New ranges, as many as the window allows: calls due for another try first, then fresh ones."""
    step = plan.steps[unit.ordinal]
    assert step.for_each is not None
    ended = counters.success + counters.failure
    pace = Pace(slots, step.for_each.max_parallel, counters.seconds / ended if ended else None)
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
        tx, ranges, step_id=step.id, queue=step.queue, generation=counters.generation, redispatch_seconds=redispatch
    )
    maps.allocate(tx, unit, cursor=cursor, parts=part, parts_open=open_parts, wake_at=maps.next_waiting(tx, unit))
    into.ranges.extend(new for new, _, _ in ranges)


def _share(counters: Counters, added: int) -> int:
    """What `added` calls, the last ones counted in, add to the run's progress."""
    done = counters.success + counters.failure
    return done * STEP_PROGRESS // counters.total - (done - added) * STEP_PROGRESS // counters.total
