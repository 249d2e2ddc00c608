"""One thread, many simulated processes: who goes on next, and what time it is, come from a seed.

An actor is a greenlet. It goes on until it comes to a border, a place where a real process could be overtaken, stopped
or killed, and says so by `Loop.pause`. Between two borders nobody else moves. So a history is a list of moves, and the
same seed gives the same list.
"""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from random import Random

from greenlet import getcurrent, greenlet

from workflows.model.errors import StepTimeoutError

START = 1_800_000_000.0
LAST_MOVES = 4_000


class Killed(BaseException):
    """Ends an actor: no `except Exception` of the engine holds it up, as none holds up a SIGKILL."""


class Actor:
    """A line of execution.

    Attributes:
        at: The border it has come to.
        wake_at: Goes on no sooner; None: when somebody wakes it.
        frozen_until: It is stopped until then, whatever it waits for.
        deadline: A step's time limit; the actor gets `StepTimeoutError` when it goes on later.
    """

    def __init__(self, name: str, act: Callable[[], object], wake_at: float, parent: greenlet) -> None:
        self.name = name
        self.at = "begin"
        self.wake_at: float | None = wake_at
        self.frozen_until = 0.0
        self.deadline: float | None = None
        self.is_killed = False
        self.greenlet = greenlet(act, parent)

    @property
    def is_ended(self) -> bool:
        """Whether it has nothing to do any more."""
        return bool(self.greenlet.dead)

    @property
    def due_at(self) -> float:
        """When it can go on; infinite while it waits to be woken."""
        return math.inf if self.wake_at is None else max(self.wake_at, self.frozen_until)


class Loop:
    """The order of moves, and the clock; it is a `workflows.db.clock.Clock`."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.now = START
        self.moves = 0
        self.actors: list[Actor] = []
        self.last: deque[str] = deque(maxlen=LAST_MOVES)
        self._hash = hashlib.blake2b(digest_size=16)
        self._main = getcurrent()
        self._current: Actor | None = None

    # The clock

    def time(self) -> float:
        """See `Clock.time`."""
        return self.now

    def monotonic(self) -> float:
        """See `Clock.monotonic`."""
        return self.now - START + 1000.0

    def sleep(self, seconds: float, /) -> None:
        """See `Clock.sleep`."""
        self.pause("sleep", max(seconds, 0.0))

    # What actors do

    @property
    def moving(self) -> Actor | None:
        """Who is moving, if anybody is."""
        return self._current

    @property
    def current(self) -> Actor:
        """Who is moving."""
        assert self._current is not None, "nobody is moving"
        return self._current

    def pause(self, border: str, seconds: float | None = None) -> None:
        """Come to a border; others may move, and time may pass, before this actor goes on (or does not).

        Args:
            seconds: Until it goes on at the earliest; a random short time by default.
        """
        actor = self._current
        if actor is not None:  # the world is being made, and nobody moves
            self._stop(actor, border, self.now + (self._short_time() if seconds is None else seconds))

    def wait(self, border: str) -> None:
        """Stop until somebody sets `wake_at`."""
        self._stop(self.current, border, None)

    def _stop(self, actor: Actor, border: str, wake_at: float | None) -> None:
        if actor.is_killed:
            raise Killed
        actor.at, actor.wake_at = border, wake_at
        self._main.switch()
        if actor.is_killed:
            raise Killed
        if actor.deadline is not None and self.now > actor.deadline:
            actor.deadline = None
            raise StepTimeoutError("the step ran longer than its timeout")

    def _short_time(self) -> float:
        return 0.0 if self.random.random() < 0.3 else self.random.expovariate(1 / 0.003)

    # What the world does

    def spawn(self, name: str, act: Callable[[], object], after: float = 0.0) -> Actor:
        """A new actor."""
        actor = Actor(name, act, self.now + after, self._main)
        self.actors.append(actor)
        return actor

    def kill(self, actor: Actor) -> None:
        """The actor ends where it is; what it holds in memory is gone."""
        if actor not in self.actors:
            return
        actor.is_killed = True
        before, self._current = self._current, actor
        actor.greenlet.parent = getcurrent()  # to whom its end returns
        with suppress(Killed):
            actor.greenlet.throw(Killed)
        self._current = before
        assert actor.is_ended, f"{actor.name} has survived at {actor.at}"
        self.actors.remove(actor)

    def move(self) -> Actor | None:
        """Let one actor go on to its next border; None when none is left."""
        ready = self._ready()
        if not ready:
            return None
        actor = ready[0] if len(ready) == 1 else self.random.choice(ready)
        self.moves += 1
        self.note(f"{actor.name}: {actor.at}")
        self._current = actor
        try:
            actor.greenlet.switch()
        finally:
            self._current = None
        if actor.is_ended:
            self.actors.remove(actor)
        return actor

    def _ready(self) -> list[Actor]:
        ready = [actor for actor in self.actors if actor.due_at <= self.now]
        if ready:
            return ready
        first = min((actor.due_at for actor in self.actors), default=math.inf)
        if first == math.inf:
            return []
        self.now = first
        return [actor for actor in self.actors if actor.due_at <= first]

    def note(self, text: str) -> None:
        """Write a line of the history."""
        line = f"{self.now - START:.6f} {text}"
        self.last.append(line)
        self._hash.update(line.encode())

    def digest(self) -> str:
        """Of the whole history so far."""
        return self._hash.hexdigest()

    def close(self) -> None:
        """End all that is left."""
        for actor in list(self.actors):
            self.kill(actor)
        self.actors.clear()
