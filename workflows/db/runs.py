"""Versions and runs: register, accept, materialise, advance, finish, cancel, delete."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from workflows.compile.plan import Plan
from workflows.db.database import Statement, Transaction
from workflows.model.spec import Block

STEP_PROGRESS = 1_000_000
"""What one finished step adds to `job_runs.progress_done`; a map adds it call by call."""

_FIND_VERSION = """
    SELECT id FROM workflow_versions
    WHERE workflow_id = :workflow AND fingerprint = :fingerprint AND chords = :chords"""
_FIND_VERSION_BY_DIALECT = {
    "sqlite": Statement(_FIND_VERSION),
    # Held until the run refers to it: the clean-up removes versions that no run has.
    "postgresql": Statement(f"{_FIND_VERSION} FOR KEY SHARE"),
}
_ADD_VERSION = Statement("""
    INSERT INTO workflow_versions (workflow_id, fingerprint, chords, source, plan, step_count, created_at)
    VALUES (:workflow, :fingerprint, :chords, :source, :plan, :steps, {now})
    ON CONFLICT (workflow_id, fingerprint, chords) DO NOTHING RETURNING id""")
_ADD_PLAN_STEP = Statement("""
    INSERT INTO plan_steps (version_id, ordinal, step_id, pending, arrives_by, queue, priority)
    VALUES (:version, :ordinal, :step, :pending, :arrives_by, :queue, :priority)""")
_PLAN = Statement("SELECT plan FROM workflow_versions WHERE id = :version")

_ADD_RUN = Statement("""
    INSERT INTO job_runs (task_id, workflow_id, version_id, params, user_params, manual_trigger, idempotency_key,
        schedule, fire_time, steps_total, steps_open, turn_at, concurrency_group, concurrency_limit, created_at,
        next_dispatch_at, dispatch_wait_seconds, step_versions, rerun_of, parent_pk, parent_ordinal)
    VALUES (:task_id, :workflow, :version, :params, :user_params, :manual, :idempotency_key,
        :schedule, :fire_time, :steps, :steps, :turn_at, :group, :limit, {now},
        {now} + :redispatch, :redispatch, :step_versions, :rerun_of, :parent_pk, :parent_ordinal)
    ON CONFLICT (idempotency_key) DO NOTHING RETURNING id""")
_BY_IDEMPOTENCY_KEY = Statement(
    "SELECT id, task_id, workflow_id, params FROM job_runs WHERE idempotency_key = :idempotency_key"
)

_BY_RUN_ID = Statement("SELECT id FROM job_runs WHERE task_id = :task_id")

_START = Statement("""
    UPDATE job_runs SET status = 'PROGRESS', started_at = {now}, next_dispatch_at = NULL, event_seq = event_seq + 1,
        deadline_at = {now} + CAST(:timeout AS double precision)
    WHERE id = :run AND status = 'PENDING' AND NOT cancel_requested AND next_dispatch_at IS NOT NULL
    RETURNING version_id, event_seq, started_at""")
_MATERIALISE = Statement("""
    INSERT INTO step_runs (run_pk, ordinal, part, step_id, queue, pending, arrives_by, ready_at, dispatched_at,
        next_dispatch_at, dispatch_wait_seconds, priority)
    SELECT CAST(:run AS bigint), ordinal, 0, step_id, queue, pending, arrives_by,
        CASE WHEN pending = 0 THEN CAST(:now AS double precision) END,
        CASE WHEN pending = 0 THEN CAST(:now AS double precision) END,
        CASE WHEN pending = 0 THEN CAST(:now AS double precision) + :redispatch END,
        CAST(:redispatch AS double precision), priority
    FROM plan_steps WHERE version_id = :version ORDER BY ordinal""")

_ADVANCE = Statement("""
    UPDATE job_runs SET steps_open = steps_open - :ended, steps_failed = steps_failed + :failed,
        progress_done = progress_done + :progress, event_seq = event_seq + :events, current_step = :step,
        progress_percentage = CASE
            WHEN (progress_done + :progress) * 100 / (steps_total * CAST(1000000 AS bigint)) > progress_percentage
            THEN (progress_done + :progress) * 100 / (steps_total * CAST(1000000 AS bigint))
            ELSE progress_percentage END
    WHERE id = :run RETURNING steps_open, steps_failed, event_seq, cancel_requested, status = 'PAUSED'""")
_SHOW_PROGRESS = Statement("""
    UPDATE job_runs
    SET progress_percentage = (progress_done + :progress) * 100 / (steps_total * CAST(1000000 AS bigint))
    WHERE id = :run AND status IN ('PROGRESS', 'PAUSED')
        AND (progress_done + :progress) * 100 / (steps_total * CAST(1000000 AS bigint)) > progress_percentage""")
_ADD_EVENT = Statement("""
    INSERT INTO run_events (run_pk, seq, at, ordinal, part, status, detail)
    VALUES (:run, :seq, :at, :ordinal, :part, :status, :detail)""")
_FINISH = Statement("""
    UPDATE job_runs SET status = :status, finished_at = {now}, outputs = :outputs, error = :error,
        event_seq = event_seq + 1,
        progress_percentage = CASE WHEN :status = 'SUCCESS' THEN 100 ELSE progress_percentage END
    WHERE id = :run AND status IN ('PENDING', 'PROGRESS', 'PAUSED') AND steps_open = 0
    RETURNING event_seq, finished_at""")
_AT_TURN = Statement("""
    UPDATE job_runs SET event_seq = event_seq
    WHERE id = :run AND status IN ('PROGRESS', 'PAUSED') AND steps_open = turn_at
    RETURNING turn_at, steps_failed, cancel_requested, verdict, outputs, error""")
_TURN = Statement("""
    UPDATE job_runs SET turn_at = :turn_at, verdict = :verdict, outputs = :outputs, error = :error,
        cancel_requested = false, deadline_at = NULL, event_seq = event_seq + 1
    WHERE id = :run RETURNING event_seq, {now}, status""")
_OPEN_GATES = Statement("""
    UPDATE step_runs SET pending = pending - 1,
        ready_at = CASE WHEN pending = 1 THEN {now} ELSE ready_at END,
        dispatched_at = CASE WHEN pending = 1 THEN {now} ELSE dispatched_at END,
        next_dispatch_at = CASE WHEN pending = 1 THEN {now} + dispatch_wait_seconds ELSE next_dispatch_at END
    WHERE run_pk = :run AND part = 0 AND ordinal IN :ordinals[] AND status = 'PENDING' AND pending > 0
    RETURNING ordinal, pending""")
_PASS_BY = Statement("""
    UPDATE step_runs SET status = 'SKIPPED', reason = 'condition', finished_at = {now}
    WHERE run_pk = :run AND part = 0 AND ordinal IN :ordinals[] AND status = 'PENDING' RETURNING ordinal, {now}""")
_HEADLINE = Statement("SELECT verdict, error FROM job_runs WHERE id = :run")
_CONTEXT = Statement("""
    SELECT task_id, workflow_id, version_id, params, cancel_requested, generation, started_at, fire_time,
        parent_pk IS NOT NULL FROM job_runs
    WHERE id = :run""")
_CANCEL_REQUESTED = Statement("SELECT cancel_requested FROM job_runs WHERE id = :run")

_ADD_LOG = Statement("""
    INSERT INTO log_lines (run_pk, ordinal, item_key, attempt, at, level, message)
    VALUES (:run, :ordinal, :item_key, :attempt, :at, :level, :message)""")


@dataclass(frozen=True, slots=True)
class Transition:
    """One line of the run's history: a unit (None: the run itself) came to `status`."""

    ordinal: int | None
    part: int | None
    status: str
    detail: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Advance:
    """What an update of the run's counters answers."""

    steps_open: int
    steps_failed: int
    cancel_requested: bool
    is_paused: bool = False


