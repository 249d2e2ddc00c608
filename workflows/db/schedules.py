"""Schedules and their times: what is due, what was decided about a time, and that no time is decided about twice."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workflows.db.database import Row, Statement, Transaction
from workflows.model.cron import Cron
from workflows.model.errors import NotFoundError
from workflows.model.spec import Catchup, Overlap

FROM_DEFINITION = "definition"
FROM_PERSON = "person"

FIRED = "FIRED"
WAITING = "WAITING"
SKIPPED = "SKIPPED"
MISSED = "MISSED"
FAILED = "FAILED"

_COLUMNS = """s.id, s.name, s.workflow_id, s.version_id, s.origin, s.cron, s.timezone, s.catchup, s.overlap, s.params,
    s.is_enabled, s.next_fire_at, s.problem, s.created_at, s.updated_at"""

_NOW = Statement("SELECT {now}")
_ALL = Statement(f"""
    SELECT {_COLUMNS} FROM schedules s WHERE (:workflow = '' OR s.workflow_id = :workflow) AND s.name > :after
    ORDER BY s.name LIMIT :limit""")
_BY_NAME = Statement(f"SELECT {_COLUMNS} FROM schedules s WHERE s.name = :name")
_LOCK = {
    "sqlite": _BY_NAME,
    "postgresql": Statement(f"SELECT {_COLUMNS} FROM schedules s WHERE s.name = :name FOR UPDATE"),
}
_OF_WORKFLOW = f"SELECT {_COLUMNS} FROM schedules s WHERE s.workflow_id = :workflow ORDER BY s.id"
_OF_WORKFLOW_BY_DIALECT = {
    "sqlite": Statement(_OF_WORKFLOW),
    "postgresql": Statement(f"{_OF_WORKFLOW} FOR UPDATE"),
}
_WORKFLOWS = Statement("SELECT DISTINCT workflow_id FROM schedules ORDER BY workflow_id")
_NAMES = Statement("SELECT name FROM schedules ORDER BY name LIMIT 1000")
_DUE = Statement(f"""
    SELECT {_COLUMNS} FROM schedules s WHERE s.is_enabled AND s.next_fire_at <= :now
    ORDER BY s.next_fire_at, s.id LIMIT 100""")
_WITH_WAITING = Statement(f"""
    SELECT {_COLUMNS} FROM schedules s
    WHERE s.is_enabled AND EXISTS (SELECT 1 FROM schedule_fires f WHERE f.schedule_id = s.id AND f.status = 'WAITING')
    ORDER BY s.id LIMIT 100""")
_NEXT = Statement("SELECT min(next_fire_at) FROM schedules WHERE is_enabled")
_ADD = Statement("""
    INSERT INTO schedules (name, workflow_id, version_id, origin, cron, timezone, catchup, overlap, params, is_enabled,
        next_fire_at, created_at, updated_at)
    VALUES (:name, :workflow, :version, :origin, :cron, :timezone, :catchup, :overlap, :params, :enabled,
        :next_fire_at, {now}, {now})
    ON CONFLICT (name) DO NOTHING RETURNING id""")
_CHANGE = Statement("""
    UPDATE schedules SET version_id = :version, cron = :cron, timezone = :timezone, catchup = :catchup,
        overlap = :overlap, params = :params, is_enabled = :enabled, next_fire_at = :next_fire_at, problem = :problem,
        updated_at = {now}
    WHERE id = :id""")
_DELETE = Statement("DELETE FROM schedules WHERE id = :id")
_ADVANCE = Statement("""
    UPDATE schedules SET next_fire_at = :next_fire_at WHERE id = :id AND is_enabled AND next_fire_at = :seen
    RETURNING id""")
_ADD_FIRE = Statement("""
    INSERT INTO schedule_fires (schedule_id, fire_at, status, detail, missed, run_id, decided_at)
    VALUES (:id, :fire_at, :status, :detail, :missed, :run_id, {now})
    ON CONFLICT (schedule_id, fire_at) DO NOTHING RETURNING schedule_id""")
_DECIDE = Statement("""
    UPDATE schedule_fires SET status = :status, detail = :detail, run_id = :run_id, decided_at = {now}
    WHERE schedule_id = :id AND fire_at = :fire_at AND status <> 'FIRED'
        AND (:seen = '' OR status = :seen) RETURNING schedule_id""")
_IS_DECIDED = Statement("""
    SELECT 1 FROM schedule_fires WHERE schedule_id = :id AND fire_at = :fire_at AND status IN ('FIRED', 'WAITING')""")
_WAITING = Statement("""
    SELECT fire_at, detail FROM schedule_fires WHERE schedule_id = :id AND status = 'WAITING'
    ORDER BY fire_at LIMIT :limit""")
_COUNT_WAITING = Statement("SELECT count(*) FROM schedule_fires WHERE schedule_id = :id AND status = 'WAITING'")
_FIRES = Statement("""
    SELECT fire_at, status, detail, missed, run_id, decided_at FROM schedule_fires
    WHERE schedule_id = :id AND fire_at < :before ORDER BY fire_at DESC LIMIT :limit""")
_LAST_FIRES = Statement("""
    SELECT schedule_id, max(fire_at) FROM schedule_fires WHERE status = 'FIRED' AND schedule_id IN :ids[]
    GROUP BY schedule_id""")
_OPEN_RUNS = Statement(
    "SELECT id, task_id FROM job_runs WHERE schedule = :name AND finished_at IS NULL ORDER BY id DESC LIMIT 100"
)
_OLD_FIRES = Statement("""
    DELETE FROM schedule_fires WHERE status <> 'WAITING' AND decided_at < {now} - :seconds
        AND fire_at < {now} - :seconds""")
_IS_LED = Statement("SELECT 1 FROM leader_leases WHERE name = :name AND lease_until > {now}")
_VERSION = Statement("SELECT fingerprint, source FROM workflow_versions WHERE id = :version")

_LAST_SENT = Statement("SELECT name, last_run_at FROM beat_entries")
_KNOW_ENTRY = Statement("""
    INSERT INTO beat_entries (name, last_run_at) VALUES (:name, :at) ON CONFLICT (name) DO NOTHING""")
_CLAIM_ENTRY = Statement("""
    UPDATE beat_entries SET last_run_at = :at WHERE name = :name AND last_run_at <= :seen + 0.001 RETURNING name""")


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule as it is stored.

    Attributes:
        version_id: The version of the workflow that its next run has.
        origin: `definition`, or `person` when it was made by command line or API.
        params: What its runs are given.
        next_fire_at: Seconds since 1970; None while it is disabled, or when it never fires again.
        problem: Why the newest text of its workflow is not what it runs; None when it is.
    """

    id: int
    name: str
    workflow: str
    version_id: int
    origin: str
    cron: str
    timezone: str
    catchup: Catchup
    overlap: Overlap
    params: dict[str, Any]
    is_enabled: bool
    next_fire_at: int | None
    problem: str | None
    created_at: float
    updated_at: float

    def times(self) -> Cron:
        """When it fires."""
        return Cron.parse(self.cron, self.timezone)


