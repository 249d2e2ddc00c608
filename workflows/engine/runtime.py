"""What one process of the engine holds: settings, database, Celery application, who it is, and small caches.

A version's plan and a run's params never change, so they are read once a process. The worker's parent makes the
runtime before it forks; children share its node id and open their own connections.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from random import Random, SystemRandom
from typing import Generic, TypeVar

from celery import Celery
from celery.canvas import Signature

from workflows.catalogue import Catalogue
from workflows.compile.plan import Plan
from workflows.db import history, runs
from workflows.db.clock import Clock
from workflows.db.database import Database, Transaction
from workflows.db.runs import RunContext
from workflows.db.units import Worker
from workflows.engine.canvas import publish_steps
from workflows.engine.machine import Machine
from workflows.engine.order import Order, expected, ranks
from workflows.engine.secrets import SecretStore
from workflows.model.errors import DatabaseUnavailableError
from workflows.settings import Config
from workflows.steps.registry import StepRegistry, schemas

K = TypeVar("K")
V = TypeVar("V")

Publish = Callable[[Celery, Sequence[Signature]], None]
"""Sends canvases to the broker of an application; raises `BrokerUnavailableError` when not all were taken."""

Learn = Callable[[Transaction, int], dict[int, float]]
"""What each step of a version took in earlier runs, in seconds, by ordinal."""

LEARNED_SECONDS = 60.0
UNKNOWN_SECONDS = 1.0
"""How long a process goes by what it has read of earlier runs, and by the number of steps while there are none."""

LEARN_PATIENCE_SECONDS = 5.0
"""What has become ready is to be sent, whether or not anything can be learned of it."""

MOST_LEARNED = 1000
"""Steps of a plan of which earlier runs are looked at."""

DEADLINE_GRACE_SECONDS = 5.0
"""How long a step may take to react to its soft timeout before its process is killed."""


class Lru(Generic[K, V]):
    """The values used last, at most `size` of them. Safe over threads; a lost update costs one more read."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K) -> V | None:
        """The value, None when it is not kept."""
        value = self._values.get(key)
        if value is not None:
            with suppress(KeyError):
                self._values.move_to_end(key)
        return value

    def drop(self, key: K) -> None:
        """Keep it no more."""
        self._values.pop(key, None)

    def put(self, key: K, value: V) -> V:
        """Keep a value, and give it back."""
        self._values[key] = value
        while len(self._values) > self._size:
            with suppress(KeyError):
                self._values.popitem(last=False)
        return value


def make_node_id() -> str:
    """A name for this worker process that no other has, also after a restart with the same pid."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


@dataclass
class Runtime:
    """Everything the engine's functions need, passed to them as their first argument.

    Time, chance, messages, experience and processes come from here (`clock`, `random`, `publish`, `learn`, `machine`),
    so that a simulation can put its own in their places.

    Attributes:
        random: Of jitter and of run ids. The system's own, because forked children would share the state of any other.
        is_leaving: This worker is being stopped; what dies with it is not to blame.
    """

    config: Config
    database: Database
    app: Celery
    steps: StepRegistry
    node: str = field(default_factory=make_node_id)
    random: Random = field(default_factory=SystemRandom)
    publish: Publish = publish_steps
    learn: Learn = history.mean_seconds
    machine: Machine = field(default_factory=Machine)
    is_leaving: bool = False
    _plans: Lru[int, Plan] = field(default_factory=lambda: Lru(64), repr=False)
    _contexts: Lru[int, RunContext] = field(default_factory=lambda: Lru(512), repr=False)
    _orders: Lru[int, tuple[float, Order]] = field(default_factory=lambda: Lru(64), repr=False)

    @cached_property
    def secrets(self) -> SecretStore:
        """The secrets that steps may refer to, and what hides them in texts."""
        return SecretStore(self.config)

    @cached_property
    def definitions(self) -> Catalogue:
        """The workflows that this process knows by their ids."""
        return Catalogue(self.config.definition_folders, schemas(self.steps), chords=self.config.has_chords)

    @property
    def clock(self) -> Clock:
        """This process's time: the one by which its database's patience is measured."""
        return self.database.clock

    @property
    def worker(self) -> Worker:
        """This process as the owner of a claim."""
        return Worker(self.node, self.machine.pid())

    def make_id(self) -> str:
        """A new UUID."""
        return str(uuid.UUID(int=self.random.getrandbits(128), version=4))

    @property
    def steady_gap_seconds(self) -> float:
        """A silence of a worker that is longer means that the database was away, or the machine asleep."""
        return self.config.lease_seconds / 2

    def plan(self, version_id: int, *, patience_seconds: float = 60.0) -> Plan:
        """The plan of a version."""
        known = self._plans.get(version_id)
        if known is not None:
            return known
        found = self.database.retrying(
            lambda tx: runs.load_plan(tx, version_id), autocommit=True, patience_seconds=patience_seconds
        )
        return self._plans.put(version_id, found)

    def order(self, version_id: int) -> Order:
        """In which order steps of a version go, as far as this process knows what they take."""
        known = self._orders.get(version_id)
        return ranks(self.plan(version_id)) if known is None else known[1]

    def learned_order(self, version_id: int) -> Order:
        """The same, by what the steps took in the last runs, which is looked up now and then."""
        known, now = self._orders.get(version_id), self.clock.monotonic()
        if known is not None and now < known[0]:
            return known[1]
        plan, seconds = self.plan(version_id), dict[int, float]()
        if len(plan.steps) <= MOST_LEARNED:
            try:
                seconds = self.database.retrying(
                    lambda tx: self.learn(tx, version_id), autocommit=True, patience_seconds=LEARN_PATIENCE_SECONDS
                )
            except DatabaseUnavailableError:
                return self.order(version_id)
        until = now + (LEARNED_SECONDS if seconds else UNKNOWN_SECONDS)
        return self._orders.put(version_id, (until, expected(plan, seconds) if seconds else ranks(plan)))[1]

    def order_among(self, version_id: int, count: int) -> Order:
        """In which order so many ready steps go; of a single one there is nothing to learn."""
        return self.learned_order(version_id) if count > 1 else self.order(version_id)

    def context(self, run_pk: int, *, patience_seconds: float = 60.0) -> RunContext | None:
        """Identity and params of a run; its flags may be stale. None when the run was deleted."""
        known = self._contexts.get(run_pk)
        if known is not None:
            return known
        found = self.database.retrying(
            lambda tx: runs.load_context(tx, run_pk), autocommit=True, patience_seconds=patience_seconds
        )
        return None if found is None else self._contexts.put(run_pk, found)

    def forget(self, run_pk: int) -> None:
        """Read the run anew next time."""
        self._contexts.drop(run_pk)
