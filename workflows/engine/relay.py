"""Going on with the same run within one message: what follows a step is run by the process that has just ended it.

A message costs a publish, a delivery, a hand-over between two processes and an acknowledgement. So the rest of a chain
that came with the message is run right here, and where a step makes others ready that only SQL delivers, one of them is
kept back from the broker. Nothing else changes: each step is claimed, run and ended as by a message of its own, what
the relay leaves of a chain is sent as Celery would, and the reconciler sends the rest should this process die.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from workflows.compile.plan import Plan
from workflows.db.clock import Clock
from workflows.db.units import Unit
from workflows.engine.order import Order

BRIEF_TOGETHER = 4
"""Of the brief steps that become ready together, one in so many gets a message."""

MOST_STEPS = 16
MOST_SECONDS = 1.0
"""After so long, or so many steps, others' messages that wait for this slot get their turn."""


@dataclass(slots=True)
class Relay:
    """What one message may still run.

    Attributes:
        queues: What this worker consumes: a step of another queue belongs to other workers.
        ends_at: On the monotonic clock.
        chain: Ordinals that follow when the present step has ended, the nearest last.
        carried: How many of them the message's own canvas brought.
        is_open: Nothing but `chain` waits for the end of the message, so that other steps may follow.
        is_adopted: `chain` is that of a step which came with no message.
        left: Steps that may follow.
        next: The step, or range of a map's calls, that was kept back; None when there is none.
        spare: Brief steps that were kept back beside it, the best last: this message runs them, or they are sent.
        found: Ready steps that nobody had claimed when they were looked for, the best last.
        seconds: What the last step took.
    """

    queues: frozenset[str]
    ends_at: float
    chain: list[int] = field(default_factory=list)
    carried: int = 0
    is_open: bool = True
    is_adopted: bool = False
    left: int = MOST_STEPS
    next: Unit | None = None
    spare: list[int] = field(default_factory=list)
    found: list[int] = field(default_factory=list)
    seconds: float = 0.0

    @classmethod
    def of(cls, queues: frozenset[str], clock: Clock, chain: Sequence[int] = (), *, is_open: bool = True) -> Relay:
        """The relay of a message that has just come; `chain` is what its canvas carries, the nearest last."""
        return cls(queues, clock.monotonic() + MOST_SECONDS, list(chain), len(chain), is_open)

    def is_over(self, clock: Clock) -> bool:
        """Whether the message has done enough."""
        return self.left <= 0 or clock.monotonic() >= self.ends_at

    def is_free(self, clock: Clock) -> bool:
        """Whether it may go on with a step that no canvas has brought."""
        return self.is_open and not self.chain and self.next is None and not self.is_over(clock)

    def keep_back(
        self, plan: Plan, order: Order, run_pk: int, ready: list[int], ranges: list[Unit], clock: Clock
    ) -> None:
        """Take one out of what a step has made ready: of steps, by ordinals, that on which the longest way follows."""
        if not self.is_free(clock):
            return
        if not ready and ranges and self.fits(plan, ranges[0].ordinal):
            self.next = ranges.pop(0)
            self.is_adopted = True
            return
        fitting = [ordinal for ordinal in ready if self.fits(plan, ordinal)]
        if not fitting:
            return
        best = max(fitting, key=order.key)
        if any(plan.steps[ordinal].priority > plan.steps[best].priority for ordinal in ready):
            return
        ready.remove(best)
        self.adopt(plan, run_pk, best)
        self._spare(plan, order, ready)

    def _spare(self, plan: Plan, order: Order, ready: list[int]) -> None:
        """Take most of the brief steps out of what is to be sent, as many as this message may still run."""
        brief = [ordinal for ordinal in ready if ordinal in order.brief and self.fits(plan, ordinal)]
        room = self.left - 1 - len(self.spare)  # one is for the step that comes next
        count = min(room, len(brief) - len(brief) // BRIEF_TOGETHER)
        if count <= 0:
            return
        chosen = sorted(brief, key=order.key)[-count:]
        for ordinal in chosen:
            ready.remove(ordinal)
        self.spare = sorted([*self.spare, *chosen], key=order.key)

    def adopt(self, plan: Plan, run_pk: int, ordinal: int) -> None:
        """Let a step come next that no message brings, and after it the chain that it begins."""
        self.next = Unit(run_pk, ordinal)
        self.chain = list(plan.chain_of(ordinal)[:0:-1])
        self.is_adopted = True

    def take(self, plan: Plan, run_pk: int, clock: Clock) -> Unit | None:
        """The unit to run now, once; None when nothing follows, or the message has done enough."""
        taken, self.next = self.next, None
        if taken is None and self.chain and not self.is_over(clock) and self._serves(plan, self.chain[-1]):
            taken = Unit(run_pk, self.chain.pop())
        if taken is not None:
            self.left -= 1
        return taken

    def fits(self, plan: Plan, ordinal: int) -> bool:
        """Whether it may go on with this step: the canvas of a chord has to be sent as a whole."""
        return plan.fragment_of(ordinal).body is None and self._serves(plan, ordinal)

    def _serves(self, plan: Plan, ordinal: int) -> bool:
        """A step that this worker may run, and that needs no more than a worker."""
        step = plan.steps[ordinal]
        return step.queue in self.queues and step.pool is None and step.rate_limit is None
