"""The life of one message: claim, run, complete, publish.

Correctness never depends on the message. It may come twice, late, early or never: the claim decides under the row's
lock whether there is something to do, and the table in `_refused` says what the message is worth otherwise.
"""

from __future__ import annotations

import logging
from functools import partial

from workflows.compile.plan import ArrivesBy, Plan
from workflows.db import completion, payloads, runs, units
from workflows.db.database import Transaction
from workflows.db.runs import STEP_PROGRESS, Transition
from workflows.db.units import CACHED, Unit
from workflows.engine import caching, conditions, dispatch, limits, logs, mapping, recovery, relaying, traces
from workflows.engine.calls import call
from workflows.engine.context import EngineContext, FencedError, naming_absence
from workflows.engine.job import Job
from workflows.engine.outcomes import Failure, Outcome, engine_failure, failure_of
from workflows.engine.relay import Relay
from workflows.engine.runtime import Runtime
from workflows.engine.scope import input_scope
from workflows.engine.settlement import Settlement, advance, leave_worker, spread, turn
from workflows.model.errors import CeleriacError, DatabaseUnavailableError, StepError, StepParked, ValidationError
from workflows.model.expressions import render
from workflows.model.spec import TriggerRule
from workflows.model.states import State, is_terminal
from workflows.steps.registry import StepDefinition

_log = logging.getLogger(__name__)

PARK_SECONDS = 5.0
PARK_LIMIT_SECONDS = 300.0
"""A worker that does not know a step puts it off again and again for so long: a newer worker may be on its way."""

RELEASE_SECONDS = 2.0


def execute_message(runtime: Runtime, unit: Unit, *, is_redelivered: bool, relay: Relay) -> Outcome:
    """Do what a message asks for, and what it may go on with.

    Returns:
        RETURN when what `relay` has left of the chain is to be sent.
    """
    began = runtime.clock.monotonic()
    outcome = execute_unit(runtime, unit, is_redelivered=is_redelivered, relay=relay)
    relay.seconds = runtime.clock.monotonic() - began
    return go_on(runtime, unit.run_pk, relay, outcome, is_redelivered=is_redelivered)


def go_on(
    runtime: Runtime, run_pk: int, relay: Relay, outcome: Outcome = Outcome.RETURN, *, is_redelivered: bool = False
) -> Outcome:
    """Run what the relay has, after a unit that ended with `outcome`; see `execute_message`."""
    context = runtime.context(run_pk)
    if context is None:
        return Outcome.IGNORE
    plan = runtime.plan(context.version_id)
    last = outcome
    try:
        while True:
            if last is not Outcome.RETURN:
                relay.chain.clear()  # it arrives by SQL
                relay.found.clear()  # others look at the same ones
            unit = relaying.following(runtime, plan, context, relay)
            if unit is None:
                break
            is_own = not relay.is_adopted
            began = runtime.clock.monotonic()
            # The message's own chain may have been gone on with before, if it comes again: what has ended is passed.
            last = execute_unit(runtime, unit, is_redelivered=is_redelivered and is_own, relay=relay)
            relay.seconds = runtime.clock.monotonic() - began
            if is_own:
                outcome = last
        relaying.pass_on(runtime, plan, context, relay)
    except CeleriacError as error:  # it is as if a message had been lost
        _log.warning("%s; the reconciler will send what was ready", error)
        return Outcome.IGNORE
    # An adopted chain is no part of what the message came with, which was done with before.
    return Outcome.RETURN if relay.is_adopted else outcome


