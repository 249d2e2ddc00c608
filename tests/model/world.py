"""One instant of everything: rows of the database, messages in the broker, what each worker holds or has read."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple, TypeVar

from tests.model.model import May
from workflows.compile.plan import ArrivesBy
from workflows.model.states import Event, State

T = TypeVar("T")

RUN = -1
"""The "step" of the message `execute_research_job`."""


class Row(NamedTuple):
    """A row of `step_runs`.

    Attributes:
        pending: Dependencies that have not ended; for a range of a map: whether the map is still to be expanded.
        token: The fencing token: raised by each claim.
        due: False while `not_before` lies ahead.
        held: The run was paused when the step had not started: one more thing to wait for.
        open_parts: Ranges of an expanded map that have not ended.
        commits: Results committed, ever; the law is that there is at most one.
        effects: Effects that the outside target has applied.
    """

    state: State
    pending: int
    arrives_by: ArrivesBy
    token: int = 0
    failures: int = 0
    crashes: int = 0
    due: bool = True
    open_parts: int = 0
    commits: int = 0
    effects: int = 0
    held: bool = False


class Message(NamedTuple):
    """A message in the broker; `canvas` when the rest of its fragment rides on it."""

    step: int
    canvas: bool = False
    redelivered: bool = False


class Phase(StrEnum):
    """How far a worker is with the step that it holds."""

    CLAIMED = "claimed"
    EFFECTED = "effect made"
    COMMITTED = "committed"


class Worker(NamedTuple):
    """A busy worker: its message (not yet acknowledged), its token, and what it publishes once it has committed."""

    message: Message
    token: int
    phase: Phase
    publishes: tuple[Message, ...] = ()


class Sight(NamedTuple):
    """What somebody has read and will act upon later, by when it may be stale.

    CRASH is read by the parent of a dead child, EXPIRE (lease over) and CLAIM (ready, not on its way) by a reconciler.
    """

    event: Event
    step: int
    token: int


class World(NamedTuple):
    """One instant. Bag, workers and sights are kept sorted: worlds that differ only in who is who are one.

    Attributes:
        run: State of the run's row.
        returned: Members of a chord's header that its canvas has counted.
        turn: The block at work: 0 the steps, 1 `on_failure`, 2 `finally`.
        verdict: What the steps have come to, once they have ended.
        may: What may still happen that is no fault.
        faults: How many faults may still happen.
        is_unmade: The run was paused before its steps were rows.
    """

    run: State
    rows: tuple[Row, ...]
    bag: tuple[Message, ...]
    may: tuple[May, ...]
    faults: int
    workers: tuple[Worker, ...] = ()
    sights: tuple[Sight, ...] = ()
    returned: frozenset[int] = frozenset()
    cancelled: bool = False
    is_unmade: bool = False
    generation: int = 0
    turn: int = 0
    verdict: State | None = None

    def with_row(self, step: int, row: Row) -> World:
        """This step's row is now `row`."""
        return self._replace(rows=(*self.rows[:step], row, *self.rows[step + 1 :]))

    def send(self, *messages: Message) -> World:
        """The broker has these messages too."""
        return self._replace(bag=tuple(sorted((*self.bag, *messages)))) if messages else self

    def busy(self, worker: Worker) -> World:
        """One more worker is busy."""
        return self._replace(workers=tuple(sorted((*self.workers, worker))))

    def notice(self, sight: Sight) -> World:
        """Somebody has read something."""
        return self._replace(sights=tuple(sorted((*self.sights, sight))))

    def spend(self, may: May | None) -> World:
        """One thing fewer may happen."""
        return self if may is None else self._replace(may=without(self.may, may))


def without(things: tuple[T, ...], thing: T) -> tuple[T, ...]:
    """The things, one fewer."""
    index = things.index(thing)
    return things[:index] + things[index + 1 :]


def distinct(things: Iterable[T]) -> Iterable[T]:
    """Each of the things once, in order."""
    return dict.fromkeys(things)
