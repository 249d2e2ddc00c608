"""What people read of runs: values for reports, the API and the page. Never used by the engine to decide."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

from workflows.compile.plan import Plan
from workflows.db import payloads, runs
from workflows.db.database import Row, Statement, Transaction
from workflows.db.lists import LISTED
from workflows.db.units import quoted
from workflows.model.errors import NotFoundError
from workflows.model.estimates import remaining_seconds
from workflows.model.states import CLAIMABLE, State, is_terminal
from workflows.render import Mark

_RUN_COLUMNS = """j.id, j.task_id, j.workflow_id, j.version_id, j.status, j.progress_percentage, j.current_step,
    j.steps_total, j.steps_open, j.steps_failed, j.redispatches,
    CASE WHEN j.verdict IS NULL THEN j.cancel_requested ELSE j.verdict = 'REVOKED' END, j.created_at, j.started_at,
    j.finished_at, j.params, j.outputs, j.error, j.generation, j.schedule, j.fire_time, {now}, j.rerun_of,
    CASE WHEN j.status = 'PENDING' AND j.next_dispatch_at IS NULL THEN 1 ELSE 0 END,
    (SELECT p.task_id FROM job_runs p WHERE p.id = j.parent_pk),
    (SELECT s.step_id FROM step_runs s WHERE s.run_pk = j.parent_pk AND s.ordinal = j.parent_ordinal AND s.part = 0)"""

_RUN_FIELDS = (
    *("run_pk", "run_id", "workflow", "version_id", "status", "progress", "current_step"),
    *("steps_total", "steps_open", "steps_failed", "redispatches"),
    *("cancel_requested", "created_at", "started_at"),
    *("finished_at", "params", "outputs", "error", "generation", "schedule", "fire_time", "now", "rerun_of"),
    *("is_waiting", "parent_run", "parent_step"),
)
"""What these columns are in `RunView`, in their order."""

_RUN = Statement(f"SELECT {_RUN_COLUMNS} FROM job_runs j WHERE j.task_id = :id")
_RUN_BY_PREFIX = Statement(
    f"SELECT {_RUN_COLUMNS} FROM job_runs j WHERE substr(j.task_id, 1, :length) = :id ORDER BY j.id LIMIT 2"
)
_LATEST = Statement(f"SELECT {_RUN_COLUMNS} FROM job_runs j ORDER BY j.id DESC LIMIT 1")
_RUNS = Statement(f"""
    SELECT {_RUN_COLUMNS} FROM job_runs j
    WHERE (:workflow = '' OR j.workflow_id = :workflow) AND (:status = '' OR j.status = :status) AND j.id < :before
        AND j.created_at >= :since AND j.created_at < :until
    ORDER BY j.id DESC LIMIT :limit""")
_USUAL = Statement("""
    SELECT avg(seconds) FROM (
        SELECT finished_at - started_at AS seconds FROM job_runs
        WHERE version_id = :version AND status = 'SUCCESS' AND rerun_of IS NULL ORDER BY finished_at DESC LIMIT 5
    ) AS latest""")
_STEPS = Statement("""
    SELECT ordinal, step_id, queue, status, reason, token, failures, crashes, started_at, finished_at, ready_at,
        items_total, items_success, items_failure, progress_done, error, not_before,
        (SELECT c.task_id FROM job_runs c WHERE c.parent_pk = run_pk AND c.parent_ordinal = ordinal), parked_since
    FROM step_runs WHERE run_pk = :run AND part = 0 ORDER BY ordinal""")
_FIRST_ATTEMPT = Statement("""
    SELECT ordinal, min(started_at) FROM attempts WHERE run_pk = :run AND part = 0 AND item_index = -1
    GROUP BY ordinal""")
_OUTPUT = Statement("SELECT output FROM step_runs WHERE run_pk = :run AND ordinal = :ordinal AND part = 0")
_DISPATCHES = Statement("""
    SELECT via, count(*) FROM attempts WHERE run_pk = :run AND item_index = -1 AND via <> 'reconciler' GROUP BY via""")
# In the order of the primary key, so that a page costs as much as is on it.
_ATTEMPTS = Statement("""
    SELECT ordinal, part, item_index, generation, number, status, via, node, pid, started_at, finished_at, error
    FROM attempts WHERE run_pk = :run AND (:ordinal < 0 OR ordinal = :ordinal)
        AND (ordinal, part, item_index, generation, number) > (:a_ordinal, :a_part, :a_item, :a_generation, :a_number)
    ORDER BY ordinal, part, item_index, generation, number LIMIT :limit""")
_ATTEMPT_NAMES = (
    *("ordinal", "part", "item_index", "generation", "number", "status"),
    *("via", "node", "pid", "started_at", "finished_at", "error"),
)
_ITEMS = Statement("""
    SELECT item_index, key, status, failures, started_at, finished_at, error FROM item_runs
    WHERE run_pk = :run AND ordinal = :ordinal AND (:status = '' OR status = :status) AND item_index >= :from
    ORDER BY item_index LIMIT :limit""")
_LOGS = Statement("""
    SELECT id, at, level, ordinal, item_key, attempt, message FROM log_lines
    WHERE run_pk = :run AND id > :after AND (:ordinal < 0 OR ordinal = :ordinal) ORDER BY id LIMIT :limit""")
_EVENTS = Statement("""
    SELECT seq, at, ordinal, part, status, detail FROM run_events
    WHERE run_pk = :run AND seq > :after ORDER BY seq LIMIT :limit""")
_LIVE_WORKERS = Statement("""
    SELECT node, hostname, pid, slots, queues, started_at, {now} - seen_at, {now} - started_at FROM workers
    WHERE seen_at > {now} - 15.0 ORDER BY node""")
_VERSIONS = Statement("""
    SELECT id, fingerprint, step_count, created_at FROM workflow_versions
    WHERE workflow_id = :workflow AND id < :before ORDER BY id DESC LIMIT :limit""")
_VERSION = Statement("""
    SELECT id, fingerprint, step_count, created_at, source FROM workflow_versions
    WHERE workflow_id = :workflow AND fingerprint = :fingerprint ORDER BY id DESC LIMIT 1""")
_VERSION_BY_PREFIX = Statement("""
    SELECT fingerprint, source FROM workflow_versions
    WHERE workflow_id = :workflow AND substr(fingerprint, 1, :length) = :fingerprint ORDER BY id DESC LIMIT 50""")

_OLDEST_READY = Statement(f"""
    SELECT j.task_id, s.step_id, s.queue,
        {{now}} - CASE WHEN s.not_before > s.ready_at THEN s.not_before ELSE s.ready_at END
    FROM step_runs s JOIN job_runs j ON j.id = s.run_pk
    WHERE s.pending = 0 AND s.status IN ({quoted(CLAIMABLE)}) AND s.{LISTED} AND s.ready_at IS NOT NULL
        AND s.next_dispatch_at IS NOT NULL
        AND (s.not_before IS NULL OR s.not_before <= {{now}})
    ORDER BY s.ready_at LIMIT 1""")


FOREVER = 1e12
"""An instant after all others."""

REUSED = "reused"
"""Reason of a step that is SUCCESS without a try: its output was taken over from an earlier run."""


@dataclass(frozen=True, slots=True)
class RunView:
    """One run. `run_id` is its public id (and its Celery task id); instants are seconds since 1970.

    Attributes:
        seconds: From its start to its end, or to now; None before the start.
        schedule: Name of the schedule that started it; None when a person did.
        fire_time: The time of the schedule that had come, ISO 8601 in its own zone.
        now: The database's time of the reading.
        rerun_of: Id of the run that this one runs again.
        parent_run: Id of the run of which a step has started this one; `parent_step` is that step's.
        is_waiting: Whether it waits for another run of its concurrency group to end.
        usual_seconds: How long the last runs of this version took; None when there are none, or it was not asked for.
    """

    run_pk: int
    run_id: str
    workflow: str
    version_id: int
    status: str
    progress: int
    current_step: str | None
    steps_total: int
    steps_open: int
    steps_failed: int
    redispatches: int
    cancel_requested: bool
    created_at: float
    started_at: float | None
    finished_at: float | None
    params: dict[str, Any]
    outputs: dict[str, Any] | None
    error: str | None
    generation: int
    schedule: str | None
    fire_time: str | None
    now: float
    rerun_of: str | None = None
    is_waiting: bool = False
    parent_run: str | None = None
    parent_step: str | None = None
    usual_seconds: float | None = None

    @property
    def is_ended(self) -> bool:
        """Whether its state is final."""
        return is_terminal(self.status)

    @property
    def seconds(self) -> float | None:
        """How long it has run."""
        if self.started_at is None:
            return None
        return (self.finished_at if self.finished_at is not None else self.now) - self.started_at

    @property
    def eta_seconds(self) -> float | None:
        """Seconds it will still take, from its pace so far and from past runs; None when that cannot be said."""
        if self.is_ended or self.seconds is None:
            return None
        return remaining_seconds(self.seconds, self.progress / 100, self.usual_seconds)


@dataclass(frozen=True, slots=True)
class StepView:
    """One step of a run.

    Attributes:
        attempts: Tries so far.
        items_total: Calls of a map, None before it is expanded and for other steps.
        share: How far it is, 0 to 1.
        error: `{type, message, traceback}` of the last failed try.
        sub_run: Id of the run that the step has started and waits for.
    """

    ordinal: int
    step_id: str
    queue: str
    status: str
    reason: str | None
    attempts: int
    failures: int
    crashes: int
    started_at: float | None
    finished_at: float | None
    ready_at: float | None
    items_total: int | None
    items_success: int
    items_failure: int
    share: float
    error: dict[str, Any] | None
    not_before: float | None
    sub_run: str | None = None

    def seconds(self, now: float) -> float | None:
        """How long it has taken; None when it has not started."""
        if self.started_at is None:
            return None
        return (self.finished_at if self.finished_at is not None else now) - self.started_at

    def mark(self, now: float) -> Mark:
        """How a picture shows it."""
        done = None if self.items_total is None else self.items_success + self.items_failure
        return Mark(self.status, self.share, self.seconds(now), done, self.items_total)


@dataclass(frozen=True, slots=True)
class RunReport:
    """A run with its steps in topological order, and who delivered them."""

    run: RunView
    steps: tuple[StepView, ...]
    dispatches: dict[str, int] = field(default_factory=dict)

    def marks(self) -> dict[str, Mark]:
        """By step id, how a picture shows the run."""
        return {step.step_id: step.mark(self.run.now) for step in self.steps}

    def to_json(self) -> dict[str, Any]:
        """The object that `celeriac run --json` prints."""
        run = self.run
        return {
            "run_id": run.run_id,
            "workflow": run.workflow,
            "status": run.status,
            "progress": run.progress,
            "schedule": run.schedule,
            "fire_time": run.fire_time,
            "created_at": run.created_at,
            "started_at": run.started_at,
            "finished_at": run.finished_at,
            "seconds": run.seconds,
            "params": run.params,
            "steps": {step.step_id: _step_json(step, run.now) for step in self.steps},
            "dispatches": self.dispatches,
            "outputs": run.outputs or {},
            "error": run.error,
            "rerun_of": run.rerun_of,
            "parent_run": run.parent_run,
            "parent_step": run.parent_step,
        }


@dataclass(frozen=True, slots=True)
class LogLine:
    """A kept line of a step's log."""

    id: int
    at: float
    level: str
    step_id: str | None
    item_key: str | None
    attempt: int | None
    message: str


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A worker that has been seen in the last seconds; `seconds_up` since it started."""

    node: str
    hostname: str
    pid: int
    slots: int
    queues: tuple[str, ...]
    started_at: float
    silent_seconds: float
    seconds_up: float


@dataclass(frozen=True, slots=True)
class VersionView:
    """A version of a workflow that a run has started with, now or once."""

    version_id: int
    fingerprint: str
    steps: int
    created_at: float


@dataclass(frozen=True, slots=True)
class WaitingStep:
    """A step that could be claimed, and how long it has been waiting for a worker."""

    run_id: str
    step_id: str
    queue: str
    waiting_seconds: float


def find_run(tx: Transaction, name: str) -> RunView:
    """The run with this id, or whose id begins so when that is only one; `latest` names the last one accepted.

    Raises:
        NotFoundError: there is none, or more than one.
    """
    if name == "latest":
        rows = tx.rows(_LATEST)
    else:
        rows = tx.rows(_RUN, {"id": name})
        if not rows and 4 <= len(name) < 36:
            rows = tx.rows(_RUN_BY_PREFIX, {"id": name, "length": len(name)})
    if not rows:
        raise NotFoundError(f"there is no run '{name}'", "list the runs with `celeriac ps`")
    if len(rows) > 1:
        raise NotFoundError(f"more than one run has an id that begins with '{name}'", "give more of its digits")
    run = _run_view(rows[0])
    if run.is_ended or run.rerun_of is not None:
        return run  # what is partly taken over takes less than usual
    usual = tx.row(_USUAL, {"version": run.version_id})
    return replace(run, usual_seconds=usual[0] if usual else None)


def list_runs(
    tx: Transaction,
    *,
    workflow: str = "",
    status: str = "",
    since: float = 0.0,
    until: float = FOREVER,
    before: int | None = None,
    limit: int = 50,
) -> list[RunView]:
    """The latest runs, newest first; `before` is the `run_pk` of the last one of the page before.

    Args:
        since: Accepted at this instant or later; `until` is the first that is too late.
    """
    where = {"workflow": workflow, "status": status, "since": since, "until": until, "limit": limit}
    rows = tx.rows(_RUNS, {**where, "before": before if before is not None else 2**62})
    return [_run_view(row) for row in rows]


def report(tx: Transaction, run: RunView) -> RunReport:
    """The run's steps: of its plan while it has not started, of its rows afterwards."""
    plan = runs.load_plan(tx, run.version_id)
    rows = tx.rows(_STEPS, {"run": run.run_pk})
    first = {row[0]: row[1] for row in tx.rows(_FIRST_ATTEMPT, {"run": run.run_pk})}
    steps = tuple(_step_view(row, first.get(row[0])) for row in rows) or _unstarted(plan, run)
    dispatches = {"canvas": 0, "sql": 0, "reconciler": run.redispatches}
    dispatches.update({row[0]: row[1] for row in tx.rows(_DISPATCHES, {"run": run.run_pk})})
    return RunReport(run, steps, dispatches)