def execute_unit(runtime: Runtime, unit: Unit, *, is_redelivered: bool, relay: Relay | None = None) -> Outcome:
    """Do what a `celeriac.step` message asks for; `relay` is told what may be done next without one."""
    context = runtime.context(unit.run_pk)
    if context is None:
        return Outcome.IGNORE
    plan = runtime.plan(context.version_id)
    step = plan.steps[unit.ordinal]
    deadline = mapping.deadline_seconds(step, unit.part)
    claim = runtime.database.retrying(
        lambda tx: units.claim(tx, unit, runtime.worker, runtime.config.lease_seconds, deadline), autocommit=True
    )
    if claim is None:
        return _refused(runtime, unit, plan, is_redelivered=is_redelivered)
    with (
        logs.about(run_id=context.run_id, step=step.id, attempt=claim.token),
        traces.within(runtime, context.run_id, claim),
    ):
        return run_claimed(Job(runtime, plan, step, context, claim, relay))


def run_claimed(job: Job) -> Outcome:
    """Run a unit that this process owns."""
    runtime, claim, step = job.runtime, job.claim, job.step
    if step.when is not None and conditions.is_open(job) and (declined := _declined(job)) is not None:
        return declined
    definition = runtime.steps.get(step.uses)
    if definition is None:
        return _park(job)
    given: dict[str, object] | None = None
    if step.cache_seconds is not None and step.for_each is None:
        served, given = _served(job, definition)
        if served is not None:
            return served
    if (step.pool is not None or step.rate_limit is not None) and (parked := _limited(job)) is not None:
        return parked
    if claim.crashes >= runtime.config.max_crashes and claim.item_from is None:
        lost = f"worker lost: the step took its worker process down {claim.crashes} times"
        return fail(job, engine_failure("WorkerLostError", lost))
    if step.for_each is not None:
        return _run_range(job, definition) if claim.item_from is not None else _expand(job)
    ctx = EngineContext(runtime, claim, job.context.run_id, step.id, None, rates=job.plan.rate_limits)
    try:
        limit = runtime.config.max_output_bytes
        values = _inputs(job) if given is None else given
        output = call(definition, values, ctx, runtime.machine, step.timeout_seconds, limit)
        ctx.check_whole()
        key = None if step.cache_seconds is None else caching.key_of(definition, values)
        return _end(job, State.SUCCESS, output=output, ctx=ctx, cache_key=key)
    except StepParked as parked:
        ctx.roll_back()
        return _put_off(job, State.WAITING, max(0.0, parked.seconds), failed=False, error=None, ctx=ctx)
    except FencedError as error:
        ctx.roll_back()
        _log.warning("%s", error)
        return Outcome.IGNORE
    except DatabaseUnavailableError as error:
        ctx.roll_back()
        return _release(job, str(error))
    except Exception as error:  # noqa: BLE001 - step code may raise anything; its failure lives in SQL
        ctx.roll_back()
        failure = failure_of(error, runtime.secrets.redact)
        ctx.keep_failure(failure)
        return fail(job, failure, ctx)


def _declined(job: Job) -> Outcome | None:
    """The condition of the step decides; None when the step runs."""
    try:
        if conditions.holds(job):
            return None
        settlement = conditions.decline(job)
    except DatabaseUnavailableError as error:
        return _release(job, str(error))
    except (CeleriacError, StepError) as error:
        # The same values would fail in the same way: not tried again.
        return _end(job, State.FAILURE, error=failure_of(error, job.runtime.secrets.redact).to_json())
    if settlement is None:
        return Outcome.REFUSED
    dispatch.publish(job.runtime, job.plan, job.claim.unit.run_pk, settlement)
    return Outcome.RETURN


def _served(job: Job, definition: StepDefinition) -> tuple[Outcome | None, dict[str, object] | None]:
    """The step ends with an output that is kept of an earlier one; without an outcome it has to run, on this input."""
    ctx = EngineContext(job.runtime, job.claim, job.context.run_id, job.step.id)
    try:
        given = _inputs(job)
        found = caching.find(job, definition, given)
        if found is None:
            return None, given
        ctx.log.info("taken from the cache: run %s, %.0f s ago", found.run_id, found.age_seconds)
        return _end(job, State.SUCCESS, output=found.output, ctx=ctx, reason=CACHED), None
    except DatabaseUnavailableError as error:
        return _release(job, str(error)), None
    except (CeleriacError, StepError):
        return None, None  # what is wrong with the input is told by the try that follows


