"""From "these steps are ready" to messages. Called after commit; what is not sent the reconciler sends later."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial

from celery.canvas import Signature

from workflows.compile.plan import Plan
from workflows.db import maps, upkeep
from workflows.db.groups import LetGo
from workflows.db.limits import Woken
from workflows.db.units import Unit
from workflows.engine.canvas import chain_canvas, execute_signature, fragment_canvas, step_signature
from workflows.engine.order import WIDE, Order, ranks
from workflows.engine.runtime import Runtime
from workflows.engine.settlement import Settlement
from workflows.model.errors import BrokerUnavailableError, DatabaseUnavailableError

_log = logging.getLogger(__name__)

MESSAGES_PER_SLOT = 4
"""Messages for each slot that a wide fan-out sends: more than slots, for more workers may come."""


def canvases(
    runtime: Runtime, plan: Plan, run_pk: int, ready: Iterable[int], ranges: Iterable[Unit]
) -> list[Signature]:
    """The canvases to publish, by rank: a whole fragment where all its heads are ready, a single task otherwise."""
    found: list[Signature] = []
    by_fragment: dict[int, list[int]] = {}
    for ordinal in sorted(ready, key=_order(runtime, plan, run_pk).__getitem__, reverse=True):
        by_fragment.setdefault(plan.steps[ordinal].fragment, []).append(ordinal)
    for index, ordinals in by_fragment.items():
        fragment = plan.fragments[index]
        if set(fragment.heads) == set(ordinals):
            found.append(fragment_canvas(runtime.app, plan, fragment, run_pk))
        elif fragment.body is None:
            found.extend(chain_canvas(runtime.app, plan, plan.chain_of(ordinal), run_pk) for ordinal in ordinals)
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
    ready = _to_send(runtime, plan, run_pk, settlement.ready)
    signatures = canvases(runtime, plan, run_pk, ready, settlement.ranges)
    _send(runtime, signatures, [*(Unit(run_pk, ordinal) for ordinal in ready), *settlement.ranges])


def publish_steps(runtime: Runtime, plan: Plan, run_pk: int, ready: Sequence[int]) -> None:
    """Send the messages of ready steps, and of the chains that they begin."""
    _send(runtime, canvases(runtime, plan, run_pk, ready, ()), [Unit(run_pk, ordinal) for ordinal in ready])


def _order(runtime: Runtime, plan: Plan, run_pk: int) -> Order:
    context = runtime.context(run_pk)
    return ranks(plan) if context is None else runtime.order(context.version_id)


def _to_send(runtime: Runtime, plan: Plan, run_pk: int, ready: Sequence[int]) -> Sequence[int]:
    """Those of the ready steps that get a message: where they are far more than slots, some of each queue.

    A message goes on with what is ready, and sends another one when it has done enough (`workflows.engine.relaying`).
    """
    if len(ready) <= WIDE:
        return ready
    most = max(WIDE, MESSAGES_PER_SLOT * runtime.database.retrying(maps.live_slots, autocommit=True))
    order = _order(runtime, plan, run_pk)
    sent: list[int] = []
    by_queue: dict[str, list[int]] = defaultdict(list)
    for ordinal in ready:
        step = plan.steps[ordinal]
        is_plain = plan.fragment_of(ordinal).body is None and step.pool is None and step.rate_limit is None
        (by_queue[step.queue] if is_plain else sent).append(ordinal)
    for ordinals in by_queue.values():
        sent += sorted(ordinals, key=order.key, reverse=True)[:most]
    return sent


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
