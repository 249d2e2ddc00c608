"""The control verbs: what a person may do to a run from any process."""

from __future__ import annotations

from workflows.db import interventions
from workflows.db.database import Transaction
from workflows.db.interventions import CancelAnswer
from workflows.db.queries import RunView, find_run
from workflows.engine import dispatch
from workflows.engine.launch import context_of
from workflows.engine.runtime import Runtime
from workflows.engine.settlement import Settlement
from workflows.model.errors import ConflictError


def find(runtime: Runtime, name: str) -> RunView:
    """The run named by its id, the beginning of it, or `latest`; `NotFoundError` when there is none."""
    return runtime.database.retrying(lambda tx: find_run(tx, name), autocommit=True, patience_seconds=20.0)


def cancel(runtime: Runtime, name: str) -> CancelAnswer:
    """Cancel a run; asked again, or of an ended run, it answers the final figures."""
    context = context_of(runtime, find(runtime, name).run_pk)
    plan = runtime.plan(context.version_id)
    return runtime.database.retrying(lambda tx: interventions.cancel(tx, plan, context), patience_seconds=20.0)


def retry(runtime: Runtime, name: str) -> RunView:
    """Go on with a run that failed or was cancelled: failed steps, failed calls of maps, and what waited for them.

    Raises:
        ConflictError: the run has not failed, or a step of it is still stopping.
    """
    run = find(runtime, name)
    version_id = context_of(runtime, run.run_pk).version_id
    plan = runtime.plan(version_id)
    redispatch = runtime.config.redispatch_seconds

    def work(tx: Transaction) -> list[int] | None:
        return interventions.resume(tx, plan, run.run_pk, version_id, redispatch)

    ready = runtime.database.retrying(work, patience_seconds=20.0)
    if ready is None:
        raise ConflictError(
            f"run {run.run_id} is {run.status} and cannot be retried",
            "only a run in FAILURE or REVOKED whose last steps have stopped goes on; `celeriac run` starts a new one",
        )
    runtime.forget(run.run_pk)
    dispatch.publish_singly(runtime, plan, run.run_pk, Settlement(ready=ready))
    return find(runtime, run.run_id)
