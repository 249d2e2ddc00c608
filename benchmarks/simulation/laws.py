"""What must hold: of every change of a row, as it is committed, and of everything when all has ended.

Changes are written down by triggers of the database, within the transaction that makes them; so none is missed, and
their order is the order of commits.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

from benchmarks.simulation.steps import Ledger, Who
from benchmarks.simulation.users import Story
from benchmarks.simulation.works import may_start
from workflows.model.states import CLAIMABLE, RUN_TRANSITIONS, STEP_TRANSITIONS, Event, State, is_terminal

AUDIT = """
CREATE TABLE audit (seq INTEGER PRIMARY KEY, kind TEXT, run_pk INTEGER, ordinal INTEGER, part INTEGER, old TEXT,
    new TEXT, old_number INTEGER, new_number INTEGER, old_generation INTEGER, new_generation INTEGER, pending INTEGER,
    cancelled INTEGER, run_status TEXT);
CREATE TRIGGER audit_steps AFTER UPDATE ON step_runs WHEN old.status <> new.status OR old.token <> new.token BEGIN
    INSERT INTO audit SELECT NULL, 'step', new.run_pk, new.ordinal, new.part, old.status, new.status, old.token,
        new.token, old.generation, new.generation, new.pending, cancel_requested, status
    FROM job_runs WHERE id = new.run_pk;
END;
CREATE TRIGGER audit_items AFTER UPDATE ON item_runs WHEN old.status <> new.status BEGIN
    INSERT INTO audit SELECT NULL, 'call', new.run_pk, new.ordinal, new.item_index, old.status, new.status, 0, 0,
        generation, generation, 0, cancel_requested, status
    FROM job_runs WHERE id = new.run_pk;
END;
CREATE TRIGGER audit_runs AFTER UPDATE ON job_runs
WHEN old.status <> new.status OR old.progress_percentage <> new.progress_percentage BEGIN
    INSERT INTO audit VALUES (NULL, 'run', new.id, NULL, NULL, old.status, new.status, old.progress_percentage,
        new.progress_percentage, old.generation, new.generation, new.steps_open, new.cancel_requested, new.status);