@dataclass(frozen=True, slots=True)
class Fire:
    """What was decided about a time.

    Attributes:
        status: `FIRED`, `WAITING` for the run before it, `SKIPPED` because of that, `MISSED` while no scheduler ran, or
            `FAILED` because no run could be made.
        missed: Of a missed time: how many there were up to it, at least.
        run_id: The run that it started.
    """

    fire_at: int
    status: str
    detail: str | None
    missed: int
    run_id: str | None
    decided_at: float


def now(tx: Transaction) -> float:
    """The database's clock."""
    row = tx.row(_NOW)
    assert row is not None
    return float(row[0])


def page(tx: Transaction, *, workflow: str = "", after: str = "", limit: int = 1000) -> list[Schedule]:
    """Schedules by name, those behind `after`."""
    return [_schedule(row) for row in tx.rows(_ALL, {"workflow": workflow, "after": after, "limit": limit})]


def find(tx: Transaction, name: str, *, for_change: bool = False) -> Schedule:
    """The schedule of that name; with `for_change` nobody else changes it before this transaction ends.

    Raises:
        NotFoundError: there is none.
    """
    row = tx.row(_LOCK[tx.dialect] if for_change else _BY_NAME, {"name": name})
    if row is None:
        from workflows.model.diagnostics import did_you_mean

        names = [str(found[0]) for found in tx.rows(_NAMES)]
        raise NotFoundError(
            f"there is no schedule '{name[:100]}'",
            did_you_mean(name[:100], names) or "list them with `celeriac schedule ls`",
        )
    return _schedule(row)


