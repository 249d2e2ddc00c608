"""Maps: `for_each` expanded to calls, ranges of calls run, counted and followed up.

A map's part 0 is claimed once, writes the calls (1,000 a transaction, going on where a dead predecessor stopped) and
opens the map. From then on each ended range counts itself in, and takes as many new ranges as the window allows.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from workflows.compile.plan import PlanStep
from workflows.db import maps, runs, units
from workflows.db.database import Transaction
from workflows.db.maps import Item, ItemResult
from workflows.db.runs import Transition
from workflows.db.units import Unit
from workflows.engine import caching, dispatch, limits, logs
from workflows.engine.calls import call
from workflows.engine.context import EngineContext, FencedError, naming_absence
from workflows.engine.job import Job
from workflows.engine.outcomes import Failure, Outcome, failure_of, safe_text
from workflows.engine.runtime import DEADLINE_GRACE_SECONDS
from workflows.engine.scope import input_scope, step_scope
from workflows.engine.settlement import Settlement, advance
from workflows.engine.windows import follow_up, share
from workflows.model.errors import (
    CeleriacError,
    DatabaseUnavailableError,
    StepCancelledError,
    StepError,
    ValidationError,
)
from workflows.model.expressions import references, render
from workflows.model.spec import ForEach
from workflows.model.states import State
from workflows.steps.registry import StepDefinition

_log = logging.getLogger(__name__)

ITEMS_PER_TRANSACTION = 1_000
CANCEL_CHECK_SECONDS = 0.02
DEADLINE_REFRESH = 0.5
"""A range puts its deadline off when this share of the step's timeout has passed."""

GIVE_BACK_SECONDS = 2.0
MAX_ITEMS = 1_000_000


def expand(job: Job) -> Settlement | None:
    """Write the calls of a map and open it; None when the claim was lost on the way.

    Raises:
        ValidationError: `items` is no list, is too long, or two calls have the same key.
    """
    database, claim = job.runtime.database, job.claim
    calls, keys = _calls(job)
    lease = job.runtime.config.lease_seconds
    begun = claim.items_inserted or 0
    for first in range(begun, max(len(calls), begun + 1), ITEMS_PER_TRANSACTION):
        last = first + ITEMS_PER_TRANSACTION
        write = partial(maps.add_items, claim=claim, first=first, total=len(calls), lease=lease)
        if not database.retrying(partial(write, keys=keys[first:last], items=calls[first:last])):
            return None
    return database.retrying(lambda tx: _open(tx, job, len(calls)))


def run(job: Job, definition: StepDefinition) -> Outcome:
    """Run the calls of a range one after the other, then count them in."""
    return _Range(job, definition).run()


def fail_range(job: Job, failure: Failure) -> Outcome:
    """This try of every open call of the range fails for the same reason, which its process cannot tell."""
    began, now = job.claim.started_at, job.runtime.clock.time()
    results = [
        _failed(job, item, failure, began, max(began, now))
        for item in _load(job)
        if item.status in (State.PENDING, State.RETRY)
    ]
    return _finish_range(job, results, 0.0, [])


def open_calls(job: Job) -> int:
    """How many calls of the range have not ended."""
    return sum(item.status in (State.PENDING, State.RETRY) for item in _load(job))


def deadline_seconds(step: PlanStep, part: int) -> float | None:
    """After what time without news the worker's parent ends a try: somewhat later than the timeout within the step."""
    if step.timeout_seconds is None or (step.for_each is not None and part == 0):
        return None
    if step.for_each is None:
        return step.timeout_seconds + DEADLINE_GRACE_SECONDS
    # A range has many calls, and puts its deadline off now and then instead of with each of them.
    return step.timeout_seconds * (1 + DEADLINE_REFRESH) + DEADLINE_GRACE_SECONDS


