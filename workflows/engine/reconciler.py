"""The reconciler: the loop that finds what is ready or lost, and dispatches it.

One worker's parent leads at a time. In an undisturbed run it dispatches nothing. It publishes without evidence only
what cannot have a message (a retry that is due, a step taken back); anything else it sends again when its message must
be lost, so that a long queue is not a loss, and a loss is not a long wait.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from celery.canvas import Signature

from workflows.compile.plan import Plan
from workflows.db import interventions, limits, pauses, sub_runs, upkeep
from workflows.db.database import Transaction
from workflows.db.runs import RunContext
from workflows.db.units import Unit, leave_canvas
from workflows.db.upkeep import DueRun, DueStep
from workflows.engine import blocks, dispatch, pausing, recovery, windows
from workflows.engine.broker import BrokerMemory
from workflows.engine.canvas import execute_signature, step_signature
from workflows.engine.evidence import Evidence
from workflows.engine.runtime import Runtime
from workflows.engine.settlement import Settlement, turn
from workflows.model.errors import BrokerUnavailableError, DatabaseUnavailableError

_log = logging.getLogger(__name__)
T = TypeVar("T")

LEADER = "reconciler"
LEADER_LEASE_SECONDS = 6.0
TICK_SECONDS = 1.0
SHORTEST_TICK_SECONDS = 0.05
LONGEST_WAIT_SECONDS = 600.0
SET_ASIDE_SECONDS = 60.0
UNSTEADY_LEASES = 3.0


class Reconciler(threading.Thread):
    """Runs until `stop()`; survives every error."""

    def __init__(self, runtime: Runtime, broker: BrokerMemory) -> None:
        super().__init__(name="celeriac-reconciler", daemon=True)
        self._runtime = runtime
        self._broker = broker
        self._ended = threading.Event()
        self._lead_until = 0.0
        self._rest_until = 0.0
        self._unsteady_since: float | None = None
        self._marker: str | None = None
        self._set_aside: dict[int, float] = {}

    @property
    def is_leading(self) -> bool:
        """Whether this worker leads, as far as it knows."""
        return self._lead_until > self._runtime.clock.monotonic()

    def leave(self) -> None:
        """The worker is being stopped: let another one lead."""
        self._ended.set()

    def stop(self) -> None:
        """End the thread and give up the lead."""
        self._ended.set()

    def run(self) -> None:
        """See `threading.Thread.run`."""
        while not self._ended.is_set():
            self._ended.wait(self.round())
        try:
            self._do(lambda tx: upkeep.resign(tx, LEADER, self._runtime.node))
        except DatabaseUnavailableError:
            _log.info("the lead is not given up, it will run out")
        self._broker.close()

    def round(self) -> float:
        """`tick`, whatever goes wrong. Seconds to sleep until the next."""
        try:
            return self.tick()
        except (DatabaseUnavailableError, BrokerUnavailableError) as error:
            _log.warning("the reconciler waits: %s", error)
        except Exception:  # noqa: BLE001 - the last backstop must not end
            _log.warning("the reconciler goes on after an error", exc_info=True)
        return TICK_SECONDS

    def tick(self) -> float:
        """What is to be done, if this worker leads. Seconds to sleep until the next."""
        if not self._leads():
            return TICK_SECONDS
        self._watch_for_flush()
        self._watch_for_gone_workers()
        self._take_back_expired()
        for unit in self._do(upkeep.due_maps):
            self._alone(unit.run_pk, partial(self._top_up, unit))
        for run_pk in self._do(upkeep.overdue_runs):
            self._alone(run_pk, partial(self._settle, run_pk, blocks.time_out))
            grace = self._runtime.config.cancel_grace_seconds
            self._do(partial(interventions.limit_running, run_pk=run_pk, grace_seconds=grace))
        for run_pk in self._do(upkeep.unturned_runs):
            # The worker that ended the last step of a block died before it could see to the next one.
            self._alone(run_pk, partial(self._settle, run_pk, turn))
        for run_pk in self._do(sub_runs.orphans):
            self._alone(run_pk, partial(self._settle, run_pk, blocks.cancel))
            grace = self._runtime.config.cancel_grace_seconds
            self._do(partial(interventions.limit_running, run_pk=run_pk, grace_seconds=grace))
        for run_pk in self._do(sub_runs.to_pause):
            self._alone(run_pk, partial(self._pause_part, run_pk))
        for run_pk in self._do(sub_runs.to_resume):
            self._alone(run_pk, partial(self._resume_part, run_pk))
        for pool, run_pk in self._do(limits.pools_waited_for):
            self._alone(run_pk, partial(self._wake, pool, run_pk))
        self._send_runs(self._do(upkeep.due_runs))
        self._send_steps(self._do(upkeep.due_steps))
        next_due = self._do(upkeep.seconds_to_next_due)
        if next_due is None or self._set_aside:
            return TICK_SECONDS
        return min(TICK_SECONDS, max(SHORTEST_TICK_SECONDS, next_due))

    def _leads(self) -> bool:
        now = self._runtime.clock.monotonic()
        if now < self._rest_until:
            return False
        if now < self._lead_until - LEADER_LEASE_SECONDS / 2:
            return True
        node = self._runtime.node
        if self._do(lambda tx: upkeep.lead(tx, LEADER, node, LEADER_LEASE_SECONDS)):
            self._lead_until = now + LEADER_LEASE_SECONDS
            return True
        self._lead_until = 0.0
        return False

    def _alone(self, run_pk: int, act: Callable[[], object]) -> None:
        """Do something for one run; whatever is wrong with it stays with it, and it is left alone for a minute."""
        now = self._runtime.clock.monotonic()
        if self._set_aside.get(run_pk, 0.0) > now:
            return
        self._set_aside.pop(run_pk, None)
        try:
            act()
        except (DatabaseUnavailableError, BrokerUnavailableError):
            raise
        except Exception:  # noqa: BLE001 - whatever it is, it must not hold up the other runs
            self._set_aside[run_pk] = now + SET_ASIDE_SECONDS
            _log.exception("run %s is set aside by the reconciler for %.0f s", run_pk, SET_ASIDE_SECONDS)

    def _watch_for_flush(self) -> None:
        try:
            if self._marker is None:
                fresh = self._runtime.make_id()
                self._marker, is_first = self._runtime.database.guarded(lambda tx: upkeep.broker_marker(tx, fresh))
                if is_first:
                    self._broker.remember(self._marker)
            if self._broker.has_forgotten(self._marker):
                _log.warning("the broker has lost its memory: everything that is ready is sent again")
                self._runtime.database.guarded(upkeep.make_all_due)
                self._broker.remember(self._marker)
        except BrokerUnavailableError as error:
            _log.warning("%s", error)

    def _watch_for_gone_workers(self) -> None:
        # Later than leases end: a worker that had said it was leaving is known until its steps have been taken back.
        silent = max(15.0, self._runtime.config.lease_seconds + 5.0)
        gone = self._do(lambda tx: upkeep.forget_gone(tx, silent))
        if gone:
            self._do(lambda tx: upkeep.make_oldest_due(tx, 2 * gone))

    def _take_back_expired(self) -> None:
        """Only while this worker's own heartbeat is steady: after an outage everybody gets the time to renew first."""
        runtime = self._runtime
        if not self._do(lambda tx: upkeep.is_steady(tx, runtime.node, runtime.steady_gap_seconds)):
            self._rest_when_long_unsteady()
            return
        self._unsteady_since = None
        for unit in self._do(upkeep.expired):
            self._alone(unit.run_pk, partial(recovery.take_back_expired, runtime, unit))

    def _rest_when_long_unsteady(self) -> None:
        """A leader whose own heartbeat does not get steady takes nothing back: let another one lead."""
        now = self._runtime.clock.monotonic()
        if self._unsteady_since is None:
            self._unsteady_since = now
        if now - self._unsteady_since > UNSTEADY_LEASES * self._runtime.config.lease_seconds:
            _log.warning("this worker's heartbeat is not steady: it gives up the reconciler's lead for a while")
            self._do(lambda tx: upkeep.resign(tx, LEADER, self._runtime.node))
            self._unsteady_since = None
            self._lead_until, self._rest_until = 0.0, now + LEADER_LEASE_SECONDS

    def _pause_part(self, run_pk: int) -> None:
        self._runtime.database.guarded(lambda tx: pauses.pause(tx, run_pk, with_parent=True))

    def _resume_part(self, run_pk: int) -> None:
        context = self._runtime.context(run_pk)
        if context is None:
            return
        plan = self._runtime.plan(context.version_id)
        resumed = self._runtime.database.guarded(
            lambda tx: pausing.resume(tx, self._runtime, plan, context, with_parent=True)
        )
        if resumed is not None:
            pausing.publish(self._runtime, plan, run_pk, resumed)

    def _wake(self, pool: str, run_pk: int) -> None:
        """A slot may have become free without anybody having told those that wait for one."""
        context = self._runtime.context(run_pk)
        if context is None:
            return
        plan = self._runtime.plan(context.version_id)
        size, redispatch = plan.pools.get(pool, 1), self._runtime.config.redispatch_seconds
        woken = self._runtime.database.guarded(lambda tx: limits.wake(tx, pool, size, redispatch))
        dispatch.publish_woken(self._runtime, woken)

    def _top_up(self, unit: Unit) -> None:
        context = self._runtime.context(unit.run_pk)
        if context is None:
            return
        plan = self._runtime.plan(context.version_id)

        def work(tx: Transaction) -> Settlement:
            settlement = windows.top_up(tx, plan, context, unit, self._runtime.config.redispatch_seconds)
            upkeep.count_redispatches(tx, unit.run_pk, len(settlement.ranges))
            return settlement

        dispatch.publish(self._runtime, plan, unit.run_pk, self._runtime.database.guarded(work))

    def _settle(self, run_pk: int, act: Callable[[Transaction, Plan, RunContext, Settlement], object]) -> None:
        """Bring a run on in one transaction, and publish what that made ready."""
        self._runtime.forget(run_pk)
        context = self._runtime.context(run_pk)
        if context is None:
            return
        plan = self._runtime.plan(context.version_id)

        def work(tx: Transaction) -> Settlement:
            settlement = Settlement()
            act(tx, plan, context, settlement)
            return settlement

        dispatch.publish(self._runtime, plan, run_pk, self._runtime.database.guarded(work))

    def _send_runs(self, due: list[DueRun]) -> None:
        """Send again what is lost; all that waits behind others, however much it is, is one transaction."""
        evidence = Evidence(self._do, self._broker, due)
        lost, waiting = _parted(due, evidence.is_run_lost)
        if waiting:
            waits = [(run, self._next_wait(run.wait_seconds)) for run in waiting]
            self._runtime.database.guarded(lambda tx: upkeep.wait_for_runs(tx, waits))
        for run in lost:
            self._alone(run.run_pk, partial(self._send_run, run))

    def _send_run(self, run: DueRun) -> None:
        context = self._runtime.context(run.run_pk)
        if context is None:
            return
        wait = self._next_wait(run.wait_seconds)
        if not self._do(lambda tx: upkeep.push_run(tx, run.run_pk, wait)):
            return
        if not self._publish([execute_signature(self._runtime.app, run.run_pk, context.run_id)]):
            self._do(lambda tx: upkeep.mark_run_unsent(tx, run.run_pk))

    def _send_steps(self, due: list[DueStep]) -> None:
        """As `_send_runs`, the lost ones of a run together."""
        evidence = Evidence(self._do, self._broker)
        lost, waiting = _parted(due, evidence.is_step_lost)
        if waiting:
            waits = sorted((step.unit, self._next_wait(step.wait_seconds)) for step in waiting)
            self._runtime.database.guarded(lambda tx: upkeep.wait_for_steps(tx, waits))
        by_run: dict[int, list[DueStep]] = {}
        for step in lost:
            by_run.setdefault(step.unit.run_pk, []).append(step)
        for run_pk, steps in by_run.items():
            self._alone(run_pk, partial(self._send_steps_of, run_pk, steps))

    def _send_steps_of(self, run_pk: int, steps: list[DueStep]) -> None:
        context = self._runtime.context(run_pk)
        if context is None:
            return
        plan = self._runtime.plan(context.version_id)

        def work(tx: Transaction) -> list[Unit]:
            sent = []
            for step in steps:
                if upkeep.push_step(tx, step.unit, self._next_wait(step.wait_seconds)):
                    sent.append(step.unit)
                    if step.unit.part == 0:
                        leave_canvas(tx, run_pk, plan.steps[step.unit.ordinal].off_canvas)
            if sent:
                upkeep.count_redispatches(tx, run_pk, len(sent))
            return sent

        sent = self._runtime.database.guarded(work)
        app = self._runtime.app
        signatures = [
            step_signature(app, run_pk, unit.ordinal, part=unit.part, queue=plan.steps[unit.ordinal].queue)
            for unit in sent
        ]
        if not self._publish(signatures):
            self._runtime.database.guarded(lambda tx: upkeep.mark_unsent(tx, sent))

    def _next_wait(self, last: float) -> float:
        return min(LONGEST_WAIT_SECONDS, max(self._runtime.config.redispatch_seconds, 2 * last))

    def _publish(self, signatures: list[Signature]) -> bool:
        try:
            self._runtime.publish(self._runtime.app, signatures)
        except BrokerUnavailableError as error:
            _log.warning("%s", error)
            return False
        return True

    def _do(self, work: Callable[[Transaction], T]) -> T:
        """One statement, read or guarded write, with little patience: the next tick comes soon."""
        return self._runtime.database.guarded(work, autocommit=True)


def _parted(units: list[T], is_lost: Callable[[T], bool]) -> tuple[list[T], list[T]]:
    """Those that are lost, and the others."""
    lost: list[T] = []
    others: list[T] = []
    for unit in units:
        (lost if is_lost(unit) else others).append(unit)
    return lost, others
