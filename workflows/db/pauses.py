"""Pausing a run: each unit that has not started gets one more thing to wait for, until the run is resumed.

The thing is `HELD` in `pending`, so claims, redispatch and completions need no look at the run: a unit with anything
pending is claimed by nobody, found due by nobody, and brought to zero by nobody.
`docs/adr/0010-pause.md` has the races.
"""

from __future__ import annotations

from dataclasses import dataclass

from workflows.db import runs
from workflows.db.database import Statement, Transaction
from workflows.db.runs import Transition
from workflows.db.units import HELD, Unit, quoted
from workflows.model.states import CLAIMABLE, State

_UNSTARTED = f"(status IN ({quoted(CLAIMABLE)}) OR (status = 'PROGRESS' AND lease_until IS NULL))"
"""Units that nobody runs: an open map among them, which starts more of its calls from time to time."""

_PAUSE = Statement("""
    UPDATE job_runs SET status = 'PAUSED', is_paused_with_parent = :with_parent, event_seq = event_seq + 1
    WHERE id = :run AND status IN ('PENDING', 'PROGRESS') AND NOT cancel_requested AND steps_open > 0
        AND NOT (status = 'PENDING' AND next_dispatch_at IS NULL)
    RETURNING event_seq, {now}""")
_PAUSE_BY_ITSELF = Statement("""
    UPDATE job_runs SET is_paused_with_parent = false
    WHERE id = :run AND status = 'PAUSED' AND is_paused_with_parent""")
_HOLD_SQL = f"""
    UPDATE step_runs SET pending = pending + {HELD}, arrives_by = 'sql', next_dispatch_at = NULL
    WHERE run_pk = :run AND {_UNSTARTED} AND pending < {HELD}"""
# New ranges come from whoever holds the lock of their map's part 0: so that is taken first, and only a statement that
# begins after it sees all ranges there are.
_HOLD_ALL = tuple(Statement(f"{_HOLD_SQL} AND part {which}") for which in ("= 0", "> 0"))
_HOLD = tuple(Statement(f"{_HOLD_SQL} AND ordinal = :ordinal AND part {which}") for which in ("= 0", "> 0"))
_UNPAUSE = Statement("""
    UPDATE job_runs SET status = 'PROGRESS', event_seq = event_seq + 1, next_dispatch_at = NULL,
        deadline_at = CASE WHEN started_at IS NULL THEN {now} + CAST(:timeout AS double precision) ELSE deadline_at END,
        started_at = coalesce(started_at, {now})
    WHERE id = :run AND status = 'PAUSED' AND (is_paused_with_parent OR NOT :with_parent)
    RETURNING event_seq, {now}, version_id""")
_HAS_STEPS = Statement("SELECT 1 FROM step_runs WHERE run_pk = :run LIMIT 1")
# A CASE, because an OR over a column that is NULL comes out of SQLite's RETURNING as NULL.
_IS_LATER = "CASE WHEN not_before > {now} THEN 1 ELSE 0 END"
_RELEASE = Statement(f"""
    UPDATE step_runs SET pending = pending - {HELD},
        ready_at = CASE WHEN pending = {HELD} THEN coalesce(ready_at, {{now}}) ELSE ready_at END,
        dispatched_at = CASE WHEN pending = {HELD} THEN {{now}} ELSE dispatched_at END,
        next_dispatch_at = CASE WHEN pending <> {HELD} OR status NOT IN ({quoted(CLAIMABLE)}) THEN NULL
            WHEN not_before > {{now}} THEN not_before ELSE {{now}} + :redispatch END,
        dispatch_wait_seconds = CASE WHEN not_before > {{now}} THEN 0 ELSE :redispatch END
    WHERE run_pk = :run AND pending >= {HELD}
    RETURNING ordinal, part, pending, status, {_IS_LATER}""")