class _Range:
    """One try of a range."""

    def __init__(self, job: Job, definition: StepDefinition) -> None:
        self._job = job
        self._definition = definition
        self._results: list[ItemResult] = []
        self._lines: list[dict[str, Any]] = []
        self._seconds = 0.0
        self._scope: dict[str, Any] | None = None
        self._postponed: tuple[int, float] | None = None
        self._cache_keys: dict[int, str] = {}
        self._fresh: dict[str, str] = {}
        self._given: dict[int, dict[str, object]] = {}
        self._deadline_set = job.runtime.clock.monotonic()

    def run(self) -> Outcome:
        job = self._job
        wanted = [i for i in _load(job) if i.status in (State.PENDING, State.RETRY)]
        watch = EngineContext(job.runtime, job.claim, job.context.run_id, job.step.id)
        is_given_back = False
        try:
            for item in self._not_served(wanted):
                watch.check_cancelled(every_seconds=CANCEL_CHECK_SECONDS)
                self._put_deadline_off()
                if job.step.rate_limit is not None and not self._start(item):
                    break
                with logs.about(item=item.key):
                    self._run_item(item)
        except StepCancelledError:
            pass  # What was done is counted; cancelling has ended the rest.
        except FencedError:
            return Outcome.REFUSED
        except DatabaseUnavailableError as error:
            _log.warning("calls of step '%s' of run %s are given back: %s", job.step.id, job.context.run_id, error)
            is_given_back = True
        return _finish_range(
            job,
            self._results,
            self._seconds,
            self._lines,
            is_given_back=is_given_back,
            postponed=self._postponed,
            fresh=self._fresh,
        )

    def _not_served(self, items: list[Item]) -> list[Item]:
        """Those for which the cache has no output; the others have ended with it."""
        if self._job.step.cache_seconds is None:
            return items
        for item in items:
            # What is wrong with a call's input is told by its try.
            with suppress(StepError, CeleriacError):
                self._given[item.index] = self._values(item)
                self._cache_keys[item.index] = caching.key_of(self._definition, self._given[item.index])
        served = caching.find_all(self._job, sorted(set(self._cache_keys.values())))
        now = self._job.runtime.clock.time()
        left = []
        for item in items:
            found = served.get(self._cache_keys.get(item.index, ""))
            if found is None:
                left.append(item)
            else:
                self._results.append(
                    ItemResult(item.index, State.SUCCESS.value, item.failures, now, now, output=found.output)
                )
        return left

    def _start(self, item: Item) -> bool:
        """Take a start of the rate limit; False when the next is too far away, and the rest of the range waits."""
        wait, is_booked = limits.start_call(self._job)
        if is_booked:
            self._job.runtime.machine.sleep(wait)
        else:
            self._postponed = (item.index, wait)
        return is_booked

    def _put_deadline_off(self) -> None:
        timeout = self._job.step.timeout_seconds
        if timeout is None:
            return
        now = self._job.runtime.clock.monotonic()
        if now - self._deadline_set < timeout * DEADLINE_REFRESH:
            return
        self._deadline_set = now
        seconds = deadline_seconds(self._job.step, self._job.claim.unit.part)
        self._job.runtime.database.retrying(
            lambda tx: units.put_deadline_off(tx, self._job.claim, seconds), autocommit=True
        )

    def _run_item(self, item: Item) -> None:
        job, clock = self._job, self._job.runtime.clock
        attempt = item.failures + item.crashes + 1
        ctx = EngineContext(
            job.runtime, job.claim, job.context.run_id, job.step.id, item.key, attempt, rates=job.plan.rate_limits
        )
        started, began = clock.time(), clock.monotonic()
        result: ItemResult
        try:
            _refuse_poison(item, job.runtime.config.max_crashes)
            limit, timeout = job.runtime.config.max_output_bytes, job.step.timeout_seconds
            given = self._given.pop(item.index, None) or self._values(item)
            output = call(self._definition, given, ctx, job.runtime.machine, timeout, limit)
            ctx.check_whole()
            seconds = clock.monotonic() - began
            result = ItemResult(
                item.index, State.SUCCESS.value, item.failures, started, started + seconds, output=output
            )
            if ctx.completing is not None:
                self._commit(ctx, result, seconds)
                return
            if item.index in self._cache_keys:
                self._fresh[self._cache_keys[item.index]] = output
        except (FencedError, DatabaseUnavailableError):
            ctx.roll_back()
            raise
        except Exception as error:  # noqa: BLE001 - step code may raise anything; its failure lives in SQL
            ctx.roll_back()
            seconds = clock.monotonic() - began
            failure = failure_of(error, job.runtime.secrets.redact)
            ctx.keep_failure(failure)
            result = _failed(job, item, failure, started, started + seconds)
        self._seconds += seconds
        self._results.append(result)
        self._lines += ctx.lines

    def _commit(self, ctx: EngineContext, result: ItemResult, seconds: float) -> None:
        """The call opened its completing transaction: it is committed there, alone."""
        job, tx = self._job, ctx.completing
        assert tx is not None
        unit = Unit(job.claim.unit.run_pk, job.claim.unit.ordinal)
        with naming_absence():
            maps.end_items(tx, unit, [result])
            counters = maps.count(tx, unit, success=1, seconds=seconds)
            if counters is None:
                raise StepCancelledError("the map was ended while this call ran")
            if result.index in self._cache_keys:
                caching.keep(tx, job, {self._cache_keys[result.index]: result.output or "null"})
            runs.add_logs(tx, ctx.lines)
            runs.advance(tx, unit.run_pk, result.finished_at, [], step_id=job.step.id, progress=share(counters, 1))
        ctx.commit()

    def _values(self, item: Item) -> dict[str, object]:
        job = self._job
        for_each = job.step.for_each
        assert for_each is not None
        name = "item" if for_each.batch is None else "batch"

        def read(tx: Transaction) -> dict[str, Any]:
            scope = input_scope(tx, job)
            # Read now what the expressions name: the same values serve every call of the range.
            for step_id, names in references(dict(job.step.with_)).steps.items():
                for field in names:
                    scope["steps"][step_id][field]
            return scope

        if self._scope is None:
            self._scope = job.runtime.database.retrying(read, autocommit=True)
        values = render(dict(job.step.with_), {**self._scope, name: item.item})
        if not isinstance(values, dict):
            raise ValidationError(f"'with' of step '{job.step.id}' is no mapping")
        return values


