"""What follows when a step ends: successors count down, rules are applied, skips spread, the run may end.

All of it happens in the transaction that ends the step; what is left to do afterwards is to publish `ready`.
"""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field

from workflows.compile.plan import ArrivesBy, Plan
from workflows.db import groups, maps, pauses, payloads, runs, sub_runs, units, upkeep
from workflows.db.database import Transaction
from workflows.db.groups import LetGo
from workflows.db.limits import Woken
from workflows.db.runs import STEP_PROGRESS, Advance, RunContext, Transition, Turn
from workflows.db.units import Unit
from workflows.engine.scope import make_scope
from workflows.model.errors import ExpressionError
from workflows.model.expressions import references, render
from workflows.model.spec import Block, TriggerRule
from workflows.model.states import SkipReason, State
from workflows.model.triggers import Decision, Dependency, decide


@dataclass(slots=True)
class Settlement:
    """What a transaction has brought about.

    Attributes:
        ready: Ordinals of steps to publish after commit: those that no canvas delivers.
        ranges: Ranges of maps to publish after commit.
        runs: Runs of the same concurrency group that may begin now, to publish after commit.
        woken: Units, of any run, whose wait is over: for a slot of a pool, or for the end of this run.
        transitions: For the run's history, in order.
        ended: How many steps came to their end; `failed` of them by FAILURE.
        progress: Share of the run's work, in `STEP_PROGRESS` a step.
        is_at_turn: Whether `turn` is still to be called, in a transaction of its own.
    """

    ready: list[int] = field(default_factory=list)
    ranges: list[Unit] = field(default_factory=list)
    runs: list[LetGo] = field(default_factory=list)
    woken: list[Woken] = field(default_factory=list)
    transitions: list[Transition] = field(default_factory=list)
    ended: int = 0
    failed: int = 0
    progress: int = 0
    is_at_turn: bool = False


def spread(
    tx: Transaction, plan: Plan, run_pk: int, ordinal: int, status: State, redispatch_seconds: float, into: Settlement
) -> None:
    """Step `ordinal` has come to `status`: count its successors down, decide on them, and so on through skips."""
    worklist = deque([(ordinal, status)])
    while worklist:
        ended, ended_as = worklist.popleft()
        successors = plan.steps[ended].successors
        for successor, pending, arrives_by in units.count_down(tx, run_pk, successors, redispatch_seconds):
            step = plan.steps[successor]
            if ended_as is State.SUCCESS and step.run_if is TriggerRule.ALL_SUCCESS:
                # Anything but success would have skipped it already, so the counter alone decides.
                decision, reason = (Decision.WAIT if pending else Decision.START), None
            else:
                decision, reason = _decide(tx, plan, run_pk, successor)
            match decision:
                case Decision.WAIT:
                    pass
                case Decision.START:
                    if pending not in (0, units.HELD):
                        units.make_ready(tx, run_pk, successor, redispatch_seconds)
                    if arrives_by == ArrivesBy.SQL and pending < units.HELD:
                        into.ready.append(successor)
                case Decision.SKIP:
                    assert reason is not None
                    if units.skip(tx, Unit(run_pk, successor), reason.value):
                        units.leave_canvas(tx, run_pk, step.off_canvas)
                        into.transitions.append(Transition(successor, 0, State.SKIPPED.value, {"reason": reason.value}))
                        into.ended += 1
                        into.progress += STEP_PROGRESS
                        worklist.append((successor, State.SKIPPED))


def advance(
    tx: Transaction, plan: Plan, context: RunContext, at: float, step_id: str, settlement: Settlement
) -> Advance | None:
    """Write counters and history of the run, and end it when nothing is open.

    Returns:
        The run's counters; None when the run was deleted.
    """
    counters = runs.advance(
        tx,
        context.run_pk,
        at,
        settlement.transitions,
        step_id=step_id,
        ended=settlement.ended,
        failed=settlement.failed,
        progress=settlement.progress,
    )
    if counters is None:
        return None
    if settlement.ended and plan.is_turn(counters.steps_open):
        turn(tx, plan, context, settlement)
    if counters.is_paused and settlement.ranges:
        # The map was opened while the run was being paused.
        pauses.hold(tx, context.run_pk, settlement.ranges[0].ordinal)
        settlement.ranges.clear()
    return counters


