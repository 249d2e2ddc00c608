"""What may happen next in a world: workers, reconcilers and people act, and things go wrong.

In a text `<a canvas>` is a message for step `a` with the rest of its canvas, and `a#2` is the second claim of `a`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from tests.model.model import Bug, May
from tests.model.protocol import Protocol
from tests.model.world import RUN, Message, Phase, Sight, Worker, World, distinct, without
from workflows.model.states import Event, State


class Move(NamedTuple):
    """Something that may happen next.

    Attributes:
        owed: It happens sooner or later, unless something else makes it impossible. Nothing else is owed: a run must
            end without the help of a person, of a step that fails, or of a fault.
    """

    text: str
    owed: bool
    apply: Callable[[], World]


def possible_moves(protocol: Protocol, world: World) -> Iterator[Move]:
    """Everything that may happen next."""
    yield from _deliveries(protocol, world)
    for worker in distinct(world.workers):
        yield from _steps_of(protocol, world, worker)
    if Bug.NO_RECONCILER not in protocol.bugs:
        yield from _reconcilers(protocol, world)
    yield from _people(protocol, world)
    if world.faults:
        yield from _faults(protocol, world._replace(faults=world.faults - 1))


def _deliveries(protocol: Protocol, world: World) -> Iterator[Move]:
    """Any message may be next, if a worker is free."""
    if len(world.workers) >= protocol.model.workers:
        return
    for message in distinct(world.bag):
        yield Move(f"{_told(protocol, message)} is delivered", True, partial(protocol.deliver, world, message))
        if message.step == RUN and world.run is State.PENDING and May.REFUSE in world.may:
            yield Move("the run cannot be materialised", False, partial(protocol.refuse, world, message))


def _steps_of(protocol: Protocol, world: World, worker: Worker) -> Iterator[Move]:
    """A worker makes its effect, ends its step, publishes: one after the other, with anything in between."""
    name = _owner(protocol, worker.message.step, worker.token)
    rest = world._replace(workers=without(world.workers, worker))
    if worker.phase is Phase.COMMITTED:
        what = ", ".join(_told(protocol, message) for message in worker.publishes) or "nothing"
        yield Move(f"{name} publishes {what} and returns", True, partial(protocol.finish, rest, worker))
        return
    for text, event, needs in _endings(protocol, world, worker):
        yield Move(f"{name} {text}", needs is None, partial(protocol.complete, rest.spend(needs), worker, event))
    if worker.phase is Phase.CLAIMED and worker.message.step not in protocol.model.maps:
        yield Move(f"{name} makes its effect", True, partial(protocol.effect, rest, worker))


def _endings(protocol: Protocol, world: World, worker: Worker) -> Iterator[tuple[str, Event, May | None]]:
    """How the step that a worker runs may end now: text, event, and what that uses up."""
    if worker.phase is Phase.EFFECTED:
        yield "commits its result", Event.SUCCEED, None
        return
    if worker.message.step in protocol.model.maps:
        yield "expands into its ranges", Event.EXPAND, None
    if world.cancelled:
        yield "stops, being cancelled", Event.CANCEL, None
    if May.FAIL in world.may:
        last = world.rows[worker.message.step].failures + 1 >= protocol.model.max_attempts
        yield ("fails for the last time", Event.FAIL, May.FAIL) if last else ("fails", Event.RETRY, May.FAIL)
    if May.DECLINE in world.may and worker.message.step not in protocol.graph.part_of:
        yield "declines: its own condition is false", Event.DECLINE, May.DECLINE
    if May.PARK in world.may:
        yield "parks", Event.PARK, May.PARK
    if May.RELEASE in world.may:
        yield "is released by a deploy", Event.RELEASE, May.RELEASE


def _reconcilers(protocol: Protocol, world: World) -> Iterator[Move]:
    """They read, and later act upon what they have read; so does the parent of a dead child."""
    for sight in distinct(world.sights):
        rest = world._replace(sights=without(world.sights, sight))
        yield Move(_acted(protocol, sight), True, partial(protocol.act, rest, sight))
    if world.run is State.PENDING and not world.bag:
        yield Move("a reconciler publishes the run", True, partial(world.send, Message(RUN)))
    looking = sum(sight.event is not Event.CRASH for sight in world.sights) < protocol.model.reconcilers
    for step, row in enumerate(world.rows):
        if row.state in protocol.model.claimable and not row.due:
            name = _owner(protocol, step)
            yield Move(f"{name} is due and dispatched", True, partial(protocol.come_due, world, step))
        if looking and protocol.is_ready(world, step) and not protocol.is_coming(world, step):
            # That a message is only late, and taken for lost, is the fault "is doubled".
            text = f"a reconciler finds that the message of {_owner(protocol, step)} is lost"
            yield Move(text, True, partial(world.notice, Sight(Event.CLAIM, step, row.token)))
        if looking and protocol.owner_is_dead(world, step):
            text = f"a reconciler finds the lease of {_owner(protocol, step, row.token)} expired"
            yield Move(text, True, partial(world.notice, Sight(Event.EXPIRE, step, row.token)))


def _people(protocol: Protocol, world: World) -> Iterator[Move]:
    if May.TURN_AWAY in world.may and world.run is State.PENDING:
        yield Move("the run is skipped, for its group is full", False, partial(protocol.turn_away, world))
    if May.PAUSE in world.may and world.run in (State.PENDING, State.PROGRESS) and not world.cancelled:
        yield Move("a person pauses the run", False, partial(protocol.pause, world))
    if world.run is State.PAUSED:
        # Owed: whoever pauses a run resumes it, or it never ends.
        yield Move("a person resumes the paused run", True, partial(protocol.unpause, world))
    if May.CANCEL in world.may and protocol.may_be_cancelled(world):
        yield Move("a person cancels the run", False, partial(protocol.cancel, world))
    if May.RESUME in world.may and world.run in (State.FAILURE, State.REVOKED):
        yield Move("a person retries the run", False, partial(protocol.resume, world))


def _faults(protocol: Protocol, world: World) -> Iterator[Move]:
    """Messages are lost, doubled, or come early; processes are killed or frozen."""
    for message in distinct(world.bag):
        told = _told(protocol, message)
        lost = partial(world._replace, bag=without(world.bag, message))
        yield Move(f"FAULT: {told} is lost", False, lost)
        yield Move(f"FAULT: {told} is doubled", False, partial(world.send, message._replace(redelivered=True)))
    for worker in distinct(world.workers):
        yield from _faults_of(protocol, world, worker)
    for step, row in enumerate(
        world.rows if world.run in (State.PROGRESS, State.PAUSED) and not world.is_unmade else ()
    ):
        if protocol.graph.delivered_by[step] and row.pending and row.state is State.PENDING:
            early = Message(step, canvas=step in protocol.graph.delivers)
            yield Move(f"FAULT: the canvas fires {_owner(protocol, step)} early", False, partial(world.send, early))


def _faults_of(protocol: Protocol, world: World, worker: Worker) -> Iterator[Move]:
    """The whole worker is killed; only its child is, and the parent sees it; it is frozen for longer than its lease."""
    step, token = worker.message.step, worker.token
    name = _owner(protocol, step, token)
    killed = world._replace(workers=without(world.workers, worker))
    requeue = partial(killed.send, worker.message._replace(redelivered=True))
    yield Move(f"FAULT: the worker of {name} is killed", False, requeue)
    if step != RUN and protocol.owns(world, step, token):
        seen = partial(requeue().notice, Sight(Event.CRASH, step, token))
        yield Move(f"FAULT: the child of {name} is killed", False, seen)
        expired = partial(world.notice, Sight(Event.EXPIRE, step, token))
        yield Move(f"FAULT: {name} is frozen, its lease runs out", False, expired)


def _acted(protocol: Protocol, sight: Sight) -> str:
    if sight.event is Event.CLAIM:
        return f"a reconciler dispatches {_owner(protocol, sight.step)}"
    who = "the parent" if sight.event is Event.CRASH else "a reconciler"
    return f"{who} takes {_owner(protocol, sight.step, sight.token)} back"


def _owner(protocol: Protocol, step: int, token: int = 0) -> str:
    name = "execute_research_job" if step == RUN else protocol.graph.names[step]
    return f"{name}#{token}" if token else name


def _told(protocol: Protocol, message: Message) -> str:
    marks = [word for word, there in (("canvas", message.canvas), ("redelivered", message.redelivered)) if there]
    return f"<{' '.join([_owner(protocol, message.step), *marks])}>"
