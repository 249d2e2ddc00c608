"""Rows of maps: the calls, and the ranges of calls that workers claim.

Part 0 of a step with `for_each` is claimed once to expand it; afterwards it stays in PROGRESS without a lease and holds
the counters. Ranges are the parts from 1 on. Whoever changes the counters holds the row lock of part 0, taken after the
range's own row and before the run's.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from workflows.db import payloads
from workflows.db.database import Statement, Transaction
from workflows.db.units import Claim, Unit

_ADD_ITEM = Statement("""
    INSERT INTO item_runs (run_pk, ordinal, item_index, key, item) VALUES (:run, :ordinal, :index, :key, :item)
    ON CONFLICT DO NOTHING""")
_ADD_ITEMS_AT_ONCE = Statement("""
    INSERT INTO item_runs (run_pk, ordinal, item_index, key, item)
    SELECT CAST(:run AS bigint), CAST(:ordinal AS integer), v.index, v.key, v.item
    FROM json_to_recordset(CAST(:rows AS json)) AS v (index integer, key text, item text)
    ON CONFLICT DO NOTHING""")
_SET_INSERTED = Statement("""
    UPDATE step_runs SET items_total = :total, items_inserted = :inserted,
        items_cursor = coalesce(items_cursor, 0), items_success = coalesce(items_success, 0),
        items_failure = coalesce(items_failure, 0), items_seconds = coalesce(items_seconds, 0),
        parts = coalesce(parts, 0), parts_open = 0, lease_until = {now} + :lease
    WHERE run_pk = :run AND ordinal = :ordinal AND part = 0 AND status = 'PROGRESS' AND token = :token
        AND lease_until IS NOT NULL
    RETURNING token""")
_OPEN = Statement("""
    UPDATE step_runs SET lease_node = NULL, lease_pid = NULL, lease_until = NULL, deadline_at = NULL
    WHERE run_pk = :run AND ordinal = :ordinal AND part = 0 AND status = 'PROGRESS' AND token = :token
        AND lease_until IS NOT NULL
    RETURNING {now}""")

_COUNT = Statement("""
    UPDATE step_runs SET items_success = items_success + :success, items_failure = items_failure + :failure,
        items_seconds = items_seconds + :seconds, parts_open = parts_open - :parts_ended
    WHERE run_pk = :run AND ordinal = :ordinal AND part = 0 AND status = 'PROGRESS'
    RETURNING items_total, items_cursor, items_success, items_failure, items_seconds, parts, parts_open, generation,
        pending > 0""")
_ALLOCATE = Statement("""
    UPDATE step_runs SET items_cursor = :cursor, parts = :parts, parts_open = :parts_open,
        next_dispatch_at = :wake_at
    WHERE run_pk = :run AND ordinal = :ordinal AND part = 0""")
_ADD_RANGE = Statement("""
    INSERT INTO step_runs (run_pk, ordinal, part, step_id, queue, pending, arrives_by, generation, ready_at,
        dispatched_at, next_dispatch_at, dispatch_wait_seconds, item_from, item_to, priority)
    VALUES (:run, :ordinal, :part, :step, :queue, 0, 'sql', :generation, {now}, {now}, {now} + :redispatch, :redispatch,
        :item_from, :item_to, :priority)""")
_DROP_RANGE = Statement(
    "DELETE FROM step_runs WHERE run_pk = :run AND ordinal = :ordinal AND part = :part AND part > 0"
)
_DROP_RANGES = Statement("DELETE FROM step_runs WHERE run_pk = :run AND ordinal = :ordinal AND part > 0")
_END_RANGE = Statement("""
    DELETE FROM step_runs WHERE run_pk = :run AND ordinal = :ordinal AND part = :part AND part > 0
        AND status = 'PROGRESS' AND token = :token RETURNING {now}""")
_ITEMS = Statement("""
    SELECT item_index, key, item, status, failures, crashes FROM item_runs
    WHERE run_pk = :run AND ordinal = :ordinal AND item_index >= :item_from AND item_index < :item_to
    ORDER BY item_index""")
_END_ITEM = Statement("""
    UPDATE item_runs SET status = :status, output = :output, error = :error, failures = :failures,
        started_at = :started_at, finished_at = :finished_at, not_before = {now} + :delay
    WHERE run_pk = :run AND ordinal = :ordinal AND item_index = :index AND status IN ('PENDING', 'RETRY')""")
# The bounds keep every plan, also one made without statistics, from reading all calls of the map for a few of them.
_END_ITEMS_AT_ONCE = Statement("""
    UPDATE item_runs SET status = v.status, output = v.output, error = v.error, failures = v.failures,
        started_at = v.started_at, finished_at = v.finished_at, not_before = {now} + v.delay
    FROM json_to_recordset(CAST(:rows AS json)) AS v (index integer, status text, output text, error text,
        failures integer, started_at double precision, finished_at double precision, delay double precision)
    WHERE run_pk = :run AND ordinal = :ordinal AND item_index = v.index AND item_index BETWEEN :first AND :last
        AND item_runs.status IN ('PENDING', 'RETRY')""")
_SET_ASIDE = Statement("""
    UPDATE item_runs SET status = 'RETRY', not_before = {now} + :delay + :spread * (item_index - :item_from),
        crashes = crashes + :counted
    WHERE run_pk = :run AND ordinal = :ordinal AND item_index >= :item_from AND item_index < :item_to
        AND status IN ('PENDING', 'RETRY') AND not_before IS NULL""")
_WAITING = Statement("""
    SELECT item_index FROM item_runs WHERE run_pk = :run AND ordinal = :ordinal AND status = 'RETRY'
        AND not_before <= {now} ORDER BY not_before, item_index LIMIT :limit""")
_TAKE_WAITING = Statement("""
    UPDATE item_runs SET not_before = NULL
    WHERE run_pk = :run AND ordinal = :ordinal AND item_index IN :items[] AND status = 'RETRY'""")
_NEXT_WAITING = Statement("""
    SELECT min(not_before) FROM item_runs WHERE run_pk = :run AND ordinal = :ordinal AND status = 'RETRY'""")
_COUNT_WAITING = Statement("""
    SELECT count(*) FROM item_runs
    WHERE run_pk = :run AND ordinal = :ordinal AND status = 'RETRY' AND not_before > {now}""")
_NEVER_STARTED = Statement("""
    UPDATE item_runs SET status = :status, not_before = NULL
    WHERE run_pk = :run AND ordinal = :ordinal AND status IN ('PENDING', 'RETRY')""")
_END_MAP = Statement("""
    UPDATE step_runs SET status = :status, output = :output, error = :error, finished_at = {now},
        next_dispatch_at = NULL, progress_done = NULL
    WHERE run_pk = :run AND ordinal = :ordinal AND part = 0 AND status = 'PROGRESS' AND lease_until IS NULL
    RETURNING {now}""")
_OUTPUTS = Statement("""
    SELECT item_index, output FROM item_runs WHERE run_pk = :run AND ordinal = :ordinal AND status = 'SUCCESS'
    ORDER BY item_index""")
_FAILURES = Statement("""
    SELECT item_index, key, error, failures FROM item_runs
    WHERE run_pk = :run AND ordinal = :ordinal AND status = 'FAILURE' ORDER BY item_index LIMIT :limit""")
_NOW = Statement("SELECT {now}")
_SLOTS = Statement("SELECT coalesce(sum(slots), 0) FROM workers WHERE seen_at > {now} - 15.0")


@dataclass(frozen=True, slots=True)
class Item:
    """One call of a map."""

    index: int
    key: str
    item: Any
    status: str
    failures: int
    crashes: int


@dataclass(frozen=True, slots=True)
class ItemResult:
    """How one call ended in this try.

    Attributes:
        status: SUCCESS, FAILURE or RETRY.
        delay_seconds: Of a RETRY: when it is due again.
        output: JSON text.
        error: JSON text.
    """

    index: int
    status: str
    failures: int
    started_at: float
    finished_at: float
    output: str | None = None
    error: str | None = None
    delay_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Counters:
    """The counters of a map, read under its row lock.

    Attributes:
        is_held: The run is paused: nothing new of the map starts.
    """

    total: int
    cursor: int
    success: int
    failure: int
    seconds: float
    parts: int
    parts_open: int
    generation: int
    is_held: bool

    @property
    def is_done(self) -> bool:
        """Whether every call has ended."""
        return self.success + self.failure >= self.total


def add_items(
    tx: Transaction, claim: Claim, first: int, keys: list[str], items: list[Any], total: int, lease: float
) -> bool:
    """Write calls from index `first` on; False when the claim no longer holds (then nothing is written).

    Calls that are there already are the same ones: a commit went through and its answer was lost.
    """
    unit = claim.unit
    held = tx.row(
        _SET_INSERTED,
        {
            "run": unit.run_pk,
            "ordinal": unit.ordinal,
            "token": claim.token,
            "total": total,
            "inserted": first + len(items),
            "lease": lease,
        },
    )
    if held is None:
        return False
    rows = [
        {"index": first + n, "key": key, "item": json.dumps(item)}
        for n, (key, item) in enumerate(zip(keys, items, strict=True))
    ]
    _each(tx, unit, rows, _ADD_ITEM, _ADD_ITEMS_AT_ONCE)
    return True


def open_map(tx: Transaction, claim: Claim) -> float | None:
    """All calls are written: part 0 gives up its lease and stays in PROGRESS. The time; None when the claim is lost.

    Also None when it is open already: the commit went through and its answer was lost. The reconciler goes on with it.
    """
    row = tx.row(_OPEN, {"run": claim.unit.run_pk, "ordinal": claim.unit.ordinal, "token": claim.token})
    return None if row is None else float(row[0])


def count(
    tx: Transaction, unit: Unit, *, success: int = 0, failure: int = 0, seconds: float = 0.0, parts_ended: int = 0
) -> Counters | None:
    """Add to the counters and lock them; None when the map is not open any more (cancelled, failed)."""
    row = tx.row(
        _COUNT,
        {
            "run": unit.run_pk,
            "ordinal": unit.ordinal,
            "success": success,
            "failure": failure,
            "seconds": seconds,
            "parts_ended": parts_ended,
        },
    )
    return None if row is None else Counters(*row)


def allocate(tx: Transaction, unit: Unit, *, cursor: int, parts: int, parts_open: int, wake_at: float | None) -> None:
    """Write what `count` locked.

    Args:
        cursor: Calls given to ranges so far; `parts` numbers the last range, `parts_open` counts those not ended.
        wake_at: When the reconciler should look for calls that wait for their next try; None when none waits.
    """
    tx.run(
        _ALLOCATE,
        {
            "run": unit.run_pk,
            "ordinal": unit.ordinal,
            "cursor": cursor,
            "parts": parts,
            "parts_open": parts_open,
            "wake_at": wake_at,
        },
    )


def add_ranges(
    tx: Transaction,
    ranges: list[tuple[Unit, int, int]],
    *,
    step_id: str,
    queue: str,
    generation: int,
    redispatch_seconds: float,
    priority: int = 5,
) -> None:
    """New ranges `(unit, item_from, item_to)`, to be dispatched after commit."""
    tx.many(
        _ADD_RANGE,
        [
            {
                **unit.key(),
                "step": step_id,
                "queue": queue,
                "priority": priority,
                "generation": generation,
                "redispatch": redispatch_seconds,
                "item_from": item_from,
                "item_to": item_to,
            }
            for unit, item_from, item_to in ranges
        ],
    )


def end_range(tx: Transaction, claim: Claim) -> float | None:
    """The range is done and its row goes away (its calls keep the story); the time, None when the claim is lost."""
    row = tx.row(_END_RANGE, {**claim.unit.key(), "token": claim.token})
    return None if row is None else float(row[0])


def set_aside(
    tx: Transaction,
    unit: Unit,
    item_from: int,
    item_to: int,
    *,
    is_counted: bool,
    delay_seconds: float = 0.0,
    spread_seconds: float = 0.0,
) -> None:
    """Open calls of a range wait to be dispatched one by one, so that only the one that is the cause fails.

    Args:
        is_counted: Whether a worker died over them.
        delay_seconds: When the first is due; each further one `spread_seconds` later.
    """
    tx.run(
        _SET_ASIDE,
        {
            "run": unit.run_pk,
            "ordinal": unit.ordinal,
            "item_from": item_from,
            "item_to": item_to,
            "counted": int(is_counted),
            "delay": delay_seconds,
            "spread": spread_seconds,
        },
    )


def count_waiting(tx: Transaction, unit: Unit) -> int:
    """Calls of a map that wait for a time that has not come."""
    row = tx.row(_COUNT_WAITING, {"run": unit.run_pk, "ordinal": unit.ordinal})
    assert row is not None
    return int(row[0])


def drop_range(tx: Transaction, unit: Unit) -> None:
    """Remove the row of a range."""
    tx.run(_DROP_RANGE, unit.key())


def drop_ranges(tx: Transaction, unit: Unit) -> None:
    """Remove the rows of all ranges of a map; what still runs of them is refused when it ends."""
    tx.run(_DROP_RANGES, {"run": unit.run_pk, "ordinal": unit.ordinal})


def take_waiting(tx: Transaction, unit: Unit, limit: int) -> list[int]:
    """Indexes of calls whose next try is due, at most `limit`; they belong to the caller's new ranges from now on."""
    if limit <= 0:
        return []
    key = {"run": unit.run_pk, "ordinal": unit.ordinal}
    found = [row[0] for row in tx.rows(_WAITING, {**key, "limit": limit})]
    if found:
        tx.run(_TAKE_WAITING, {**key, "items": found})
    return found


