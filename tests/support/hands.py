"""The engine by hand: the functions that workers call, called one after the other in the test's own process.

What takes a race in production is put in order here, and waiting is done by setting times in rows back.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from pydantic import BaseModel
from sqlalchemy.engine import make_url

from tests.support.cluster import Cluster
from workflows.db import units, upkeep
from workflows.db.database import Statement
from workflows.db.tables import metadata
from workflows.db.units import Claim, Unit, Worker
from workflows.engine import launch
from workflows.engine.broker import Broker
from workflows.engine.execution import end_over_time, execute_unit
from workflows.engine.job import Job
from workflows.engine.launch import Submitted
from workflows.engine.leases import LeaseKeeper
from workflows.engine.outcomes import Outcome
from workflows.engine.reconciler import Reconciler
from workflows.engine.runtime import Runtime
from workflows.settings import Config
from workflows.steps import StepContext, StepDefinition, StepRegistry, load_steps

READY = "pending = 0 AND status IN ('PENDING', 'RETRY', 'WAITING')"


class Given(BaseModel):
    """Input of the steps that tests define on the spot."""

    value: Any = None


class Hands:
    """Takes the part of a worker on a cluster that has none."""

    def __init__(self, engine: Cluster) -> None:
        """Empty the cluster, and start as a process that has seen nothing of it."""
        self.engine = engine
        self.database = engine.runtime.database
        self.rows = engine.rows
        engine.ledger_file.write_text("")
        with self.database.begin() as connection:
            for table in reversed(metadata.sorted_tables):
                connection.execute(table.delete())
        config = Config.from_env(engine.env)
        steps = load_steps(config.step_modules)
        self.runtime = engine.runtime = Runtime(config, self.database, engine.runtime.app, steps)

    def define(self, **functions: Callable[[Given, StepContext], Any]) -> None:
        """Steps that only this test knows, the last one of a name; `_` in a name is written `.` in `uses`."""
        known = StepRegistry()
        for name, definition in self.runtime.steps.items():
            if name.replace(".", "_") not in functions:
                known.add(definition)
        for name, function in functions.items():
            known.add(StepDefinition(name.replace("_", "."), function, Given, Any, "1"))
        self.runtime.steps = known

    def start(self, definition: str, **params: Any) -> Submitted:
        """Accept a run and make its steps rows, as the message that starts it would."""
        accepted = self.engine.submit(definition, **params)
        assert launch.start_run(self.runtime, accepted.run_pk)
        return accepted

    def execute(self, unit: Unit) -> Outcome:
        """What a pool child does with a message."""
        return execute_unit(self.runtime, unit, is_redelivered=False)

    def drain(self) -> None:
        """Execute all that is ready, by ascending key, until nothing is; waiting is cut short, nobody reconciles.

        Without an order PostgreSQL gives rows as they lie, and that changes with every update and clean-up.
        """
        while ready := self.rows(f"SELECT run_pk, ordinal, part FROM step_runs WHERE {READY} ORDER BY 1, 2, 3"):
            self.change(f"UPDATE step_runs SET not_before = NULL WHERE {READY}")
            for row in ready:
                self.execute(Unit(*row))

    def claim(self, unit: Unit, pid: int | None = None, *, lease: float = 60.0, limit: float | None = None) -> Claim:
        """The claim of a child of this worker."""
        worker = Worker(self.runtime.node, os.getpid() if pid is None else pid)
        claim = self.database.retrying(lambda tx: units.claim(tx, unit, worker, lease, limit), autocommit=True)
        assert claim is not None
        return claim

    def job(self, claim: Claim) -> Job:
        """What a child makes of its claim."""
        context = launch.context_of(self.runtime, claim.unit.run_pk)
        plan = self.runtime.plan(context.version_id)
        return Job(self.runtime, plan, plan.steps[claim.unit.ordinal], context, claim)

    def keeper(self, *in_progress: tuple[Unit | None, int]) -> LeaseKeeper:
        """The lease-keeper, not started, of a parent that has these messages in progress."""
        return LeaseKeeper(self.runtime, 1, ("processing",), lambda: set(in_progress), end_over_time)

    def reconciler(self) -> Reconciler:
        """The reconciler, not started, of a worker that has been alive for long."""
        self.keeper().beat()
        self.change("UPDATE workers SET steady_since = steady_since - 1000")
        return Reconciler(self.runtime, Broker(self.runtime.app))

    def change(self, sql: str, **params: Any) -> int:
        """An UPDATE of the test's own; the number of rows it changed."""
        return self.database.retrying(lambda tx: tx.run(Statement(sql), params))

    def is_expired(self, unit: Unit) -> bool:
        """Whether the reconciler would take the unit back now."""
        return unit in self.database.retrying(upkeep.expired)

    def expire(self, unit: Unit) -> None:
        """The lease of the unit has just ended."""
        changed = self.change(
            "UPDATE step_runs SET lease_until = lease_until - 1000 WHERE run_pk = :run AND ordinal = :ordinal"
            " AND part = :part AND lease_until IS NOT NULL",
            **unit.key(),
        )
        assert changed == 1

    def standing(self, unit: Unit, columns: str = "status, failures, crashes") -> tuple[Any, ...]:
        """Columns of the unit's row."""
        where = "run_pk = :run AND ordinal = :ordinal AND part = :part"
        (row,) = self.rows(f"SELECT {columns} FROM step_runs WHERE {where}", **unit.key())
        return row

    def observer(self) -> psycopg.Connection[Any]:
        """A connection of its own to a PostgreSQL, for a test that looks on while it holds a transaction open."""
        url = make_url(self.database.url).set(drivername="postgresql").render_as_string(hide_password=False)
        return psycopg.connect(url, autocommit=True)

    def with_lease_of(self, seconds: float) -> None:
        """Leases of another length than the fixture's."""
        env = {**self.runtime.config.env, "CELERIAC_LEASE_SECONDS": str(seconds)}
        self.runtime.config = replace(self.runtime.config, env=env)


class _QuickTime:
    """A clock on which sleeping takes no time, and yet time goes on."""

    def __init__(self) -> None:
        self._now = time.monotonic()

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        self._now += seconds


@contextmanager
def quick_time(hands: Hands) -> Iterator[None]:
    """The patience with the database is over at once: sleeping takes no time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hands.database, "clock", _QuickTime())
        yield


@contextmanager
def outage(hands: Hands) -> Iterator[None]:
    """The database does not answer the engine, for longer than anybody's patience, which is over at once."""

    def refuse() -> Any:
        if hands.database.dialect == "sqlite":
            raise sqlite3.OperationalError("database is locked")
        raise psycopg.OperationalError("connection refused")

    with pytest.MonkeyPatch.context() as patch, quick_time(hands):
        patch.setattr(hands.database, "_connection", refuse)
        yield
