"""A claimed unit, with all that is needed to run it and to end it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from workflows.compile.plan import Plan, PlanStep
from workflows.db.runs import RunContext
from workflows.db.units import Claim
from workflows.engine.relay import Relay
from workflows.engine.runtime import Runtime

if TYPE_CHECKING:
    from workflows.engine.settlement import Settlement


@dataclass(frozen=True, slots=True)
class Job:
    """What this process owns until it ends it, or its lease does.

    Attributes:
        relay: What may be run next without a message; None where every step needs its own.
    """

    runtime: Runtime
    plan: Plan
    step: PlanStep
    context: RunContext
    claim: Claim
    relay: Relay | None = None

    def keep_back(self, settlement: Settlement) -> None:
        """Take out of what is to be published what this process goes on with."""
        if self.relay is not None:
            order = self.runtime.order_among(self.context.version_id, len(settlement.ready))
            run_pk = self.claim.unit.run_pk
            self.relay.keep_back(self.plan, order, run_pk, settlement.ready, settlement.ranges, self.runtime.clock)
