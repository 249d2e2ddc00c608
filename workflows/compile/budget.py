"""What a plan may cost the broker. The sizes are measured elsewhere; here they are added up and judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from workflows.model.errors import CeleriacError

LARGEST_BYTES = 8192
"""No message of a plan may be larger."""

MEAN_BYTES = 2048
"""The messages of a plan may not be larger on average."""


class BudgetError(CeleriacError):
    """The messages of a plan are larger than the broker should have to carry."""


@dataclass(frozen=True, slots=True)
class MessageSize:
    """One message as the broker gets it.

    Attributes:
        kind: `job` starts the run; `step`, `chain`, `group`, `chord header` and `chord body` deliver a step.
        ordinal: The step that it delivers; None for the job.
        bytes: Size of the whole envelope: headers, properties and encoded body.
    """

    kind: str
    ordinal: int | None
    queue: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Budget:
    """What all messages of an undisturbed run add up to, ranges of maps left out."""

    count: int
    largest_bytes: int
    mean_bytes: int
    total_bytes: int


def weigh(messages: Sequence[MessageSize]) -> Budget:
    """Add up the sizes; the mean is rounded up."""
    total = sum(message.bytes for message in messages)
    largest = max((message.bytes for message in messages), default=0)
    return Budget(len(messages), largest, -(-total // max(1, len(messages))), total)


def check_budget(messages: Sequence[MessageSize]) -> Budget:
    """Add up the sizes and hold them against the limits.

    Raises:
        BudgetError: the largest or the mean message is over its limit.
    """
    budget = weigh(messages)
    # A message holds ids, digits and queue names alone, so only the names can be too long.
    if budget.largest_bytes > LARGEST_BYTES:
        raise BudgetError(
            f"the largest message of this plan has {budget.largest_bytes} bytes, the limit is {LARGEST_BYTES}",
            "shorten the names of its queues",
        )
    if budget.mean_bytes > MEAN_BYTES:
        raise BudgetError(
            f"the messages of this plan have {budget.mean_bytes} bytes on average, the limit is {MEAN_BYTES}",
            "shorten the names of its queues",
        )
    return budget
