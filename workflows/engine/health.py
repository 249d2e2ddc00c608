"""How an installation is: what the health check of the API, of Celery and of the command line all answer."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from workflows.db import census, queries
from workflows.db.census import Leader, QueueFigures
from workflows.db.database import Transaction
from workflows.db.queries import WaitingStep, WorkerView
from workflows.engine.app import QUEUES
from workflows.engine.broker import Broker
from workflows.engine.reconciler import LEADER, LEADER_LEASE_SECONDS
from workflows.engine.runtime import Runtime
from workflows.model.errors import BrokerUnavailableError, BrokerUnsafeError, DatabaseUnavailableError

SILENT_SECONDS = 30.0
"""A reconciler that leads renews every few seconds; another worker's takes over within ten when it is gone."""

UNSERVED_SECONDS = 30.0
"""A step that could run for longer, in a queue that no worker takes from, is waiting for a worker that is missing."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    ok: bool
    detail: str


_NOT_KNOWN = Check(False, "not known while the database is away")


@dataclass(frozen=True, slots=True)
class Health:
    """What was found.

    Attributes:
        workers: Not ok without a living worker; runs are accepted all the same.
        reconciler: Not ok when no worker leads it: what is lost would not be found, nor what is due be sent.
        queues: Not ok when a step waits in a queue that no worker takes from. Other runs are carried out all the same.
        oldest_ready: The step that has waited longest for a worker.
    """

    database: Check
    broker: Check
    workers: Check = _NOT_KNOWN
    reconciler: Check = _NOT_KNOWN
    queues: Check = _NOT_KNOWN
    slots: int = 0
    oldest_ready: WaitingStep | None = None

    @property
    def is_healthy(self) -> bool:
        """Whether a run that is triggered now would be carried out."""
        return self.database.ok and self.broker.ok and self.workers.ok and self.reconciler.ok

    def to_json(self) -> dict[str, Any]:
        """`{status, database, broker, workers, reconciler, queues, slots, oldest_ready}`."""
        return {"status": "healthy" if self.is_healthy else "unhealthy", **asdict(self)}


@dataclass(frozen=True, slots=True)
class Seen:
    """What the database tells of those who work."""

    workers: list[WorkerView]
    reconciler: Leader | None
    queues: dict[str, QueueFigures] = field(default_factory=dict)
    oldest_ready: WaitingStep | None = None

    @property
    def served(self) -> set[str]:
        """Queues that a living worker takes from."""
        return {queue for worker in self.workers for queue in worker.queues}


def examine(runtime: Runtime, *, patience_seconds: float = 2.0) -> Health:
    """Look at database, broker and workers; raises nothing for what is away."""
    broker = _examine_broker(runtime)
    try:
        seen = runtime.database.retrying(look, autocommit=True, patience_seconds=patience_seconds)
    except DatabaseUnavailableError as error:
        return Health(Check(False, str(error)), broker)
    return Health(
        Check(True, f"{runtime.database.dialect} answers"),
        broker,
        check_workers(seen.workers),
        check_reconciler(seen),
        check_queues(seen),
        sum(worker.slots for worker in seen.workers),
        seen.oldest_ready,
    )


def look(tx: Transaction) -> Seen:
    """Who works, and what waits."""
    return Seen(
        queries.live_workers(tx),
        census.leader(tx, LEADER, LEADER_LEASE_SECONDS),
        census.queues(tx),
        queries.oldest_ready(tx),
    )


def check_workers(workers: list[WorkerView]) -> Check:
    """Whether there is one."""
    if not workers:
        start = "start one with `manage_celery.py start` or `celeriac worker`"
        return Check(False, f"no worker has been seen in the last 15 s; {start}")
    slots = sum(worker.slots for worker in workers)
    return Check(True, f"{len(workers)} {'worker' if len(workers) == 1 else 'workers'} with {slots} slots")


def check_reconciler(seen: Seen) -> Check:
    """Whether one leads; a worker that has just started has some seconds to take the lead."""
    if not seen.workers:
        return Check(False, "it runs in workers, and there is none")
    longest = max(worker.seconds_up for worker in seen.workers)
    leader = seen.reconciler
    silent = longest if leader is None else min(longest, leader.silent_seconds)
    if silent > SILENT_SECONDS:
        return Check(False, f"no worker has led it for {silent:.0f} s; see the workers' logs, and restart them")
    if leader is None:
        return Check(True, "about to take the lead")
    return Check(True, f"led by {leader.node}, heard of {leader.silent_seconds:.0f} s ago")


def check_queues(seen: Seen) -> Check:
    """Whether somebody takes from every queue in which a step waits."""
    unserved = {
        name: found.oldest_ready_seconds
        for name, found in seen.queues.items()
        if name not in seen.served and found.ready and found.oldest_ready_seconds > UNSERVED_SECONDS
    }
    if unserved:
        listed = ", ".join(f"'{name}' (a step waits for {seconds:.0f} s)" for name, seconds in unserved.items())
        return Check(False, f"no worker takes from {listed}; start one with `-Q`")
    ready = sum(found.ready for found in seen.queues.values())
    return Check(True, f"{ready} steps wait for a worker" if ready else "no step waits for a worker")


def queue_lengths(runtime: Runtime) -> dict[str, int | None]:
    """Messages that wait in each queue of the settings; None for all where the broker does not answer."""
    broker = Broker(runtime.app)
    names = tuple(dict.fromkeys((*QUEUES, *runtime.config.queues)))
    try:
        return {name: broker.queue_length(name) for name in names}
    except BrokerUnavailableError:
        return dict.fromkeys(names)
    finally:
        broker.close()


def _examine_broker(runtime: Runtime) -> Check:
    broker = Broker(runtime.app)
    try:
        caution = broker.check()
    except (BrokerUnavailableError, BrokerUnsafeError) as error:
        return Check(False, f"{error}; {error.hint}")
    finally:
        broker.close()
    return Check(True, f"answers; {caution}" if caution else "answers")
