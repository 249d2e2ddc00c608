"""What a relay goes on with, and what of a message's canvas Celery is left to send when the task returns.

Celery keeps the rest of a chain with the message, the nearest task last, and sends that one, with the rest, once the
task has returned. So a relay takes tasks from the end of that list, and what it does not take goes Celery's way.
"""

from __future__ import annotations

from itertools import takewhile
from typing import Any

from celery.app.task import Context

from workflows.compile.plan import Plan
from workflows.db import units
from workflows.db.runs import RunContext
from workflows.db.units import Unit
from workflows.engine import dispatch
from workflows.engine.canvas import STEP_TASK, step_signature
from workflows.engine.order import Order, is_wide
from workflows.engine.relay import MOST_STEPS, Relay
from workflows.engine.runtime import Runtime

SLOW_SECONDS = 0.02
"""Steps that take longer are worth a look at what else is ready: the order matters, and the look costs little."""

MOST_SEEN = 500
"""Ready steps that are looked at."""


def of_message(runtime: Runtime, request: Context, run_pk: int) -> Relay:
    """What a message may go on with."""
    queues = frozenset(runtime.app.amqp.queues.consume_from)
    carried = _carried(request, run_pk)
    is_open = len(carried) == len(request.chain or ()) and not (request.chord or request.callbacks)
    return Relay.of(queues, runtime.clock, carried, is_open=is_open)


def following(runtime: Runtime, plan: Plan, context: RunContext, relay: Relay) -> Unit | None:
    """The unit to run next: of the chain, the one that was kept back, or one of those that are ready."""
    is_slow = relay.seconds >= SLOW_SECONDS
    if is_slow:
        relay.found.clear()  # what was ready before that step
        _send_spare(runtime, plan, context, relay)
        _prefer(runtime, plan, context, relay)
    if relay.is_free(runtime.clock):
        if relay.spare:
            relay.adopt(plan, context.run_pk, relay.spare.pop())
        else:
            _look(runtime, plan, context, relay, is_slow=is_slow)
    return relay.take(plan, context.run_pk, runtime.clock)


def pass_on(runtime: Runtime, plan: Plan, context: RunContext, relay: Relay) -> None:
    """Send what was kept back in vain; where ready steps have no message, one that has done enough sends another."""
    _send_spare(runtime, plan, context, relay)
    if is_wide(plan) and relay.is_open and relay.is_over(runtime.clock):
        order = runtime.order(context.version_id)
        found = relay.found or _ready(runtime, plan, order, context.run_pk, relay)
        if found:
            dispatch.publish_steps(runtime, plan, context.run_pk, found[-1:])


def leave_to_celery(runtime: Runtime, request: Context, run_pk: int, relay: Relay) -> None:
    """Let Celery send what the relay has left of a chain, its own or an adopted one."""
    if not relay.is_adopted:
        taken = relay.carried - len(relay.chain)
        if taken:
            del request.chain[-taken:]
        return
    request.chain = None
    context = runtime.context(run_pk) if relay.chain else None
    if context is not None:
        steps = runtime.plan(context.version_id).steps
        request.chain = [
            step_signature(runtime.app, run_pk, ordinal, queue=steps[ordinal].queue) for ordinal in relay.chain
        ]


def _look(runtime: Runtime, plan: Plan, context: RunContext, relay: Relay, *, is_slow: bool) -> None:
    """Adopt a step that is ready, where some have no message or the look costs little."""
    order = runtime.learned_order(context.version_id) if is_slow else runtime.order(context.version_id)
    if is_slow or is_wide(plan) or order.brief:
        relay.found = relay.found or _ready(runtime, plan, order, context.run_pk, relay)
        if relay.found:
            relay.adopt(plan, context.run_pk, relay.found.pop())


def _send_spare(runtime: Runtime, plan: Plan, context: RunContext, relay: Relay) -> None:
    """Let others run what was kept back for being brief."""
    if relay.spare:
        spare, relay.spare = relay.spare, []
        dispatch.publish_steps(runtime, plan, context.run_pk, spare)


def _prefer(runtime: Runtime, plan: Plan, context: RunContext, relay: Relay) -> None:
    """Exchange the step that was kept back for one that was ready before and should go first."""
    kept = relay.next
    if kept is None or kept.part:
        return
    order = runtime.learned_order(context.version_id)
    relay.found = _ready(runtime, plan, order, context.run_pk, relay)
    if relay.found and order[relay.found[-1]] > order[kept.ordinal]:
        dispatch.publish_steps(runtime, plan, context.run_pk, [kept.ordinal])
        relay.adopt(plan, context.run_pk, relay.found.pop())


def _ready(runtime: Runtime, plan: Plan, order: Order, run_pk: int, relay: Relay) -> list[int]:
    """Some of the steps that are ready and fit, the best last.

    Of equals any: other relays look at the same ones, and two that take the same one have lost a statement.
    """
    seen = runtime.database.retrying(lambda tx: units.ready_heads(tx, run_pk, MOST_SEEN), autocommit=True)
    kept = None if relay.next is None else relay.next.ordinal
    fitting = [ordinal for ordinal in seen if ordinal != kept and relay.fits(plan, ordinal)]
    runtime.random.shuffle(fitting)
    return sorted(fitting, key=lambda ordinal: order[ordinal])[-MOST_STEPS:]


def _carried(request: Context, run_pk: int) -> list[int]:
    """Ordinals of the steps that follow in the chain, the nearest last, up to one that a chord waits for."""

    def is_plain(task: dict[str, Any]) -> bool:
        is_step = task["task"] == STEP_TASK and len(task["args"]) == 2 and task["args"][0] == run_pk
        return is_step and not task["options"].get("chord") and not task["options"].get("link")

    return [task["args"][1] for task in takewhile(is_plain, reversed(request.chain or ()))][::-1]
