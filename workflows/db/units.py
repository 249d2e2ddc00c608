"""Guarded transitions of units of work: claim, completion, retry, park, crash.

A unit is `(run_pk, ordinal, part)`. Every change of state is one UPDATE whose WHERE states the source states of
`workflows.model.states.STEP_TRANSITIONS` and, while a worker owns the unit, the fencing token of its claim.
Zero rows changed has a meaning, and each function names it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from workflows.db.database import Statement, Transaction
from workflows.model.states import Event, State, sources


class Unit(NamedTuple):
    """What a worker claims: a step (part 0), or a range of the calls of its map (parts from 1)."""

    run_pk: int
    ordinal: int
    part: int = 0

    def key(self) -> dict[str, Any]:
        """Parameters of the `WHERE` that every statement here shares."""
        return {"run": self.run_pk, "ordinal": self.ordinal, "part": self.part}


@dataclass(frozen=True, slots=True)
class Worker:
    """Who claims: a node (one worker's parent process) and the process id of its child."""

    node: str
    pid: int


CACHED = "cached"
"""Reason of a step that is SUCCESS by the output of an earlier one that was given the same."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to run a unit, until its lease ends.

    Attributes:
        token: Fencing token; also the number of this attempt.
        via: Who delivered it: `canvas`, `sql` or `reconciler`.
        item_from: Of a range: index of its first call; None for a step.
        items_inserted: Of a map's part 0: calls already written by an earlier try.
    """

    unit: Unit
    worker: Worker
    token: int
    generation: int
    failures: int
    crashes: int
    via: str
    started_at: float
    parked_since: float | None
    items_total: int | None
    items_inserted: int | None
    item_from: int | None
    item_to: int | None


@dataclass(frozen=True, slots=True)
class Standing:
    """How a unit stands, for the worker whose claim found nothing to take."""

    status: State
    pending: int
    is_due: bool


def quoted(states: Iterable[State]) -> str:
    """States as SQL literals, sorted."""
    return ", ".join(f"'{state.value}'" for state in sorted(states))


HELD = 1_000_000
"""What a pause adds to `pending` of every unit that has not started: one more thing to wait for, which no completion
takes away. More than any step has dependencies. See `workflows.db.pauses`."""

_KEY = "run_pk = :run AND ordinal = :ordinal AND part = :part"
# A map that is open is in PROGRESS without a lease: whoever expanded it has no say over it any more.
_MINE = f"{_KEY} AND status = 'PROGRESS' AND token = :token AND lease_until IS NOT NULL"
_FREE = "lease_node = NULL, lease_pid = NULL, lease_until = NULL, deadline_at = NULL"

_CLAIM = Statement(f"""
    UPDATE step_runs SET status = 'PROGRESS', token = token + 1, lease_node = :node, lease_pid = :pid,
        lease_until = {{now}} + :lease, deadline_at = {{now}} + :timeout, started_at = {{now}}, not_before = NULL
    WHERE {_KEY} AND pending = 0 AND status IN ({quoted(sources(Event.CLAIM))})
        AND (not_before IS NULL OR not_before <= {{now}})
    RETURNING token, generation, failures, crashes, CASE WHEN redispatches > 0 THEN 'reconciler' ELSE arrives_by END,
        started_at, parked_since, items_total, items_inserted, item_from, item_to""")

_OWNED = Statement(f"""
    SELECT lease_node, lease_pid, token, generation, failures, crashes,
        CASE WHEN redispatches > 0 THEN 'reconciler' ELSE arrives_by END,
        started_at, parked_since, items_total, items_inserted, item_from, item_to
    FROM step_runs WHERE {_MINE}""")

_STANDING = Statement(f"""
    SELECT status, pending, not_before IS NULL OR not_before <= {{now}} FROM step_runs WHERE {_KEY}""")

_CHECK_FENCE = Statement(f"""
    UPDATE step_runs SET lease_until = {{now}} + :lease WHERE {_MINE} RETURNING token""")

_END = Statement(f"""
    UPDATE step_runs SET status = :status, reason = :reason, output = :output, error = :error, finished_at = {{now}},
        progress_done = NULL, next_dispatch_at = NULL, failures = failures + :failed, {_FREE}
    WHERE {_MINE} RETURNING finished_at""")

_END_UNSTARTED = Statement(f"""
    UPDATE step_runs SET status = :status, reason = :reason, finished_at = {{now}}, next_dispatch_at = NULL
    WHERE {_KEY} AND status IN ({quoted(sources(Event.SKIP))}) RETURNING finished_at""")

_REVOKE = Statement(f"""
    UPDATE step_runs SET status = 'REVOKED', finished_at = {{now}}, next_dispatch_at = NULL
    WHERE {_KEY} AND status IN ({quoted(sources(Event.CANCEL) - {State.PROGRESS})}) RETURNING finished_at""")

_DECLINE = Statement(f"""
    UPDATE step_runs SET status = 'SKIPPED', reason = 'condition', started_at = NULL, finished_at = {{now}},
        next_dispatch_at = NULL, {_FREE}
    WHERE {_MINE} RETURNING finished_at""")

_READY_HEADS = Statement("""
    SELECT ordinal FROM step_runs
    WHERE run_pk = :run AND part = 0 AND pending = 0 AND status = 'PENDING' AND arrives_by = 'sql'
    ORDER BY ordinal DESC LIMIT :most""")
_ENDED_BY_ME = Statement(f"SELECT 1 FROM step_runs WHERE {_KEY} AND token = :token AND status = :status")

_RETRY = Statement(f"""
    UPDATE step_runs SET status = :status, failures = failures + :failed, error = :error, arrives_by = 'sql',
        not_before = {{now}} + :delay, next_dispatch_at = {{now}} + :delay, redispatches = 0, dispatch_wait_seconds = 0,
        parked_since = CASE WHEN :parked = 1 THEN coalesce(parked_since, {{now}}) WHEN :failed = 1 THEN NULL
            ELSE parked_since END, {_FREE}
    WHERE {_MINE} RETURNING {{now}}""")

_NOT_LEAVING = """(
            CASE WHEN EXISTS (SELECT 1 FROM workers w WHERE w.node = step_runs.lease_node AND w.is_leaving) THEN 0
            ELSE 1 END)"""
_TAKE_BACK = (
    """
    UPDATE step_runs SET status = 'PENDING', crashes = crashes + :counted, arrives_by = 'sql', error = :error,
        next_dispatch_at = {now} + :wait, dispatch_wait_seconds = 0, redispatches = 0, """
    + _FREE
)

_CRASHED = Statement(f"""{_TAKE_BACK}
    WHERE {_KEY} AND status = 'PROGRESS' AND lease_node = :node AND lease_pid = :pid
    RETURNING {{now}}, token, generation, crashes, started_at, item_from, item_to""")

_EXPIRED = Statement(f"""{_TAKE_BACK.replace(":counted", _NOT_LEAVING)}
    WHERE {_KEY} AND status = 'PROGRESS' AND lease_until < {{now}}
    RETURNING {{now}}, token, generation, crashes, started_at, item_from, item_to""")

_LEAVE_CANVAS = Statement("""
    UPDATE step_runs SET arrives_by = 'sql'
    WHERE run_pk = :run AND part = 0 AND ordinal IN :ordinals[] AND arrives_by = 'canvas'""")

_LOCK_SUCCESSORS = Statement("""
    SELECT ordinal FROM step_runs WHERE run_pk = :run AND part = 0 AND ordinal IN :ordinals[]
    ORDER BY ordinal FOR UPDATE""")

_COUNT_DOWN = Statement("""
    UPDATE step_runs SET pending = pending - 1,
        ready_at = CASE WHEN pending = 1 THEN {now} ELSE ready_at END,
        dispatched_at = CASE WHEN pending = 1 THEN {now} ELSE dispatched_at END,
        next_dispatch_at = CASE WHEN pending = 1 THEN {now} + :redispatch ELSE next_dispatch_at END
    WHERE run_pk = :run AND part = 0 AND ordinal IN :ordinals[] AND status = 'PENDING' AND pending > 0
        AND pending <> 1000000
    RETURNING ordinal, pending, arrives_by""")

_MAKE_READY = Statement("""
    UPDATE step_runs SET pending = CASE WHEN pending >= 1000000 THEN 1000000 ELSE 0 END, ready_at = {now},
        dispatched_at = {now}, next_dispatch_at = {now} + :redispatch
    WHERE run_pk = :run AND ordinal = :ordinal AND part = 0 AND status = 'PENDING' AND pending > 0""")

_STATUSES = Statement("""
    SELECT ordinal, status, reason FROM step_runs WHERE run_pk = :run AND part = 0 AND ordinal IN :ordinals[]""")

_ATTEMPT = Statement("""
    INSERT INTO attempts (run_pk, ordinal, part, item_index, generation, number, status, via, node, pid,
        started_at, finished_at, error)
    VALUES (:run, :ordinal, :part, :item_index, :generation, :number, :status, :via, :node, :pid,
        :started_at, :finished_at, :error) ON CONFLICT DO NOTHING""")

_PUT_DEADLINE_OFF = Statement(f"UPDATE step_runs SET deadline_at = {{now}} + :seconds WHERE {_MINE}")
_PROGRESS = Statement(f"UPDATE step_runs SET progress_done = :share WHERE {_MINE} RETURNING token")


def claim(
    tx: Transaction, unit: Unit, worker: Worker, lease_seconds: float, timeout_seconds: float | None
) -> Claim | None:
    """Take the unit if it may be run now; None when it may not (`standing` says why).

    Args:
        timeout_seconds: After this time the worker's parent ends it; None means no limit.
    """
    row = tx.row(
        _CLAIM,
        {**unit.key(), "node": worker.node, "pid": worker.pid, "lease": lease_seconds, "timeout": timeout_seconds},
    )
    return None if row is None else Claim(unit, worker, *row)


def owned(tx: Transaction, unit: Unit, token: int) -> Claim | None:
    """The claim that holds the unit with this token; None when it holds no more."""
    row = tx.row(_OWNED, {**unit.key(), "token": token})
    return None if row is None else Claim(unit, Worker(row[0], row[1]), *row[2:])


def ready_heads(tx: Transaction, run_pk: int, most: int) -> list[int]:
    """Ordinals of steps of a run that nobody has claimed, and that no canvas brings, the last ones first."""
    return [row[0] for row in tx.rows(_READY_HEADS, {"run": run_pk, "most": most})]


def standing(tx: Transaction, unit: Unit) -> Standing | None:
    """How the unit stands; None when its run has no such unit."""
    row = tx.row(_STANDING, unit.key())
    return None if row is None else Standing(State(row[0]), row[1], bool(row[2]))


def hold(tx: Transaction, claim: Claim, lease_seconds: float) -> bool:
    """Lock the unit for this claim and renew its lease; False when another worker has it by now."""
    return tx.row(_CHECK_FENCE, {**claim.unit.key(), "token": claim.token, "lease": lease_seconds}) is not None


def end(
    tx: Transaction,
    claim: Claim,
    status: State,
    *,
    output: str | None = None,
    error: str | None = None,
    reason: str | None = None,
) -> float | None:
    """PROGRESS to a terminal state; the database's time of it, or None when the claim no longer holds."""
    row = tx.row(
        _END,
        {
            **claim.unit.key(),
            "token": claim.token,
            "status": status.value,
            "reason": reason,
            "output": output,
            "error": error,
            "failed": int(status is State.FAILURE),
        },
    )
    return None if row is None else float(row[0])


def decline(tx: Transaction, claim: Claim) -> float | None:
    """PROGRESS to SKIPPED, because the step's own condition does not hold; the time, None when the claim is lost."""
    row = tx.row(_DECLINE, {**claim.unit.key(), "token": claim.token})
    return None if row is None else float(row[0])


def was_ended(tx: Transaction, claim: Claim, status: State) -> bool:
    """Whether this very claim has already ended the unit so: its commit succeeded and only the answer was lost."""
    return tx.row(_ENDED_BY_ME, {**claim.unit.key(), "token": claim.token, "status": status.value}) is not None


def skip(tx: Transaction, unit: Unit, reason: str) -> bool:
    """PENDING to SKIPPED; False when it was not PENDING any more."""
    return tx.row(_END_UNSTARTED, {**unit.key(), "status": "SKIPPED", "reason": reason}) is not None


def revoke(tx: Transaction, unit: Unit) -> bool:
    """A unit that no worker has comes to REVOKED; False when it had ended or is running."""
    return tx.row(_REVOKE, unit.key()) is not None


def put_off(
    tx: Transaction, claim: Claim, status: State, delay_seconds: float, *, failed: bool, error: str | None
) -> float | None:
    """PROGRESS to RETRY, WAITING or PENDING, due after `delay_seconds`; the time, None when the claim is lost."""
    row = tx.row(
        _RETRY,
        {
            **claim.unit.key(),
            "token": claim.token,
            "status": status.value,
            "delay": delay_seconds,
            "failed": int(failed),
            "parked": int(status is State.WAITING),
            "error": error,
        },
    )
    return None if row is None else float(row[0])


class Lost(NamedTuple):
    """What a worker that is gone had claimed; `at` is the time it was taken back."""

    at: float
    token: int
    generation: int
    crashes: int
    started_at: float
    item_from: int | None
    item_to: int | None


def take_back_from_dead(
    tx: Transaction, unit: Unit, worker: Worker, error: str, *, is_counted: bool = True
) -> Lost | None:
    """PROGRESS to PENDING because the claiming process died; None when it owned the unit no more.

    Celery redelivers the message itself; the reconciler sends another one a second later in case it does not.

    Args:
        is_counted: Whether the step may be to blame; False when the worker is being stopped.
    """
    row = tx.row(
        _CRASHED,
        {**unit.key(), "node": worker.node, "pid": worker.pid, "wait": 1.0, "error": error, "counted": int(is_counted)},
    )
    return None if row is None else Lost(*row)


def take_back_expired(tx: Transaction, unit: Unit, error: str) -> Lost | None:
    """PROGRESS to PENDING because the lease ended; None when it was renewed or the unit ended.

    Counted as a crash unless its worker had said that it was being stopped.
    """
    row = tx.row(_EXPIRED, {**unit.key(), "wait": 0.0, "error": error})
    return None if row is None else Lost(*row)


def leave_canvas(tx: Transaction, run_pk: int, ordinals: Iterable[int]) -> None:
    """These steps will be delivered by SQL: the canvas that would have brought them is broken."""
    wanted = list(ordinals)
    if wanted:
        tx.run(_LEAVE_CANVAS, {"run": run_pk, "ordinals": wanted})


def count_down(
    tx: Transaction, run_pk: int, ordinals: tuple[int, ...], redispatch_seconds: float
) -> list[tuple[int, int, str]]:
    """One dependency of these steps has ended: `(ordinal, pending, arrives_by)` of those still waiting for some.

    `pending` is `HELD` or more while the run is paused.
    Rows are locked in ascending order, so two completions that share successors cannot deadlock.
    """
    if not ordinals:
        return []
    params = {"run": run_pk, "ordinals": list(ordinals), "redispatch": redispatch_seconds}
    if tx.dialect == "postgresql" and len(ordinals) > 1:
        tx.rows(_LOCK_SUCCESSORS, params)
    return [(row[0], row[1], row[2]) for row in tx.rows(_COUNT_DOWN, params)]


def make_ready(tx: Transaction, run_pk: int, ordinal: int, redispatch_seconds: float) -> None:
    """Let a step start although some of its dependencies are still open (rules such as `one_failed`)."""
    tx.run(_MAKE_READY, {"run": run_pk, "ordinal": ordinal, "redispatch": redispatch_seconds})


def statuses(tx: Transaction, run_pk: int, ordinals: Iterable[int]) -> dict[int, tuple[str, str | None]]:
    """`(status, reason)` by ordinal."""
    rows = tx.rows(_STATUSES, {"run": run_pk, "ordinals": list(ordinals)})
    return {row[0]: (row[1], row[2]) for row in rows}


def record_attempt(
    tx: Transaction,
    claim: Claim,
    status: State,
    finished_at: float,
    *,
    error: str | None = None,
    item_index: int = -1,
    number: int | None = None,
) -> None:
    """Keep the end of a try; `item_index` -1 means the unit itself."""
    tx.run(_ATTEMPT, attempt_params(claim, status.value, finished_at, error, item_index, number))


def attempt_params(
    claim: Claim, status: str, finished_at: float, error: str | None, item_index: int = -1, number: int | None = None
) -> dict[str, Any]:
    """Parameters of a row of `attempts`."""
    return {
        **claim.unit.key(),
        "item_index": item_index,
        "generation": claim.generation,
        "number": claim.token if number is None else number,
        "status": status,
        "via": claim.via,
        "node": claim.worker.node,
        "pid": claim.worker.pid,
        "started_at": claim.started_at,
        "finished_at": finished_at,
        "error": error,
    }


def record_lost_attempt(tx: Transaction, unit: Unit, worker: Worker | None, lost: Lost, error: str) -> None:
    """Keep a try that a crash or an expired lease ended."""
    tx.run(
        _ATTEMPT,
        {
            **unit.key(),
            "item_index": -1,
            "generation": lost.generation,
            "number": lost.token,
            "status": "FAILURE",
            "via": "sql",
            "node": worker.node if worker else None,
            "pid": worker.pid if worker else None,
            "started_at": lost.started_at,
            "finished_at": lost.at,
            "error": error,
        },
    )


def put_deadline_off(tx: Transaction, claim: Claim, seconds: float | None) -> None:
    """The unit gives a sign of life: its worker's parent waits for `seconds` more before it ends the try."""
    tx.run(_PUT_DEADLINE_OFF, {**claim.unit.key(), "token": claim.token, "seconds": seconds})


def write_progress(tx: Transaction, claim: Claim, share: float) -> bool:
    """How far a running unit is, 0 to 1; False when the claim no longer holds."""
    return tx.row(_PROGRESS, {**claim.unit.key(), "token": claim.token, "share": share}) is not None
