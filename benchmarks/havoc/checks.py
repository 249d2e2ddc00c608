"""The laws that hold whatever was done to the system, checked on what runs say of themselves and on the ledger."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.havoc.client import Accepted
from benchmarks.havoc.faults import Fault
from benchmarks.havoc.ledger import Entry, Who
from benchmarks.havoc.violations import Violation
from workflows.db import queries
from workflows.db.database import Database, Statement, Transaction
from workflows.db.queries import RunReport, StepView
from workflows.model.states import is_terminal

CALL_GRACE_SECONDS = 0.02
"""A range of calls looks for a cancel so often: within this time another call may still start."""

DELAY_SECONDS = 0.1
"""What a busy machine may lay between a call's look for the cancel and its first line."""

_EFFECTS = Statement("SELECT run_id, step_id, item, count FROM chaos_effects")


@dataclass(frozen=True, slots=True)
class Facts:
    """One run after its end: what it says of itself."""

    run: Accepted
    report: RunReport
    items: dict[str, list[dict[str, Any]]]
    attempts: list[dict[str, Any]]


@dataclass
class Evidence:
    """Everything the laws are checked on.

    Attributes:
        effects: What was counted in completing transactions.
    """

    facts: list[Facts]
    effects: dict[Who, int]
    starts: dict[Who, list[Entry]] = field(default_factory=lambda: defaultdict(list))
    raw: Counter[Who] = field(default_factory=Counter)
    keyed: Counter[Who] = field(default_factory=Counter)
    freezes: list[Fault] = field(default_factory=list)


def gather(database: Database, runs: Sequence[Accepted], entries: Sequence[Entry], faults: Sequence[Fault]) -> Evidence:
    """Read what there is to read."""
    rows = database.retrying(lambda tx: tx.rows(_EFFECTS), autocommit=True)
    effects = {Who(run_id, step, item or None): count for run_id, step, item, count in rows}
    facts = [database.retrying(lambda tx, run=run: _facts(tx, run), autocommit=True) for run in runs]  # type: ignore[misc]
    found = Evidence(facts, effects, freezes=[fault for fault in faults if "frozen" in fault.kind])
    for entry in entries:
        if entry.event == "start":
            found.starts[entry.who].append(entry)
        elif entry.event == "effect":
            found.raw[entry.who] += 1
            found.keyed[entry.who] += entry.is_new
    return found


def _facts(tx: Transaction, run: Accepted) -> Facts:
    report = queries.report(tx, queries.find_run(tx, run.run_id))
    maps = [step for step in report.steps if run.work.nodes[step.step_id].calls is not None]
    items = {step.step_id: queries.items(tx, report.run.run_pk, step.ordinal) for step in maps}
    return Facts(run, report, items, queries.attempts(tx, report.run.run_pk, limit=100_000))


def check(evidence: Evidence) -> list[Violation]:
    """Every broken law."""
    found: list[Violation] = []
    for facts in evidence.facts:
        for law, text in _broken(facts, evidence):
            found.append(Violation(law, facts.run.work.number, facts.run.run_id, text))
    return found


def _broken(facts: Facts, evidence: Evidence) -> Iterator[tuple[str, str]]:
    run = facts.report.run
    if len(set(facts.run.run_ids)) > 1:
        yield "one key, one run", f"its key gave the runs {', '.join(sorted(set(facts.run.run_ids)))}"
    if not is_terminal(run.status):
        waiting = [f"{step.step_id} {step.status}" for step in facts.report.steps if not is_terminal(step.status)]
        yield "every run ends", f"it is {run.status} at {run.progress} %, with {', '.join(waiting) or 'no open step'}"
        return
    yield from _outcome(facts)
    for step in facts.report.steps:
        if not is_terminal(step.status):
            yield "every run ends", f"it is {run.status}, its step {step.step_id} is {step.status}"
        yield from _effects(facts, step, evidence)
        yield from _order(facts, step, evidence)
    yield from _after_cancel(facts, evidence)


