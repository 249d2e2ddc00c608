"""`rerun`: a new run that takes over the outputs of an ended one as far as they are still the right ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workflows.compile.plan import Plan
from workflows.compile.reuse import Ended, Verdict, decide_reuse
from workflows.db import groups, progress, runs, takeover, units
from workflows.db.database import Transaction
from workflows.db.queries import RunView
from workflows.db.runs import STEP_PROGRESS, Occasion, Transition
from workflows.engine import dispatch
from workflows.engine.admission import group_of
from workflows.engine.control import PATIENCE_SECONDS, find
from workflows.engine.launch import declared_versions
from workflows.engine.runtime import Runtime
from workflows.engine.settlement import Settlement, advance, spread
from workflows.model.errors import ConflictError, NotFoundError
from workflows.model.params import coerce_params
from workflows.model.spec import Block
from workflows.model.states import State


@dataclass(frozen=True, slots=True)
class Rerun:
    """What a rerun does, or with a dry run would.

    Attributes:
        of: Id of the earlier run.
        run_id: Id of the new run; None after a dry run.
        verdicts: For each step of the new run, in topological order, whether its output was taken over, and why.
    """

    of: str
    run_id: str | None
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True, slots=True)
class Definition:
    """An edited definition, compiled, with its text."""

    plan: Plan
    source: str


@dataclass(frozen=True, slots=True)
class _Order:
    """A rerun, all decided.

    Attributes:
        given: The params that were given, this time or the last; `params` are those with the defaults of the rest.
        source: Text of the definition; None for the version of the earlier run.
    """

    earlier: RunView
    plan: Plan
    source: str | None
    given: Mapping[str, Any]
    params: Mapping[str, Any]
    versions: Mapping[str, str]
    start: str | None
    verdicts: tuple[Verdict, ...]

    @property
    def reused(self) -> list[int]:
        """Ordinals of the steps that are taken over."""
        return [ordinal for ordinal, verdict in enumerate(self.verdicts) if verdict.is_reused]


def rerun(
    runtime: Runtime,
    name: str,
    *,
    definition: Definition | None = None,
    params: Mapping[str, Any] | None = None,
    from_text: bool = False,
    start: str | None = None,
    dry_run: bool = False,
    patience_seconds: float = PATIENCE_SECONDS,
) -> Rerun:
    """Run an ended run again as a new one; what is equal is not done again.

    Args:
        runtime: Knows the steps: their declared versions are compared.
        definition: An edited definition of the same workflow; without it the version that the run had.
        params: Those that are to be other than they were; `from_text` when they are texts of a command line.
        start: This step and all that comes after it run again in any case.
        dry_run: Only say what would be taken over.

    Raises:
        ConflictError: the run has not ended, the definition is of another workflow, or its concurrency group is full.
        NotFoundError: there is no such run, or no step `start`.
        ParamError: params that the definition does not declare, or of the wrong kind.
    """
    earlier = find(runtime, name, patience_seconds=patience_seconds)
    order = _decide(runtime, earlier, definition, params or {}, from_text, start, patience_seconds)
    if dry_run:
        return Rerun(earlier.run_id, None, order.verdicts)
    run_id = runtime.make_id()
    run_pk, settlement = runtime.database.retrying(
        lambda tx: _accept(tx, runtime, run_id, order), patience_seconds=patience_seconds
    )
    dispatch.publish(runtime, order.plan, run_pk, settlement)
    return Rerun(earlier.run_id, run_id, order.verdicts)


def _decide(
    runtime: Runtime,
    earlier: RunView,
    definition: Definition | None,
    changed: Mapping[str, Any],
    from_text: bool,
    start: str | None,
    patience_seconds: float,
) -> _Order:
    if not earlier.is_ended:
        raise ConflictError(
            f"run {earlier.run_id} is {earlier.status} and has not ended",
            "wait for its end, or cancel it",
        )
    old = runtime.plan(earlier.version_id, patience_seconds=patience_seconds)
    plan = old if definition is None else definition.plan
    if plan.workflow != earlier.workflow:
        raise ConflictError(
            f"run {earlier.run_id} is of workflow '{earlier.workflow}', the definition is of '{plan.workflow}'",
            "a rerun is of the same workflow; `celeriac run` starts another one",
        )
    if start is not None and all(step.id != start for step in plan.steps):
        raise NotFoundError(f"workflow '{plan.workflow}' has no step '{start}'")

    def read(tx: Transaction) -> tuple[progress.Origin, dict[str, str]]:
        return progress.origin(tx, earlier.run_pk), takeover.statuses(tx, earlier.run_pk)

    origin, statuses = runtime.database.retrying(read, autocommit=True, patience_seconds=patience_seconds)
    given = _given(plan, earlier, tuple(origin.user_params), changed, from_text)
    params = coerce_params(plan.params, given)
    versions = declared_versions(runtime, plan)
    ended = Ended(old, earlier.params, origin.step_versions, statuses)
    verdicts = decide_reuse(plan, params, versions, ended, start)
    source = None if definition is None else definition.source
    return _Order(earlier, plan, source, given, params, versions, start, verdicts)


def _given(
    plan: Plan, earlier: RunView, before: Sequence[str], changed: Mapping[str, Any], from_text: bool
) -> dict[str, Any]:
    """The params as they were given the last time, as far as they are still declared, and the changed ones."""
    declared = {spec.name: spec for spec in plan.params}
    given = {name: earlier.params[name] for name in before if name in declared}
    specs = tuple(spec for name, spec in declared.items() if name in changed)
    typed = coerce_params(specs, {spec.name: changed[spec.name] for spec in specs}, from_text=from_text)
    return {**given, **changed, **typed}


def _accept(tx: Transaction, runtime: Runtime, run_id: str, order: _Order) -> tuple[int, Settlement]:
    """The new run begins in this transaction, with what it takes over; gives its key, and what to publish."""
    plan, redispatch = order.plan, runtime.config.redispatch_seconds
    mine = runs.by_run_id(tx, run_id)
    if mine is not None:
        return mine, Settlement()  # An earlier try was committed, and its answer lost: the reconciler publishes.
    group = group_of(plan, dict(order.params))
    if group is not None:
        groups.lock(tx, group)
        if plan.concurrency is not None and groups.is_full(tx, group, plan.concurrency.limit):
            raise ConflictError(
                f"concurrency group '{group}' is full", "wait until another run of the group has ended, or cancel one"
            )
    version_id = order.earlier.version_id if order.source is None else runs.register_version(tx, plan, order.source)
    run_pk = runs.add_run(
        tx,
        run_id=run_id,
        plan=plan,
        version_id=version_id,
        params=dict(order.params),
        user_params=dict(order.given),
        manual=True,
        idempotency_key=None,
        redispatch_seconds=redispatch,
        step_versions=dict(order.versions),
        rerun_of=order.earlier.run_id,
        group=group,
        # Its steps read the same time as those of the run that it runs again.
        occasion=Occasion(order.earlier.schedule, order.earlier.fire_time) if order.earlier.schedule else None,
    )
    assert run_pk is not None
    again = {verdict.step: verdict.why for verdict in order.verdicts if not verdict.is_reused}
    detail = {"rerun_of": order.earlier.run_id, "from": order.start, "runs_again": again}
    runs.start(tx, run_pk, redispatch, plan.timeout_seconds, detail)
    return run_pk, _take_over(tx, run_pk, order, redispatch)


def _take_over(tx: Transaction, run_pk: int, order: _Order, redispatch_seconds: float) -> Settlement:
    """Steps that are taken over have ended; what follows from that is as after any other end."""
    plan, reused = order.plan, order.reused
    settlement = Settlement(ended=len(reused), progress=len(reused) * STEP_PROGRESS)
    settlement.ready = [ordinal for ordinal in plan.heads(Block.STEPS) if ordinal not in reused]
    if not reused:
        return settlement
    if not takeover.take_over(tx, run_pk, order.earlier.run_pk, reused):
        raise ConflictError(f"run {order.earlier.run_id} was changed or deleted meanwhile", "try again")
    # The canvas of a fragment begins with its first steps: without these the others arrive one by one.
    cut = {plan.steps[ordinal].fragment for ordinal in reused}
    units.leave_canvas(tx, run_pk, [step.ordinal for step in plan.steps if step.fragment in cut])
    settlement.transitions = [
        Transition(ordinal, 0, State.SUCCESS.value, {"reused_from": order.earlier.run_id}) for ordinal in reused
    ]
    taken = set(reused)
    for ordinal in reused:
        if not taken.issuperset(plan.steps[ordinal].successors):
            spread(tx, plan, run_pk, ordinal, State.SUCCESS, redispatch_seconds, settlement)
    context = runs.load_context(tx, run_pk)
    assert context is not None
    advance(tx, plan, context, context.started_at or 0.0, plan.steps[reused[-1]].id, settlement)
    return settlement
