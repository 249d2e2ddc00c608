"""What must hold in every world, whatever happens. Each law is a sentence: the name of its violation."""

from __future__ import annotations

from collections.abc import Iterator

from tests.model.model import May
from tests.model.protocol import Protocol
from tests.model.world import World
from workflows.model.states import TERMINAL, State

RUNS_END = "once the faults stop, every order of events ends the run"
"""Checked by `explore` on all worlds together."""


def broken_by_move(protocol: Protocol, before: World, after: World) -> Iterator[str]:
    """The laws about what may change."""
    same_generation = after.generation == before.generation
    if before.run in TERMINAL and after.run is not before.run and same_generation:
        yield "the end of a run is final within a generation"
    for step, (old, new) in enumerate(zip(before.rows, after.rows, strict=True)):
        if old is new:
            continue
        if old.state in TERMINAL and new.state is not old.state and same_generation:
            yield "the end of a step is final within a generation"
        if new.token > old.token and before.cancelled:
            yield "no step is claimed after its run was cancelled"
        if new.token > old.token and before.run is State.PAUSED:
            yield "no step is claimed while its run is paused"
        if (
            new.token > old.token
            and before.verdict is not None
            and same_generation
            and not _is_later(protocol, before, step)
        ):
            yield "once the steps have ended only those of the block at work are claimed"


def broken_by_world(protocol: Protocol, world: World) -> Iterator[str]:
    """The laws about what may be."""
    undisturbed = world.faults == protocol.model.faults
    for step, row in enumerate(world.rows):
        upstream = [world.rows[before].state for before in protocol.graph.predecessors[step]]
        if row.commits > 1:
            yield "no result is committed twice"
        if row.effects > 1:
            yield "an effect with a key is made at most once at its target"
        if row.crashes > row.token:
            yield "the loss of an owner is counted once"
        gate = _is_gated(protocol, world, step)
        if step not in protocol.graph.part_of and row.pending != gate + sum(
            state not in TERMINAL for state in upstream
        ):
            yield "pending is the number of dependencies that have not ended"
        if row.state in (State.PROGRESS, State.SUCCESS) and any(state is not State.SUCCESS for state in upstream):
            yield "no step starts before its dependencies have committed"
        if not _means_what_it_says(protocol, world, step):
            yield f"a step is {row.state} for the reason that the word gives"
        if undisturbed and protocol.is_ready(world, step) and not protocol.is_coming(world, step):
            yield "in an undisturbed run the reconciler has nothing to rescue"
    if not _run_agrees(protocol, world):
        yield "a run ends when its steps have ended, and as they have"


def _means_what_it_says(protocol: Protocol, world: World, step: int) -> bool:
    """Whether the state of a step agrees with what has happened to it."""
    model, row = protocol.model, world.rows[step]
    parts = [world.rows[part].state for part in model.maps.get(step, ())]
    if row.commits != (row.state is State.SUCCESS) or (row.open_parts and row.state is not State.PROGRESS):
        return False
    match row.state:
        case State.PENDING:
            return row.due
        case State.PROGRESS:
            return row.token > 0
        case State.RETRY:
            return 0 < row.failures < model.max_attempts
        case State.WAITING:
            return _has_happened(protocol, world, May.PARK)
        case State.SUCCESS:
            return row.effects > 0 or bool(parts)
        case State.FAILURE:
            return row.failures >= model.max_attempts or row.crashes >= model.max_crashes or State.FAILURE in parts
        case State.REVOKED:
            match protocol.graph.turn_of.get(step, 0):
                case 0:
                    return _was_cancelled(protocol, world)
                case 1:
                    in_time = (world.cancelled and world.turn == 1) or world.turn == 2 or world.run in TERMINAL
                    return in_time and _has_happened(protocol, world, May.CANCEL)
                case _:
                    return False  # nothing stops a `finally`
        case State.SKIPPED:
            before = {world.rows[before].state for before in protocol.graph.predecessors[step]}
            declined = row.token > 0 and _has_happened(protocol, world, May.DECLINE)
            passed_by = protocol.graph.turn_of.get(step) == 1 and world.turn != 1
            return declined or passed_by or not before.isdisjoint({State.FAILURE, State.REVOKED, State.SKIPPED})
        case _:
            return False


def _run_agrees(protocol: Protocol, world: World) -> bool:
    """Whether the run's row says what its steps' rows say."""
    rows = {row.state for step, row in enumerate(world.rows) if protocol.exists(world, step)}
    steps, last = protocol.states(world, 0), protocol.states(world, 2)
    never_started = rows == {State.PENDING} and not any(row.token for row in world.rows)
    refused = never_started and _has_happened(protocol, world, May.REFUSE)
    if _has_happened(protocol, world, May.TURN_AWAY):
        return never_started and world.run is State.SKIPPED
    match world.run:
        case State.PENDING:
            return never_started and not refused and not world.cancelled
        case State.PROGRESS:
            return not rows <= TERMINAL
        case State.PAUSED:
            return not rows <= TERMINAL and (never_started or not world.is_unmade)
        case State.SUCCESS:
            return steps <= {State.SUCCESS, State.SKIPPED} and last <= {State.SUCCESS, State.SKIPPED}
        case State.FAILURE:
            failed = State.FAILURE in steps | last and State.REVOKED not in steps
            return (rows <= TERMINAL and failed) or refused
        case State.REVOKED:
            return _was_cancelled(protocol, world) and ((rows <= TERMINAL and State.REVOKED in steps) or never_started)
        case _:
            return False


def _was_cancelled(protocol: Protocol, world: World) -> bool:
    """Whether a person has cancelled the steps. The verdict alone proves nothing: it is drawn from their states."""
    return _has_happened(protocol, world, May.CANCEL) and (world.cancelled or world.verdict is State.REVOKED)


def _has_happened(protocol: Protocol, world: World, may: May) -> bool:
    """Whether something that may happen has happened, in any generation."""
    return world.may.count(may) < protocol.model.may.count(may)


def _is_later(protocol: Protocol, world: World, step: int) -> bool:
    """Whether a step is of the block at work, which is no more that of the steps."""
    return protocol.graph.turn_of.get(step, 0) == world.turn > 0


def _is_gated(protocol: Protocol, world: World, step: int) -> bool:
    """Whether the first step of a later block waits for that block to begin."""
    turn = protocol.graph.turn_of.get(step, 0)
    ended = world.rows[step].state in TERMINAL
    return turn > world.turn and not protocol.graph.predecessors[step] and not ended
