"""What the endpoints work with: made when the server starts, closed when it stops."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar, cast

from fastapi import Depends, Request

from celeriac.backends import prepare, runtime_of
from workflows.catalogue import Catalogue, Entry
from workflows.db.database import Transaction
from workflows.db.queries import RunView, find_run
from workflows.engine import launch
from workflows.engine.launch import Submitted
from workflows.engine.runtime import Runtime
from workflows.engine.secrets import hide_in_logs
from workflows.model.errors import CeleriacError, DatabaseUnavailableError, NotFoundError
from workflows.model.states import State
from workflows.settings import NO_RESULTS, Config
from workflows.steps.registry import load_steps, schemas

_log = logging.getLogger(__name__)
T = TypeVar("T")

PATIENCE_SECONDS = 3.0
"""How long a request waits for a database that is away or busy."""

BROKER_PAUSE_SECONDS = 5.0
"""After a broker has not answered, runs are left to the reconciler for so long: no request waits for it twice."""

REDIS_TIMEOUTS = {"socket_connect_timeout": 2.0, "socket_timeout": 5.0}


@dataclass
class Services:
    """The engine as the API sees it."""

    config: Config
    runtime: Runtime
    catalogue: Catalogue
    _is_prepared: bool = False
    _broker_rests_until: float = field(default=0.0, repr=False)

    @classmethod
    def make(cls, config: Config) -> Services:
        """Load the steps and describe broker and database; neither needs to answer yet."""
        steps = load_steps(config.step_modules)
        runtime = runtime_of(config, steps)
        hide_in_logs(runtime.secrets.redact)
        runtime.app.conf.update({f"redis_{name}": seconds for name, seconds in REDIS_TIMEOUTS.items()})
        if config.broker_url.startswith("redis"):
            runtime.app.conf.broker_transport_options = {**runtime.app.conf.broker_transport_options, **REDIS_TIMEOUTS}
        return cls(config, runtime, Catalogue(config.definition_folders, schemas(steps), chords=config.has_chords))

    def prepare(self) -> bool:
        """Make or check the tables; False while the database is away."""
        if not self._is_prepared:
            try:
                prepare(self.runtime.database)
            except DatabaseUnavailableError as error:
                _log.warning("%s; %s", error, error.hint)
                return False
            self._is_prepared = True
        return True

    def read(self, work: Callable[[Transaction], T]) -> T:
        """Run queries on this thread's connection.

        Raises:
            DatabaseUnavailableError: the database is away.
        """
        return self.runtime.database.retrying(work, autocommit=True, patience_seconds=PATIENCE_SECONDS)

    def write(self, work: Callable[[Transaction], T]) -> T:
        """Run statements in one transaction.

        Raises:
            DatabaseUnavailableError: the database is away.
        """
        return self.runtime.database.retrying(work, patience_seconds=PATIENCE_SECONDS)

    def run(self, run_id: str) -> RunView:
        """The run with exactly this id.

        Raises:
            NotFoundError: there is none.
        """
        if not is_run_id(run_id):
            raise NotFoundError(f"there is no run '{run_id[:100]}'", "its id is the task_id that the trigger answered")
        return self.read(lambda tx: find_run(tx, run_id))

    def submit(self, entry: Entry, params: Mapping[str, Any], idempotency_key: str | None = None) -> Submitted:
        """Accept a run; it is published unless the broker is known to be away."""
        _, plan = entry.compiled()
        publish = time.monotonic() >= self._broker_rests_until
        accepted = launch.submit(
            self.runtime,
            plan,
            entry.text,
            params,
            idempotency_key=idempotency_key,
            publish=publish,
            patience_seconds=PATIENCE_SECONDS,
        )
        if accepted.is_new:
            _log.info("accepted run %s of '%s'", accepted.run_id, entry.id, extra={"run_id": accepted.run_id})
        if publish and not accepted.is_published:
            self._broker_rests_until = time.monotonic() + BROKER_PAUSE_SECONDS
        return accepted

    def celery_state(self, run: RunView) -> str | None:
        """State of the run's task as Celery's result backend has it, else the run's own; None when it is away.

        A worker tells the backend within a second (`workflows.engine.mirror`). To Celery PENDING means that it knows
        nothing of a task: not yet, or not any more.
        """
        if self.config.result_backend == NO_RESULTS:
            return run.status
        if time.monotonic() < self._broker_rests_until:
            return None
        try:
            state = str(self.runtime.app.AsyncResult(run.run_id).state)
        except Exception as error:  # noqa: BLE001 - each backend has errors of its own, and none matters here
            _log.warning("the result backend does not answer: %s", error)
            self._broker_rests_until = time.monotonic() + BROKER_PAUSE_SECONDS
            return None
        return run.status if state == State.PENDING else state

    def close(self) -> None:
        """Give connections back."""
        self.runtime.app.close()
        self.runtime.database.close()


def is_run_id(text: str) -> bool:
    """Whether a text has the form of a run's id: a UUID in lower case."""
    return len(text) == 36 and all(
        character == "-" if index in (8, 13, 18, 23) else character in "0123456789abcdef"
        for index, character in enumerate(text)
    )


async def _services(request: Request) -> Services:
    found = getattr(request.app.state, "services", None)
    if found is None:
        raise CeleriacError("the server has not started yet")
    return cast(Services, found)


Served = Annotated[Services, Depends(_services)]