class _WorkerLostError(ValidationError):
    """A call that keeps killing its process is not tried again."""


def _refuse_poison(item: Item, max_crashes: int) -> None:
    if item.crashes >= max_crashes:
        raise _WorkerLostError(f"worker lost: this call took its worker process down {item.crashes} times")


def _failed(job: Job, item: Item, failure: Failure, started: float, ended: float) -> ItemResult:
    """A try of a call has failed: RETRY when the policy allows another one, FAILURE otherwise."""
    policy, failures = job.step.retry, item.failures + 1
    if failures < policy.max_attempts and policy.is_retryable(failure.names) and not failure.is_cancellation:
        delay = policy.delay_before_next(failures, job.runtime.random.random())
        return ItemResult(
            item.index, State.RETRY.value, failures, started, ended, error=failure.to_json(), delay_seconds=delay
        )
    return ItemResult(item.index, State.FAILURE.value, failures, started, ended, error=failure.to_json())


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

    def read(tx: Transaction) -> tuple[Any, dict[str, Any]]:
        scope = step_scope(tx, job)
        return render(for_each.items, scope), scope["run"]

    items, run = job.runtime.database.retrying(read, autocommit=True)
    if not isinstance(items, list):
        raise ValidationError(f"'items' of step '{job.step.id}' is {type(items).__name__}, not a list")
    if len(items) > MAX_ITEMS:
        raise ValidationError(f"'items' of step '{job.step.id}' has {len(items)} elements, the limit is {MAX_ITEMS}")
    calls = items if for_each.batch is None else batches(items, for_each.batch, for_each.batch_bytes)
    return calls, _keys(job, for_each, calls, run)


