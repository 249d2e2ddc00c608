"""The database is away, or an answer of it is lost: that is no fault of a step, and nothing is done twice for it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from tests.support.hands import Given, Hands, outage
from tests.support.waiting import wait_until
from workflows.db import sessions, upkeep
from workflows.db.database import Database, Transaction, is_passing
from workflows.db.units import Unit
from workflows.engine.outcomes import Outcome
from workflows.model.errors import DatabaseUnavailableError
from workflows.steps import StepContext

STEP = "id: one\nsteps:\n  a: {uses: told, with: {value: 1}}\n"
MAP = """
id: map
steps:
  list: {uses: ledger.numbers, with: {num: 3}}
  map:
    uses: told
    for_each: {items: "${{ steps.list.output.values }}", max_parallel: 1}
    with: {value: "${{ item }}"}
"""
EFFECTS = "CREATE TABLE IF NOT EXISTS effects (node text PRIMARY KEY, count integer NOT NULL)"


@pytest.fixture
def effects(hands: Hands) -> Iterator[None]:
    """A table of the steps' own."""
    with hands.database.begin() as connection:
        connection.exec_driver_sql(EFFECTS)
    yield
    with hands.database.begin() as connection:
        connection.exec_driver_sql("DROP TABLE effects")


def test_a_worker_starts_while_the_database_is_away_and_is_seen_when_it_is_back(hands: Hands) -> None:
    keeper = hands.keeper()
    with outage(hands):
        assert upkeep.has_tables(hands.database)  # What cannot be known is not refused.
        keeper.start()
        with pytest.raises(DatabaseUnavailableError):
            hands.rows("SELECT 1")
    wait_until(hands.engine.live_workers, message="the heartbeat")
    keeper.stop()
    keeper.join()


def test_a_database_without_tables_is_refused_by_a_worker(database_url: str) -> None:
    empty = Database(database_url)
    assert not upkeep.has_tables(empty)
    empty.close()


def test_a_step_that_finds_the_database_away_is_given_back_uncounted(hands: Hands) -> None:
    def told(inp: Given, ctx: StepContext) -> Any:
        if not hands.engine.ledger_file.read_text():
            hands.engine.ledger_file.write_text("tried")
            with outage(hands):
                ctx.check_cancelled()
        return inp.value

    hands.define(told=told)
    unit = Unit(hands.start(STEP).run_pk, 0)
    assert hands.execute(unit) is Outcome.IGNORE
    assert hands.standing(unit) == ("PENDING", 0, 0)
    hands.drain()
    assert hands.standing(unit) == ("SUCCESS", 0, 0)


def test_calls_that_were_done_are_kept_when_the_database_goes_away_between_them(hands: Hands) -> None:
    def told(inp: Given, ctx: StepContext) -> Any:
        if inp.value == 2 and not hands.engine.ledger_file.read_text():
            hands.engine.ledger_file.write_text("tried")
            with outage(hands):
                ctx.check_cancelled()
        return inp.value

    hands.define(told=told)
    run_pk = hands.start(MAP).run_pk
    for unit in (Unit(run_pk, 0), Unit(run_pk, 1), Unit(run_pk, 1, 1), Unit(run_pk, 1, 2)):
        hands.execute(unit)
    items = hands.rows("SELECT item_index, status, failures, crashes FROM item_runs ORDER BY item_index")
    assert items == [(0, "SUCCESS", 0, 0), (1, "SUCCESS", 0, 0), (2, "RETRY", 0, 0)]