@dataclass(frozen=True, slots=True)
class Turn:
    """A run of which nothing is open that has been allowed to start.

    Attributes:
        turn_at: Steps of the blocks that have not begun.
        verdict: The state that the run will end in, as far as it is decided; None before.
    """

    turn_at: int
    steps_failed: int
    cancel_requested: bool
    verdict: str | None
    outputs: str | None
    error: str | None


@dataclass(frozen=True, slots=True)
class RunContext:
    """What never changes while a run's generation lasts, and what a worker needs of it.

    Attributes:
        has_parent: Whether a step of another run waits for its end.
    """

    run_pk: int
    run_id: str
    workflow_id: str
    version_id: int
    params: dict[str, Any]
    cancel_requested: bool
    generation: int
    started_at: float | None
    fire_time: str | None = None
    has_parent: bool = False


@dataclass(frozen=True, slots=True)
class Occasion:
    """What a run is owed to when no person asked for it then.

    Attributes:
        schedule: Name of the schedule.
        fire_time: The time that had come, ISO 8601; None when a person did not wait for one.
    """

    schedule: str
    fire_time: str | None


def register_version(tx: Transaction, plan: Plan, source: str) -> int:
    """The key of this version; added with its plan when it is new. Definitions that are planned alike are one."""
    key = {"workflow": plan.workflow, "fingerprint": plan.fingerprint, "chords": plan.chords}
    find = _FIND_VERSION_BY_DIALECT[tx.dialect]
    known = tx.row(find, key)
    if known is not None:
        return int(known[0])
    text = json.dumps(plan.to_json(), separators=(",", ":"))
    added = tx.row(_ADD_VERSION, {**key, "source": source, "plan": text, "steps": len(plan.steps)})
    if added is None:
        # Another process registered the same version between the two statements.
        found = tx.row(find, key)
        assert found is not None
        return int(found[0])
    version_id = int(added[0])
    tx.many(
        _ADD_PLAN_STEP,
        [
            {
                "version": version_id,
                "ordinal": step.ordinal,
                "step": step.id,
                # A block that begins later has a gate before its first steps, which the run opens.
                "pending": len(step.predecessors) or int(step.block is not Block.STEPS),
                "arrives_by": step.arrives_by.value,
                "queue": step.queue,
                "priority": step.priority,
            }
            for step in plan.steps
        ],
    )
    return version_id