def _limited(job: Job) -> Outcome | None:
    """The step needs more than a worker; None when it has got it."""
    try:
        return limits.enter(job)
    except DatabaseUnavailableError as error:
        return _release(job, str(error))


def _run_range(job: Job, definition: StepDefinition) -> Outcome:
    try:
        return mapping.run(job, definition)
    except DatabaseUnavailableError as error:
        # The lease runs out once this process is done with the message, and its calls go on one by one.
        _log.warning("a range of step '%s' of run %s is given up: %s", job.step.id, job.context.run_id, error)
        return Outcome.IGNORE


def fail(job: Job, failure: Failure, ctx: EngineContext | None = None) -> Outcome:
    """A try has failed: RETRY when the policy allows another one, FAILURE otherwise (REVOKED after a cancel)."""
    policy, failures = job.step.retry, job.claim.failures + 1
    if failure.is_cancellation:
        return _end(job, State.REVOKED, error=failure.to_json(), ctx=ctx)
    if failures < policy.max_attempts and policy.is_retryable(failure.names):
        delay = policy.delay_before_next(failures, job.runtime.random.random())
        return _put_off(job, State.RETRY, delay, failed=True, error=failure.to_json(), ctx=ctx)
    return _end(job, State.FAILURE, error=failure.to_json(), ctx=ctx)


def end_over_time(runtime: Runtime, unit: Unit, token: int) -> bool:
    """A step has not reacted to its soft timeout: end this try in SQL. False when it ended by itself meanwhile."""
    context = runtime.context(unit.run_pk)
    claim = runtime.database.retrying(lambda tx: units.owned(tx, unit, token), autocommit=True, patience_seconds=5.0)
    if context is None or claim is None:
        return False
    plan = runtime.plan(context.version_id)
    job = Job(runtime, plan, plan.steps[unit.ordinal], context, claim)
    limit = job.step.timeout_seconds or 0.0
    failure = engine_failure("StepTimeoutError", f"the step ran longer than its timeout of {limit:g} s", retryable=True)
    stopped = partial(runs.is_cancel_requested, run_pk=unit.run_pk)
    if runtime.database.retrying(stopped, autocommit=True, patience_seconds=5.0):
        failure = engine_failure("StepCancelledError", "the run was stopped, and the step did not heed it")
    if claim.item_from is None:
        return fail(job, failure) is not Outcome.REFUSED
    if mapping.open_calls(job) > 1:
        # Which of them it is only its process knows: they go on one by one.
        return recovery.take_back_from_dead(runtime, unit, claim.worker.pid, failure.message, is_counted=False)
    return mapping.fail_range(job, failure) is not Outcome.REFUSED


def _inputs(job: Job) -> dict[str, object]:
    def read(tx: Transaction) -> dict[str, object]:
        values = render(dict(job.step.with_), input_scope(tx, job))
        if not isinstance(values, dict):
            raise ValidationError(f"'with' of step '{job.step.id}' is no mapping")
        return values

    return job.runtime.database.retrying(read, autocommit=True)


