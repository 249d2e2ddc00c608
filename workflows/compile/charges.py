"""What a run may cost, told before it starts: each step that charges something says what its calls may take."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from workflows.compile.forecast import Work, works_of
from workflows.compile.plan import Plan
from workflows.model.errors import ExpressionError
from workflows.model.expressions import render
from workflows.model.spec import Json


@dataclass(frozen=True, slots=True)
class Charge:
    """What calls of a step take at most.

    Attributes:
        amount: In `unit`, such as tokens.
        of: What is asked: the name of a model, say.
        cost: In the currency of whoever set the prices; 0 costs nothing.
        limit: What the run may cost, in the same currency; None is without one.
    """

    amount: int
    unit: str
    of: str
    cost: float
    limit: float | None = None


Charging = Callable[[Mapping[str, Json], int], Charge]
"""What so many items, in calls with this input, take. The input holds what is known before the run starts."""


@dataclass(frozen=True, slots=True)
class StepCharge:
    """The charge of one step of a plan.

    Attributes:
        calls: That were counted; `is_known` tells whether past runs or a person said how many there are.
    """

    step: str
    calls: int
    is_known: bool
    charge: Charge

    def to_json(self) -> dict[str, Json]:
        """As `celeriac plan --json` prints it."""
        told = self.charge
        return {
            "calls": self.calls,
            "is_known": self.is_known,
            "amount": told.amount,
            "unit": told.unit,
            "of": told.of,
            "cost": told.cost,
            "limit": told.limit,
        }


def charges(
    plan: Plan, charging: Mapping[str, Charging], params: Mapping[str, Json], known: Mapping[str, Work]
) -> tuple[StepCharge, ...]:
    """What the steps of a plan take at most, in the order of the plan.

    Args:
        charging: By what `uses:` names.
        params: Of the run.
        known: What steps cost in time, by id: how many calls of a map there are.
    """
    works = works_of(plan, known)
    found = []
    for step in plan.steps:
        if step.uses in charging:
            calls = works[step.ordinal].calls
            items = calls * (step.for_each.batch or 1) if step.for_each is not None else 1
            charge = charging[step.uses](dict(_given(step.with_, params)), items)
            found.append(StepCharge(step.id, calls, step.for_each is None or step.id in known, charge))
    return tuple(found)


def charges_text(found: tuple[StepCharge, ...]) -> Iterator[str]:
    """The charges in lines for people."""
    for one in found:
        told = one.charge
        price = f"{told.cost:.4g}" if told.cost else "nothing"
        calls = f"{one.calls:,} call{'' if one.calls == 1 else 's'}" + (
            "" if one.is_known else f", a guess (--assume {one.step}=SECONDSxCALLS)"
        )
        limit = "" if told.limit is None else f"; the budget is {told.limit:g}"
        if told.limit is not None and told.cost > told.limit:
            limit += ", which is less"
        yield f"{one.step}  at most {told.amount:,} {told.unit} of {told.of} in {calls}: costs {price}{limit}"


def _given(inputs: Mapping[str, Json], params: Mapping[str, Json]) -> Iterator[tuple[str, Json]]:
    for name, value in inputs.items():
        with suppress(ExpressionError):
            yield name, render(value, {"params": params})