def batches(items: Sequence[Any], size: int, most_bytes: int | None = None) -> list[list[Any]]:
    """The items in order, in lists of at most `size` and of at most `most_bytes` of JSON text, UTF-8.

    An item that is larger is alone.
    """
    if most_bytes is None:
        return [list(items[start : start + size]) for start in range(0, len(items), size)]
    found: list[list[Any]] = []
    used = 0
    for item in items:
        length = len(json.dumps(item, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass"))
        if not found or len(found[-1]) >= size or used + length > most_bytes:
            found.append([])
            used = 0
        found[-1].append(item)
        used += length
    return found


def _keys(job: Job, for_each: ForEach, calls: list[Any], run: dict[str, Any]) -> list[str]:
    if for_each.key is None:
        return [str(index) for index in range(len(calls))]
    name = "item" if for_each.batch is None else "batch"
    roots = {"params": job.context.params, "run": run, "steps": {}}
    keys = [_as_key(render(for_each.key, {**roots, name: value})) for value in calls]
    seen: set[str] = set()
    for key in keys:
        if key in seen:
            raise ValidationError(f"two calls of step '{job.step.id}' have the key {key!r}: make 'key' unique")
        seen.add(key)
    return keys


def _as_key(value: object) -> str:
    return safe_text(value) if isinstance(value, str) else json.dumps(value, sort_keys=True, separators=(",", ":"))


def _open(tx: Transaction, job: Job, total: int) -> Settlement | None:
    claim = job.claim
    at = maps.open_map(tx, claim)
    if at is None:
        return None
    settlement = Settlement()
    settlement.transitions.append(Transition(job.step.ordinal, 0, State.PROGRESS.value, {"items": total}))
    units.record_attempt(tx, claim, State.SUCCESS, at)
    unit = claim.unit
    counters = maps.count(tx, unit)
    assert counters is not None
    follow_up(tx, job.plan, unit, counters, job.runtime.config.redispatch_seconds, settlement)
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


def _postpone(tx: Transaction, job: Job, first: int, wait_seconds: float) -> None:
    """The calls from `first` on come back one by one, after those of the map that wait already."""
    assert job.step.rate_limit is not None
    assert job.claim.item_to is not None
    unit = Unit(job.claim.unit.run_pk, job.claim.unit.ordinal)
    interval = job.plan.rate_limits[job.step.rate_limit].interval_seconds
    delay = wait_seconds + maps.count_waiting(tx, unit) * interval
    maps.set_aside(tx, unit, first, job.claim.item_to, is_counted=False, delay_seconds=delay, spread_seconds=interval)


def _finish_range(
    job: Job,
    results: list[ItemResult],
    seconds: float,
    lines: list[dict[str, Any]],
    *,
    is_given_back: bool = False,
    postponed: tuple[int, float] | None = None,
    fresh: Mapping[str, str] | None = None,
) -> Outcome:
    """Count what a range has done.

    Args:
        is_given_back: The database was away: its open calls are tried again.
        postponed: From which call on they wait for the rate limit, and how long the first does.
        fresh: Outputs for the cache, by key.
    """
    claim = job.claim
    unit = Unit(claim.unit.run_pk, claim.unit.ordinal)
    success = sum(r.status == State.SUCCESS for r in results)
    failed = sum(r.status == State.FAILURE for r in results)

    def work(tx: Transaction) -> Settlement | None:
        at = maps.end_range(tx, claim)
        if at is None:
            return None
        maps.end_items(tx, unit, results)
        if fresh:
            caching.keep(tx, job, fresh)
        if is_given_back:
            first, last = claim.item_from or 0, claim.item_to or 0
            maps.set_aside(tx, unit, first, last, is_counted=False, delay_seconds=GIVE_BACK_SECONDS)
        elif postponed is not None:
            _postpone(tx, job, *postponed)
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
        settlement.progress = share(counters, success + failed)
        follow_up(tx, job.plan, unit, counters, job.runtime.config.redispatch_seconds, settlement)
        advance(tx, job.plan, job.context, at, job.step.id, settlement)
        if job.step.pool is not None:
            settlement.woken = limits.leave(tx, job.plan, job.step.pool, job.runtime)
        return settlement

    settlement = job.runtime.database.retrying(work)
    if settlement is None:
        return Outcome.REFUSED
    job.keep_back(settlement)
    dispatch.publish(job.runtime, job.plan, unit.run_pk, settlement)
    return Outcome.RETURN
