"""How an installation is: what the health check of the API, of Celery and of the command line all answer."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from workflows.db import queries
from workflows.db.database import Transaction
from workflows.db.queries import WaitingStep, WorkerView
from workflows.engine.broker import Broker
from workflows.engine.runtime import Runtime
from workflows.model.errors import BrokerUnavailableError, BrokerUnsafeError, DatabaseUnavailableError


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Health:
    """What was found.

    Attributes:
        workers: Not ok without a living worker; runs are accepted all the same.
        oldest_ready: The step that has waited longest for a worker.
    """

    database: Check
    broker: Check
    workers: Check
    slots: int = 0
    oldest_ready: WaitingStep | None = None

    @property
    def is_healthy(self) -> bool:
        """Whether a run that is triggered now would be carried out."""
        return self.database.ok and self.broker.ok and self.workers.ok

    def to_json(self) -> dict[str, Any]:
        """`{status, database, broker, workers, slots, oldest_ready}`."""
        return {"status": "healthy" if self.is_healthy else "unhealthy", **asdict(self)}


def examine(runtime: Runtime, *, patience_seconds: float = 2.0) -> Health:
    """Look at database, broker and workers; raises nothing for what is away."""
    broker = _examine_broker(runtime)

    def work(tx: Transaction) -> tuple[list[WorkerView], WaitingStep | None]:
        return queries.live_workers(tx), queries.oldest_ready(tx)

    try:
        workers, oldest = runtime.database.retrying(work, autocommit=True, patience_seconds=patience_seconds)
    except DatabaseUnavailableError as error:
        return Health(Check(False, str(error)), broker, Check(False, "not known while the database is away"))
    slots = sum(worker.slots for worker in workers)
    found = f"{len(workers)} {'worker' if len(workers) == 1 else 'workers'} with {slots} slots"
    missing = "no worker has been seen in the last 15 s; start one with `manage_celery.py start` or `celeriac worker`"
    return Health(
        Check(True, f"{runtime.database.dialect} answers"),
        broker,
        Check(bool(workers), found if workers else missing),
        slots,
        oldest,
    )


def _examine_broker(runtime: Runtime) -> Check:
    broker = Broker(runtime.app)
    try:
        caution = broker.check()
    except (BrokerUnavailableError, BrokerUnsafeError) as error:
        return Check(False, f"{error}; {error.hint}")
    finally:
        broker.close()
    return Check(True, f"answers; {caution}" if caution else "answers")