def step_output(tx: Transaction, run_pk: int, ordinal: int) -> Any:
    """The output of a step, None while it has none."""
    row = tx.row(_OUTPUT, {"run": run_pk, "ordinal": ordinal})
    return None if row is None else payloads.value(tx, run_pk, ordinal, row[0])


AttemptKey = tuple[int, int, int, int, int]
"""`(ordinal, part, item_index, generation, number)`: what makes a try of a run unique, and orders them."""

BEFORE_ALL_ATTEMPTS: AttemptKey = (-1, -1, -2, -1, -1)


def attempts(
    tx: Transaction,
    run_pk: int,
    ordinal: int | None = None,
    limit: int = 1000,
    after: AttemptKey = BEFORE_ALL_ATTEMPTS,
) -> list[dict[str, Any]]:
    """Ended tries by step, call and number, those behind `after`; `item_index` -1 is the step itself."""
    cursor = dict(zip(("a_ordinal", "a_part", "a_item", "a_generation", "a_number"), after, strict=True))
    where = {"run": run_pk, "ordinal": -1 if ordinal is None else ordinal, "limit": limit, **cursor}
    found = tx.rows(_ATTEMPTS, where)
    rows = [dict(zip(_ATTEMPT_NAMES, row, strict=True)) for row in found]
    for row in rows:
        row["error"] = json.loads(row["error"]) if row["error"] else None
    return rows


