"""Two stores of one run with the same calls: the real one over a database, and a twin of plain Python values.

Claims are named by handles, so that both can be asked about the same claim, also one that holds no more. Leases and
due times have no length here: they end, or come, when a test says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from workflows.compile.plan import Plan
from workflows.db import interventions, maps, runs, units, upkeep
from workflows.db.database import Database, Statement, Transaction
from workflows.db.maps import Counters, ItemResult
from workflows.db.runs import Transition
from workflows.db.units import Claim, Lost, Unit, Worker
from workflows.model.states import CLAIMABLE, TERMINAL, State

T = TypeVar("T")

LONG = 100_000.0
CALLS = 5
OPEN = ("PENDING", "RETRY")

_STEPS = Statement("""
    SELECT ordinal, part, status, reason, pending, arrives_by, generation, token, failures, crashes, lease_node,
        CASE WHEN lease_until IS NULL THEN NULL WHEN lease_until > {now} THEN 1 ELSE 0 END,
        CASE WHEN not_before IS NULL OR not_before <= {now} THEN 1 ELSE 0 END,
        items_total, items_inserted, items_cursor, items_success, items_failure, parts, parts_open, item_from, item_to
    FROM step_runs WHERE run_pk = :run ORDER BY ordinal, part""")
_CALLS = Statement("""
    SELECT item_index, status, failures, crashes,
        CASE WHEN not_before IS NULL THEN 'none' WHEN not_before <= {now} THEN 'due' ELSE 'later' END
    FROM item_runs WHERE run_pk = :run ORDER BY ordinal, item_index""")
_RUN = Statement("""
    SELECT status, generation, steps_open, steps_failed, CASE WHEN cancel_requested THEN 1 ELSE 0 END, event_seq
    FROM job_runs WHERE id = :run""")
_EXPIRE = Statement("""
    UPDATE step_runs SET lease_until = {now} - 1
    WHERE run_pk = :run AND ordinal = :ordinal AND part = :part AND lease_until IS NOT NULL""")
_COME_DUE = Statement("UPDATE step_runs SET not_before = NULL WHERE run_pk = :run")
_CALLS_COME_DUE = Statement("UPDATE item_runs SET not_before = {now} - 1 WHERE run_pk = :run AND not_before > {now}")

Key = tuple[int, int]
"""Ordinal and part."""


class Store:
    """The functions of `workflows.db` in the transactions in which the engine calls them."""

    def __init__(self, database: Database, plan: Plan, run_id: str) -> None:
        self._database = database
        self._plan = plan
        self._claims: dict[int, Claim] = {}

        def accept(tx: Transaction) -> tuple[int, int]:
            version_id = runs.register_version(tx, plan, "source")
            run_pk = runs.add_run(
                tx,
                run_id=run_id,
                plan=plan,
                version_id=version_id,
                params={},
                user_params={},
                manual=True,
                idempotency_key=None,
                redispatch_seconds=LONG,
            )
            assert run_pk is not None
            return version_id, run_pk

        self._version_id, self.run_pk = database.retrying(accept)

    def close(self) -> None:
        """The run is of no interest any more."""
        self._database.retrying(
            lambda tx: [
                tx.run(Statement(f"DELETE FROM {table} WHERE {key} = :run"), {"run": self.run_pk})
                for table, key in (
                    *(("item_runs", "run_pk"), ("attempts", "run_pk"), ("run_events", "run_pk")),
                    *(("step_runs", "run_pk"), ("job_runs", "id")),
                )
            ]
        )

    def picture(self) -> tuple[Any, ...]:
        """All that both have in common."""
        key = {"run": self.run_pk}
        return self._database.retrying(
            lambda tx: (tx.row(_RUN, key), tuple(tx.rows(_STEPS, key)), tuple(tx.rows(_CALLS, key)))
        )

    def start(self) -> bool:
        return self._do(lambda tx: runs.start(tx, self.run_pk, LONG) is not None)

    def claim(self, handle: int, key: Key, node: str) -> tuple[Any, ...] | None:
        found = self._do(lambda tx: units.claim(tx, self._unit(key), Worker(node, 1), LONG, None))
        if found is None:
            return None
        self._claims[handle] = found
        return (found.token, found.generation, found.failures, found.crashes, found.items_inserted, found.item_from)

    def hold(self, handle: int) -> bool:
        return self._do(lambda tx: units.hold(tx, self._claims[handle], LONG))

    def owned(self, handle: int) -> bool:
        claim = self._claims[handle]
        return self._do(lambda tx: units.owned(tx, claim.unit, claim.token) is not None)

    def was_ended(self, handle: int, status: State) -> bool:
        return self._do(lambda tx: units.was_ended(tx, self._claims[handle], status))

    def standing(self, key: Key) -> tuple[str, int, bool] | None:
        found = self._do(lambda tx: units.standing(tx, self._unit(key)))
        return None if found is None else (found.status.value, found.pending, found.is_due)

    def end(self, handle: int, status: State) -> list[tuple[int, int, str]] | None:
        """Complete a step; what its successors have left."""
        claim = self._claims[handle]

        def work(tx: Transaction) -> list[tuple[int, int, str]] | None:
            at = units.end(tx, claim, status)
            if at is None:
                return None
            units.record_attempt(tx, claim, status, at)
            return self._settle(tx, at, claim.unit.ordinal, status)

        return self._do(work)

    def put_off(self, handle: int, status: State, *, is_late: bool, failed: bool) -> bool:
        delay = LONG if is_late else 0.0
        claim = self._claims[handle]
        return self._do(lambda tx: units.put_off(tx, claim, status, delay, failed=failed, error=None) is not None)

    def take_back_dead(self, key: Key, node: str, *, counted: bool) -> int | None:
        unit, worker = self._unit(key), Worker(node, 1)
        return self._take_back(lambda tx: units.take_back_from_dead(tx, unit, worker, "{}", is_counted=counted), key)

    def take_back_expired(self, key: Key) -> int | None:
        unit = self._unit(key)
        return self._take_back(lambda tx: units.take_back_expired(tx, unit, "{}"), key)

    def _take_back(self, take: Callable[[Transaction], Lost | None], key: Key) -> int | None:
        def work(tx: Transaction) -> int | None:
            lost = take(tx)
            if lost is None:
                return None
            units.record_lost_attempt(tx, self._unit(key), None, lost, "{}")
            if lost.item_from is not None and lost.item_to is not None:
                part0 = self._unit((key[0], 0))
                maps.set_aside(tx, part0, lost.item_from, lost.item_to, is_counted=lost.crashes > 0)
                maps.drop_range(tx, self._unit(key))
                counters = maps.count(tx, part0, parts_ended=1)
                if counters is not None:
                    self._write(tx, part0, counters)
            return int(lost.crashes)

        return self._do(work)

    def skip(self, key: Key) -> list[tuple[int, int, str]] | None:
        """A step is skipped by its condition."""

        def work(tx: Transaction) -> list[tuple[int, int, str]] | None:
            if not units.skip(tx, self._unit(key), "condition"):
                return None
            return self._settle(tx, maps.now(tx), key[0], State.SKIPPED)

        return self._do(work)

    def leave_canvas(self, ordinals: list[int]) -> None:
        self._do(lambda tx: units.leave_canvas(tx, self.run_pk, ordinals))

    def leases(self, node: str) -> list[Any]:
        found = self._do(lambda tx: upkeep.leases(tx, node))
        mine = sorted(lease for lease in found if lease.run_pk == self.run_pk)
        return [(lease.ordinal, lease.part, lease.token) for lease in mine]

    def renew(self, node: str, held: list[Any]) -> None:
        """Renew what was read before, perhaps long ago."""
        found = [upkeep.Lease(self.run_pk, ordinal, part, 1, token, False, 0.0) for ordinal, part, token in held]
        self._do(lambda tx: upkeep.renew(tx, node, found, LONG))

    def expired(self) -> list[Key]:
        found = self._do(upkeep.expired)
        return sorted((unit.ordinal, unit.part) for unit in found if unit.run_pk == self.run_pk)

    def expire(self, key: Key) -> None:
        self._do(lambda tx: tx.run(_EXPIRE, self._unit(key).key()))

    def come_due(self) -> None:
        """What waited for its time waits no more."""
        key = {"run": self.run_pk}
        self._do(lambda tx: (tx.run(_COME_DUE, key), tx.run(_CALLS_COME_DUE, key)))

    def cancel(self) -> tuple[Any, ...]:
        def work(tx: Transaction) -> tuple[Any, ...]:
            if interventions.request_cancel(tx, self._plan, self.run_pk):
                runs.finish(tx, self.run_pk, State.REVOKED.value, None, None)
            answer = interventions.cancel_answer(tx, self._plan, self.run_pk)
            counts = (answer.finished, answer.stopping, answer.stopped, answer.never_started)
            return (answer.status, *counts)

        return self._do(work)

    def resume(self) -> list[int] | None:
        return self._do(lambda tx: interventions.resume(tx, self._plan, self.run_pk, self._version_id, LONG))

    # Maps

    def add_calls(self, handle: int, first: int, number: int) -> bool:
        calls = list(range(first, min(first + number, CALLS)))
        claim, keys = self._claims[handle], [str(index) for index in calls]
        return self._do(lambda tx: maps.add_items(tx, claim, first, keys, list(calls), CALLS, LONG))

    def open_map(self, handle: int) -> bool:
        return self._do(lambda tx: maps.open_map(tx, self._claims[handle]) is not None)

    def allocate(self, ordinal: int, size: int) -> list[tuple[int, int, int]] | None:
        """New ranges, `(part, from, to)`: one for each call that is due again, and one of calls that are new."""

        def work(tx: Transaction) -> list[tuple[int, int, int]] | None:
            unit = self._unit((ordinal, 0))
            counters = maps.count(tx, unit)
            if counters is None:
                return None
            bounds = [(index, index + 1) for index in sorted(maps.take_waiting(tx, unit, CALLS))]
            cursor = min(counters.cursor + size, counters.total)
            if cursor > counters.cursor:
                bounds.append((counters.cursor, cursor))
            made = [(counters.parts + 1 + number, *bound) for number, bound in enumerate(bounds)]
            maps.add_ranges(
                tx,
                [(Unit(self.run_pk, ordinal, part), start, end) for part, start, end in made],
                step_id=self._plan.steps[ordinal].id,
                queue="q",
                generation=counters.generation,
                redispatch_seconds=LONG,
            )
            parts, open_parts = counters.parts + len(made), counters.parts_open + len(made)
            maps.allocate(tx, unit, cursor=cursor, parts=parts, parts_open=open_parts, wake_at=None)
            return made

        return self._do(work)

    def end_range(self, handle: int, ends: list[str]) -> tuple[Any, ...] | None:
        """Count a range in; `ends` says how its calls ended (`LATER` is a RETRY that is not due yet)."""
        claim = self._claims[handle]
        part0 = self._unit((claim.unit.ordinal, 0))

        def work(tx: Transaction) -> tuple[Any, ...] | None:
            if maps.end_range(tx, claim) is None:
                return None
            assert claim.item_from is not None
            results = [
                ItemResult(
                    claim.item_from + place,
                    "RETRY" if end == "LATER" else end,
                    1,
                    0.0,
                    0.0,
                    delay_seconds=LONG if end == "LATER" else 0.0,
                )
                for place, end in enumerate(ends)
            ]
            maps.end_items(tx, part0, results)
            success, failure = ends.count("SUCCESS"), ends.count("FAILURE")
            counters = maps.count(tx, part0, success=success, failure=failure, parts_ended=1)
            return () if counters is None else _figures(counters)

        return self._do(work)

    def end_map(self, ordinal: int, status: State) -> list[tuple[int, int, str]] | None:
        def work(tx: Transaction) -> list[tuple[int, int, str]] | None:
            unit = self._unit((ordinal, 0))
            at = maps.end_map(tx, unit, status.value, None, None)
            if at is None:
                return None
            maps.drop_ranges(tx, unit)
            maps.end_never_started(tx, unit, State.SKIPPED.value)
            return self._settle(tx, at, ordinal, status)

        return self._do(work)

    # Shared

    def _do(self, work: Callable[[Transaction], T]) -> T:
        return self._database.retrying(work)

    def _unit(self, key: Key) -> Unit:
        return Unit(self.run_pk, *key)

    def _write(self, tx: Transaction, unit: Unit, counters: Counters) -> None:
        open_parts = counters.parts_open
        maps.allocate(tx, unit, cursor=counters.cursor, parts=counters.parts, parts_open=open_parts, wake_at=None)

    def _settle(self, tx: Transaction, at: float, ordinal: int, status: State) -> list[tuple[int, int, str]]:
        step = self._plan.steps[ordinal]
        left = units.count_down(tx, self.run_pk, step.successors, LONG)
        transition = Transition(ordinal, 0, status.value)
        failed = int(status is State.FAILURE)
        run = runs.advance(tx, self.run_pk, at, [transition], step_id=step.id, ended=1, failed=failed)
        assert run is not None
        if run.steps_open == 0:
            end = State.REVOKED if run.cancel_requested else State.FAILURE if run.steps_failed else State.SUCCESS
            runs.finish(tx, self.run_pk, end.value, None, None)
        return sorted(left)


def _figures(counters: Counters) -> tuple[Any, ...]:
    return (
        *(counters.total, counters.cursor, counters.success, counters.failure),
        *(counters.parts, counters.parts_open, counters.generation),
    )


@dataclass
class Row:
    """A step, or a range of a map."""

    pending: int = 0
    arrives_by: str = "sql"
    status: str = "PENDING"
    reason: str | None = None
    generation: int = 1
    token: int = 0
    failures: int = 0
    crashes: int = 0
    node: str | None = None
    is_alive: bool | None = None
    is_due: bool = True
    total: int | None = None
    inserted: int | None = None
    cursor: int | None = None
    success: int | None = None
    failure: int | None = None
    parts: int | None = None
    parts_open: int | None = None
    item_from: int | None = None
    item_to: int | None = None

    @property
    def is_open_map(self) -> bool:
        return self.status == "PROGRESS" and self.is_alive is None

    def free(self) -> None:
        """Nobody owns it."""
        self.node = self.is_alive = None


@dataclass
class Call:
    """A call of a map; `wait` is `none`, `due` or `later`."""

    status: str = "PENDING"
    failures: int = 0
    crashes: int = 0
    wait: str = "none"


@dataclass
class Twin:
    """The same calls as `Store`, on values."""

    plan: Plan
    status: str = "PENDING"
    generation: int = 1
    steps_open: int = 0
    steps_failed: int = 0
    cancelled: bool = False
    events: int = 0
    rows: dict[Key, Row] = field(default_factory=dict)
    calls: dict[tuple[int, int], Call] = field(default_factory=dict)
    claims: dict[int, tuple[Key, int]] = field(default_factory=dict)
    bounds: dict[int, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.steps_open = len(self.plan.steps)

    def picture(self) -> tuple[Any, ...]:
        run = (self.status, self.generation, self.steps_open, self.steps_failed, int(self.cancelled), self.events)
        rows = tuple(
            (
                *(*key, row.status, row.reason, row.pending, row.arrives_by, row.generation, row.token),
                *(row.failures, row.crashes, row.node, None if row.is_alive is None else int(row.is_alive)),
                *(int(row.is_due), row.total, row.inserted, row.cursor, row.success, row.failure),
                *(row.parts, row.parts_open, row.item_from, row.item_to),
            )
            for key, row in sorted(self.rows.items())
        )
        calls = tuple(
            (index, call.status, call.failures, call.crashes, call.wait)
            for (_, index), call in sorted(self.calls.items())
        )
        return run, rows, calls

    def _materialise(self) -> None:
        for step in self.plan.steps:
            self.rows[step.ordinal, 0] = Row(len(step.predecessors), step.arrives_by.value)

    def start(self) -> bool:
        if self.status != "PENDING" or self.cancelled:
            return False
        self._materialise()
        self.status, self.events = "PROGRESS", self.events + 1
        return True

    def claim(self, handle: int, key: Key, node: str) -> tuple[Any, ...] | None:
        row = self.rows.get(key)
        if row is None or row.pending or row.status not in CLAIMABLE or not row.is_due:
            return None
        row.status, row.token, row.node, row.is_alive = "PROGRESS", row.token + 1, node, True
        self.claims[handle] = (key, row.token)
        if row.item_from is not None and row.item_to is not None:
            self.bounds[handle] = (row.item_from, row.item_to)
        return (row.token, row.generation, row.failures, row.crashes, row.inserted, row.item_from)

    def _mine(self, handle: int) -> Row | None:
        key, token = self.claims[handle]
        row = self.rows.get(key)
        holds = row is not None and row.status == "PROGRESS" and row.token == token and row.is_alive is not None
        return row if holds else None

    def hold(self, handle: int) -> bool:
        row = self._mine(handle)
        if row is not None:
            row.is_alive = True
        return row is not None

    def owned(self, handle: int) -> bool:
        return self._mine(handle) is not None

    def was_ended(self, handle: int, status: State) -> bool:
        key, token = self.claims[handle]
        row = self.rows.get(key)
        return row is not None and row.token == token and row.status == status

    def standing(self, key: Key) -> tuple[str, int, bool] | None:
        row = self.rows.get(key)
        return None if row is None else (row.status, row.pending, row.is_due)

    def end(self, handle: int, status: State) -> list[tuple[int, int, str]] | None:
        row = self._mine(handle)
        if row is None:
            return None
        row.status, row.reason = status.value, None
        row.failures += int(status is State.FAILURE)
        row.free()
        return self._settle(self.claims[handle][0][0], status)

    def put_off(self, handle: int, status: State, *, is_late: bool, failed: bool) -> bool:
        row = self._mine(handle)
        if row is None:
            return False
        row.status, row.is_due, row.arrives_by = status.value, not is_late, "sql"
        row.failures += int(failed)
        row.free()
        return True

    def take_back_dead(self, key: Key, node: str, *, counted: bool) -> int | None:
        row = self.rows.get(key)
        if row is None or row.status != "PROGRESS" or row.node != node:
            return None
        return self._take_back(key, row, counted=counted)

    def take_back_expired(self, key: Key) -> int | None:
        row = self.rows.get(key)
        if row is None or row.status != "PROGRESS" or row.is_alive is not False:
            return None
        return self._take_back(key, row, counted=True)

    def _take_back(self, key: Key, row: Row, *, counted: bool) -> int:
        row.status, row.arrives_by = "PENDING", "sql"
        row.crashes += int(counted)
        row.free()
        if row.item_from is not None and row.item_to is not None:
            for index in range(row.item_from, row.item_to):
                call = self.calls[key[0], index]
                if call.status in OPEN and call.wait == "none":
                    call.status, call.wait = "RETRY", "due"
                    call.crashes += int(row.crashes > 0)
            del self.rows[key]
            self._count(key[0], parts_ended=1)
        return row.crashes

    def skip(self, key: Key) -> list[tuple[int, int, str]] | None:
        row = self.rows.get(key)
        if row is None or row.status != "PENDING":
            return None
        row.status, row.reason = "SKIPPED", "condition"
        return self._settle(key[0], State.SKIPPED)

    def leave_canvas(self, ordinals: list[int]) -> None:
        for ordinal in ordinals:
            if (ordinal, 0) in self.rows:
                self.rows[ordinal, 0].arrives_by = "sql"

    def leases(self, node: str) -> list[Any]:
        return sorted(
            (*key, row.token) for key, row in self.rows.items() if row.status == "PROGRESS" and row.node == node
        )

    def renew(self, node: str, held: list[Any]) -> None:
        for ordinal, part, token in held:
            row = self.rows.get((ordinal, part))
            if row is not None and row.status == "PROGRESS" and row.token == token and row.is_alive is not None:
                row.is_alive = True

    def expired(self) -> list[Key]:
        return sorted(key for key, row in self.rows.items() if row.status == "PROGRESS" and row.is_alive is False)

    def expire(self, key: Key) -> None:
        row = self.rows.get(key)
        if row is not None and row.is_alive is not None:
            row.is_alive = False

    def come_due(self) -> None:
        for row in self.rows.values():
            row.is_due = True
        for call in self.calls.values():
            if call.wait == "later":
                call.wait = "due"

    def cancel(self) -> tuple[Any, ...]:
        if self.status == "PENDING":
            self.cancelled, self.status, self.events = True, "REVOKED", self.events + 1
        elif self.status == "PROGRESS":
            self.cancelled = True
            self._revoke()
        steps = {key[0]: row for key, row in self.rows.items() if key[1] == 0}
        running = {key[0] for key, row in self.rows.items() if row.status == "PROGRESS"}
        revoked = [row for ordinal, row in steps.items() if row.status == "REVOKED" and ordinal not in running]
        finished = sum(row.status in ("SUCCESS", "FAILURE", "SKIPPED") for row in steps.values())
        stopped = sum(row.token > 0 for row in revoked)
        never = len(revoked) - stopped
        stopping = len(running & set(steps))
        if not finished + stopping + stopped + never:
            never = len(self.plan.steps)
        return (self.status, finished, stopping, stopped, never)

    def _revoke(self) -> None:
        ended = 0
        for key, row in sorted(self.rows.items()):
            if key[1] and row.status in CLAIMABLE:
                del self.rows[key]
            elif not key[1] and (row.status in CLAIMABLE or row.is_open_map):
                row.status = "REVOKED"
                ended += 1
        for call in self.calls.values():
            if call.status in OPEN:
                call.status, call.wait = "REVOKED", "none"
        self.events += ended
        self.steps_open -= ended
        if ended and not self.steps_open:
            self.status, self.events = "REVOKED", self.events + 1

    def resume(self) -> list[int] | None:
        if self.status not in ("FAILURE", "REVOKED"):
            return None
        if not self.rows:
            self._materialise()
        steps = {key[0]: row for key, row in self.rows.items() if key[1] == 0}
        again: set[int] = set()
        for ordinal, row in sorted(steps.items()):
            is_passed_by = row.status == "SKIPPED" and row.reason == "condition"
            is_behind = any(before in again for before in self.plan.steps[ordinal].predecessors)
            if row.status != "SUCCESS" and (is_behind or not is_passed_by):
                again.add(ordinal)
        if any(steps[ordinal].status == "PROGRESS" for ordinal in again):
            return None
        self.status, self.generation, self.cancelled = "PROGRESS", self.generation + 1, False
        self.steps_open, self.steps_failed, self.events = len(again), 0, self.events + 1
        for ordinal in again:
            before = self.plan.steps[ordinal].predecessors
            row = steps[ordinal]
            row.status, row.reason, row.arrives_by = "PENDING", None, "sql"
            row.pending = sum(other in again for other in before)
            row.generation, row.failures, row.crashes, row.is_due = self.generation, 0, 0, True
            row.parts_open, row.cursor, row.failure = 0, row.inserted, 0
        for key in [key for key in self.rows if key[1] and key[0] in again]:
            del self.rows[key]
        for (ordinal, _), call in self.calls.items():
            if ordinal in again and call.status != "SUCCESS":
                call.status, call.wait, call.failures, call.crashes = "RETRY", "due", 0, 0
        return sorted(ordinal for ordinal in again if not steps[ordinal].pending)

    # Maps

    def add_calls(self, handle: int, first: int, number: int) -> bool:
        row = self._mine(handle)
        if row is None:
            return False
        last = min(first + number, CALLS)
        for index in range(first, last):
            self.calls.setdefault((self.claims[handle][0][0], index), Call())
        row.total, row.inserted, row.parts_open, row.is_alive = CALLS, last, 0, True
        row.cursor, row.success, row.failure = row.cursor or 0, row.success or 0, row.failure or 0
        row.parts = row.parts or 0
        return True

    def open_map(self, handle: int) -> bool:
        row = self._mine(handle)
        if row is not None:
            row.free()
        return row is not None

    def _count(self, ordinal: int, success: int = 0, failure: int = 0, parts_ended: int = 0) -> Row | None:
        row = self.rows.get((ordinal, 0))
        if row is None or row.status != "PROGRESS":
            return None
        assert row.success is not None
        assert row.failure is not None
        assert row.parts_open is not None
        row.success, row.failure = row.success + success, row.failure + failure
        row.parts_open -= parts_ended
        return row

    def allocate(self, ordinal: int, size: int) -> list[tuple[int, int, int]] | None:
        row = self._count(ordinal)
        if row is None:
            return None
        assert row.cursor is not None
        assert row.parts is not None
        assert row.parts_open is not None
        assert row.total is not None
        bounds = []
        for (of, index), call in sorted(self.calls.items()):
            if of == ordinal and call.wait == "due":
                call.wait = "none"
                bounds.append((index, index + 1))
        cursor = min(row.cursor + size, row.total)
        if cursor > row.cursor:
            bounds.append((row.cursor, cursor))
        made = [(row.parts + 1 + number, *bound) for number, bound in enumerate(bounds)]
        for part, start, end in made:
            self.rows[ordinal, part] = Row(generation=row.generation, item_from=start, item_to=end)
        row.cursor, row.parts, row.parts_open = cursor, row.parts + len(made), row.parts_open + len(made)
        return made

    def end_range(self, handle: int, ends: list[str]) -> tuple[Any, ...] | None:
        row = self._mine(handle)
        if row is None:
            return None
        key, _ = self.claims[handle]
        first, _ = self.bounds[handle]
        del self.rows[key]
        for place, end in enumerate(ends):
            call = self.calls[key[0], first + place]
            if call.status in OPEN:
                call.status = "RETRY" if end == "LATER" else end
                call.failures, call.wait = 1, {"LATER": "later", "RETRY": "due"}.get(end, "none")
        counted = self._count(key[0], ends.count("SUCCESS"), ends.count("FAILURE"), parts_ended=1)
        if counted is None:
            return ()
        return (
            *(counted.total, counted.cursor, counted.success, counted.failure),
            *(counted.parts, counted.parts_open, counted.generation),
        )

    def end_map(self, ordinal: int, status: State) -> list[tuple[int, int, str]] | None:
        row = self.rows.get((ordinal, 0))
        if row is None or not row.is_open_map:
            return None
        row.status = status.value
        for key in [key for key in self.rows if key[0] == ordinal and key[1]]:
            del self.rows[key]
        for (of, _), call in self.calls.items():
            if of == ordinal and call.status in OPEN:
                call.status, call.wait = "SKIPPED", "none"
        return self._settle(ordinal, status)

    def _settle(self, ordinal: int, status: State) -> list[tuple[int, int, str]]:
        left = []
        for after in self.plan.steps[ordinal].successors:
            row = self.rows[after, 0]
            if row.status == "PENDING" and row.pending:
                row.pending -= 1
                left.append((after, row.pending, row.arrives_by))
        self.steps_open -= 1
        self.steps_failed += int(status is State.FAILURE)
        self.events += 1
        if not self.steps_open:
            end = "REVOKED" if self.cancelled else "FAILURE" if self.steps_failed else "SUCCESS"
            self.status, self.events = end, self.events + 1
        return sorted(left)

    @property
    def is_something_late(self) -> bool:
        """Whether anything waits for its time."""
        rows, calls = self.rows.values(), self.calls.values()
        return any(not row.is_due for row in rows) or any(call.wait == "later" for call in calls)

    # Laws

    def broken(self) -> list[str]:
        """What must hold of every store, whatever was called."""
        found = []
        steps = [row for key, row in self.rows.items() if key[1] == 0]
        if steps and self.steps_open != sum(row.status not in TERMINAL for row in steps):
            found.append("a run knows how many of its steps are open")
        if self.status in TERMINAL and any(row.status not in TERMINAL for row in steps):
            found.append("a run ends with its last step")
        holders: dict[Key, int] = {}
        for handle, (key, _) in self.claims.items():
            holders[key] = holders.get(key, 0) + self.owned(handle)
        if any(number > 1 for number in holders.values()):
            found.append("a unit has one owner")
        return found
