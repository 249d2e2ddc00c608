"""Which outputs of an earlier run a new one may take over: decided before it starts, with a reason for every step.

A step's output depends on what it is (`uses` and the declared version of that step), on what it is given (the texts of
its expressions, the params and steps that they read) and on what ran before it. It does not depend on how it is run:
`retry`, `timeout`, `queue` and `max_parallel` may change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from workflows.compile.plan import Plan, PlanStep
from workflows.model.expressions import references
from workflows.model.spec import Block, Json
from workflows.model.states import State


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that has ended, as far as it can lend outputs.

    Attributes:
        versions: Declared versions of the steps, by `uses`, as the process knew them that accepted the run. A step
            that it did not know is equal to no other.
        statuses: States of the steps, by id.
    """

    plan: Plan
    params: Mapping[str, Json]
    versions: Mapping[str, str]
    statuses: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one step of the new run, and why."""

    step: str
    is_reused: bool
    why: str


def decide_reuse(
    plan: Plan, params: Mapping[str, Json], versions: Mapping[str, str], ended: Ended, start: str | None = None
) -> tuple[Verdict, ...]:
    """A verdict on each step of `plan`, in its order.

    Args:
        start: This step runs again, with all that comes after it.
    """
    before = {step.id: step for step in ended.plan.steps}
    verdicts: list[Verdict] = []
    forced: set[int] = set()
    for step in plan.steps:
        why = None
        if step.id == start:
            why = "it is where the rerun begins"
        elif forced.intersection(step.predecessors):
            why = f"it comes after '{start}'"
        if why is not None:
            forced.add(step.ordinal)
        elif step.block is not Block.STEPS:
            why = "what comes after the steps belongs to the run that it ends"
        else:
            why = _other(step, before.get(step.id), params, versions, ended)
        if why is None:
            again = next((o for o in step.predecessors if not verdicts[o].is_reused), None)
            why = None if again is None else f"'{plan.steps[again].id}' runs again before it"
        reused = "definition, params and all before it are as they were"
        verdicts.append(Verdict(step.id, why is None, why or reused))
    return tuple(verdicts)


def _other(
    step: PlanStep, old: PlanStep | None, params: Mapping[str, Json], versions: Mapping[str, str], ended: Ended
) -> str | None:
    """What of the step itself is other than it was; None when nothing is."""
    if old is None:
        return "it is new"
    status = ended.statuses.get(step.id)
    if status is None:
        return "it did not run"
    if status != State.SUCCESS:
        return f"it was {status}"
    if step.uses != old.uses:
        return f"it uses '{step.uses}', not '{old.uses}'"
    version, known = versions.get(step.uses), ended.versions.get(step.uses)
    if version is None or known is None:
        return f"the version of '{step.uses}' is not known"
    if version != known:
        return f"'{step.uses}' has version {version}, not {known}"
    changed = next((name for name, part in _parts(step).items() if part != _parts(old)[name]), None)
    if changed is not None:
        return f"'{changed}' is other than it was"
    reads = references(list(_parts(step).values()))
    if reads.run:
        return "it reads 'run', which is another one"
    param = next((name for name in sorted(reads.params) if params.get(name) != ended.params.get(name)), None)
    return None if param is None else f"param '{param}' is other than it was"


def _parts(step: PlanStep) -> dict[str, Any]:
    """What is written about a step and decides on its output, by the word in the definition."""
    mapping = step.for_each
    return {
        "with": dict(step.with_),
        "when": step.when,
        "items": mapping and mapping.items,
        "key": mapping and mapping.key,
        "batch": mapping and [mapping.batch, mapping.batch_bytes],
        "tolerate": mapping and [mapping.tolerate.count, mapping.tolerate.percent],
    }