def items(
    tx: Transaction, run_pk: int, ordinal: int, *, status: str = "", first: int = 0, limit: int = 1000
) -> list[dict[str, Any]]:
    """Calls of a map from index `first` on, those in `status` when it is given."""
    names = ("index", "key", "status", "failures", "started_at", "finished_at", "error")
    found = tx.rows(_ITEMS, {"run": run_pk, "ordinal": ordinal, "status": status, "from": first, "limit": limit})
    rows = [dict(zip(names, row, strict=True)) for row in found]
    for row in rows:
        row["error"] = json.loads(row["error"]) if row["error"] else None
    return rows


def logs(
    tx: Transaction, run: RunView, *, after: int = 0, step_id: str | None = None, limit: int = 1000
) -> list[LogLine]:
    """Kept log lines with an id above `after`, in order."""
    plan = runs.load_plan(tx, run.version_id)
    ordinal = -1
    if step_id is not None:
        try:
            ordinal = plan.ordinal_of(step_id)
        except KeyError:
            raise NotFoundError(f"workflow '{run.workflow}' has no step '{step_id}'") from None
    rows = tx.rows(_LOGS, {"run": run.run_pk, "after": after, "ordinal": ordinal, "limit": limit})
    return [
        LogLine(row[0], row[1], row[2], None if row[3] is None else plan.steps[row[3]].id, row[4], row[5], row[6])
        for row in rows
    ]


