"""The run within a step: accepted once, found again at every wake-up, gone on with after a retry by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workflows.db import sub_runs, units
from workflows.db.database import Transaction
from workflows.db.sub_runs import Child
from workflows.db.units import Claim
from workflows.engine import admission, control, launch
from workflows.engine.launch import Accepted, Order
from workflows.engine.runtime import Runtime
from workflows.model.errors import CeleriacError, DatabaseUnavailableError, PermanentError
from workflows.model.params import coerce_params
from workflows.model.states import State
from workflows.steps.context import SubRun

DEEPEST = 8
"""Runs within runs: a workflow that calls itself ends here."""


class LostClaimError(CeleriacError):
    """The step has another owner by now."""


def follow(runtime: Runtime, claim: Claim, workflow: str, params: Mapping[str, Any]) -> SubRun:
    """The sub-run of the claimed step as it stands: accepted now if there is none.

    A step that looks for the first time since a failure, or a retry by hand, sets one going again that has failed.

    Raises:
        PermanentError: there is no such workflow, it cannot be compiled, or the params do not fit.
        LostClaimError: another worker has the step.
    """
    unit, is_first = claim.unit, claim.parked_since is None
    try:
        child = runtime.database.retrying(lambda tx: sub_runs.find(tx, unit.run_pk, unit.ordinal), autocommit=True)
        if child is not None and is_first and child.status in (State.FAILURE, State.REVOKED):
            control.retry(runtime, child.run_id)
            return SubRun(child.run_id, child.workflow, State.PROGRESS.value, {}, None)
        if child is None or (is_first and child.status == State.SKIPPED):
            return _accept(runtime, claim, workflow, params)
    except (DatabaseUnavailableError, LostClaimError):
        raise
    except CeleriacError as error:
        raise PermanentError(f"{error} ({error.hint})" if error.hint else str(error)) from error
    return _view(child)


def _accept(runtime: Runtime, claim: Claim, workflow: str, params: Mapping[str, Any]) -> SubRun:
    entry = runtime.definitions.get(workflow)
    _, plan = entry.compiled()
    checked = coerce_params(plan.params, params)
    unit = claim.unit
    order = Order(
        run_id=runtime.make_id(),
        plan=plan,
        params=checked,
        given=dict(params),
        group=admission.group_of(plan, checked),
        source=entry.text,
        manual=False,
        parent=(unit.run_pk, unit.ordinal),
    )

    def work(tx: Transaction) -> Accepted | Child:
        # The step's row is locked until the end: no second owner of it starts a second run.
        if not units.hold(tx, claim, runtime.config.lease_seconds):
            raise LostClaimError("the step was taken over by another worker")
        known = sub_runs.find(tx, unit.run_pk, unit.ordinal)
        if known is not None and known.status != State.SKIPPED:
            return known
        if known is not None:
            sub_runs.detach(tx, known.run_pk)
        _check_ancestry(sub_runs.ancestry(tx, unit.run_pk), order)
        return launch.accept(runtime, tx, order)

    found = runtime.database.retrying(work)
    if isinstance(found, Child):
        return _view(found)
    submitted = launch.announce(runtime, found)
    error = f"the concurrency group of '{workflow}' is full" if submitted.is_skipped else None
    return SubRun(submitted.run_id, workflow, submitted.status, {}, error)


def _check_ancestry(ancestry: list[tuple[str, str | None]], order: Order) -> None:
    if len(ancestry) >= DEEPEST:
        line = " > ".join(name for name, _ in reversed(ancestry))
        raise PermanentError(f"runs are nested {DEEPEST} deep already: {line}; does a workflow call itself?")
    if order.group is not None and order.group in {group for _, group in ancestry}:
        raise PermanentError(
            f"'{order.plan.workflow}' would wait for the run that it is a part of: both are in the concurrency group "
            f"'{order.group}'; give it another group"
        )


def _view(child: Child) -> SubRun:
    return SubRun(child.run_id, child.workflow, child.status, child.outputs, child.error)