def of_workflow(tx: Transaction, workflow: str) -> list[Schedule]:
    """The schedules of a workflow; nobody else changes them before this transaction ends."""
    return [_schedule(row) for row in tx.rows(_OF_WORKFLOW_BY_DIALECT[tx.dialect], {"workflow": workflow})]


def workflows(tx: Transaction) -> list[str]:
    """Ids of the workflows that have schedules."""
    return [str(row[0]) for row in tx.rows(_WORKFLOWS)]


def due(tx: Transaction, at: float) -> list[Schedule]:
    """Schedules with a time that has come, the longest due first."""
    return [_schedule(row) for row in tx.rows(_DUE, {"now": at})]


def with_waiting(tx: Transaction) -> list[Schedule]:
    """Enabled schedules of which times wait."""
    return [_schedule(row) for row in tx.rows(_WITH_WAITING)]


def next_fire_at(tx: Transaction) -> int | None:
    """The next time of all; None when there is none."""
    row = tx.row(_NEXT)
    return None if row is None or row[0] is None else int(row[0])


def add(
    tx: Transaction,
    *,
    name: str,
    workflow: str,
    version_id: int,
    origin: str,
    cron: str,
    timezone: str,
    catchup: Catchup,
    overlap: Overlap,
    params: Mapping[str, Any],
    is_enabled: bool,
    next_fire_at: int | None,
) -> bool:
    """Add a schedule; False when the name is taken."""
    values = {
        "name": name,
        "workflow": workflow,
        "version": version_id,
        "origin": origin,
        "cron": cron,
        "timezone": timezone,
        "catchup": catchup.value,
        "overlap": overlap.value,
        "params": json.dumps(dict(params)),
        "enabled": is_enabled,
        "next_fire_at": next_fire_at,
    }
    return tx.row(_ADD, values) is not None


def change(tx: Transaction, wanted: Schedule) -> None:
    """Store a schedule as it stands here: all but its name, workflow and origin."""
    tx.run(
        _CHANGE,
        {
            "id": wanted.id,
            "version": wanted.version_id,
            "cron": wanted.cron,
            "timezone": wanted.timezone,
            "catchup": wanted.catchup.value,
            "overlap": wanted.overlap.value,
            "params": json.dumps(wanted.params),
            "enabled": wanted.is_enabled,
            "next_fire_at": wanted.next_fire_at,
            "problem": wanted.problem,
        },
    )


def delete(tx: Transaction, schedule: Schedule) -> None:
    """Remove a schedule and its history; its runs stay."""
    tx.run(_DELETE, {"id": schedule.id})


def advance(tx: Transaction, schedule: Schedule, next_fire_at: int | None) -> bool:
    """The schedule's times so far are dealt with in this transaction; False when somebody else has."""
    values = {"id": schedule.id, "seen": schedule.next_fire_at, "next_fire_at": next_fire_at}
    return tx.row(_ADVANCE, values) is not None


def add_fire(
    tx: Transaction,
    schedule: Schedule,
    fire_at: int,
    status: str,
    *,
    detail: str | None = None,
    missed: int = 0,
    run_id: str | None = None,
) -> bool:
    """Note what was decided about a time; False when it had been decided about before."""
    values = {
        "id": schedule.id, "fire_at": fire_at, "status": status, "detail": detail, "missed": missed, "run_id": run_id,
    }  # fmt: skip
    return tx.row(_ADD_FIRE, values) is not None