def _end(
    job: Job,
    status: State,
    *,
    output: str | None = None,
    error: str | None = None,
    ctx: EngineContext | None = None,
    cache_key: str | None = None,
    reason: str | None = None,
) -> Outcome:
    """The completing transaction, then what it made ready is published.

    Args:
        cache_key: Under which the output is kept for later runs.
        reason: Of a state that was come to without a call.
    """
    lines = ctx.lines if ctx else []

    def work(tx: Transaction) -> Settlement | None:
        settlement = complete(tx, job, status, output=output, error=error, lines=lines, reason=reason)
        if settlement is not None and cache_key is not None:
            caching.keep(tx, job, {cache_key: output or "null"})
        return settlement

    # On PostgreSQL such a completion is a single statement (`workflows.db.completion`), a transaction of its own.
    is_single = status is State.SUCCESS and bool(job.step.successors) and not lines and _is_plain(job)
    is_single = is_single and not payloads.is_large(output)
    completing = ctx.completing if ctx else None
    if completing is not None and ctx is not None:
        with naming_absence():
            settlement = work(completing)
        if settlement is None:
            ctx.roll_back()
        else:
            ctx.commit()
    else:
        settlement = job.runtime.database.retrying(work, autocommit=is_single)
    if settlement is not None and settlement.is_at_turn:
        job.runtime.database.retrying(partial(turn, plan=job.plan, context=job.context, into=settlement))
    if settlement is None:
        _log.warning("a late result of step '%s' of run %s is refused", job.step.id, job.context.run_id)
        return Outcome.REFUSED
    if status is State.SUCCESS:
        job.keep_back(settlement)
    dispatch.publish(job.runtime, job.plan, job.claim.unit.run_pk, settlement)
    return Outcome.RETURN


def complete(
    tx: Transaction,
    job: Job,
    status: State,
    *,
    output: str | None = None,
    error: str | None = None,
    lines: list[dict[str, object]] | None = None,
    reason: str | None = None,
) -> Settlement | None:
    """End a step in `tx`: its row, its successors, the run. None when the claim no longer holds."""
    claim, redispatch = job.claim, job.runtime.config.redispatch_seconds
    detail = {"attempt": claim.token, "started_at": claim.started_at, "via": claim.via}
    if status is State.SUCCESS and _is_plain(job):
        return _complete_at_once(tx, job, output or "null", detail, lines)
    at = units.end(tx, claim, status, output=payloads.in_row(output), error=error, reason=reason)
    if at is None:
        # Ended by this claim: the commit went through and its answer was lost. The reconciler publishes what is ready.
        return Settlement() if units.was_ended(tx, claim, status) else None
    settlement = Settlement(ended=1, failed=int(status is State.FAILURE), progress=STEP_PROGRESS)
    settlement.transitions.append(Transition(job.step.ordinal, 0, status.value, detail))
    units.record_attempt(tx, claim, status, at, error=error)
    payloads.keep(tx, claim.unit.run_pk, job.step.ordinal, output)
    spread(tx, job.plan, claim.unit.run_pk, job.step.ordinal, status, redispatch, settlement)
    if lines:
        runs.add_logs(tx, lines)
    advance(tx, job.plan, job.context, at, job.step.id, settlement)
    if job.step.pool is not None:
        settlement.woken = limits.leave(tx, job.plan, job.step.pool, job.runtime)
    return settlement


def _is_plain(job: Job) -> bool:
    """Whether the completion may be one statement: on PostgreSQL, where counting alone decides what follows."""
    steps = job.plan.steps
    counts = all(steps[after].run_if is TriggerRule.ALL_SUCCESS for after in job.step.successors)
    is_bare = job.step.pool is None and job.step.cache_seconds is None
    return counts and is_bare and job.runtime.database.dialect == "postgresql"


def _complete_at_once(
    tx: Transaction, job: Job, output: str, detail: dict[str, object], lines: list[dict[str, object]] | None
) -> Settlement | None:
    done = completion.complete(
        tx,
        job.claim,
        step_id=job.step.id,
        output=payloads.in_row(output) or "null",
        detail=detail,
        successors=job.step.successors,
        redispatch_seconds=job.runtime.config.redispatch_seconds,
    )
    if done is None:
        return Settlement() if units.was_ended(tx, job.claim, State.SUCCESS) else None
    payloads.keep(tx, job.claim.unit.run_pk, job.step.ordinal, output)
    if lines:
        runs.add_logs(tx, lines)
    ready = [o for o, pending, by in done.successors if pending == 0 and by == ArrivesBy.SQL]
    return Settlement(ready=ready, is_at_turn=job.plan.is_turn(done.run.steps_open))


