"""What the model checker explores: a small graph, how much may happen to it, and what may be broken in it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise

from workflows.compile.plan import Fragment
from workflows.model.states import CLAIMABLE, RUN_TRANSITIONS, STEP_TRANSITIONS, TERMINAL, Event, State


class Bug(StrEnum):
    """Parts of the protocol that can be taken out, to prove that the check notices."""

    NO_FENCE = "no_fence"
    NO_RECONCILER = "no_reconciler"
    NO_DEPENDENCY_CHECK = "no_dependency_check"
    NO_CANCEL_CHECK = "no_cancel_check"
    NO_IDEMPOTENCY_KEY = "no_idempotency_key"
    NO_HAND_OVER = "no_hand_over"
    DUPLICATE_RETURNS_NORMALLY = "duplicate_returns_normally"
    PUBLISH_BEFORE_COMMIT = "publish_before_commit"
    CANCEL_REVOKES_FINALLY = "cancel_revokes_finally"
    EXPIRE_AND_CRASH_BOTH_COUNTED = "expire_and_crash_both_counted"
    RETRY_FORGETS_PAUSE = "retry_forgets_pause"
    RESUME_TRUSTS_CANVAS = "resume_trusts_canvas"


class May(StrEnum):
    """What people, step code and deploys do that is no fault."""

    FAIL = "fail"
    DECLINE = "decline"
    PARK = "park"
    RELEASE = "release"
    CANCEL = "cancel"
    RESUME = "resume"
    REFUSE = "refuse"
    TURN_AWAY = "turn away"
    PAUSE = "pause"


@dataclass(frozen=True)
class Model:
    """One exploration.

    Attributes:
        fragments: Canvases of the graph, as the compiler makes them.
        gates: Edges between fragments.
        maps: Ordinal of a step with `for_each` -> ordinals of the ranges that it expands into.
        later: Steps of `on_failure`, and of `finally`.
        may: What may happen that is no fault; a word given twice may happen twice.
        faults: How often, in all, a message is lost, doubled or early, a process killed or frozen.
        max_attempts: Failures of the body before the step is a FAILURE; a resume counts from 0 again.
        max_crashes: Lost owners before the step is a FAILURE.
        steps: The table of the step's transitions; production's, unless a test breaks it.
    """

    name: str
    fragments: tuple[Fragment, ...]
    gates: tuple[tuple[int, int], ...] = ()
    maps: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    later: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
    may: tuple[May, ...] = ()
    faults: int = 0
    workers: int = 2
    reconcilers: int = 2
    max_attempts: int = 3
    max_crashes: int = 3
    steps: Mapping[tuple[State, Event], State] = field(default_factory=lambda: STEP_TRANSITIONS)
    runs: Mapping[tuple[State, Event], State] = field(default_factory=lambda: RUN_TRANSITIONS)
    claimable: Collection[State] = CLAIMABLE
    terminal: Collection[State] = TERMINAL


class Graph:
    """The edges of a model's graph, by ordinal; the words are those of `PlanStep`."""

    def __init__(self, model: Model) -> None:
        self.part_of = {part: step for step, parts in model.maps.items() for part in parts}
        members = sorted(ordinal for fragment in model.fragments for ordinal in fragment.members)
        self.size = len(members) + len(self.part_of)
        self.names = tuple(
            "abcdefgh"[i] if i not in self.part_of else f"{'abcdefgh'[self.part_of[i]]}/{i}" for i in range(self.size)
        )
        self.turn_of = {step: turn for turn, steps in enumerate(model.later, 1) for step in steps}
        """Step of a later block -> 1 for `on_failure`, 2 for `finally`; all others are of turn 0."""
        self.heads = frozenset(head for fragment in model.fragments for head in fragment.heads)
        self.delivers: dict[int, int] = {}
        """Step -> the step that its canvas delivers after it."""
        for fragment in model.fragments:
            for chain in fragment.chains:
                path = chain if fragment.body is None else (*chain, fragment.body)
                self.delivers.update(pairwise(path))
        edges = sorted([*self.delivers.items(), *model.gates])
        self.successors = tuple(tuple(b for a, b in edges if a == i) for i in range(self.size))
        self.predecessors = tuple(tuple(a for a, b in edges if b == i) for i in range(self.size))
        self.delivered_by = tuple(
            tuple(a for a, b in sorted(self.delivers.items()) if b == i) for i in range(self.size)
        )
        """Step -> the steps whose return makes its canvas deliver it: one in a chain, the tails of a chord's header."""

    def gated(self, turn: int) -> list[int]:
        """The steps with which a later block begins."""
        return [step for step, its in self.turn_of.items() if its == turn and not self.predecessors[step]]

    def off_canvas(self, step: int) -> tuple[int, ...]:
        """The steps that the canvas would have delivered after `step`."""
        rest: list[int] = []
        while step in self.delivers:
            step = self.delivers[step]
            rest.append(step)
        return tuple(rest)
