"""A paused run goes on: by a person's hand, or because the run that it is a part of does."""

from __future__ import annotations

from dataclasses import dataclass

from workflows.compile.plan import Plan
from workflows.db import pauses
from workflows.db.database import Transaction
from workflows.db.pauses import Released
from workflows.db.runs import RunContext
from workflows.engine import dispatch, windows
from workflows.engine.runtime import Runtime
from workflows.engine.settlement import Settlement


@dataclass(frozen=True, slots=True)
class Resumed:
    """What is to be published of a run that goes on."""

    released: Released
    settlement: Settlement

    @property
    def ordinals(self) -> list[int]:
        """Of the steps that start at once."""
        return sorted({unit.ordinal for unit in (*self.released.ready, *self.settlement.ranges)})


def resume(
    tx: Transaction, runtime: Runtime, plan: Plan, context: RunContext, *, with_parent: bool = False
) -> Resumed | None:
    """Set free in SQL what was held; None when the run is not paused, or not `with_parent`."""
    redispatch = runtime.config.redispatch_seconds
    released = pauses.resume(tx, context.run_pk, redispatch, plan.timeout_seconds, with_parent=with_parent)
    if released is None:
        return None
    settlement = Settlement(ready=[unit.ordinal for unit in released.ready] if released.is_first else [])
    for unit in released.maps:
        settlement.ranges.extend(windows.top_up(tx, plan, context, unit, redispatch).ranges)
    return Resumed(released, settlement)


def publish(runtime: Runtime, plan: Plan, run_pk: int, resumed: Resumed) -> None:
    """After the commit: whole fragments of a run that begins only now, else every step by itself."""
    runtime.forget(run_pk)
    dispatch.publish(runtime, plan, run_pk, resumed.settlement)
    if not resumed.released.is_first:
        dispatch.publish_singly(runtime, plan, resumed.released.ready)