END;
"""

STEP_ENDS = frozenset({"SUCCESS", "FAILURE", "REVOKED", "SKIPPED"})


class Change(NamedTuple):
    """A change of a row.

    Attributes:
        part: Of a call of a map: its index.
        old_number: Of a step its token, of a run its percentage.
        pending: Of a run: its open steps.
    """

    seq: int
    kind: str
    run_pk: int
    ordinal: int
    part: int
    old: str
    new: str
    old_number: int
    new_number: int
    old_generation: int
    new_generation: int
    pending: int
    cancelled: bool
    run_status: str

    def __str__(self) -> str:
        return (
            f"{self.kind} {self.run_pk}/{self.ordinal}/{self.part} {self.old} {self.old_number} -> "
            f"{self.new} {self.new_number}, generation {self.new_generation}"
        )


def _pairs(table: Mapping[tuple[State, Event], State], *, resume: bool) -> frozenset[tuple[str, str]]:
    return frozenset(
        (source.value, target.value) for (source, event), target in table.items() if (event is Event.RESUME) is resume
    )


LEGAL = {
    ("step", False): _pairs(STEP_TRANSITIONS, resume=False),
    ("step", True): _pairs(STEP_TRANSITIONS, resume=True),
    ("run", False): _pairs(RUN_TRANSITIONS, resume=False),
    ("run", True): _pairs(RUN_TRANSITIONS, resume=True),
}


class Auditor:
    """Looks at the database with a connection of its own."""

    def __init__(self, path: str, stories: list[Story], ledger: Ledger) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._stories = stories
        self._ledger = ledger
        self._seen = 0
        self._by_run: dict[int, Story] = {}
        self._ended_calls: dict[tuple[int, int, int], int] = {}
        self.changes = 0
        self.violations: list[str] = []

    def look(self) -> None:
        """Check what was committed since the last look."""
        for row in self._connection.execute("SELECT * FROM audit WHERE seq > ? ORDER BY seq", (self._seen,)):
            change = Change(*row)
            self._seen = change.seq
            self.changes += 1
            self.violations += [f"{law}: {change}" for law in self._broken(change)]

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _broken(self, change: Change) -> Iterator[str]:
        if change.kind == "call":
            yield from self._broken_by_call(change)
            return
        is_resume = change.new_generation != change.old_generation
        legal = LEGAL[change.kind, is_resume]
        if change.old != change.new and (change.old, change.new) not in legal:
            yield "final is final, and every transition is legal"
        if change.kind == "run":
            if not is_resume and change.new_number < change.old_number:
                yield "progress only grows"
            if is_terminal(change.new) and change.old != change.new:
                yield from self._broken_by_end(change)
        elif change.new == "PROGRESS":
            yield from self._broken_by_claim(change)

    def _broken_by_claim(self, change: Change) -> Iterator[str]:
        if change.old not in CLAIMABLE or change.new_number != change.old_number + 1:
            yield "one owner at a time"
        if change.cancelled:
            yield "nothing starts after a cancel"
        if change.run_status == "PAUSED":
            yield "nothing starts in a paused run"
        if change.part:
            return
        story = self._story(change.run_pk)
        step = story.plan.steps[change.ordinal]
        node = story.work.nodes[step.id]
        ends = self._ends(change.run_pk, story)
        if node.needs and not may_start(node.run_if, [ends[before] for before in node.needs]):
            yield f"nothing starts before its dependencies ({node.run_if} of {[ends[b] for b in node.needs]})"

    def _broken_by_end(self, change: Change) -> Iterator[str]:
        rows = self._rows("SELECT status FROM step_runs WHERE run_pk = ? AND part = 0", change.run_pk)
        statuses = {row[0] for row in rows}
        if not statuses <= STEP_ENDS:
            yield f"a run ends with its last step ({statuses})"
        if change.new == "SUCCESS" and (statuses & {"FAILURE", "REVOKED"} or change.new_number != 100):
            yield f"no false success ({statuses})"

    def _broken_by_call(self, change: Change) -> Iterator[str]:
        key = (change.run_pk, change.ordinal, change.part)
        if change.old in STEP_ENDS:
            before = self._ended_calls.get(key, change.new_generation)
            if change.old == "SUCCESS" or change.new != "RETRY" or change.new_generation <= before:
                yield "final is final, also of calls"
        if change.new in STEP_ENDS:
            self._ended_calls[key] = change.new_generation

    def _ends(self, run_pk: int, story: Story) -> dict[str, str]:
        rows = self._rows("SELECT ordinal, status, reason FROM step_runs WHERE run_pk = ? AND part = 0", run_pk)
        return {
            story.plan.steps[ordinal].id: "BLOCKED" if status == "SKIPPED" and reason == "upstream_failed" else status
            for ordinal, status, reason in rows
        }

    def _story(self, run_pk: int) -> Story:
        if run_pk not in self._by_run:
            ((workflow,),) = self._rows("SELECT workflow_id FROM job_runs WHERE id = ?", run_pk)
            self._by_run[run_pk] = next(story for story in self._stories if story.plan.workflow == workflow)
        return self._by_run[run_pk]

    def _rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql, values).fetchall()

    # When all has ended

    def conclude(self, *, is_undisturbed: bool) -> None:
        """Check everything."""
        self.look()
        for story in self._stories:
            if not story.run_ids:
                self.violations.append(f"every run is accepted: number {story.work.number} is not")
                continue
            self.violations += [
                f"{law}: run {story.work.number}: {text}"
                for law, text in self._at_the_end(story, is_undisturbed=is_undisturbed)
            ]
        left = self._rows("SELECT count(*) FROM step_runs WHERE lease_until IS NOT NULL OR part > 0")[0][0]
        if left:
            self.violations.append(f"nothing is left behind: {left} units with a lease, or of maps")

    def _at_the_end(self, story: Story, *, is_undisturbed: bool) -> Iterator[tuple[str, str]]:
        if len(set(story.run_ids)) > 1:
            yield "one key, one run", f"{sorted(set(story.run_ids))}"
        ((run_pk, status, generation, finished_at, redispatches),) = self._rows(
            "SELECT id, status, generation, finished_at, redispatches FROM job_runs WHERE task_id = ?", story.run_id
        )
        if not is_terminal(status):
            open_steps = self._rows(
                "SELECT step_id, part, status, pending, arrives_by, next_dispatch_at, not_before FROM step_runs"
                " WHERE run_pk = ? AND status NOT IN ('SUCCESS', 'FAILURE', 'REVOKED', 'SKIPPED')",
                run_pk,
            )
            yield "every run ends", f"it is {status}, open are {open_steps}"
            return
        yield from self._history(run_pk)
        is_cancelled = any(number == generation and finished_at > at for number, at in story.cancels)
        if is_cancelled and status != "REVOKED":
            yield "a cancelled run is revoked", status
        ends = self._ends(run_pk, story)
        if status != "REVOKED":
            expected = story.work.expected()
            if ends != expected:
                wrong = {name: (ends[name], end) for name, end in expected.items() if ends[name] != end}
                yield "faults change no result", f"(is, should be) {wrong}"
            if (status == "FAILURE") is not ("FAILURE" in expected.values()):
                yield "faults change no result", status
        elif not story.cancels:
            yield "faults change no result", "it is REVOKED, and nobody has cancelled it"
        yield from self._effects(run_pk, story)
        if is_undisturbed and redispatches and _is_smooth(story):
            yield "undisturbed, the reconciler sends nothing", f"it has sent {redispatches}"

    def _history(self, run_pk: int) -> Iterator[tuple[str, str]]:
        numbers = [row[0] for row in self._rows("SELECT seq FROM run_events WHERE run_pk = ? ORDER BY seq", run_pk)]
        ((last,),) = self._rows("SELECT event_seq FROM job_runs WHERE id = ?", run_pk)
        if numbers[:1] != [1] or numbers[-1:] != [last] or any(b != a + 1 for a, b in pairwise(numbers)):
            yield "the history has no gap", f"{numbers}, last {last}"

    def _effects(self, run_pk: int, story: Story) -> Iterator[tuple[str, str]]:
        counted = {
            Who(story.run_id, step, item or None): count
            for step, item, count in self._rows(
                "SELECT step_id, item, count FROM simulated_effects WHERE run_id = ?", story.run_id
            )
        }
        committed = dict(
            self._rows(
                "SELECT ordinal, count(*) FROM attempts WHERE run_pk = ? AND part = 0 AND item_index = -1"
                " AND status = 'SUCCESS' GROUP BY ordinal",
                run_pk,
            )
        )
        for step in story.plan.steps:
            node = story.work.nodes[step.id]
            query = "SELECT status FROM step_runs WHERE run_pk = ? AND ordinal = ? AND part = 0"
            units = [(Who(story.run_id, step.id, None), row[0]) for row in self._rows(query, run_pk, step.ordinal)]
            is_success = bool(units) and units[0][1] == "SUCCESS"
            if node.calls is None:
                if committed.get(step.ordinal, 0) != int(is_success):
                    yield "no result is committed twice", f"{step.id}: {committed.get(step.ordinal, 0)} times"
            else:
                query = "SELECT key, status FROM item_runs WHERE run_pk = ? AND ordinal = ?"
                units = [(Who(story.run_id, step.id, key), end) for key, end in self._rows(query, run_pk, step.ordinal)]
                if is_success and [end for _, end in units].count("SUCCESS") != node.successes:
                    yield "no false success", f"map {step.id} has {units}"
            for who, end in units:
                yield from self._effects_of(who, end, counted.get(who, 0), story, is_counted=node.in_transaction)

    def _effects_of(
        self, who: Who, end: str, count: int, story: Story, *, is_counted: bool
    ) -> Iterator[tuple[str, str]]:
        keyed = self._ledger.keyed[who]
        if keyed > 1:
            yield "a keyed effect is made once", f"{who}: {keyed} times"
        if end == "SUCCESS" and not keyed:
            yield "no false success", f"{who} has made no effect"
        if is_counted and count != int(end == "SUCCESS"):
            yield "a transaction's effect is made once, with its result", f"{who} is {end}: {count} times"
        for name, value in self._ledger.seen.get(who, {}).items() if end == "SUCCESS" else ():
            before = story.work.nodes[name]
            if value != (name if before.calls is None else before.successes):
                yield "a step sees what those before it gave", f"{who} has seen {value!r} of {name}"


def _is_smooth(story: Story) -> bool:
    """Whether nothing of a run asks for a second dispatch by itself."""
    nodes = story.work.nodes.values()
    return not story.cancels and not any(node.failures or node.slow or node.deaths or node.is_rare for node in nodes)