def next_waiting(tx: Transaction, unit: Unit) -> float | None:
    """When the next waiting call is due; None when none waits."""
    row = tx.row(_NEXT_WAITING, {"run": unit.run_pk, "ordinal": unit.ordinal})
    return None if row is None or row[0] is None else float(row[0])


def end_map(tx: Transaction, unit: Unit, status: str, output: str | None, error: str | None) -> float | None:
    """The map comes to its end; the time, or None when it was not open."""
    row = tx.row(
        _END_MAP, {"run": unit.run_pk, "ordinal": unit.ordinal, "status": status, "output": output, "error": error}
    )
    return None if row is None else float(row[0])


def end_never_started(tx: Transaction, unit: Unit, status: str) -> None:
    """Calls that will not run any more."""
    tx.run(_NEVER_STARTED, {"run": unit.run_pk, "ordinal": unit.ordinal, "status": status})


def load_items(tx: Transaction, unit: Unit, item_from: int, item_to: int) -> list[Item]:
    """The calls `item_from` to `item_to` (not included), in order."""
    rows = tx.rows(_ITEMS, {"run": unit.run_pk, "ordinal": unit.ordinal, "item_from": item_from, "item_to": item_to})
    return [Item(row[0], row[1], json.loads(row[2]), row[3], row[4], row[5]) for row in rows]


