"""The database refuses: full, locked, deadlocked, at odds with others, or killed in the middle of a migration."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from sqlalchemy import inspect

from tests.support.hands import Given, Hands, quick_time
from tests.support.servers import PROJECT
from workflows.db.database import Database, Statement, Transaction
from workflows.db.migrate import pending, upgrade
from workflows.db.tables import metadata
from workflows.db.units import Unit
from workflows.engine.outcomes import Outcome
from workflows.model.errors import DatabaseUnavailableError
from workflows.steps import StepContext

STEP = "id: one\nsteps:\n  a: {uses: told, with: {value: 1}}\n"


@pytest.fixture
def hands_on_sqlite(_sqlite_by_hand: Any, broker_url: str, monkeypatch: pytest.MonkeyPatch) -> Hands:
    """An empty cluster on SQLite, whose functions the test calls itself."""
    monkeypatch.setenv("LEDGER", str(_sqlite_by_hand.ledger_file))
    hands = Hands(_sqlite_by_hand)
    hands.define(told=lambda inp, ctx: inp.value)
    return hands


@contextmanager
def full_disk(hands: Hands) -> Iterator[None]:
    """No file of this process can be written to, for longer than anybody's patience, which is over at once."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with quick_time(hands):
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_stops_claims_and_work_goes_on_when_there_is_room(hands_on_sqlite: Hands) -> None:
    hands = hands_on_sqlite
    unit = Unit(hands.start(STEP).run_pk, 0)
    with full_disk(hands), pytest.raises(DatabaseUnavailableError, match="disk"):
        hands.execute(unit)
    assert hands.standing(unit, "status, token, failures, crashes") == ("PENDING", 0, 0, 0)
    hands.drain()
    assert hands.standing(unit, "status, token") == ("SUCCESS", 1)


def test_a_result_that_finds_the_disk_full_is_no_success_and_costs_no_attempt(hands_on_sqlite: Hands) -> None:
    hands = hands_on_sqlite
    disk = full_disk(hands)

    def told(inp: Given, ctx: StepContext) -> Any:
        if ctx.attempt == 1:
            disk.__enter__()
        return inp.value

    hands.define(told=told)
    accepted = hands.start(STEP)
    unit = Unit(accepted.run_pk, 0)
    try:
        assert hands.execute(unit) is Outcome.IGNORE
    finally:
        disk.__exit__(None, None, None)
    assert hands.standing(unit, "status, output") == ("PROGRESS", None)
    assert hands.engine.view(accepted).status == "PROGRESS"
    hands.expire(unit)
    hands.reconciler().tick()
    hands.drain()
    assert hands.engine.view(accepted).status == "SUCCESS"
    assert hands.standing(unit, "status, failures") == ("SUCCESS", 0)


def test_a_run_that_finds_the_disk_full_is_refused_and_not_half_accepted(hands_on_sqlite: Hands) -> None:
    hands = hands_on_sqlite
    with full_disk(hands), pytest.raises(DatabaseUnavailableError, match="disk"):
        hands.engine.submit(STEP)
    assert hands.rows("SELECT count(*) FROM job_runs") == [(0,)]


def test_reconciler_and_lease_keeper_survive_a_full_disk(hands_on_sqlite: Hands) -> None:
    hands = hands_on_sqlite
    keeper, reconciler = hands.keeper(), hands.reconciler()
    with full_disk(hands):
        for act in (keeper.beat, reconciler.tick):
            with pytest.raises(DatabaseUnavailableError, match="disk"):
                act()
    keeper.beat()
    reconciler.tick()


def test_a_locked_sqlite_is_waited_for(hands_on_sqlite: Hands) -> None:
    hands = hands_on_sqlite
    accepted = hands.start(STEP)
    locked, go = threading.Event(), threading.Event()

    def hold() -> None:
        with hands.database.begin():
            locked.set()
            go.wait(20)

    other = threading.Thread(target=hold)
    other.start()
    locked.wait(20)
    threading.Timer(0.3, go.set).start()
    assert hands.execute(Unit(accepted.run_pk, 0)) is Outcome.RETURN
    other.join()


