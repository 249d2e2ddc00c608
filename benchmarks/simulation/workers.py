"""Simulated workers: a parent with its lease-keeper and reconciler, and pool children that run messages.

They do with a message what Celery's worker does, in its order: take it, run the task, send what follows in its canvas,
acknowledge. All that is the engine's runs as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from celery import Celery
from celery.canvas import Signature

from benchmarks.simulation.loop import Actor, Killed, Loop
from benchmarks.simulation.post import Message, SimulatedBroker
from benchmarks.simulation.store import SimulatedDatabase, Weather
from workflows.db.database import Transaction
from workflows.db.units import Unit
from workflows.engine import launch, recovery
from workflows.engine.app import QUEUES
from workflows.engine.canvas import STEP_TASK, step_signature
from workflows.engine.execution import end_over_time, execute_message, go_on
from workflows.engine.leases import LOOK_SECONDS, LeaseKeeper
from workflows.engine.machine import Machine
from workflows.engine.outcomes import Outcome
from workflows.engine.reconciler import Reconciler
from workflows.engine.relay import Relay
from workflows.engine.request import unit_of
from workflows.engine.runtime import Runtime
from workflows.model.errors import CeleriacError
from workflows.model.step_drafts import DEFAULT_QUEUE
from workflows.settings import Config
from workflows.steps.registry import StepRegistry


@dataclass
class Site:
    """What all simulated processes share: the one loop, the files and servers."""

    loop: Loop
    broker: SimulatedBroker
    weather: Weather
    url: str
    app: Celery
    config: Config
    databases: list[SimulatedDatabase] = field(default_factory=list)
    pids: int = 100
    crashes: list[str] = field(default_factory=list)

    def make_runtime(self, node: str, machine: Machine, steps: StepRegistry) -> Runtime:
        """A process of its own: nothing in memory is shared with another."""
        database = SimulatedDatabase(self.url, self.loop, self.weather)
        self.databases.append(database)
        return Runtime(
            self.config,
            database,
            self.app,
            steps,
            node=node,
            random=self.loop.random,
            publish=self.broker.publish,
            learn=self._believe,
            machine=machine,
        )

    def _believe(self, _tx: Transaction, _version_id: int) -> dict[int, float]:
        """Some processes know nothing; others believe of any step that it takes nothing, or long, whatever it takes."""
        random = self.loop.random
        return {} if random.random() < 0.2 else {ordinal: random.choice((0.0, 0.0, 1.0)) for ordinal in range(40)}

    def new_pid(self) -> int:
        """A process id that no other process has had."""
        self.pids += 1
        return self.pids

    def guard(self, name: str, act: Callable[[], object]) -> Callable[[], None]:
        """Killing is no error; anything else that escapes is."""

        def run() -> None:
            try:
                act()
            except Killed:
                pass
            except Exception as error:  # noqa: BLE001 - reported as a broken law
                self.crashes.append(f"{name}: {type(error).__name__}: {error}")

        return run


class SimulatedMachine(Machine):
    """What a simulated process sees of its machine."""

    def __init__(self, loop: Loop, pid: int, worker: SimulatedWorker | None = None) -> None:
        self._loop = loop
        self._pid = pid
        self._worker = worker

    def pid(self) -> int:
        """See `Machine.pid`."""
        return self._pid

    def family(self) -> dict[int, bool]:
        """See `Machine.family`."""
        found = {self._pid: True}
        for child in self._worker.children if self._worker else ():
            if not child.is_dead:
                found[child.pid] = child.actor.frozen_until <= self._loop.now
        return found

    def kill(self, pid: int) -> None:
        """See `Machine.kill`."""
        assert self._worker is not None
        for child in self._worker.children:
            if child.pid == pid and not child.is_dead:
                self._loop.note(f"{child.name} is killed by its parent")
                self._worker.child_dies(child)

    @contextmanager
    def time_limit(self, seconds: float | None) -> Iterator[None]:
        """See `Machine.time_limit`: the alarm rings when the actor goes on."""
        actor = self._loop.current
        actor.deadline = None if seconds is None else self._loop.now + seconds
        try:
            yield
        finally:
            actor.deadline = None


class Child:
    """A pool process: one message after the other."""

    def __init__(self, worker: SimulatedWorker, number: int) -> None:
        self._worker = worker
        self._site = worker.site
        self.pid = self._site.new_pid()
        self.name = f"{worker.node}/{number}"
        self.number = number
        self.message: Message | None = None
        self.is_dead = False
        self.runtime = self._site.make_runtime(
            worker.node, SimulatedMachine(self._site.loop, self.pid), worker.runtime.steps
        )
        self.actor: Actor = self._site.loop.spawn(self.name, self._site.guard(self.name, self._run))

    @property
    def is_idle(self) -> bool:
        """Whether it waits for a message."""
        return self.actor.wake_at is None and not self.is_dead

    @property
    def unit(self) -> Unit | None:
        """What its message names, if it names a step."""
        return unit_of(self.message.args) if self.message is not None and self.message.task == STEP_TASK else None

    def _run(self) -> None:
        try:
            while not self._worker.is_gone:
                self.message = self._site.broker.take()
                if self.message is None:
                    self._site.loop.wait("idle")
                    continue
                self._handle(self.message)
                self.message = None
        except Killed:
            if not self.actor.is_killed:  # the step has killed its own process
                self._worker.child_dies(self)

    def _handle(self, message: Message) -> None:
        loop = self._site.loop
        loop.note(f"{self.name} takes {message}")
        loop.pause("message taken")
        try:
            returned = self._execute(message)
        except CeleriacError as error:  # the task has failed: Celery acknowledges, its canvas stops
            loop.note(f"{message} fails: {type(error).__name__}")
            returned = None
        if returned is not None:
            loop.pause("returned, before the canvas goes on")
            try:
                self._site.broker.go_on(returned)
            except CeleriacError:
                loop.note(f"{message} cannot send what follows")
        loop.pause("before acknowledge")

    def _execute(self, message: Message) -> Message | None:
        """Run a message; it, with what is left of its chain, when its canvas goes on."""
        # What a chord waits for goes Celery's way: see `workflows.engine.relaying`.
        carried = message.then if message.member is None else message.then[:-1]
        chain = [signature.args[1] for signature in reversed(carried)]
        relay = Relay.of(frozenset(QUEUES), self.runtime.clock, chain, is_open=message.member is None)
        run_pk = message.args[0]
        if message.task != STEP_TASK:
            if not launch.start_run(self.runtime, run_pk, relay):
                return message
            if go_on(self.runtime, run_pk, relay) is not Outcome.RETURN:
                return message
        else:
            unit = unit_of(message.args)
            outcome = execute_message(self.runtime, unit, is_redelivered=message.is_redelivered, relay=relay)
            self._site.loop.note(f"{message} gives {outcome.value}")
            if outcome is not Outcome.RETURN:
                return None
        if relay.is_adopted:
            return replace(message, then=tuple(self._signature(run_pk, ordinal) for ordinal in reversed(relay.chain)))
        return replace(message, then=message.then[len(carried) - len(relay.chain) :])

    def _signature(self, run_pk: int, ordinal: int) -> Signature:
        return step_signature(self._site.app, run_pk, ordinal, queue=DEFAULT_QUEUE)


class SimulatedWorker:
    """A parent and its children."""

    def __init__(self, site: Site, node: str, slots: int, steps: StepRegistry) -> None:
        self.site = site
        self.node = node
        self.is_gone = False
        machine = SimulatedMachine(site.loop, site.new_pid(), self)
        self.runtime = site.make_runtime(node, machine, steps)
        self._requests: set[tuple[Unit | None, int]] = set()
        self.keeper = LeaseKeeper(self.runtime, slots, ("all",), self._in_progress, end_over_time)
        self.reconciler = Reconciler(self.runtime, site.broker)
        self.children: list[Child] = []
        self.threads: list[Actor] = [
            site.loop.spawn(f"{node}/keeper", site.guard("keeper", self._keep)),
            site.loop.spawn(f"{node}/reconciler", site.guard("reconciler", self._reconcile)),
        ]
        self.children = [Child(self, number) for number in range(slots)]

    def _in_progress(self) -> set[tuple[Unit | None, int]]:
        return self._requests | {
            (child.unit, child.pid) for child in self.children if child.message is not None and not child.is_dead
        }

    def _keep(self) -> None:
        while True:
            self.keeper.look()
            self.site.loop.sleep(LOOK_SECONDS)

    def _reconcile(self) -> None:
        while True:
            self.site.loop.sleep(self.reconciler.round())

    def child_dies(self, child: Child) -> None:
        """A child ends without a word; sooner or later the parent hears of it, and starts another one."""
        child.is_dead = True
        if child.actor is not self.site.loop.moving:
            self.site.loop.kill(child.actor)
        child.runtime.database.close()
        if self.is_gone:
            return
        if child.message is not None:
            self._requests.add((child.unit, child.pid))
        after = self.site.loop.random.uniform(0.02, 2.5)
        notice = self.site.guard("parent", lambda: self._notice(child))
        self.threads.append(self.site.loop.spawn(f"{self.node}/parent", notice, after))

    def _notice(self, child: Child) -> None:
        """What `StepRequest.on_failure` does, and then Celery: the message goes back into its queue."""
        message = child.message
        if message is not None:
            recovery.take_back_all_from_dead(self.runtime, child.pid, "worker lost: killed")
            self._requests.discard((child.unit, child.pid))
            self.site.broker.give_back(message, 0.0)
        self.children[self.children.index(child)] = Child(self, child.number)

    def die(self, *, with_children: bool) -> None:
        """The parent is killed; children that are left end what they are at, and then themselves."""
        self.is_gone = True
        for thread in self.threads:
            self.site.loop.kill(thread)
        for child in self.children:
            if child.is_dead:
                continue
            if with_children or child.is_idle:
                self.child_dies(child)
            if child.message is not None and self.site.loop.random.random() < 0.2:
                # The broker hands out again what was never acknowledged; mostly long after anybody cares.
                self.site.broker.give_back(child.message, self.site.loop.random.expovariate(1 / 20.0))
        self.runtime.database.close()

    def freeze(self, until: float) -> None:
        """All of it stops."""
        for actor in (*self.threads, *(child.actor for child in self.children)):
            actor.frozen_until = until