def load_plan(tx: Transaction, version_id: int) -> Plan:
    """The stored plan of a version; KeyError when there is none."""
    row = tx.row(_PLAN, {"version": version_id})
    if row is None:
        raise KeyError(version_id)
    return Plan.from_json(json.loads(row[0]))


def add_run(
    tx: Transaction,
    *,
    run_id: str,
    plan: Plan,
    version_id: int,
    params: dict[str, Any],
    user_params: dict[str, Any],
    manual: bool,
    idempotency_key: str | None,
    redispatch_seconds: float,
    step_versions: dict[str, str] | None = None,
    rerun_of: str | None = None,
    group: str | None = None,
    occasion: Occasion | None = None,
    parent: tuple[int, int] | None = None,
) -> int | None:
    """Accept a run; its key, or None when the idempotency key is taken.

    Args:
        step_versions: Declared versions of the steps, by `uses`, as the accepting process knows them.
        rerun_of: Public id of the run that this one runs again.
        group: Its concurrency group.
        occasion: The schedule that it is owed to.
        parent: Key of the run, and ordinal of its step, that have started it.
    """
    row = tx.row(
        _ADD_RUN,
        {
            "task_id": run_id,
            "workflow": plan.workflow,
            "version": version_id,
            "params": json.dumps(params),
            "user_params": json.dumps(user_params),
            "manual": manual,
            "idempotency_key": idempotency_key,
            "schedule": None if occasion is None else occasion.schedule,
            "fire_time": None if occasion is None else occasion.fire_time,
            "steps": len(plan.steps),
            "turn_at": sum(plan.handlers),
            "group": group,
            "limit": None if plan.concurrency is None else plan.concurrency.limit,
            "redispatch": redispatch_seconds,
            "step_versions": json.dumps(step_versions) if step_versions else None,
            "rerun_of": rerun_of,
            "parent_pk": None if parent is None else parent[0],
            "parent_ordinal": None if parent is None else parent[1],
        },
    )
    return None if row is None else int(row[0])


def by_idempotency_key(tx: Transaction, key: str) -> tuple[int, str, str, dict[str, Any]] | None:
    """`(run_pk, run_id, workflow, params)` of the run accepted under this key."""
    row = tx.row(_BY_IDEMPOTENCY_KEY, {"idempotency_key": key})
    return None if row is None else (row[0], row[1], row[2], json.loads(row[3]))


def by_run_id(tx: Transaction, run_id: str) -> int | None:
    """The key of the run with this public id; None when there is none."""
    row = tx.row(_BY_RUN_ID, {"task_id": run_id})
    return None if row is None else int(row[0])


def start(
    tx: Transaction,
    run_pk: int,
    redispatch_seconds: float,
    timeout_seconds: float | None = None,
    detail: dict[str, Any] | None = None,
) -> int | None:
    """PENDING to PROGRESS, and its steps become rows. Returns the version; None when it had started or ended.

    Args:
        timeout_seconds: After this time the run is stopped; None means no limit.
        detail: What the run's history says of its beginning.
    """
    row = tx.row(_START, {"run": run_pk, "timeout": timeout_seconds})
    if row is None:
        return None
    version_id, seq, now = row
    materialise(tx, run_pk, version_id, now, redispatch_seconds)
    _write_events(tx, run_pk, seq, now, [Transition(None, None, "PROGRESS", detail)])
    return int(version_id)


def materialise(tx: Transaction, run_pk: int, version_id: int, now: float, redispatch_seconds: float) -> None:
    """The steps of the run's version become its rows."""
    tx.run(_MATERIALISE, {"run": run_pk, "version": version_id, "now": now, "redispatch": redispatch_seconds})


def advance(
    tx: Transaction,
    run_pk: int,
    at: float,
    transitions: list[Transition],
    *,
    step_id: str,
    ended: int = 0,
    failed: int = 0,
    progress: int = 0,
) -> Advance | None:
    """Write the run's counters and history in one go: the last statements of a completion.

    Args:
        ended: Steps that came to a terminal state in this transaction; `failed` of them are FAILURE.
        progress: Share of the work done, in `STEP_PROGRESS` a step.
    """
    row = tx.row(
        _ADVANCE,
        {
            "run": run_pk,
            "ended": ended,
            "failed": failed,
            "progress": progress,
            "events": len(transitions),
            "step": step_id,
        },
    )
    if row is None:
        return None
    _write_events(tx, run_pk, row[2] - len(transitions) + 1, at, transitions)
    return Advance(row[0], row[1], bool(row[3]), bool(row[4]))