def test_a_sqlite_that_stays_locked_is_a_clear_error(hands_on_sqlite: Hands) -> None:
    hands = hands_on_sqlite
    accepted = hands.start(STEP)
    hands.database._connection().execute("PRAGMA busy_timeout = 50").fetchall()
    try:
        with hands.database.begin(), pytest.raises(DatabaseUnavailableError, match=r"did not answer.*locked") as caught:
            hands.database.retrying(lambda tx: tx.run(Statement("DELETE FROM payloads")), patience_seconds=0.2)
    finally:
        hands.database.close()
    assert "DATABASE_URL" in caught.value.hint
    assert hands.engine.view(accepted).status == "PROGRESS"


@pytest.fixture
def pair(hands_on_postgres: Hands) -> Iterator[Hands]:
    """A table with two rows of which each starts at 0."""
    with hands_on_postgres.database.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS pair (id integer PRIMARY KEY, n integer NOT NULL)")
        connection.exec_driver_sql("DELETE FROM pair")
        connection.exec_driver_sql("INSERT INTO pair VALUES (1, 0), (2, 0)")
    yield hands_on_postgres
    with hands_on_postgres.database.begin() as connection:
        connection.exec_driver_sql("DROP TABLE pair")


ADD = Statement("UPDATE pair SET n = n + 1 WHERE id = :id")


def test_a_deadlock_is_broken_and_the_loser_begins_again_as_a_whole(pair: Hands) -> None:
    met = threading.Barrier(2)
    tries: list[int] = []

    def both(first: int, second: int) -> None:
        own: list[int] = []

        def work(tx: Transaction) -> None:
            tries.append(first)
            own.append(1)
            tx.run(ADD, {"id": first})
            if len(own) == 1:
                met.wait(20)
            tx.run(ADD, {"id": second})

        pair.database.retrying(work)

    threads = [threading.Thread(target=both, args=order) for order in ((1, 2), (2, 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(tries) >= 3
    assert pair.rows("SELECT n FROM pair ORDER BY id") == [(2,), (2,)]


def test_a_serialization_failure_begins_again_as_a_whole(pair: Hands) -> None:
    seen: list[int] = []

    def work(tx: Transaction) -> None:
        tx.run(Statement("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"))
        row = tx.row(Statement("SELECT n FROM pair WHERE id = 1"))
        assert row is not None
        seen.append(row[0])
        if len(seen) == 1:
            with pair.observer() as other:
                other.execute("UPDATE pair SET n = 10 WHERE id = 1")
        tx.run(ADD, {"id": 1})

    pair.database.retrying(work)
    assert seen == [0, 10]
    assert pair.rows("SELECT n FROM pair WHERE id = 1") == [(11,)]


@pytest.mark.parametrize("state", ["40001", "40P01", "55P03", "25P03", "53100", "57P01", "08006"])
def test_errors_that_pass_are_tried_again_and_others_are_not(hands: Hands, state: str) -> None:
    tries: list[int] = []

    def work(tx: Transaction) -> int:
        tries.append(1)
        if len(tries) < 3:
            raise psycopg.errors.lookup(state)(state)
        return len(tries)

    assert hands.database.retrying(work) == 3
    with pytest.raises(psycopg.errors.NotNullViolation):
        hands.database.retrying(lambda tx: _raise(psycopg.errors.NotNullViolation("no")))


def _raise(error: Exception) -> None:
    raise error


KILLED = """
import os, signal, sys
from alembic.operations import Operations
from workflows.db.database import Database
from workflows.db.migrate import upgrade

left = int(sys.argv[2])
create = Operations.create_table

def create_or_die(self, *args, **kwargs):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return create(self, *args, **kwargs)

Operations.create_table = create_or_die
upgrade(Database(sys.argv[1]))
"""


@pytest.mark.parametrize("tables", [0, 1, 7])
def test_a_migration_that_was_killed_in_the_middle_can_be_repeated(database_url: str, tables: int) -> None:
    line = [sys.executable, "-c", KILLED, database_url, str(tables)]
    found = subprocess.run(line, cwd=PROJECT, env=dict(os.environ), capture_output=True, timeout=60, check=False)
    assert found.returncode == -signal.SIGKILL, found.stderr.decode()
    database = Database(database_url)
    upgrade(database)
    assert pending(database) == []
    with database.connect() as connection:
        assert set(metadata.tables) <= set(inspect(connection).get_table_names())
    database.close()