def _outcome(facts: Facts) -> Iterator[tuple[str, str]]:
    """Faults may cost time; they change no result."""
    run, cancelled_at = facts.report.run, facts.run.cancelled_at
    assert run.finished_at is not None
    if cancelled_at is not None:
        if run.finished_at > cancelled_at and run.status != "REVOKED":
            yield "a cancelled run is revoked", f"it ended {run.finished_at - cancelled_at:.3f} s later as {run.status}"
        if run.status == "REVOKED":
            return
    expected = facts.run.work.expected()
    for step in facts.report.steps:
        if step.status != expected[step.step_id]:
            why = "" if step.error is None else f" ({step.error['type']}: {step.error['message']})"
            yield "faults change no result", f"{step.step_id} is {step.status}{why}, not {expected[step.step_id]}"
    wanted = "FAILURE" if "FAILURE" in expected.values() else "SUCCESS"
    if run.status != wanted:
        yield "faults change no result", f"it is {run.status} ({run.error}), not {wanted}"
    if run.status == "SUCCESS" and run.progress != 100:
        yield "faults change no result", f"it is SUCCESS at {run.progress} %"


def _effects(facts: Facts, step: StepView, evidence: Evidence) -> Iterator[tuple[str, str]]:
    run_id, name = facts.run.run_id, step.step_id
    units: list[tuple[Who, str]] = [
        (Who(run_id, name, item["key"]), item["status"]) for item in facts.items.get(name, ())
    ]
    calls = facts.run.work.nodes[name].calls
    if calls is None:
        units = [(Who(run_id, name), step.status)]
    elif step.status == "SUCCESS" and len(units) != calls:
        yield "no false success", f"map {name} is SUCCESS with {len(units)} calls of {calls}"
    elif step.status == "SUCCESS" and any(not is_terminal(status) for _, status in units):
        yield "no false success", f"map {name} is SUCCESS, some of its calls have not ended"
    for who, status in units:
        count, keyed = evidence.effects.get(who, 0), evidence.keyed[who]
        if count > 1:
            yield "a transaction's effect is made once", f"that of {who} was made {count} times"
        if keyed > 1:
            yield "a keyed effect is made once", f"that of {who} was made {keyed} times"
        if status == "SUCCESS" and (count == 0 or keyed == 0):
            yield "no false success", f"{who} is SUCCESS with {count} transactional and {keyed} keyed effects"
        if status != "SUCCESS" and count:
            yield "no effect without its result", f"{who} is {status}, its transaction was committed {count} times"


def _order(facts: Facts, step: StepView, evidence: Evidence) -> Iterator[tuple[str, str]]:
    ends = {other.step_id: other.finished_at for other in facts.report.steps}
    for start in _starts(facts, step, evidence):
        for before in facts.run.work.nodes[step.step_id].needs:
            end = ends[before]
            if end is None or start.at < end:
                lead = "which never ended" if end is None else f"{end - start.at:.3f} s before its end"
                yield "nothing starts before its parents' end", f"{start.who} started before {before}, {lead}"


def _after_cancel(facts: Facts, evidence: Evidence) -> Iterator[tuple[str, str]]:
    cancelled_at = facts.run.cancelled_at
    if cancelled_at is None:
        return
    claims = {(row["ordinal"], row["number"]): row["started_at"] for row in facts.attempts if row["item_index"] == -1}
    for step in facts.report.steps:
        for start in _starts(facts, step, evidence):
            late = start.at - cancelled_at
            if late <= 0:
                continue
            if start.who.item is None:
                # It was claimed in time and slow to begin: the cancel's answer has counted it as running.
                claimed_at = claims.get((step.ordinal, start.attempt))
                if claimed_at is None or claimed_at > cancelled_at:
                    yield "nothing starts after a cancel", f"{start.who} started {late:.3f} s later"
            elif late > _call_grace(start, cancelled_at, evidence):
                yield "nothing starts after a cancel", f"call {start.who} started {late:.3f} s later"


def _call_grace(start: Entry, cancelled_at: float, evidence: Evidence) -> float:
    """A process that was frozen when the cancel came has its 20 ms when it goes on."""
    thawed = [fault.over_at for fault in evidence.freezes if start.pid in fault.pids and fault.at <= cancelled_at + 0.1]
    last = max([cancelled_at, *(at for at in thawed if at is not None and at < start.at)])
    return last - cancelled_at + CALL_GRACE_SECONDS + DELAY_SECONDS


def _starts(facts: Facts, step: StepView, evidence: Evidence) -> Iterator[Entry]:
    run_id, name = facts.run.run_id, step.step_id
    if name not in facts.items:
        yield from evidence.starts.get(Who(run_id, name), ())
    for item in facts.items.get(name, ()):
        yield from evidence.starts.get(Who(run_id, name, item["key"]), ())