def end_items(tx: Transaction, unit: Unit, results: list[ItemResult]) -> None:
    """Write how calls ended; a call that has ended stays as it is."""
    if not results:
        return
    rows = [
        {
            "index": result.index,
            "status": result.status,
            "output": payloads.in_row(result.output),
            "error": result.error,
            "failures": result.failures,
            "started_at": result.started_at,
            "finished_at": result.finished_at,
            "delay": result.delay_seconds if result.status == "RETRY" else None,
        }
        for result in results
    ]
    indexes = [result.index for result in results]
    _each(tx, unit, rows, _END_ITEM, _END_ITEMS_AT_ONCE, first=min(indexes), last=max(indexes))
    for result in results:
        payloads.keep(tx, unit.run_pk, unit.ordinal, result.output, result.index)


def _each(
    tx: Transaction, unit: Unit, rows: list[dict[str, Any]], singly: Statement, at_once: Statement, **bounds: int
) -> None:
    """Write calls of a map: one statement for all on PostgreSQL, where a round trip costs more than a row."""
    key = {"run": unit.run_pk, "ordinal": unit.ordinal}
    if tx.dialect == "postgresql":
        tx.run(at_once, {**key, **bounds, "rows": json.dumps(rows)})
    else:
        tx.many(singly, [{**key, **row} for row in rows])


def outputs(tx: Transaction, run_pk: int, ordinal: int) -> list[Any]:
    """Outputs of the calls that succeeded, in the order of the items."""
    rows = tx.rows(_OUTPUTS, {"run": run_pk, "ordinal": ordinal})
    return [payloads.value(tx, run_pk, ordinal, text, index) for index, text in rows]


def failures(tx: Transaction, run_pk: int, ordinal: int, limit: int = 1000) -> list[dict[str, Any]]:
    """The calls that failed: index, key, error, attempts."""
    rows = tx.rows(_FAILURES, {"run": run_pk, "ordinal": ordinal, "limit": limit})
    return [
        {"index": row[0], "key": row[1], "error": json.loads(row[2]) if row[2] else None, "attempts": row[3]}
        for row in rows
    ]


def now(tx: Transaction) -> float:
    """The database's time."""
    row = tx.row(_NOW)
    assert row is not None
    return float(row[0])


def live_slots(tx: Transaction) -> int:
    """Worker slots seen in the last seconds; 0 when none is known."""
    row = tx.row(_SLOTS)
    return int(row[0]) if row else 0