def show_progress(tx: Transaction, run_pk: int, share: float) -> None:
    """A step that is still running is so far (0 to 1): the run's percentage follows, and never falls back."""
    tx.run(_SHOW_PROGRESS, {"run": run_pk, "progress": int(min(share, 0.99) * STEP_PROGRESS)})


def finish(tx: Transaction, run_pk: int, status: str, outputs: str | None, error: str | None) -> bool:
    """The run comes to a terminal state; False when it already was in one."""
    row = tx.row(_FINISH, {"run": run_pk, "status": status, "outputs": outputs, "error": error})
    if row is None:
        return False
    _write_events(tx, run_pk, row[0], row[1], [Transition(None, None, status)])
    return True


def at_turn(tx: Transaction, run_pk: int) -> Turn | None:
    """Lock the run if its current block has ended; None when it has not, or the run has."""
    row = tx.row(_AT_TURN, {"run": run_pk})
    return None if row is None else Turn(row[0], row[1], bool(row[2]), row[3], row[4], row[5])


def turn(
    tx: Transaction,
    run_pk: int,
    *,
    turn_at: int,
    verdict: str,
    outputs: str | None,
    error: str | None,
    block: str,
    heads: tuple[int, ...],
) -> list[int]:
    """The next block begins with `heads`. What was asked of the one before, such as a cancel, has been carried out.

    Returns:
        Those that are ready: all, or none while the run is paused.
    """
    found = tx.row(_TURN, {"run": run_pk, "turn_at": turn_at, "verdict": verdict, "outputs": outputs, "error": error})
    assert found is not None
    opened = tx.rows(_OPEN_GATES, {"run": run_pk, "ordinals": list(heads)})
    begun = Transition(None, None, found[2], {"block": block, "verdict": verdict})
    _write_events(tx, run_pk, found[0], found[1], [begun])
    return sorted(row[0] for row in opened if row[1] == 0)


def pass_by(tx: Transaction, run_pk: int, ordinals: range, step_id: str) -> None:
    """A block that has no reason to run: its steps are skipped."""
    skipped = tx.rows(_PASS_BY, {"run": run_pk, "ordinals": list(ordinals)})
    if skipped:
        transitions = [Transition(row[0], 0, "SKIPPED", {"reason": "condition"}) for row in skipped]
        count = len(skipped)
        advance(tx, run_pk, skipped[0][1], transitions, step_id=step_id, ended=count, progress=count * STEP_PROGRESS)


def headline(tx: Transaction, run_pk: int) -> tuple[str | None, str | None]:
    """`(verdict, error)` of the run, as far as they are decided."""
    row = tx.row(_HEADLINE, {"run": run_pk})
    return (None, None) if row is None else (row[0], row[1])


def load_context(tx: Transaction, run_pk: int) -> RunContext | None:
    """What a worker needs to know of a run; None when it was deleted."""
    row = tx.row(_CONTEXT, {"run": run_pk})
    if row is None:
        return None
    return RunContext(
        run_pk, row[0], row[1], row[2], json.loads(row[3]), bool(row[4]), row[5], row[6], row[7], bool(row[8])
    )


def is_cancel_requested(tx: Transaction, run_pk: int) -> bool:
    """Whether the run was cancelled (or is gone)."""
    row = tx.row(_CANCEL_REQUESTED, {"run": run_pk})
    return row is None or bool(row[0])


def add_logs(tx: Transaction, lines: list[dict[str, Any]]) -> None:
    """Keep log lines: dicts with run, ordinal, item_key, attempt, at, level, message."""
    tx.many(_ADD_LOG, lines)


def add_event(tx: Transaction, run_pk: int, seq: int, at: float, transition: Transition) -> None:
    """One line of history under a number that the caller has taken from `job_runs.event_seq`."""
    _write_events(tx, run_pk, seq, at, [transition])


def _write_events(tx: Transaction, run_pk: int, first_seq: int, at: float, transitions: list[Transition]) -> None:
    rows = [
        {
            "run": run_pk,
            "seq": first_seq + index,
            "at": at,
            "ordinal": t.ordinal,
            "part": t.part,
            "status": t.status,
            "detail": None if t.detail is None else json.dumps(t.detail),
        }
        for index, t in enumerate(transitions)
    ]
    if len(rows) == 1:
        tx.run(_ADD_EVENT, rows[0])
    else:
        tx.many(_ADD_EVENT, rows)
