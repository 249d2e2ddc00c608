"""How long a run would take: a plan played on a virtual clock, with so many slots and the seconds of past runs."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from math import ceil

from workflows.compile.plan import Plan, PlanStep
from workflows.model.spec import Block

RANGE_SECONDS = 1.0
"""Work that a message with calls of a map carries, about: as the engine sizes them."""

UNKNOWN_SECONDS = 1.0
UNKNOWN_CALLS = 8


@dataclass(frozen=True, slots=True)
class Work:
    """What a step costs.

    Attributes:
        seconds: That it holds a slot; of a map those of one call.
        calls: Of a map; 1 for any other step.
        off_worker_seconds: That it waits without a slot, before its last try.
    """

    seconds: float
    calls: int = 1
    off_worker_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Bar:
    """When a step is at work: from its first claim to its end, in seconds from the beginning of the run.

    Attributes:
        is_known: Whether past runs, or a person, said how long it takes.
    """

    ordinal: int
    step: str
    start: float
    end: float
    is_known: bool


@dataclass(frozen=True, slots=True)
class Forecast:
    """A run as it was played.

    Attributes:
        seconds: From its first step to its last.
        busy_share: Of the slots' time, from 0 to 1.
        bars: By ordinal.
    """

    slots: int
    seconds: float
    busy_share: float
    bars: tuple[Bar, ...]


def works_of(plan: Plan, known: Mapping[str, Work]) -> dict[int, Work]:
    """What each step costs, by ordinal; a step that is not `known` costs what an unknown one does."""
    return {step.ordinal: known.get(step.id, _unknown(step)) for step in plan.steps}


def forecast(plan: Plan, known: Mapping[str, Work], slots: int) -> Forecast:
    """Play an undisturbed run of the plan.

    Args:
        known: What steps cost, by id.
        slots: Steps that are at work at the same time, over all workers.
    """
    if slots < 1:
        raise ValueError(f"a run needs at least one slot, not {slots}")
    return _Play(plan, known, slots).play()


def _unknown(step: PlanStep) -> Work:
    if step.for_each is None:
        return Work(UNKNOWN_SECONDS)
    items = step.for_each.items
    calls = UNKNOWN_CALLS
    if isinstance(items, list):
        calls = ceil(len(items) / (step.for_each.batch or 1))
    return Work(UNKNOWN_SECONDS, calls)


@dataclass(slots=True)
class _Map:
    """A map that is open: calls not yet given to a range, ranges that may run at a time, ranges that do."""

    left: int
    most: int
    running: int = 0


class _Play:
    """Events in order of time; `_ready` holds what could start, by priority and then by when it became ready."""

    def __init__(self, plan: Plan, known: Mapping[str, Work], slots: int) -> None:
        self._plan = plan
        self._known = known
        self._works = works_of(plan, known)
        self._slots = slots
        self._free = slots
        self._now = 0.0
        self._busy = 0.0
        self._tie = count()
        self._ready: list[tuple[int, float, int, int]] = []
        self._events: list[tuple[float, int, int, int]] = []
        self._pending = {step.ordinal: len(step.predecessors) for step in plan.steps}
        self._maps: dict[int, _Map] = {}
        self._start: dict[int, float] = {}
        self._end: dict[int, float] = {}

    def play(self) -> Forecast:
        """From the first step to the last."""
        for block in (Block.STEPS, Block.FINALLY):
            for ordinal in self._plan.heads(block):
                self._make_ready(ordinal)
            self._run_block()
        last = max(self._end.values(), default=0.0)
        bars = tuple(
            Bar(step.ordinal, step.id, self._start[step.ordinal], self._end[step.ordinal], step.id in self._known)
            for step in self._plan.steps
            if step.ordinal in self._end
        )
        share = self._busy / (last * self._slots) if last else 0.0
        return Forecast(self._slots, last, share, bars)

    def _run_block(self) -> None:
        while True:
            while self._free and self._ready:
                *_, ordinal = heapq.heappop(self._ready)
                self._begin(ordinal)
            if not self._events:
                return
            self._now, _, ordinal, calls = heapq.heappop(self._events)
            self._finish(ordinal, calls)

    def _make_ready(self, ordinal: int) -> None:
        step, work = self._plan.steps[ordinal], self._works[ordinal]
        if step.for_each is not None:
            self._maps[ordinal] = _Map(work.calls, step.for_each.max_parallel or work.calls)
            if work.calls:
                self._top_up(ordinal)
            else:
                self._start[ordinal] = self._now
                self._end_step(ordinal)
        elif work.off_worker_seconds:
            self._start[ordinal] = self._now
            self._after(work.off_worker_seconds, ordinal, 0)
        else:
            self._queue(ordinal)

    def _queue(self, ordinal: int) -> None:
        priority = self._plan.steps[ordinal].priority
        heapq.heappush(self._ready, (-priority, self._now, next(self._tie), ordinal))

    def _top_up(self, ordinal: int) -> None:
        """Queue as many ranges as the map's window and the slots have room for."""
        found = self._maps[ordinal]
        wanted = min(found.most - found.running, self._slots - found.running, found.left)
        for _ in range(max(0, wanted)):
            found.running += 1
            self._queue(ordinal)

    def _begin(self, ordinal: int) -> None:
        work, found = self._works[ordinal], self._maps.get(ordinal)
        calls = 1
        if found is not None:
            if not found.left:
                found.running -= 1
                return
            share = ceil(found.left / min(self._slots, found.most))
            calls = max(1, min(share, int(RANGE_SECONDS / work.seconds) if work.seconds > 0 else share))
            found.left -= calls
        self._free -= 1
        self._start.setdefault(ordinal, self._now)
        self._busy += calls * work.seconds
        self._after(calls * work.seconds, ordinal, calls)

    def _after(self, seconds: float, ordinal: int, calls: int) -> None:
        heapq.heappush(self._events, (self._now + seconds, next(self._tie), ordinal, calls))

    def _finish(self, ordinal: int, calls: int) -> None:
        if not calls:  # what it waited for without a slot has come
            self._queue(ordinal)
            return
        self._free += 1
        found = self._maps.get(ordinal)
        if found is not None:
            found.running -= 1
            if found.left:
                self._top_up(ordinal)
            if found.left or found.running:
                return
        self._end_step(ordinal)

    def _end_step(self, ordinal: int) -> None:
        self._end[ordinal] = self._now
        for after in self._plan.steps[ordinal].successors:
            self._pending[after] -= 1
            if not self._pending[after]:
                self._make_ready(after)