def turn(tx: Transaction, plan: Plan, context: RunContext, into: Settlement) -> None:
    """If the current block has ended, the next one begins, or the run ends. Whoever comes second finds nothing to do.

    The blocks `on_failure` and `finally` come after the steps. What the steps have come to is the run's verdict; all
    that a later block can do to it is to turn a success into a failure.
    """
    standing = runs.at_turn(tx, context.run_pk)
    if standing is None:
        return
    on_failure, last = plan.handlers
    verdict, outputs, error = standing.verdict, standing.outputs, standing.error
    if standing.turn_at == on_failure + last:
        verdict, outputs, error = _judge(tx, plan, context, standing)
        if on_failure and verdict == State.FAILURE:
            _begin(tx, plan, context, Block.ON_FAILURE, last, (verdict, outputs, error), into)
            return
        handlers = plan.ordinals(Block.ON_FAILURE)
        if handlers:
            runs.pass_by(tx, context.run_pk, handlers, plan.steps[handlers[0]].id)
    assert verdict is not None
    if last and standing.turn_at:
        _begin(tx, plan, context, Block.FINALLY, 0, (verdict, outputs, error), into)
        return
    if last and verdict == State.SUCCESS and standing.steps_failed:
        verdict, error = State.FAILURE.value, _failed_text(tx, plan, context.run_pk)
    runs.finish(tx, context.run_pk, verdict, outputs, error)
    if plan.concurrency is not None:
        into.runs.extend(groups.give_on(tx, context.run_pk))
    if context.has_parent:
        into.woken.extend(sub_runs.wake_parent(tx, context.run_pk))


def _judge(tx: Transaction, plan: Plan, context: RunContext, standing: Turn) -> tuple[str, str | None, str | None]:
    """Verdict, outputs and error of a run whose steps have ended."""
    if standing.verdict is not None:
        return standing.verdict, None, standing.error  # it was stopped, and by whom has been written then
    if standing.cancel_requested:
        return State.REVOKED.value, None, None
    outputs, error = evaluate_outputs(tx, plan, context)
    if standing.steps_failed:
        error = _failed_text(tx, plan, context.run_pk)
    return (State.FAILURE if error else State.SUCCESS).value, outputs, error


def _begin(
    tx: Transaction,
    plan: Plan,
    context: RunContext,
    block: Block,
    turn_at: int,
    judged: tuple[str, str | None, str | None],
    into: Settlement,
) -> None:
    verdict, outputs, error = judged
    ready = runs.turn(
        tx,
        context.run_pk,
        turn_at=turn_at,
        verdict=verdict,
        outputs=outputs,
        error=error,
        block=block.value,
        heads=plan.heads(block),
    )
    into.ready.extend(ready)


def leave_worker(
    tx: Transaction, plan: Plan, context: RunContext, unit: Unit, at: float, transition: Transition
) -> None:
    """A unit has left its worker without an end: its canvas is broken. In a cancelled run that is its end.

    The run's row is written after the unit's, and a cancel or a pause writes it before it looks at units: so either
    they see the unit as not started, or the unit sees them here.
    """
    step = plan.steps[unit.ordinal]
    if unit.part == 0:
        units.leave_canvas(tx, unit.run_pk, step.off_canvas)
    counters = runs.advance(tx, unit.run_pk, at, [transition], step_id=step.id)
    if counters is not None and counters.is_paused:
        pauses.hold(tx, unit.run_pk, unit.ordinal)
    if counters is None or not counters.cancel_requested:
        return
    if unit.part:
        maps.drop_range(tx, unit)
        maps.end_never_started(tx, unit, State.REVOKED.value)
    elif units.revoke(tx, unit):
        revoked = Transition(unit.ordinal, 0, State.REVOKED.value)
        settlement = Settlement(transitions=[revoked], ended=1)
        advance(tx, plan, context, at, step.id, settlement)
        upkeep.mark_unsent(tx, [Unit(unit.run_pk, ordinal) for ordinal in settlement.ready])
        for run in settlement.runs:
            upkeep.mark_run_unsent(tx, run.run_pk)


def evaluate_outputs(tx: Transaction, plan: Plan, context: RunContext) -> tuple[str, str | None]:
    """The run's outputs as JSON text, and what went wrong with the first that could not be evaluated."""
    values: dict[str, object] = {}
    error = None
    for name, template in plan.outputs.items():
        scope = make_scope(tx, plan, context, references(template).steps)
        try:
            values[name] = render(template, scope)
        except ExpressionError as failure:
            values[name] = None
            error = error or f"output '{name}': {failure}"
    text = json.dumps(values)
    if payloads.is_large(text):
        too_large = f"the outputs of the run take {len(text)} bytes, the limit is {payloads.INLINE_BYTES}: return ids"
        return "{}", error or too_large
    return text, error


def _decide(tx: Transaction, plan: Plan, run_pk: int, ordinal: int) -> tuple[Decision, SkipReason | None]:
    step = plan.steps[ordinal]
    known = units.statuses(tx, run_pk, step.predecessors)
    return decide(
        step.run_if,
        [Dependency(State(status), SkipReason(reason) if reason else None) for status, reason in known.values()],
    )


def _failed_text(tx: Transaction, plan: Plan, run_pk: int) -> str:
    failed = [
        plan.steps[ordinal].id
        for ordinal, (status, _) in sorted(units.statuses(tx, run_pk, range(len(plan.steps))).items())
        if status == State.FAILURE
    ]
    return f"failed: {', '.join(failed[:10])}" + (f" and {len(failed) - 10} more" if len(failed) > 10 else "")
