"""Going on with the same run within one message: a step that ends often makes another ready, and the slot is free.

A message costs a publish, a delivery, a hand-over between two processes and an acknowledgement. Where the step that has
just ended has made steps ready that only SQL delivers, one of them is kept back from the broker and run right here.
Nothing else changes: it is claimed, run and ended as by a message of its own, and the reconciler sends it should this
process die before it has claimed it.
"""

from __future__ import annotations

from dataclasses import dataclass

from workflows.compile.plan import Plan
from workflows.db.clock import Clock
from workflows.db.units import Unit

MOST_STEPS = 16
MOST_SECONDS = 1.0
"""After so long, or so many steps, others' messages that wait for this slot get their turn."""


@dataclass(slots=True)
class Relay:
    """What one message may still run.

    Attributes:
        queue: Of the message: a step of another queue belongs to other workers.
        ends_at: On the monotonic clock.
        left: Steps that may follow.
        next: The one that was kept back; None when there is none.
    """

    queue: str
    ends_at: float
    left: int = MOST_STEPS
    next: Unit | None = None

    @classmethod
    def of(cls, queue: str, clock: Clock) -> Relay:
        """The relay of a message that has just come."""
        return cls(queue, clock.monotonic() + MOST_SECONDS)

    def keep_back(self, plan: Plan, run_pk: int, ready: list[int], clock: Clock) -> None:
        """Take out of what a step has made ready, by ordinals, the one on which the longest way follows."""
        if self.next is not None or not self.left or clock.monotonic() >= self.ends_at:
            return
        fitting = [ordinal for ordinal in ready if self._fits(plan, ordinal)]
        if not fitting:
            return
        heights = _heights(plan)
        best = max(fitting, key=lambda ordinal: (plan.steps[ordinal].priority, heights[ordinal], -ordinal))
        if any(plan.steps[ordinal].priority > plan.steps[best].priority for ordinal in ready):
            return
        ready.remove(best)
        self.next = Unit(run_pk, best)
        self.left -= 1

    def take(self) -> Unit | None:
        """The unit to run now, once."""
        taken, self.next = self.next, None
        return taken

    def _fits(self, plan: Plan, ordinal: int) -> bool:
        """A step alone in its fragment: one whose message would carry no more than itself."""
        step = plan.steps[ordinal]
        fragment = plan.fragments[step.fragment]
        is_alone = fragment.heads == (ordinal,) and fragment.body is None and fragment.chains == ((ordinal,),)
        return is_alone and step.queue == self.queue and step.pool is None and step.rate_limit is None


_KEPT_PLANS = 64
_known: dict[str, tuple[int, ...]] = {}
"""Heights by the fingerprint of their plan: working them out takes longer than to publish a step."""


def _heights(plan: Plan) -> tuple[int, ...]:
    """Steps on the longest way from each step to an end; ordinals are in topological order."""
    found = _known.get(plan.fingerprint)
    if found is None:
        heights = [1] * len(plan.steps)
        for step in reversed(plan.steps):
            heights[step.ordinal] = 1 + max((heights[after] for after in step.successors), default=0)
        if len(_known) >= _KEPT_PLANS:
            _known.clear()
        found = _known[plan.fingerprint] = tuple(heights)
    return found