def _put_off(
    job: Job, status: State, delay: float, *, failed: bool, error: str | None, ctx: EngineContext | None = None
) -> Outcome:
    """The step leaves its worker, and its canvas, until it is due again."""
    lines = ctx.lines if ctx else []

    def work(tx: Transaction) -> Outcome:
        at = units.put_off(tx, job.claim, status, delay, failed=failed, error=error)
        if at is None:
            return Outcome.REFUSED
        if failed:
            units.record_attempt(tx, job.claim, State.FAILURE, at, error=error)
        if lines:
            runs.add_logs(tx, lines)
        transition = Transition(job.step.ordinal, job.claim.unit.part, status.value, {"delay_seconds": delay})
        leave_worker(tx, job.plan, job.context, job.claim.unit, at, transition)
        return Outcome.IGNORE

    return job.runtime.database.retrying(work)


def _park(job: Job) -> Outcome:
    now = job.claim.started_at
    since = job.claim.parked_since if job.claim.parked_since is not None else now
    if now - since > PARK_LIMIT_SECONDS:
        failure = engine_failure(
            "UnknownStepError",
            f"no worker knows the step '{job.step.uses}' (waited {now - since:.0f} s); "
            "install its package on the workers, or name its module in CELERIAC_STEP_MODULES",
        )
        if job.claim.item_from is not None:
            return mapping.fail_range(job, failure)
        return fail(job, failure)
    return _put_off(job, State.WAITING, PARK_SECONDS, failed=False, error=None)


def _release(job: Job, why: str) -> Outcome:
    """Give the step back without counting anything: the database was away."""
    _log.warning("step '%s' of run %s is given back: %s", job.step.id, job.context.run_id, why)
    try:
        return _put_off(job, State.PENDING, RELEASE_SECONDS, failed=False, error=None)
    except DatabaseUnavailableError:
        return Outcome.IGNORE


def _expand(job: Job) -> Outcome:
    try:
        settlement = mapping.expand(job)
    except DatabaseUnavailableError as error:
        return _release(job, str(error))
    except Exception as error:  # noqa: BLE001 - an expression over data of this run may fail in any way
        return fail(job, failure_of(error, job.runtime.secrets.redact))
    if settlement is None:
        return Outcome.IGNORE
    job.keep_back(settlement)
    dispatch.publish(job.runtime, job.plan, job.claim.unit.run_pk, settlement)
    return Outcome.RETURN


def _refused(runtime: Runtime, unit: Unit, plan: Plan, *, is_redelivered: bool) -> Outcome:
    """What a message is worth whose claim found nothing to take."""

    def look(tx: Transaction) -> units.Standing | None:
        return units.standing(tx, unit)

    found = runtime.database.retrying(look, autocommit=True)
    if found is None:
        return Outcome.IGNORE
    if is_terminal(found.status):
        # Only a redelivery may be the owner's own message whose canvas still has to go on. Letting every duplicate go
        # on multiplies them along a chain.
        return Outcome.RETURN if is_redelivered else Outcome.IGNORE
    if found.status is State.PENDING and found.pending > 0 and unit.part == 0:
        _hand_over(runtime, unit, plan)
    return Outcome.IGNORE


def _hand_over(runtime: Runtime, unit: Unit, plan: Plan) -> None:
    """A join fired early: from now on SQL delivers it, and at once if its last dependency ended in the meantime."""

    def work(tx: Transaction) -> Settlement:
        units.leave_canvas(tx, unit.run_pk, (unit.ordinal, *plan.steps[unit.ordinal].off_canvas))
        now = units.standing(tx, unit)
        is_ready = now is not None and now.status is State.PENDING and now.pending == 0
        return Settlement(ready=[unit.ordinal] if is_ready else [])

    dispatch.publish(runtime, plan, unit.run_pk, runtime.database.retrying(work))