def events(tx: Transaction, run_pk: int, *, after: int = 0, limit: int = 1000) -> list[dict[str, Any]]:
    """Transitions with a sequence number above `after`, in order; `ordinal` None is the run itself."""
    names = ("seq", "at", "ordinal", "part", "status", "detail")
    found = tx.rows(_EVENTS, {"run": run_pk, "after": after, "limit": limit})
    rows = [dict(zip(names, row, strict=True)) for row in found]
    for row in rows:
        row["detail"] = json.loads(row["detail"]) if row["detail"] else None
    return rows


def versions(tx: Transaction, workflow: str, *, before: int | None = None, limit: int = 50) -> list[VersionView]:
    """The versions of a workflow, newest first; `before` is the `version_id` of the last one of the page before."""
    where = {"workflow": workflow, "before": before if before is not None else 2**62, "limit": limit}
    return [VersionView(*row) for row in tx.rows(_VERSIONS, where)]


def version(tx: Transaction, workflow: str, fingerprint: str) -> tuple[VersionView, str] | None:
    """One version and the text of its definition; None when no run has started with it."""
    row = tx.row(_VERSION, {"workflow": workflow, "fingerprint": fingerprint})
    return None if row is None else (VersionView(*row[:4]), row[4])


def version_by_prefix(tx: Transaction, workflow: str, fingerprint: str) -> str | None:
    """The text of the version whose fingerprint begins so; None when there is none, or more than one."""
    where = {"workflow": workflow, "fingerprint": fingerprint, "length": len(fingerprint)}
    found = {row[0]: str(row[1]) for row in tx.rows(_VERSION_BY_PREFIX, where)}
    return next(iter(found.values())) if len(found) == 1 else None