_ROOTS = Statement("SELECT ordinal FROM step_runs WHERE run_pk = :run AND part = 0 AND pending = 0")
_FIGURES = Statement(f"""
    SELECT j.status,
        (SELECT count(DISTINCT s.ordinal) FROM step_runs s WHERE s.run_pk = j.id AND s.lease_until IS NOT NULL),
        (SELECT count(*) FROM step_runs s WHERE s.run_pk = j.id AND s.part = 0
            AND s.status IN ({quoted(CLAIMABLE)})),
        j.steps_open
    FROM job_runs j WHERE j.id = :run""")


@dataclass(frozen=True, slots=True)
class PauseAnswer:
    """How a run stands after a pause was asked for, in steps.

    Attributes:
        is_paused: False when the run has ended, or is being cancelled.
        running: Go on to their end; a map counts as one while calls of it run.
        waiting: Do not start before the run is resumed.
    """

    status: str
    is_paused: bool
    running: int
    waiting: int


@dataclass(frozen=True, slots=True)
class Released:
    """What a resume has set free.

    Attributes:
        ready: Steps and ranges of maps to publish.
        maps: Open maps, which may start calls again.
        is_first: The run begins only now: its fragments are whole.
    """

    ready: tuple[Unit, ...]
    maps: tuple[Unit, ...] = ()
    is_first: bool = False


def pause(tx: Transaction, run_pk: int, *, with_parent: bool = False) -> PauseAnswer:
    """Nothing of the run starts any more; what runs goes on. Asked again, the figures as they are by then.

    The run's row first: see `workflows.engine.settlement.leave_worker`.

    Args:
        with_parent: Because the run that it is a part of is paused, and until that goes on. Paused by itself, or
            both, a run stays paused until somebody resumes it.
    """
    paused = tx.row(_PAUSE, {"run": run_pk, "with_parent": with_parent})
    if paused is not None:
        for statement in _HOLD_ALL:
            tx.run(statement, {"run": run_pk})
        runs.add_event(tx, run_pk, paused[0], paused[1], Transition(None, None, State.PAUSED.value))
    elif not with_parent:
        tx.run(_PAUSE_BY_ITSELF, {"run": run_pk})
    row = tx.row(_FIGURES, {"run": run_pk})
    assert row is not None
    status, running, waiting, steps_open = row
    is_unmade = running + waiting == 0 and status == State.PAUSED
    return PauseAnswer(status, status == State.PAUSED, running, steps_open if is_unmade else waiting)


def hold(tx: Transaction, run_pk: int, ordinal: int) -> None:
    """What has come to be unstarted in a paused run waits too: the step, its ranges, its map."""
    for statement in _HOLD:
        tx.run(statement, {"run": run_pk, "ordinal": ordinal})


def resume(
    tx: Transaction,
    run_pk: int,
    redispatch_seconds: float,
    timeout_seconds: float | None = None,
    *,
    with_parent: bool = False,
) -> Released | None:
    """A paused run goes on; None when it is not paused. A run whose steps are no rows yet begins here.

    Args:
        timeout_seconds: Of the run, from its beginning.
        with_parent: Only if it was paused so: somebody may have paused it by itself meanwhile.
    """
    going = tx.row(_UNPAUSE, {"run": run_pk, "timeout": timeout_seconds, "with_parent": with_parent})
    if going is None:
        return None
    seq, at, version_id = going
    runs.add_event(tx, run_pk, seq, at, Transition(None, None, State.PROGRESS.value))
    if tx.row(_HAS_STEPS, {"run": run_pk}) is None:
        runs.materialise(tx, run_pk, version_id, at, redispatch_seconds)
        return Released(tuple(Unit(run_pk, row[0]) for row in tx.rows(_ROOTS, {"run": run_pk})), is_first=True)
    ready, maps = [], []
    for ordinal, part, pending, status, is_later in tx.rows(
        _RELEASE, {"run": run_pk, "redispatch": redispatch_seconds}
    ):
        unit = Unit(run_pk, ordinal, part)
        if status == State.PROGRESS:
            maps.append(unit)
        elif status in CLAIMABLE and pending == 0 and not is_later:
            ready.append(unit)
    return Released(tuple(sorted(ready)), tuple(sorted(maps)))
