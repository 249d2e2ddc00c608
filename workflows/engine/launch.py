"""Accepting a run, and starting it.

`submit` commits the run and then publishes one message; `start_run` is what that message does. Should the process die
between commit and publish, the reconciler publishes.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from workflows.compile.plan import Plan
from workflows.db import groups, runs, upkeep
from workflows.db.database import Transaction
from workflows.db.groups import LetGo
from workflows.db.runs import Occasion, RunContext
from workflows.engine import admission, dispatch
from workflows.engine.admission import Admission
from workflows.engine.broker_safety import impatience
from workflows.engine.relay import Relay
from workflows.engine.runtime import Runtime
from workflows.engine.settlement import Settlement
from workflows.model.errors import ConflictError, DatabaseUnavailableError, NotFoundError
from workflows.model.params import coerce_params
from workflows.model.spec import Block
from workflows.model.states import State

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Submitted:
    """An accepted run.

    Attributes:
        is_published: Whether the broker took its message, or there is none to be sent yet. Otherwise it starts as soon
            as a worker's reconciler sees it.
        is_new: False when the idempotency key named a run that was accepted before.
        waits: For a slot of its concurrency group; it begins when another run of the group has ended.
        is_skipped: Its concurrency group was full, and so it has ended (`behavior: skip`).
    """

    run_pk: int
    run_id: str
    is_published: bool
    is_new: bool
    waits: bool = False
    is_skipped: bool = False

    @property
    def status(self) -> str:
        """Its state, when it was accepted just now."""
        return (State.SKIPPED if self.is_skipped else State.PENDING).value


@dataclass(frozen=True, slots=True)
class Order:
    """A run to be accepted.

    Attributes:
        run_id: The id that it shall have; of the same order, tried again, it is the same.
        params: As they are checked and completed; `given` is what somebody gave.
        group: Its concurrency group.
        source: Text of the definition, kept with its version; not needed with a `version_id` that is registered.
        parent: Key of the run, and ordinal of its step, that start it.
    """

    run_id: str
    plan: Plan
    params: dict[str, Any]
    given: dict[str, Any]
    group: str | None
    source: str = ""
    version_id: int | None = None
    manual: bool = True
    idempotency_key: str | None = None
    occasion: Occasion | None = None
    parent: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """A run as its transaction leaves it, and what is to be sent for it."""

    submitted: Submitted
    admission: Admission


def submit(
    runtime: Runtime,
    plan: Plan,
    source: str,
    given: Mapping[str, Any],
    *,
    from_text: bool = False,
    manual: bool = True,
    idempotency_key: str | None = None,
    publish: bool = True,
    patience_seconds: float = 20.0,
) -> Submitted:
    """Accept a run of `plan`.

    Args:
        source: Text of the definition, kept with its version.
        given: Params as the user gave them; `from_text` when they are texts of a command line.
        idempotency_key: Same key and params: the same run.
        publish: False leaves the message to the reconciler.
        patience_seconds: How long to wait for a database that is away.

    Raises:
        ParamError: params that the definition does not declare, or of the wrong kind.
        ConflictError: the idempotency key belongs to a run with other params.
        DatabaseUnavailableError: nothing was accepted.
    """
    params = coerce_params(plan.params, given, from_text=from_text)
    order = Order(
        run_id=runtime.make_id(),
        plan=plan,
        params=params,
        given=dict(given),
        group=admission.group_of(plan, params),
        source=source,
        manual=manual,
        idempotency_key=idempotency_key,
    )
    accepted = runtime.database.retrying(lambda tx: accept(runtime, tx, order), patience_seconds=patience_seconds)
    return announce(runtime, accepted, publish=publish)


def accept(runtime: Runtime, tx: Transaction, order: Order) -> Accepted:
    """Write the run of an order; `announce` it once the transaction is committed.

    Raises:
        ConflictError: the idempotency key belongs to a run of another workflow, or with other params.
    """
    plan = order.plan
    mine = runs.by_run_id(tx, order.run_id)
    if mine is not None:
        # The commit of an earlier try went through, and only its answer was lost.
        return Accepted(Submitted(mine, order.run_id, is_published=False, is_new=True), Admission())
    if order.group is not None:
        groups.lock(tx, order.group)
    version_id = runs.register_version(tx, plan, order.source) if order.version_id is None else order.version_id
    run_pk = runs.add_run(
        tx,
        run_id=order.run_id,
        plan=plan,
        version_id=version_id,
        params=order.params,
        user_params=order.given,
        manual=order.manual,
        idempotency_key=order.idempotency_key,
        redispatch_seconds=runtime.config.redispatch_seconds,
        step_versions=declared_versions(runtime, plan),
        group=order.group,
        occasion=order.occasion,
        parent=order.parent,
    )
    if run_pk is not None:
        admitted = Admission() if order.group is None else admission.admit(tx, plan, order.group, run_pk)
        waits = not admitted.may_begin and not admitted.is_skipped
        made = Submitted(
            run_pk, order.run_id, not admitted.may_begin, is_new=True, waits=waits, is_skipped=admitted.is_skipped
        )
        return Accepted(made, admitted)
    assert order.idempotency_key is not None
    known = runs.by_idempotency_key(tx, order.idempotency_key)
    assert known is not None
    if known[2] != plan.workflow or known[3] != order.params:
        raise ConflictError(
            f"the idempotency key {order.idempotency_key!r} belongs to run {known[1]}, of another workflow or params",
            "use a new key for a new run",
        )
    return Accepted(Submitted(known[0], known[1], is_published=True, is_new=False), Admission(may_begin=False))


def announce(runtime: Runtime, accepted: Accepted, *, publish: bool = True) -> Submitted:
    """Send what an accepted run makes necessary: its own message, and those of runs that were stopped for it."""
    admitted = accepted.admission
    for run_pk, its_plan, settlement in admitted.stopped:
        dispatch.publish(runtime, its_plan, run_pk, settlement)
    if not publish or not admitted.may_begin:
        return accepted.submitted
    run = accepted.submitted
    return replace(run, is_published=dispatch.publish_runs(runtime, [LetGo(run.run_pk, run.run_id)]))


def declared_versions(runtime: Runtime, plan: Plan) -> dict[str, str]:
    """The versions of the plan's steps as this process has them registered, by `uses`; unknown steps are left out."""
    known = {step.uses: runtime.steps.get(step.uses) for step in plan.steps}
    return {uses: definition.version for uses, definition in sorted(known.items()) if definition is not None}


