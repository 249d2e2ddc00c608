"""What a step was given, for people: evaluated anew, because nobody keeps it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from workflows.db import payloads, runs
from workflows.db.database import Transaction
from workflows.engine.runtime import Runtime
from workflows.engine.scope import scope_of
from workflows.model.errors import ExpressionError
from workflows.model.expressions import render

MASK = "***"


@dataclass(frozen=True, slots=True)
class Given:
    """The input of a step.

    Attributes:
        given: With all expressions evaluated; None while they cannot be, for a map, or when it is too large to show.
        template: As the definition has it.
    """

    given: dict[str, Any] | None
    template: dict[str, Any]


class _Masked(Mapping[str, str]):
    """Every secret, hidden."""

    def __getitem__(self, name: str) -> str:
        return MASK

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def step_input(tx: Transaction, runtime: Runtime, run_pk: int, ordinal: int, *, is_begun: bool) -> Given:
    """What the step is given, once it has begun."""
    context = runs.load_context(tx, run_pk)
    if context is None:
        return Given(None, {})
    plan = runtime.plan(context.version_id)
    step = plan.steps[ordinal]
    template = dict(step.with_)
    if step.for_each is not None or not is_begun:
        return Given(None, template)
    try:
        given = render(template, {**scope_of(tx, plan, step, context), "secret": _Masked()})
    except ExpressionError:
        return Given(None, template)
    text = json.dumps(given)
    if payloads.is_large(text):
        return Given(None, template)
    return Given(json.loads(runtime.secrets.redact_values(text)), template)
