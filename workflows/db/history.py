"""What the steps of past runs have cost: for forecasts."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from statistics import median

from workflows.compile.forecast import Work
from workflows.db.database import Statement, Transaction

RUNS = 20
"""So many of the last successful runs are looked at."""

_RUNS = Statement("""
    SELECT id, finished_at - started_at FROM job_runs
    WHERE workflow_id = :workflow AND status = 'SUCCESS' AND rerun_of IS NULL ORDER BY id DESC LIMIT :limit""")
# A try that was put off began before the one that ended the step; what lies between them held no slot.
_STEPS = Statement("""
    SELECT s.run_pk, s.step_id, s.started_at, s.finished_at, s.parked_since,
        (SELECT min(a.started_at) FROM attempts a
            WHERE a.run_pk = s.run_pk AND a.ordinal = s.ordinal AND a.part = 0 AND a.item_index = -1),
        s.items_total, s.items_seconds
    FROM step_runs s
    WHERE s.run_pk IN :runs[] AND s.part = 0 AND s.status = 'SUCCESS' AND s.token > 0 AND s.reason IS NULL""")
_MEANS = Statement("""
    SELECT ordinal, avg(finished_at - started_at) FROM step_runs
    WHERE part = 0 AND status = 'SUCCESS' AND run_pk IN (
        SELECT id FROM job_runs WHERE version_id = :version AND status = 'SUCCESS' AND rerun_of IS NULL
        ORDER BY finished_at DESC LIMIT 5)
    GROUP BY ordinal""")


@dataclass(slots=True)
class PastRun:
    """One run: seconds from its start to its end, and what its steps have cost, by id."""

    seconds: float
    works: dict[str, Work] = field(default_factory=dict)


def past_runs(tx: Transaction, workflow: str, limit: int = RUNS) -> list[PastRun]:
    """The last successful runs of a workflow, whatever its version, the latest first."""
    found = {row[0]: PastRun(row[1]) for row in tx.rows(_RUNS, {"workflow": workflow, "limit": limit})}
    if not found:
        return []
    for run_pk, step, began, ended, parked, first, calls, calls_seconds in tx.rows(_STEPS, {"runs": list(found)}):
        if calls is None:
            earliest = min(instant for instant in (began, parked, first) if instant is not None)
            work = Work(max(0.0, ended - began), 1, began - earliest)
        else:
            work = Work((calls_seconds or 0.0) / calls if calls else 0.0, calls)
        found[run_pk].works[step] = work
    return list(found.values())


def mean_seconds(tx: Transaction, version_id: int) -> dict[int, float]:
    """What each step took in the last successful runs of a version, by ordinal."""
    return {row[0]: max(0.0, row[1]) for row in tx.rows(_MEANS, {"version": version_id}) if row[1] is not None}


def typical(runs: list[PastRun]) -> dict[str, Work]:
    """The median cost of each step over some runs."""
    by_step: dict[str, list[Work]] = defaultdict(list)
    for run in runs:
        for step, work in run.works.items():
            by_step[step].append(work)
    return {
        step: Work(
            median(work.seconds for work in works),
            round(median(work.calls for work in works)),
            median(work.off_worker_seconds for work in works),
        )
        for step, works in by_step.items()
    }
