"""The completion of a plain step on PostgreSQL as one statement: one round trip instead of seven.

It writes what `units.end`, `record_attempt`, `count_down` and `runs.advance` write, in the same order of locks: the
step's own row, its successors ascending, the run's row. Each part reads from the one before, which is what makes
PostgreSQL run them in this order.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from workflows.db.database import Statement, Transaction
from workflows.db.runs import STEP_PROGRESS, Advance
from workflows.db.units import Claim

_COMPLETE = Statement("""
    WITH done AS (
        UPDATE step_runs SET status = 'SUCCESS', reason = NULL, output = :output, error = NULL, finished_at = {now},
            progress_done = NULL, next_dispatch_at = NULL, lease_node = NULL, lease_pid = NULL, lease_until = NULL,
            deadline_at = NULL
        WHERE run_pk = :run AND ordinal = :ordinal AND part = 0 AND status = 'PROGRESS' AND token = :token
        RETURNING run_pk, ordinal, generation, token, started_at, finished_at
    ), attempt AS (
        INSERT INTO attempts (run_pk, ordinal, part, item_index, generation, number, status, via, node, pid,
            started_at, finished_at)
        SELECT run_pk, ordinal, 0, -1, generation, token, 'SUCCESS', :via, :node, CAST(:pid AS integer), started_at,
            finished_at
        FROM done ON CONFLICT DO NOTHING
    ), locked AS (
        SELECT s.ordinal FROM step_runs s CROSS JOIN done
        WHERE s.run_pk = :run AND s.part = 0 AND s.ordinal IN :successors[]
        ORDER BY s.ordinal FOR UPDATE OF s
    ), counted AS (
        UPDATE step_runs s SET pending = s.pending - 1,
            ready_at = CASE WHEN s.pending = 1 THEN {now} ELSE s.ready_at END,
            dispatched_at = CASE WHEN s.pending = 1 THEN {now} ELSE s.dispatched_at END,
            next_dispatch_at = CASE WHEN s.pending = 1 THEN {now} + :redispatch ELSE s.next_dispatch_at END
        FROM locked
        WHERE s.run_pk = :run AND s.part = 0 AND s.ordinal IN :successors[] AND s.ordinal = locked.ordinal
            AND s.status = 'PENDING' AND s.pending > 0
        RETURNING s.ordinal, s.pending, s.arrives_by
    ), summed AS (
        SELECT count(*) AS number, json_agg(json_build_array(ordinal, pending, arrives_by)) AS successors FROM counted
    ), run AS (
        UPDATE job_runs j SET steps_open = j.steps_open - 1, progress_done = j.progress_done + :progress,
            event_seq = j.event_seq + 1, current_step = :step,
            progress_percentage = greatest(j.progress_percentage,
                (j.progress_done + :progress) * 100 / (j.steps_total * CAST(:progress AS bigint)))
        FROM done CROSS JOIN summed WHERE j.id = :run AND summed.number >= 0
        RETURNING j.id, j.event_seq, j.steps_open, j.steps_failed, j.cancel_requested
    ), event AS (
        INSERT INTO run_events (run_pk, seq, at, ordinal, part, status, detail)
        SELECT run.id, run.event_seq, done.finished_at, done.ordinal, 0, 'SUCCESS', :detail FROM run CROSS JOIN done
    )
    SELECT done.finished_at, run.steps_open, run.steps_failed, run.cancel_requested, summed.successors
    FROM done CROSS JOIN run CROSS JOIN summed""")


@dataclass(frozen=True, slots=True)
class Completed:
    """What the statement has done.

    Attributes:
        successors: `(ordinal, pending, arrives_by)` of the steps that were waiting for this one.
    """

    at: float
    run: Advance
    successors: list[tuple[int, int, str]]


def complete(
    tx: Transaction,
    claim: Claim,
    *,
    step_id: str,
    output: str,
    detail: dict[str, Any],
    successors: tuple[int, ...],
    redispatch_seconds: float,
) -> Completed | None:
    """PROGRESS to SUCCESS and all that follows for the step's neighbours; None when the claim no longer holds.

    For a step of which every successor has the rule `all_success`. On PostgreSQL only.
    """
    row = tx.row(
        _COMPLETE,
        {
            "run": claim.unit.run_pk,
            "ordinal": claim.unit.ordinal,
            "token": claim.token,
            "output": output,
            "via": claim.via,
            "node": claim.worker.node,
            "pid": claim.worker.pid,
            "successors": list(successors),
            "redispatch": redispatch_seconds,
            "progress": STEP_PROGRESS,
            "step": step_id,
            "detail": json.dumps(detail),
        },
    )
    if row is None:
        return None
    at, steps_open, steps_failed, cancel_requested, counted = row
    return Completed(at, Advance(steps_open, steps_failed, cancel_requested), [tuple(found) for found in counted or ()])
