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
from workflows.db import runs
from workflows.db.clock import Clock
from workflows.db.database import Database
from workflows.db.runs import RunContext
from workflows.db.units import Worker
from workflows.engine.canvas import publish_steps
from workflows.engine.machine import Machine
from workflows.engine.order import Order
from workflows.engine.secrets import SecretStore
from workflows.settings import Config
from workflows.steps.registry import StepRegistry, schemas

K = TypeVar("K")
V = TypeVar("V")

Publish = Callable[[Celery, Sequence[Signature]], None]
"""Sends canvases to the broker of an application; raises `BrokerUnavailableError` when not all were taken."""

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

    Time, chance, messages and processes come from here (`clock`, `random`, `publish`, `machine`), so that a simulation
    can put its own in their places.

    Attributes:
        random: Of jitter and of run ids. The system's own, because forked children would share the state of any other.
        is_leaving: This worker is being stopped; what dies with it is not to blame.
        orders: In which order steps of a version go, by what they took, and until when that holds.
    """

    config: Config
    database: Database
    app: Celery
    steps: StepRegistry
    node: str = field(default_factory=make_node_id)
    random: Random = field(default_factory=SystemRandom)
    publish: Publish = publish_steps
    machine: Machine = field(default_factory=Machine)
    is_leaving: bool = False
    orders: Lru[int, tuple[float, Order]] = field(default_factory=lambda: Lru(64), repr=False)
    _plans: Lru[int, Plan] = field(default_factory=lambda: Lru(64), repr=False)
    _contexts: Lru[int, RunContext] = field(default_factory=lambda: Lru(512), repr=False)

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
