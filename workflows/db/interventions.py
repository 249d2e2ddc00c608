"""What a person does to a run: cancel it, or set its failed parts going again. Set-wise, by the run's key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from workflows.compile.plan import Plan
from workflows.db import runs
from workflows.db.database import Statement, Transaction
from workflows.db.runs import STEP_PROGRESS, Transition
from workflows.db.units import HELD, quoted
from workflows.model.spec import Block
from workflows.model.states import CLAIMABLE, RUN_TRANSITIONS, Event, SkipReason, State

_REQUEST_CANCEL = Statement("""
    UPDATE job_runs SET cancel_requested = true,
        status = CASE WHEN status = 'PAUSED' AND started_at IS NOT NULL THEN 'PROGRESS' ELSE status END
    WHERE id = :run AND status IN ('PENDING', 'PROGRESS', 'PAUSED') AND NOT (:finally > 0 AND turn_at = 0)
    RETURNING status""")
_TIME_OUT = Statement("""
    UPDATE job_runs SET cancel_requested = true, verdict = 'FAILURE', error = :error, deadline_at = NULL
    WHERE id = :run AND status = 'PROGRESS' AND deadline_at <= {now} RETURNING status""")
_LIMIT_RUNNING = Statement("""
    UPDATE step_runs SET deadline_at = CASE WHEN deadline_at < {now} + :grace THEN deadline_at ELSE {now} + :grace END
    WHERE run_pk = :run AND status = 'PROGRESS' AND lease_until IS NOT NULL
        AND EXISTS (SELECT 1 FROM job_runs j WHERE j.id = step_runs.run_pk AND j.cancel_requested)""")
_RELEASE_LATER = Statement(f"""
    UPDATE step_runs SET pending = pending - {HELD}
    WHERE run_pk = :run AND part = 0 AND status = 'PENDING' AND pending >= {HELD}""")
_END_UNSTARTED_RUN = Statement("""
    UPDATE job_runs SET status = 'REVOKED', finished_at = {now}, event_seq = event_seq + 1
    WHERE id = :run AND status IN ('PENDING', 'PAUSED') RETURNING event_seq, finished_at""")
_REVOKE_STEPS = Statement(f"""
    UPDATE step_runs SET status = 'REVOKED', finished_at = {{now}}, next_dispatch_at = NULL
    WHERE run_pk = :run AND part = 0 AND ordinal < (SELECT steps_total - turn_at FROM job_runs WHERE id = :run)
        AND (status IN ({quoted(CLAIMABLE)}) OR (status = 'PROGRESS' AND lease_until IS NULL))
    RETURNING ordinal, {{now}}""")
_DROP_RANGES = Statement(f"DELETE FROM step_runs WHERE run_pk = :run AND part > 0 AND status IN ({quoted(CLAIMABLE)})")
_REVOKE_ITEMS = Statement("""
    UPDATE item_runs SET status = 'REVOKED', not_before = NULL
    WHERE run_pk = :run AND status IN ('PENDING', 'RETRY')""")
_COUNTS = Statement("""
    SELECT coalesce(sum(CASE WHEN status IN ('SUCCESS', 'FAILURE', 'SKIPPED') THEN 1 ELSE 0 END), 0),
        coalesce(sum(is_running), 0),
        coalesce(sum(CASE WHEN status = 'REVOKED' AND is_running = 0 AND token > 0 THEN 1 ELSE 0 END), 0),
        coalesce(sum(CASE WHEN status = 'REVOKED' AND is_running = 0 AND token = 0 THEN 1 ELSE 0 END), 0)
    FROM (
        SELECT s.status, s.token, CASE WHEN EXISTS (
            SELECT 1 FROM step_runs r WHERE r.run_pk = s.run_pk AND r.ordinal = s.ordinal AND r.status = 'PROGRESS'
        ) THEN 1 ELSE 0 END AS is_running
        FROM step_runs s WHERE s.run_pk = :run AND s.part = 0 AND s.ordinal < :steps) AS steps""")
_RUN_STATE = Statement("SELECT status, steps_total, event_seq, {now} FROM job_runs WHERE id = :run")

_HAS_STEPS = Statement("SELECT 1 FROM step_runs WHERE run_pk = :run LIMIT 1")
_STANDINGS = Statement("""
    SELECT ordinal, status, reason, items_total, items_inserted, items_success FROM step_runs
    WHERE run_pk = :run AND part = 0 ORDER BY ordinal""")
_LOCK_RUN = Statement("""
    UPDATE job_runs SET status = 'PROGRESS', generation = generation + 1, cancel_requested = false, error = NULL,
        finished_at = NULL, outputs = NULL, is_mirrored = false, started_at = coalesce(started_at, {now}),
        deadline_at = {now} + CAST(:timeout AS double precision), turn_at = :turn_at, verdict = NULL,
        steps_open = :open, steps_failed = 0, progress_done = :progress,
        progress_percentage = :progress * 100 / (steps_total * CAST(1000000 AS bigint)), event_seq = event_seq + 1
    WHERE id = :run AND status = :status RETURNING generation, event_seq, {now}""")
_RESET_STEP = Statement("""
    UPDATE step_runs SET status = 'PENDING', reason = NULL, pending = :pending, arrives_by = 'sql',
        generation = :generation, failures = 0, crashes = 0, redispatches = 0, parked_since = NULL, error = NULL,
        output = NULL, finished_at = NULL, not_before = NULL, parts_open = 0, items_cursor = items_inserted,
        items_failure = 0, ready_at = CASE WHEN :pending = 0 THEN {now} ELSE NULL END,
        next_dispatch_at = CASE WHEN :pending = 0 THEN {now} + :redispatch ELSE NULL END,
        dispatch_wait_seconds = :redispatch
    WHERE run_pk = :run AND ordinal = :ordinal AND part = 0""")
_RESET_ITEMS = Statement("""
    UPDATE item_runs SET status = 'RETRY', not_before = {now}, failures = 0, crashes = 0, error = NULL
    WHERE run_pk = :run AND ordinal = :ordinal AND status <> 'SUCCESS'""")
_DROP_OLD_RANGES = Statement("DELETE FROM step_runs WHERE run_pk = :run AND ordinal = :ordinal AND part > 0")


@dataclass(frozen=True, slots=True)
class CancelAnswer:
    """What a cancel found, in steps.

    Attributes:
        finished: Ended before the cancel, in whatever way.
        stopping: Still running, or a map whose last calls are; they see a flag.
        stopped: Revoked after a try or a part of their calls.
        never_started: Will not run.
    """

    status: str
    finished: int
    stopping: int
    stopped: int
    never_started: int


def request_cancel(tx: Transaction, plan: Plan, run_pk: int) -> bool:
    """Revoke what has not started of the block at work, and end a pause; whether that may have ended the block."""
    requested = tx.row(_REQUEST_CANCEL, {"run": run_pk, "finally": plan.handlers[1]})
    if requested is None:
        return False
    if requested[0] in (State.PENDING, State.PAUSED):
        ended = tx.row(_END_UNSTARTED_RUN, {"run": run_pk})
        assert ended is not None
        runs.add_event(tx, run_pk, ended[0], ended[1], Transition(None, None, State.REVOKED.value))
        return False
    return _revoke_unstarted(tx, plan, run_pk)


def time_out(tx: Transaction, plan: Plan, run_pk: int, error: str) -> bool:
    """The same for a run whose time is over; its verdict is FAILURE."""
    stopped = tx.row(_TIME_OUT, {"run": run_pk, "error": error}) is not None
    return stopped and _revoke_unstarted(tx, plan, run_pk)


def _revoke_unstarted(tx: Transaction, plan: Plan, run_pk: int) -> bool:
    revoked = tx.rows(_REVOKE_STEPS, {"run": run_pk})
    if plan.handlers[1]:
        tx.run(_RELEASE_LATER, {"run": run_pk})  # a cancel ends a pause, also for what it leaves alone
    tx.run(_DROP_RANGES, {"run": run_pk})
    tx.run(_REVOKE_ITEMS, {"run": run_pk})
    if not revoked:
        return False
    transitions = [Transition(row[0], 0, State.REVOKED.value) for row in revoked]
    step_id = plan.steps[revoked[0][0]].id
    counters = runs.advance(tx, run_pk, revoked[0][1], transitions, step_id=step_id, ended=len(revoked))
    return counters is not None and plan.is_turn(counters.steps_open)


def limit_running(tx: Transaction, run_pk: int, grace_seconds: float) -> None:
    """What still runs of a stopped run has so long to heed its flag, then its worker's parent ends it.

    After the stop and in a transaction of its own: it would wait for steps that are just ending, and they for it.
    """
    tx.run(_LIMIT_RUNNING, {"run": run_pk, "grace": grace_seconds})


def cancel_answer(tx: Transaction, plan: Plan, run_pk: int) -> CancelAnswer:
    """The figures of a cancel as they are by now; those of the block `steps`."""
    steps = len(plan.ordinals(Block.STEPS))
    finished, stopping, stopped, never_started = tx.rows(_COUNTS, {"run": run_pk, "steps": steps})[0]
    state = tx.row(_RUN_STATE, {"run": run_pk})
    assert state is not None
    if finished + stopping + stopped + never_started == 0:
        never_started = steps  # It was cancelled before its steps became rows.
    return CancelAnswer(state[0], finished, stopping, stopped, never_started)


def _open_again(plan: Plan, standings: dict[int, tuple[Any, ...]]) -> set[int]:
    """Steps that are not done. What a condition has skipped is done, unless something before it is to be done again.

    The blocks that come after the steps belong to an end that did not last: all of them is to be done again.
    """
    found = {step.ordinal for step in plan.steps if step.block is not Block.STEPS}
    for ordinal, row in sorted(standings.items()):
        if row[1] == State.SUCCESS:
            continue
        is_passed_by = row[1] == State.SKIPPED and row[2] == SkipReason.CONDITION
        if not is_passed_by or any(before in found for before in plan.steps[ordinal].predecessors):
            found.add(ordinal)
    return found


def resume(tx: Transaction, plan: Plan, run_pk: int, version_id: int, redispatch_seconds: float) -> list[int] | None:
    """A run that failed or was cancelled goes on in a new generation with what is not done; what is done stays.

    Returns:
        Ordinals of the steps that are ready; None when the run is in no state to go on.
    """
    state = tx.row(_RUN_STATE, {"run": run_pk})
    if state is None or (State(state[0]), Event.RESUME) not in RUN_TRANSITIONS:
        return None
    if tx.row(_HAS_STEPS, {"run": run_pk}) is None:
        runs.materialise(tx, run_pk, version_id, state[3], redispatch_seconds)
    standings = {row[0]: row for row in tx.rows(_STANDINGS, {"run": run_pk})}
    open_again = _open_again(plan, standings)
    if any(standings[ordinal][1] == State.PROGRESS for ordinal in open_again):
        return None
    done = (len(plan.steps) - len(open_again)) * STEP_PROGRESS
    done += sum((standings[o][5] or 0) * STEP_PROGRESS // standings[o][3] for o in open_again if standings[o][3])
    locked = tx.row(
        _LOCK_RUN,
        {
            "run": run_pk,
            "status": state[0],
            "open": len(open_again),
            "progress": done,
            "turn_at": sum(plan.handlers),
            "timeout": plan.timeout_seconds,
        },
    )
    if locked is None:
        return None
    ready = []
    for ordinal in sorted(open_again):
        step = plan.steps[ordinal]
        pending = sum(before in open_again for before in step.predecessors)
        if step.block is not Block.STEPS and not step.predecessors:
            pending = 1  # the gate of its block, which the run opens
        tx.run(_DROP_OLD_RANGES, {"run": run_pk, "ordinal": ordinal})
        tx.run(
            _RESET_STEP,
            {
                "run": run_pk,
                "ordinal": ordinal,
                "pending": pending,
                "generation": locked[0],
                "redispatch": redispatch_seconds,
            },
        )
        tx.run(_RESET_ITEMS, {"run": run_pk, "ordinal": ordinal})
        if not pending:
            ready.append(ordinal)
    runs.add_event(
        tx, run_pk, locked[1], locked[2], Transition(None, None, State.PROGRESS.value, {"generation": locked[0]})
    )
    return ready