def is_decided(tx: Transaction, schedule: Schedule, fire_at: int) -> bool:
    """Whether a time has fired or waits to."""
    return tx.row(_IS_DECIDED, {"id": schedule.id, "fire_at": fire_at}) is not None


def decide(
    tx: Transaction,
    schedule: Schedule,
    fire_at: int,
    status: str,
    *,
    seen: str = "",
    detail: str | None = None,
    run_id: str | None = None,
) -> bool:
    """Decide about a time anew, when its status is `seen` (any, when left out); never one that has fired."""
    values = {
        "id": schedule.id, "fire_at": fire_at, "status": status, "seen": seen, "detail": detail, "run_id": run_id,
    }  # fmt: skip
    return tx.row(_DECIDE, values) is not None


def waiting(tx: Transaction, schedule: Schedule, limit: int) -> list[tuple[int, str | None]]:
    """`(fire_at, detail)` of the times that wait, the oldest first."""
    return [(row[0], row[1]) for row in tx.rows(_WAITING, {"id": schedule.id, "limit": limit})]


def count_waiting(tx: Transaction, schedule: Schedule) -> int:
    """How many times wait."""
    row = tx.row(_COUNT_WAITING, {"id": schedule.id})
    return int(row[0]) if row else 0


def fires(tx: Transaction, schedule: Schedule, *, before: int | None = None, limit: int = 50) -> list[Fire]:
    """What was decided about its times, the latest time first, those before `before`."""
    values = {"id": schedule.id, "before": 2**62 if before is None else before, "limit": limit}
    return [Fire(*row) for row in tx.rows(_FIRES, values)]


def last_fired(tx: Transaction, schedules: list[Schedule]) -> dict[int, int]:
    """The latest time that fired, by the schedule's key."""
    return {row[0]: row[1] for row in tx.rows(_LAST_FIRES, {"ids": [schedule.id for schedule in schedules]})}


def open_runs(tx: Transaction, schedule: Schedule) -> list[tuple[int, str]]:
    """`(run_pk, run_id)` of its runs that have not ended, the newest first."""
    return [(row[0], row[1]) for row in tx.rows(_OPEN_RUNS, {"name": schedule.name})]


def delete_old_fires(tx: Transaction, older_than_seconds: float) -> None:
    """Forget what was decided so long ago."""
    tx.run(_OLD_FIRES, {"seconds": older_than_seconds})


def is_led(tx: Transaction, leader: str) -> bool:
    """Whether somebody holds the lead of that name."""
    return tx.row(_IS_LED, {"name": leader}) is not None


def version_of(tx: Transaction, version_id: int) -> tuple[str, str]:
    """`(fingerprint, text)` of a version."""
    row = tx.row(_VERSION, {"version": version_id})
    assert row is not None
    return str(row[0]), str(row[1])


def last_sent(tx: Transaction) -> dict[str, float]:
    """When each static entry of Beat was sent last."""
    return {row[0]: float(row[1]) for row in tx.rows(_LAST_SENT)}


def know_entry(tx: Transaction, name: str, at: float) -> None:
    """A static entry counts from now on, if it is new."""
    tx.run(_KNOW_ENTRY, {"name": name, "at": at})


def claim_entry(tx: Transaction, name: str, at: float, seen: float) -> bool:
    """Whether this process is the one to send a static entry that is due; when nobody has sent it since `seen`."""
    return tx.row(_CLAIM_ENTRY, {"name": name, "at": at, "seen": seen}) is not None


def _schedule(row: Row) -> Schedule:
    values = list(row)
    values[7], values[8] = Catchup(values[7]), Overlap(values[8])
    values[9], values[10] = json.loads(values[9]), bool(values[10])
    return Schedule(*values)
