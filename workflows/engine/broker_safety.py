"""Whether a broker may be trusted with messages, and for how long it lets a step keep its own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from workflows.compile.plan import Plan
from workflows.model.errors import BrokerUnsafeError
from workflows.settings import Config

SAFE_POLICY = "noeviction"
_MEND = (
    f"set it with `CONFIG SET maxmemory-policy {SAFE_POLICY}` and in the server's configuration (or the parameter group"
    " of a managed one), or give Celeriac a server of its own: one that is a cache for others throws messages away"
)


@dataclass(frozen=True, slots=True)
class Memory:
    """What a Redis or Valkey does when its memory is full, as `INFO memory` tells it.

    Attributes:
        policy: `maxmemory_policy`; empty when the server does not tell.
        limit_bytes: `maxmemory`; 0 means none, and None that the server does not tell.
    """

    policy: str
    limit_bytes: int | None


def examine_memory(memory: Memory) -> str:
    """What to be careful about with such a broker; empty when all is well.

    Raises:
        BrokerUnsafeError: it drops keys when its memory is full, messages or the counters of chords among them.
    """
    if not memory.policy:
        return (
            "the broker does not say what it does when its memory is full; "
            f"see to it that its maxmemory-policy is {SAFE_POLICY}"
        )
    if memory.policy == SAFE_POLICY:
        return ""
    if memory.limit_bytes == 0:
        return (
            f"the broker has the maxmemory-policy {memory.policy}, and would throw messages away as soon as a maxmemory"
            f" is set; {_MEND}"
        )
    raise BrokerUnsafeError(
        f"the broker throws messages away when its memory is full: its maxmemory-policy is {memory.policy}", _MEND
    )


def impatience(config: Config, plans: Iterable[Plan]) -> str:
    """The steps that may run for longer than the broker waits for them, as a sentence; empty when there are none."""
    patience = config.consumer_timeout_seconds if config.is_amqp else config.visibility_timeout_seconds
    steps = [
        f"'{step.id}' of {plan.workflow} ({step.timeout_seconds:g} s)"
        for plan in plans
        for step in plan.steps
        if step.timeout_seconds is not None and step.timeout_seconds > patience
    ]
    if not steps:
        return ""
    listed = ", ".join(steps[:3]) + (f" and {len(steps) - 3} more" if len(steps) > 3 else "")
    template = _AMQP_PATIENCE if config.is_amqp else _REDIS_PATIENCE
    return template.format(patience=patience, steps=listed)


_REDIS_PATIENCE = (
    "the broker hands the message of a step out again after {patience} s, and these may take longer: {steps}; "
    "each copy is turned away, at the price of a slot for a moment: set CELERIAC_VISIBILITY_TIMEOUT above the longest "
    "timeout, for workers and whoever starts runs alike"
)
_AMQP_PATIENCE = (
    "RabbitMQ cuts off a worker whose step has not ended after {patience} s, and these may take longer: {steps}; "
    "the step goes on and the worker comes back, but every message it had taken goes round again: set consumer_timeout "
    "in rabbitmq.conf above the longest timeout, and tell Celeriac by CELERIAC_CONSUMER_TIMEOUT, in seconds"
)
