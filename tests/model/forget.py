"""Worlds with the same future are one world: what can change nothing any more is left out."""

from __future__ import annotations

from tests.model.model import Bug, May
from tests.model.protocol import Protocol
from tests.model.world import RUN, Message, Phase, Worker, World
from workflows.model.states import State


def forget(protocol: Protocol, world: World) -> World:
    """Drop messages that can only be ignored, workers that have nothing left to do, and sights that are stale."""
    bag, workers, sights = world.bag, world.workers, world.sights
    if May.RESUME not in world.may:
        bag = tuple([message for message in bag if not _is_spent(protocol, world, message)])
        workers = tuple([worker for worker in workers if not _is_done(protocol, world, worker)])
    if Bug.EXPIRE_AND_CRASH_BOTH_COUNTED not in protocol.bugs:
        sights = tuple([sight for sight in sights if protocol.still_so(world, sight)])
    return world._replace(bag=bag, workers=workers, sights=sights)


def _is_spent(protocol: Protocol, world: World, message: Message) -> bool:
    """Whether its step has ended for good, and no canvas goes on from it."""
    if message.step == RUN:
        return world.run is not State.PENDING
    goes_on = message.redelivered and message.canvas and message.step in protocol.graph.delivers
    return world.rows[message.step].state in protocol.model.terminal and not goes_on


def _is_done(protocol: Protocol, world: World, worker: Worker) -> bool:
    """Whether it only has to return, and would leave nothing behind if it died before it does."""
    spent = _is_spent(protocol, world, worker.message._replace(redelivered=True))
    return spent and worker.phase is Phase.COMMITTED and not worker.publishes
