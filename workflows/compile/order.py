"""Numbering: from named steps in the order of a file to ordinals that depend on nothing but what the graph says."""

from __future__ import annotations

from workflows.model.errors import CeleriacError
from workflows.model.spec import StepSpec, Workflow


class GraphError(CeleriacError):
    """The steps do not form an acyclic graph: one needs itself in the end, or needs a step that is not there."""


def order_steps(workflow: Workflow) -> tuple[StepSpec, ...]:
    """The steps block by block, in topological order: by the length of the longest path to them, then by id.

    The order of the file does not matter, so that equal definitions give equal plans.

    >>> steps = StepSpec("join", "x", needs=("b", "a")), StepSpec("b", "x", needs=("a",)), StepSpec("a", "x")
    >>> [step.id for step in order_steps(Workflow("w", steps))]
    ['a', 'b', 'join']

    Raises:
        GraphError: a cycle, an unknown step under `needs`, or two steps with one id.
    """
    by_id = {step.id: step for step in workflow.steps}
    if len(by_id) < len(workflow.steps):
        raise GraphError(f"workflow '{workflow.id}' has two steps with one id", "give every step an id of its own")
    depths = _depths(workflow, by_id)
    return tuple(sorted(workflow.steps, key=lambda step: (step.block.turn, depths[step.id], step.id)))


def _depths(workflow: Workflow, by_id: dict[str, StepSpec]) -> dict[str, int]:
    waiting = {step.id: len(set(step.needs)) for step in workflow.steps}
    dependents: dict[str, list[str]] = {step_id: [] for step_id in by_id}
    for step in workflow.steps:
        for needed in set(step.needs):
            if needed not in by_id:
                raise GraphError(
                    f"step '{step.id}' needs '{needed}', which workflow '{workflow.id}' does not have",
                    "add that step, or take the name out of `needs`",
                )
            dependents[needed].append(step.id)
    depths = {step_id: 0 for step_id, count in waiting.items() if count == 0}
    ready = list(depths)
    while ready:
        done = ready.pop()
        for after in dependents[done]:
            waiting[after] -= 1
            if waiting[after] == 0:
                depths[after] = 1 + max(depths[needed] for needed in by_id[after].needs)
                ready.append(after)
    if len(depths) < len(by_id):
        stuck = ", ".join(sorted(by_id.keys() - depths.keys())[:5])
        raise GraphError(
            f"the steps of workflow '{workflow.id}' wait for each other in a circle (near: {stuck})",
            "take one of the edges between them out of `needs`",
        )
    return depths
