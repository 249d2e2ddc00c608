"""A broker in memory that delivers canvases as Celery does, and as badly as the seed wants.

What the engine publishes are Celery's own signatures; this reads them. The rest of a chain rides with its message and
is sent when the task returns. A chord counts the members of its header that have returned, and then sends its body. A
task that raises `Ignore` or fails sends nothing. The body may be sent early, and counts may be lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from celery import Celery
from celery.canvas import Signature, chord, group
from celery.canvas import _chain as chain_type

from benchmarks.simulation.loop import Loop
from workflows.model.errors import BrokerUnavailableError


@dataclass(frozen=True, slots=True)
class Message:
    """A task on its way.

    Attributes:
        then: What follows when it returns.
        member: Key of the chord it belongs to, and its place in the header.
        visible_at: Delivered no sooner.
    """

    number: int
    queue: str
    task: str
    args: tuple[int, ...]
    then: tuple[Signature, ...] = ()
    member: tuple[int, int] | None = None
    is_redelivered: bool = False
    visible_at: float = 0.0

    def __str__(self) -> str:
        return f"{self.number}:{self.task}{self.args}"


@dataclass
class _Chord:
    body: Signature
    size: int
    arrived: set[int] = field(default_factory=set)


@dataclass
class Mischief:
    """Shares of messages that are harmed as they are put into a queue."""

    dropped: float = 0.0
    doubled: float = 0.0
    delayed: float = 0.0
    reordered: float = 0.0
    bodies_early: float = 0.0


class SimulatedBroker:
    """Queues, counts of chords, and the marker by which a flush is seen."""

    def __init__(self, loop: Loop, mischief: Mischief) -> None:
        self._loop = loop
        self._mischief = mischief
        self._queues: dict[str, list[Message]] = {}
        self._chords: dict[int, _Chord] = {}
        self._markers: set[str] = set()
        self._numbers = 0
        self.away_until = 0.0
        self.sent = 0
        self.harmed: dict[str, int] = {}

    # For the engine

    def publish(self, _app: Celery, canvases: Sequence[Signature]) -> None:
        """Send canvases, message by message: whoever dies on the way has sent some of them."""
        for canvas in canvases:
            for first, then, member in self._messages(canvas):
                self._loop.pause("before publish")
                self._check()
                self._put(first, then, member)
        self._loop.pause("after publish")

    def queue_length(self, queue: str) -> int:
        """See `BrokerMemory.queue_length`."""
        self._ask()
        return sum(message.visible_at <= self._loop.now for message in self._queues.get(queue, ()))

    def has_forgotten(self, marker: str) -> bool:
        """See `BrokerMemory.has_forgotten`."""
        self._ask()
        return marker not in self._markers

    def remember(self, marker: str) -> None:
        """See `BrokerMemory.remember`."""
        self._ask()
        self._markers.add(marker)

    def close(self) -> None:
        """Nothing is open."""

    # For workers

    def take(self) -> Message | None:
        """The next message of any queue; None when none is there."""
        if self._loop.now < self.away_until:
            return None
        found = [
            (message.number, name, index)
            for name, queue in self._queues.items()
            for index, message in enumerate(queue)
            if message.visible_at <= self._loop.now
        ]
        if not found:
            return None
        is_reordered = len(found) > 1 and self._chance("reordered")
        _, name, index = self._random.choice(found) if is_reordered else min(found)
        return self._queues[name].pop(index)

    def next_visible(self) -> float | None:
        """When there is something to take; None when nothing is on its way."""
        times = [message.visible_at for queue in self._queues.values() for message in queue]
        return max(min(times), self.away_until) if times else None

    def give_back(self, message: Message, after: float) -> None:
        """An unacknowledged message comes again, marked as redelivered."""
        again = replace(message, is_redelivered=True, visible_at=self._loop.now + after)
        self._queues.setdefault(message.queue, []).append(again)

    def go_on(self, message: Message) -> None:
        """The task has returned: what Celery sends before it acknowledges the message."""
        if message.then:
            self._check()
            self._put(message.then[0], message.then[1:], message.member)
        elif message.member is not None:
            self._check()
            key, place = message.member
            waiting = self._chords.get(key)
            if waiting is None:
                return
            waiting.arrived.add(place)
            if len(waiting.arrived) >= waiting.size or self._chance("bodies_early"):
                del self._chords[key]
                self._put(waiting.body, (), None)

    # For the storm

    def flush(self) -> None:
        """All is gone."""
        self._queues.clear()
        self._chords.clear()
        self._markers.clear()

    def forget_chords(self) -> None:
        """The counts of chords are gone."""
        self._chords.clear()

    def calm(self) -> None:
        """Nothing is harmed any more, and what was delayed is delivered."""
        self._mischief = Mischief()
        self.away_until = 0.0
        for queue in self._queues.values():
            queue[:] = [replace(message, visible_at=min(message.visible_at, self._loop.now)) for message in queue]

    @property
    def _random(self) -> Random:
        return self._loop.random

    def _ask(self) -> None:
        self._loop.pause("asking the broker")
        self._check()

    def _check(self) -> None:
        if self._loop.now < self.away_until:
            raise BrokerUnavailableError("the simulated broker is away")

    def _chance(self, harm: str) -> bool:
        share: float = getattr(self._mischief, harm)
        if not share or self._random.random() >= share:
            return False
        self.harmed[harm] = self.harmed.get(harm, 0) + 1
        self._loop.note(f"message {harm}")
        return True

    def _messages(self, canvas: Signature) -> Iterable[tuple[Signature, tuple[Signature, ...], tuple[int, int] | None]]:
        if isinstance(canvas, chord):
            self._numbers += 1
            key, members = self._numbers, list(canvas.tasks)
            self._chords[key] = _Chord(canvas.body, len(members))
            for place, member in enumerate(members):
                yield *_stretch(member), (key, place)
        elif isinstance(canvas, group):
            for member in canvas.tasks:
                yield *_stretch(member), None
        else:
            yield *_stretch(canvas), None

    def _put(self, signature: Signature, then: tuple[Signature, ...], member: tuple[int, int] | None) -> None:
        self._numbers += 1
        self.sent += 1
        queue = signature.options["queue"]
        message = Message(self._numbers, queue, signature.task, tuple(signature.args), then, member)
        self._loop.note(f"sent {message}")
        if self._chance("dropped"):
            return
        if self._chance("delayed"):
            message = replace(message, visible_at=self._loop.now + self._random.expovariate(1 / 5.0))
        self._queues.setdefault(queue, []).append(message)
        while self._chance("doubled"):
            # A copy may be the broker's redelivery, or a message like any other; it may come much later.
            late = self._loop.now + self._random.expovariate(1 / 3.0) * self._random.choice((0, 1))
            copy = replace(message, is_redelivered=self._random.random() < 0.5, visible_at=late)
            self._queues[queue].append(copy)


def _stretch(member: Signature) -> tuple[Signature, tuple[Signature, ...]]:
    first, *rest = member.tasks if isinstance(member, chain_type) else [member]
    return first, tuple(rest)
