"""Breadth-first over every world that a model can reach.

By hand, for more faults than the tests allow: `python -m tests.model.explore chord --faults 3 [--bug no_fence]`.
"""

from __future__ import annotations

import argparse
import sys
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, replace

from tests.model import laws
from tests.model.forget import forget
from tests.model.model import Bug, Model
from tests.model.moves import possible_moves
from tests.model.protocol import BrokenLawError, Protocol
from tests.model.scenarios import SCENARIOS
from tests.model.world import World
from workflows.model.states import TERMINAL, Event, State


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken law, and the moves that lead to it: no shorter way exists."""

    law: str
    moves: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join([f"BROKEN: {self.law}", *(f"{n:4}. {move}" for n, move in enumerate(self.moves, 1))])


@dataclass(frozen=True, slots=True)
class Result:
    """What an exploration found.

    Attributes:
        states: Distinct worlds.
        moves: Moves between them, faults included.
        stuck: Worlds from which the run may never end; counted only when no other law is broken.
        violations: The first of each broken law, shortest first.
        used: Entries of the transition tables that happened: `("step" or "run", from, event)`.
    """

    model: str
    states: int
    moves: int
    stuck: int
    violations: tuple[Violation, ...]
    used: frozenset[tuple[str, State, Event]]

    def __str__(self) -> str:
        head = f"{self.model}: {self.states} states, {self.moves} moves, {len(self.violations)} broken laws"
        return "\n".join([head, *map(str, self.violations)])


def explore(model: Model, bugs: Collection[Bug] = (), *, stop_at_first: bool = False, forgetful: bool = True) -> Result:
    """Visit every world once; check every law in each of them and on each move between them.

    Args:
        stop_at_first: Return as soon as one law is broken, by the shortest way there is.
        forgetful: Treat worlds with the same future as one; without it there are several times as many.
    """
    protocol = Protocol(model, frozenset(bugs))
    first = protocol.start()
    worlds = [first]
    number = {first: 0}
    came_from: list[tuple[int, str]] = [(-1, "")]
    owed_from: list[list[int]] = [[]]
    """World -> the worlds that reach it by a move that is owed."""
    owed_moves: list[int] = []
    violations: dict[str, Violation] = {}
    moves = 0

    def trace(at: int, *more: str) -> tuple[str, ...]:
        path = list(reversed(more))
        while at:
            at, text = came_from[at]
            path.append(text)
        return tuple(reversed(path))

    here = 0
    while here < len(worlds) and not (stop_at_first and violations):
        world = worlds[here]
        owed_moves.append(0)
        for move in possible_moves(protocol, world):
            moves += 1
            owed_moves[here] += move.owed
            try:
                after = forget(protocol, move.apply()) if forgetful else move.apply()
            except BrokenLawError as broken:
                violations.setdefault(str(broken), Violation(str(broken), trace(here, move.text)))
                continue
            there = number.get(after)
            broken_laws = list(laws.broken_by_move(protocol, world, after))
            if there is None:
                broken_laws += laws.broken_by_world(protocol, after)
            for law in broken_laws:
                if law not in violations:
                    violations[law] = Violation(law, trace(here, move.text))
            if broken_laws:
                continue
            if there is None:
                there = number[after] = len(worlds)
                worlds.append(after)
                came_from.append((here, move.text))
                owed_from.append([])
            if move.owed:
                owed_from[there].append(here)
        here += 1
    unending = _unending(worlds, owed_from, list(owed_moves)) if not violations else []
    if unending:
        dead_ends = (index for index in unending if not owed_moves[index])
        nearest = next(dead_ends, unending[0])
        violations[laws.RUNS_END] = Violation(laws.RUNS_END, trace(nearest))
    return Result(model.name, len(worlds), moves, len(unending), tuple(violations.values()), frozenset(protocol.used))


def _unending(worlds: list[World], owed_from: list[list[int]], left: list[int]) -> list[int]:
    """The worlds from which the moves that are owed may fail to end the run: by a dead end, or by going in circles.

    A world ends when its run has ended, or when it has moves that are owed and all of them lead to worlds that end. So
    this is found backwards; `left` counts the owed moves of each world that are not yet known to.
    """
    ends = [world.run in TERMINAL for world in worlds]
    todo = deque(index for index, end in enumerate(ends) if end)
    while todo:
        for before in owed_from[todo.popleft()]:
            left[before] -= 1
            if not left[before] and not ends[before]:
                ends[before] = True
                todo.append(before)
    return [index for index, end in enumerate(ends) if not end]


def main() -> None:
    """Explore one model of `scenarios` and print what was found."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("model", choices=sorted(SCENARIOS))
    parser.add_argument("--faults", type=int)
    parser.add_argument("--bug", action="append", default=[], choices=[str(bug) for bug in Bug])
    options = parser.parse_args()
    model = SCENARIOS[options.model]
    if options.faults is not None:
        model = replace(model, faults=options.faults)
    sys.stdout.write(f"{explore(model, [Bug(bug) for bug in options.bug])}\n")


if __name__ == "__main__":
    main()