def assumed(texts: Mapping[str, str]) -> dict[str, Work]:
    """Costs that a person gives by step id: `2.5`, or `0.4x200` for 200 calls of a map.

    Raises:
        ValueError: a text is neither.
    """
    found = {}
    for step, text in texts.items():
        seconds, times, calls = text.partition("x")
        try:
            work = Work(float(seconds), int(calls) if times else 1)
        except ValueError:
            raise ValueError(f"'{text}' is no cost; write seconds, or seconds and calls of a map: 0.4x200") from None
        if not 0 <= work.seconds < 1e9 or not 0 <= work.calls <= 1_000_000:
            raise ValueError(f"'{text}' is no cost; it is from 0 to 1e9 seconds, and up to 1,000,000 calls")
        found[step] = work
    return found


def chart(played: Forecast, width: int = 60) -> list[str]:
    """A Gantt chart in lines of text: the steps in the order of their start, with their times."""
    if not played.bars:
        return []
    name = min(32, max(len(bar.step) for bar in played.bars))
    total = played.seconds or 1.0
    lines = []
    for bar in sorted(played.bars, key=lambda bar: (bar.start, bar.ordinal)):
        first = min(width - 1, int(bar.start / total * width))
        last = max(first + 1, min(width, round(bar.end / total * width)))
        drawn = " " * first + ("█" if bar.is_known else "░") * (last - first)
        label = bar.step if len(bar.step) <= name else f"{bar.step[: name - 1]}…"
        lines.append(f"{label:<{name}}  {drawn:<{width}}  {clock(bar.start)} - {clock(bar.end)}")
    return lines


def clock(seconds: float) -> str:
    """Seconds as a person reads them: `40 ms`, `2.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`."""
    if 0 < seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