def context_of(runtime: Runtime, run_pk: int) -> RunContext:
    """The run's identity and params; `NotFoundError` when it was deleted."""
    context = runtime.context(run_pk)
    if context is None:
        raise NotFoundError(f"there is no run with the key {run_pk}", "list the runs with `celeriac ps`")
    return context


def start_run(runtime: Runtime, run_pk: int, relay: Relay | None = None) -> bool:
    """Make the run's steps rows and publish what has no dependencies; False when it had been started already.

    Args:
        relay: Told what may be run next without a message.
    """
    context = runtime.context(run_pk)
    if context is None:
        return False
    plan = runtime.plan(context.version_id)
    redispatch = runtime.config.redispatch_seconds

    def work(tx: Transaction) -> bool:
        if runs.start(tx, run_pk, redispatch, plan.timeout_seconds) is None:
            return False
        if not plan.steps:
            runs.finish(tx, run_pk, State.SUCCESS.value, "{}", None)
        return True

    if not runtime.database.retrying(work):
        return False
    if caution := impatience(runtime.config, [plan]):
        _log.warning("run %s: %s", context.run_id, caution)
    ready = list(plan.heads(Block.STEPS))
    if relay is not None:
        relay.keep_back(plan, runtime.order_among(context.version_id, len(ready)), run_pk, ready, [], runtime.clock)
    dispatch.publish(runtime, plan, run_pk, Settlement(ready=ready))
    return True


def leave(runtime: Runtime) -> None:
    """This worker ends in an orderly way."""
    try:
        runtime.database.retrying(
            lambda tx: upkeep.say_goodbye(tx, runtime.node), autocommit=True, patience_seconds=2.0
        )
    except DatabaseUnavailableError:
        _log.info("the database is away; this worker will be forgotten by itself")
    runtime.database.close()