def test_a_range_whose_end_nobody_could_write_loses_its_lease_and_goes_on(
    hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = outage(hands)

    def told(inp: Given, ctx: StepContext) -> Any:
        if not hands.engine.ledger_file.read_text():
            hands.engine.ledger_file.write_text("tried")
            away.__enter__()
        return inp.value

    hands.define(told=told)
    run_pk = hands.start(MAP).run_pk
    hands.execute(Unit(run_pk, 0))
    hands.execute(Unit(run_pk, 1))
    range_ = Unit(run_pk, 1, 1)
    assert hands.execute(range_) is Outcome.IGNORE
    away.__exit__(None, None, None)
    hands.expire(range_)
    hands.keeper().renew()
    reconciler = hands.reconciler()
    reconciler.tick()
    hands.change("UPDATE step_runs SET next_dispatch_at = 1 WHERE ordinal = 1 AND part = 0")
    reconciler.tick()
    hands.drain()
    assert hands.rows("SELECT status FROM job_runs") == [("SUCCESS",)]


def test_a_transaction_of_a_step_that_the_database_ends_is_no_failure(
    hands_on_postgres: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    hands = hands_on_postgres

    def told(inp: Given, ctx: StepContext) -> Any:
        with ctx.transaction() as connection:
            if ctx.attempt == 1:
                connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        return inp.value

    hands.define(told=told)
    unit = Unit(hands.start(STEP).run_pk, 0)
    assert hands.execute(unit) is Outcome.IGNORE
    assert hands.standing(unit) == ("PENDING", 0, 0)
    hands.drain()
    assert hands.standing(unit, "status, token, failures, crashes") == ("SUCCESS", 2, 0, 0)


@pytest.mark.usefixtures("effects")
def test_half_of_a_transaction_is_never_committed_with_a_result(hands: Hands) -> None:
    def refuse() -> None:
        raise ValueError("the second write is refused")

    def told(inp: Given, ctx: StepContext) -> Any:
        try:
            with ctx.transaction() as connection:
                connection.execute(text("INSERT INTO effects (node, count) VALUES ('half', 1)"))
                refuse()
        except ValueError:
            pass
        return inp.value

    hands.define(told=told)
    unit = Unit(hands.start(STEP).run_pk, 0)
    hands.execute(unit)
    assert hands.standing(unit, "status, failures") == ("FAILURE", 1)
    assert hands.rows("SELECT node FROM effects") == []


@pytest.mark.usefixtures("effects")
def test_progress_that_is_told_within_the_transaction_waits_for_nobody(hands: Hands) -> None:
    def told(inp: Given, ctx: StepContext) -> Any:
        with ctx.transaction() as connection:
            connection.execute(text("INSERT INTO effects (node, count) VALUES ('whole', 1)"))
            ctx.progress(1, 2)
        return inp.value

    hands.define(told=told)
    unit = Unit(hands.start(STEP).run_pk, 0)
    hands.execute(unit)
    assert hands.standing(unit, "status, failures") == ("SUCCESS", 0)
    assert hands.rows("SELECT node, count FROM effects") == [("whole", 1)]


def test_a_run_whose_acceptance_was_answered_to_nobody_is_accepted_once(
    hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[str] = []
    whole = Database.transaction

    @contextmanager
    def without_answer(self: Database) -> Iterator[Transaction]:
        with whole(self) as tx:
            yield tx
        if not lost:
            lost.append("the answer to COMMIT")
            raise sqlite3.OperationalError("disk") if self.dialect == "sqlite" else psycopg.OperationalError("closed")

    monkeypatch.setattr(Database, "transaction", without_answer)
    accepted = hands.engine.submit(STEP)
    assert lost
    assert hands.rows("SELECT id, task_id FROM job_runs") == [(accepted.run_pk, accepted.run_id)]
    assert accepted.is_new


def test_a_process_that_is_frozen_within_a_transaction_gives_up_its_locks(
    hands_on_postgres: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sessions.SETTINGS, "idle_in_transaction_session_timeout", "200ms")
    frozen = Database(hands_on_postgres.database.url)
    lead = partial(upkeep.lead, name="a row", lease_seconds=60.0)

    def freeze() -> None:
        with frozen.transaction() as tx:
            assert lead(tx, holder="frozen")
            # It holds the row, and does nothing more for as long as this takes.
            assert hands_on_postgres.database.retrying(lambda other: lead(other, holder="quick"), patience_seconds=15.0)

    with pytest.raises(psycopg.Error) as cut_off:
        freeze()
    assert is_passing(cut_off.value)
    assert hands_on_postgres.rows("SELECT holder FROM leader_leases WHERE name = 'a row'") == [("quick",)]
    frozen.close()
