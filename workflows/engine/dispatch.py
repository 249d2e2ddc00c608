"""From "these steps are ready" to messages. Called after commit; what is not sent the reconciler sends later."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial

from celery.canvas import Signature

from workflows.compile.plan import Plan
from workflows.db import upkeep
from workflows.db.groups import LetGo
from workflows.db.limits import Woken
from workflows.db.units import Unit
from workflows.engine.canvas import execute_signature, fragment_canvas, step_signature
from workflows.engine.runtime import Runtime
from workflows.engine.settlement import Settlement
from workflows.model.errors import BrokerUnavailableError, DatabaseUnavailableError

_log = logging.getLogger(__name__)


def canvases(
    runtime: Runtime, plan: Plan, run_pk: int, ready: Iterable[int], ranges: Iterable[Unit]
) -> list[Signature]:
    """The canvases to publish, by priority: a whole fragment where all its heads are ready, a single task otherwise."""
    found: list[Signature] = []
    by_fragment: dict[int, list[int]] = {}
    for ordinal in sorted(ready, key=lambda ordinal: -plan.steps[ordinal].priority):
        by_fragment.setdefault(plan.steps[ordinal].fragment, []).append(ordinal)
    for index, ordinals in by_fragment.items():
        fragment = plan.fragments[index]
        if set(fragment.heads) == set(ordinals):
            found.append(fragment_canvas(runtime.app, plan, fragment, run_pk))
        else:
            found.extend(
                step_signature(runtime.app, run_pk, ordinal, queue=plan.steps[ordinal].queue) for ordinal in ordinals
            )
    found.extend(
        step_signature(runtime.app, run_pk, unit.ordinal, part=unit.part, queue=plan.steps[unit.ordinal].queue)
        for unit in ranges
    )
    return found


def publish_singly(runtime: Runtime, plan: Plan, ready: Sequence[Unit]) -> None:
    """Send what is ready as single tasks: after a retry or a pause all steps arrive by SQL."""
    signatures = [
        step_signature(runtime.app, unit.run_pk, unit.ordinal, part=unit.part, queue=plan.steps[unit.ordinal].queue)
        for unit in ready
    ]
    _send(runtime, signatures, ready)


def publish(runtime: Runtime, plan: Plan, run_pk: int, settlement: Settlement) -> None:
    """Send what a committed transaction made ready."""
    publish_runs(runtime, settlement.runs)
    publish_woken(runtime, settlement.woken)
    if not settlement.ready and not settlement.ranges:
        return
    signatures = canvases(runtime, plan, run_pk, settlement.ready, settlement.ranges)
    _send(runtime, signatures, [*(Unit(run_pk, ordinal) for ordinal in settlement.ready), *settlement.ranges])


def publish_runs(runtime: Runtime, let_go: Sequence[LetGo]) -> bool:
    """Send the messages that start runs; False when the broker did not take them, and the reconciler will."""
    if not let_go:
        return True
    signatures = [execute_signature(runtime.app, run.run_pk, run.run_id) for run in let_go]
    try:
        runtime.publish(runtime.app, signatures)
    except BrokerUnavailableError as error:
        _log.warning("%s; %d runs are recorded and will start later", error, len(let_go))
        with suppress(DatabaseUnavailableError):
            for run in let_go:
                runtime.database.retrying(partial(upkeep.mark_run_unsent, run_pk=run.run_pk), patience_seconds=5.0)
        return False
    return True


def publish_woken(runtime: Runtime, woken: Sequence[Woken]) -> None:
    """Send what has waited for a slot of a pool and may try again."""
    if woken:
        signatures = [
            step_signature(runtime.app, unit.run_pk, unit.ordinal, part=unit.part, queue=queue)
            for unit, queue in ((one.unit, one.queue) for one in woken)
        ]
        _send(runtime, signatures, [one.unit for one in woken])


def _send(runtime: Runtime, signatures: list[Signature], units: Sequence[Unit]) -> None:
    try:
        runtime.publish(runtime.app, signatures)
    except BrokerUnavailableError as error:
        _log.warning("%s; the reconciler will send %d ready steps", error, len(units))
        with suppress(DatabaseUnavailableError):
            runtime.database.retrying(lambda tx: upkeep.mark_unsent(tx, units), patience_seconds=5.0)
