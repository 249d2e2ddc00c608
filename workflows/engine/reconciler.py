"""The reconciler: the loop that finds what is ready or lost, and dispatches it.

One worker's parent leads at a time. In an undisturbed run it dispatches nothing. It publishes without evidence only
what cannot have a message (a retry that is due, a step taken back); anything else it sends again when its message must
be lost, so that a long queue is not a loss, and a loss is not a long wait.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from celery.canvas import Signature

from workflows.db import maps, upkeep
from workflows.db.database import Transaction
from workflows.db.runs import Advance
from workflows.db.units import Unit, leave_canvas
from workflows.db.upkeep import DueStep
from workflows.engine import dispatch, mapping, recovery
from workflows.engine.broker import Broker
from workflows.engine.canvas import execute_signature, publish_steps, step_signature
from workflows.engine.runtime import Runtime
from workflows.engine.settlement import Settlement, end_run
from workflows.model.errors import BrokerUnavailableError, DatabaseUnavailableError

_log = logging.getLogger(__name__)
T = TypeVar("T")

LEADER = "reconciler"
LEADER_LEASE_SECONDS = 6.0
TICK_SECONDS = 1.0
SHORTEST_TICK_SECONDS = 0.05
LONGEST_WAIT_SECONDS = 600.0
SILENT_SECONDS = 15.0


class Reconciler(threading.Thread):
    """Runs until `stop()`; survives every error."""

    def __init__(self, runtime: Runtime, broker: Broker) -> None:
        super().__init__(name="celeriac-reconciler", daemon=True)
        self._runtime = runtime
        self._broker = broker
        self._ended = threading.Event()
        self._expire_from = 0.0
        self._lead_until = 0.0
        self._marker: str | None = None

    def stop(self) -> None:
        """End the thread and give up the lead."""
        self._ended.set()

    def run(self) -> None:
        """See `threading.Thread.run`."""
        while not self._ended.is_set():
            wait = TICK_SECONDS
            try:
                with self._runtime.fork_lock:
                    wait = self.tick()
            except DatabaseUnavailableError as error:
                # Nobody could renew a lease while the database was away: give the living one lease to do so.
                self._expire_from = time.monotonic() + self._runtime.config.lease_seconds
                _log.warning("the reconciler waits: %s", error)
            except Exception:  # noqa: BLE001 - the last backstop must not end
                _log.warning("the reconciler goes on after an error", exc_info=True)
            self._ended.wait(wait)
        try:
            self._do(lambda tx: upkeep.resign(tx, LEADER, self._runtime.node))
        except DatabaseUnavailableError:
            _log.info("the lead is not given up, it will run out")

    def tick(self) -> float:
        """One round, if this worker leads. Seconds to sleep until the next."""
        if not self._leads():
            return TICK_SECONDS
        self._watch_for_flush()
        self._watch_for_gone_workers()
        if time.monotonic() >= self._expire_from:
            for unit in self._do(upkeep.expired):
                recovery.take_back_expired(self._runtime, unit)
        for unit in self._do(upkeep.due_maps):
            self._top_up(unit)
        for run_pk, steps_failed in self._do(upkeep.unended_runs):
            self._end_run(run_pk, steps_failed)
        for run_pk in self._do(upkeep.due_runs):
            self._send_run(run_pk)
        self._send_steps(self._do(upkeep.due_steps))
        next_due = self._do(upkeep.seconds_to_next_due)
        if next_due is None:
            return TICK_SECONDS
        return min(TICK_SECONDS, max(SHORTEST_TICK_SECONDS, next_due))

    def _leads(self) -> bool:
        now = time.monotonic()
        if now < self._lead_until - LEADER_LEASE_SECONDS / 2:
            return True
        node = self._runtime.node
        if self._do(lambda tx: upkeep.lead(tx, LEADER, node, LEADER_LEASE_SECONDS)):
            self._lead_until = now + LEADER_LEASE_SECONDS
            return True
        self._lead_until = 0.0
        return False

    def _watch_for_flush(self) -> None:
        try:
            if self._marker is None:
                self._marker, is_first = self._runtime.database.retrying(upkeep.broker_marker)
                if is_first:
                    self._broker.remember(self._marker)
            if self._broker.has_forgotten(self._marker):
                _log.warning("the broker has lost its memory: everything that is ready is sent again")
                self._runtime.database.retrying(upkeep.make_all_due)
                self._broker.remember(self._marker)
        except BrokerUnavailableError as error:
            _log.warning("%s", error)

    def _watch_for_gone_workers(self) -> None:
        gone = self._do(lambda tx: upkeep.forget_gone(tx, SILENT_SECONDS))
        if gone:
            self._do(lambda tx: upkeep.make_oldest_due(tx, 2 * gone))

    def _top_up(self, unit: Unit) -> None:
        context = self._runtime.context(unit.run_pk)
        if context is None:
            return
        plan = self._runtime.plan(context.version_id)

        def work(tx: Transaction) -> Settlement:
            settlement = Settlement()
            mapping.top_up(tx, plan, unit, maps.live_slots(tx), self._runtime.config.redispatch_seconds, settlement)
            upkeep.count_redispatches(tx, unit.run_pk, len(settlement.ranges))
            return settlement

        dispatch.publish(self._runtime, plan, unit.run_pk, self._runtime.database.retrying(work))

    def _end_run(self, run_pk: int, steps_failed: int) -> None:
        """The worker that ended the last step died before it ended the run."""
        self._runtime.forget(run_pk)
        context = self._runtime.context(run_pk)
        if context is None:
            return
        plan = self._runtime.plan(context.version_id)
        counters = Advance(0, steps_failed, context.cancel_requested)
        self._runtime.database.retrying(lambda tx: end_run(tx, plan, context, counters))

    def _send_run(self, run_pk: int) -> None:
        if self._do(lambda tx: upkeep.push_run(tx, run_pk, self._runtime.config.redispatch_seconds)):
            context = self._runtime.context(run_pk)
            if context is not None:
                self._publish([execute_signature(self._runtime.app, run_pk, context.run_id)])

    def _send_steps(self, due: list[DueStep]) -> None:
        by_run: dict[int, list[DueStep]] = {}
        for step in due:
            by_run.setdefault(step.unit.run_pk, []).append(step)
        idle: dict[str, bool] = {}
        for run_pk, steps in by_run.items():
            try:
                self._send_steps_of(run_pk, steps, idle)
            except (DatabaseUnavailableError, BrokerUnavailableError):
                raise
            except Exception:  # noqa: BLE001 - one corrupt run must not hold up the others
                _log.exception("run %s is set aside by the reconciler for this round", run_pk)

    def _send_steps_of(self, run_pk: int, steps: list[DueStep], idle: dict[str, bool]) -> None:
        context = self._runtime.context(run_pk)
        if context is None:
            return
        plan = self._runtime.plan(context.version_id)
        base = self._runtime.config.redispatch_seconds
        lost = [step for step in steps if step.wait_seconds <= 0 or self._is_lost(step, idle)]

        def work(tx: Transaction) -> list[Unit]:
            sent = []
            for step in steps:
                if step not in lost:
                    upkeep.wait_longer(tx, step.unit, min(LONGEST_WAIT_SECONDS, max(base, step.wait_seconds * 2)))
                elif upkeep.push_step(tx, step.unit, base):
                    sent.append(step.unit)
                    if step.unit.part == 0:
                        leave_canvas(tx, run_pk, plan.steps[step.unit.ordinal].off_canvas)
            if sent:
                upkeep.count_redispatches(tx, run_pk, len(sent))
            return sent

        sent = self._runtime.database.retrying(work)
        self._publish(
            step_signature(
                self._runtime.app, run_pk, unit.ordinal, part=unit.part, queue=plan.steps[unit.ordinal].queue
            )
            for unit in sent
        )

    def _is_lost(self, step: DueStep, idle: dict[str, bool]) -> bool:
        """Evidence that no message of this unit is on its way: see the module's first words."""
        if step.queue not in idle:
            idle[step.queue] = self._broker.queue_length(step.queue) == 0 and self._do(upkeep.free_slots) > 0
        return idle[step.queue] or self._do(lambda tx: upkeep.is_overtaken(tx, step))

    def _publish(self, signatures: Iterable[Signature]) -> None:
        try:
            publish_steps(self._runtime.app, signatures)
        except BrokerUnavailableError as error:
            _log.warning("%s; tried again when it is due again", error)

    def _do(self, work: Callable[[Transaction], T]) -> T:
        """One statement, read or guarded write, with little patience: the next tick comes soon."""
        return self._runtime.database.retrying(work, autocommit=True, patience_seconds=5.0)
