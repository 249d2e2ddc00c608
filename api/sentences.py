"""How a run stands, in one sentence for people."""

from __future__ import annotations

from workflows.db.progress import ActiveStep
from workflows.db.queries import RunView
from workflows.model.states import State


def sentence(run: RunView, active: ActiveStep | None) -> str:
    """The sentence, such as: Running process_papers: 15 of 60 items done.

    Args:
        active: The step that is at work, or waits for its next try; None when there is none.
    """
    match run.status:
        case State.SUCCESS:
            return f"Finished all {run.steps_total} steps."
        case State.FAILURE:
            return f"{run.error[:1].upper()}{run.error[1:]}." if run.error else "Failed."
        case State.REVOKED:
            return "Cancelled."
        case State.PAUSED:
            done = f"{run.steps_total - run.steps_open} of {run.steps_total} steps done"
            return f"Paused: {done}." if active is None else f"Paused: {done}, {active.step_id} comes to its end."
        case State.SKIPPED:
            return f"{run.error[:1].upper()}{run.error[1:]}." if run.error else "Skipped."
        case State.PENDING if run.is_waiting:
            return "Queued: waiting for another run of its concurrency group to end."
        case State.PENDING:
            return "Queued: waiting for a worker."
        case _:
            return _at_work(run, active)


def _at_work(run: RunView, active: ActiveStep | None) -> str:
    if run.cancel_requested:
        return "Stopping: the steps in progress come to their end."
    if active is None:
        return f"{run.steps_total - run.steps_open} of {run.steps_total} steps done, the next one is queued."
    if active.status == State.RETRY:
        return f"The step {active.step_id} failed and is tried again {_in(active.due_in_seconds)}."
    if active.status == State.WAITING:
        return f"The step {active.step_id} is waiting."
    if active.items_total is not None:
        return f"Running {active.step_id}: {active.items_done} of {active.items_total} items done."
    return f"Running {active.step_id}."


def _in(seconds: float | None) -> str:
    return "at once" if not seconds else f"in {seconds:.0f} s"