def live_workers(tx: Transaction) -> list[WorkerView]:
    """Workers seen in the last 15 s."""
    return [
        WorkerView(row[0], row[1], row[2], row[3], tuple(row[4].split(",")), row[5], row[6], row[7])
        for row in tx.rows(_LIVE_WORKERS)
    ]


def oldest_ready(tx: Transaction) -> WaitingStep | None:
    """The step that has waited longest for a worker to claim it; None when none waits."""
    row = tx.row(_OLDEST_READY)
    return None if row is None else WaitingStep(*row)


def _run_view(row: Row) -> RunView:
    values = dict(zip(_RUN_FIELDS, row, strict=True))
    for name in ("cancel_requested", "is_waiting"):
        values[name] = bool(values[name])
    for name in ("params", "outputs"):
        values[name] = json.loads(values[name]) if values[name] else None
    return RunView(**values)


def _step_view(row: Row, first_started: float | None) -> StepView:
    total, success, failure = row[11], row[12] or 0, row[13] or 0
    if row[3] in ("SUCCESS", "SKIPPED"):
        share = 1.0
    elif total:
        share = (success + failure) / total
    else:
        share = row[14] or 0.0
    return StepView(
        ordinal=row[0],
        step_id=row[1],
        queue=row[2],
        status=row[3],
        reason=REUSED if row[3] == State.SUCCESS and not row[5] else row[4],
        attempts=row[5],
        failures=row[6],
        crashes=row[7],
        started_at=min((at for at in (first_started, row[18], row[8]) if at is not None), default=None),
        finished_at=row[9],
        ready_at=row[10],
        items_total=total,
        items_success=success,
        items_failure=failure,
        share=share,
        error=json.loads(row[15]) if row[15] else None,
        not_before=row[16],
        sub_run=row[17],
    )


def _unstarted(plan: Plan, run: RunView) -> tuple[StepView, ...]:
    """Steps of a run that has no rows for them: it has not begun, or was cancelled before it did."""
    status = (State.REVOKED if run.is_ended else State.PENDING).value
    return tuple(
        StepView(
            step.ordinal, step.id, step.queue, status, None, 0, 0, 0, None, None, None, None, 0, 0, 0.0, None, None
        )
        for step in plan.steps
    )


def _step_json(step: StepView, now: float) -> dict[str, Any]:
    return {
        "status": step.status,
        "reason": step.reason,
        "attempts": step.attempts,
        "seconds": step.seconds(now),
        "items": None
        if step.items_total is None
        else {"total": step.items_total, "success": step.items_success, "failure": step.items_failure},
        "error": None
        if step.error is None or step.status == "SUCCESS"
        else f"{step.error['type']}: {step.error['message']}",
        "progress": round(step.share * 100),
        "sub_run": step.sub_run,
    }
