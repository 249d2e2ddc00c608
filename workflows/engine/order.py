"""Which of several ready steps goes first, and which of them get no message: of many at once, and of brief ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from workflows.compile.plan import Plan
from workflows.model.spec import Block

WIDE = 16
"""A plan is wide when more steps than these may become ready at once."""

BRIEF_SECONDS = 0.003
"""Steps that take no longer cost less than their messages would."""

Rank = tuple[int, float, int]
"""Priority, the longest way from its begin to an end, steps that wait for it: the greater goes first."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is expected of a plan's steps.

    Attributes:
        ranks: By ordinal.
        brief: Ordinals of steps that took next to nothing before; empty where steps become ready one by one.
    """

    ranks: tuple[Rank, ...]
    brief: frozenset[int] = frozenset()

    def __getitem__(self, ordinal: int) -> Rank:
        return self.ranks[ordinal]

    def key(self, ordinal: int) -> tuple[Rank, int]:
        """To sort steps by, the first to go last; of equals that is the earlier one of the plan."""
        return self.ranks[ordinal], -ordinal


@dataclass(frozen=True, slots=True)
class _Shape:
    order: Order
    width: int


_KEPT_PLANS = 64
_known: dict[tuple[str, bool, int], _Shape] = {}
"""By what tells plans apart: working it out takes longer than to publish a step."""


def ranks(plan: Plan) -> Order:
    """The order when nothing is known of the steps' times: the longest way is the one with the most steps."""
    return _shape(plan).order


def expected(plan: Plan, seconds: Mapping[int, float]) -> Order:
    """The order when it is known, by ordinal, what steps took before; of others it is what the known ones take."""
    usual = sum(seconds.values()) / len(seconds) if seconds else 1.0
    brief: set[int] = set()
    if _shape(plan).width > 1:
        brief = {ordinal for ordinal, taken in seconds.items() if taken <= BRIEF_SECONDS}
    return Order(_ranks(plan, [seconds.get(step.ordinal, usual) for step in plan.steps]), frozenset(brief))


def is_wide(plan: Plan) -> bool:
    """Whether more than `WIDE` steps may become ready at once."""
    return _shape(plan).width > WIDE


def _shape(plan: Plan) -> _Shape:
    key = (plan.fingerprint, plan.chords, len(plan.fragments))  # one definition may have been compiled in two ways
    found = _known.get(key)
    if found is None:
        if len(_known) >= _KEPT_PLANS:
            _known.clear()
        found = _known[key] = _Shape(Order(_ranks(plan, [1] * len(plan.steps))), _width(plan))
    return found


def _ranks(plan: Plan, lengths: Sequence[float]) -> tuple[Rank, ...]:
    ways = list(lengths)
    for step in reversed(plan.steps):  # ordinals are in topological order
        ways[step.ordinal] += max((ways[after] for after in step.successors), default=0)
    return tuple((step.priority, ways[step.ordinal], len(step.successors)) for step in plan.steps)


def _width(plan: Plan) -> int:
    together = [*(plan.heads(block) for block in Block), *(step.successors for step in plan.steps)]
    return max(sum(plan.fragment_of(ordinal).body is None for ordinal in ordinals) for ordinals in together)
