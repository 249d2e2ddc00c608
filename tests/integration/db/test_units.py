"""Guarded transitions of units, on both databases: the WHERE decides, not the caller."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from workflows.compile import compile_workflow
from workflows.compile.plan import Plan
from workflows.db import runs, units
from workflows.db.database import Database, Statement, Transaction
from workflows.db.migrate import pending, upgrade
from workflows.db.units import Claim, Unit, Worker
from workflows.model.parser import parse_workflow
from workflows.model.states import State

ME, OTHER = Worker("node-a", 1), Worker("node-b", 2)


@pytest.fixture
def database(migrated_url: str) -> Iterator[Database]:
    """A migrated database."""
    made = Database(migrated_url)
    yield made
    made.close()


def start(database: Database, text: str) -> tuple[int, Plan]:
    """A started run of this definition: its key and plan."""
    plan = compile_workflow(parse_workflow(text))

    def work(tx: Transaction) -> int:
        version = runs.register_version(tx, plan, text)
        run_pk = runs.add_run(
            tx,
            run_id=f"run-{version}",
            plan=plan,
            version_id=version,
            params={},
            user_params={},
            manual=True,
            idempotency_key=None,
            redispatch_seconds=10.0,
        )
        assert run_pk is not None
        assert runs.start(tx, run_pk, 10.0) == version
        return run_pk

    return database.retrying(work), plan


CHAIN = "id: chain\nsteps:\n  a: {uses: x}\n  b: {uses: x, needs: a}\n"


def claim(database: Database, unit: Unit, worker: Worker = ME, lease: float = 15.0) -> Claim | None:
    """Try to claim."""
    return database.retrying(lambda tx: units.claim(tx, unit, worker, lease, None), autocommit=True)


def test_migrations_bring_an_empty_database_to_the_head_and_can_be_repeated(database: Database) -> None:
    assert pending(database) == []
    upgrade(database)
    assert pending(database) == []


def test_a_step_with_open_dependencies_cannot_be_claimed(database: Database) -> None:
    run_pk, _ = start(database, CHAIN)
    assert claim(database, Unit(run_pk, 1)) is None
    found = database.retrying(lambda tx: units.standing(tx, Unit(run_pk, 1)), autocommit=True)
    assert found == units.Standing(State.PENDING, 1, True)


def test_a_claimed_step_cannot_be_claimed_again(database: Database) -> None:
    run_pk, _ = start(database, CHAIN)
    first = claim(database, Unit(run_pk, 0))
    assert first is not None
    assert first.token == 1
    assert claim(database, Unit(run_pk, 0), OTHER) is None


def test_one_of_many_that_claim_at_once_wins(database: Database) -> None:
    run_pk, _ = start(database, CHAIN)
    won: list[Claim] = []
    barrier = threading.Barrier(8)

    def contend(number: int) -> None:
        barrier.wait()
        found = claim(database, Unit(run_pk, 0), Worker("node", number))
        if found is not None:
            won.append(found)

    threads = [threading.Thread(target=contend, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1


def test_a_lost_lease_gives_the_step_to_another_and_refuses_the_first(database: Database) -> None:
    run_pk, _ = start(database, CHAIN)
    unit = Unit(run_pk, 0)
    stale = claim(database, unit, ME, lease=-1.0)
    assert stale is not None
    lost = database.retrying(lambda tx: units.take_back_expired(tx, unit, "{}"))
    assert lost is not None
    assert (lost.token, lost.crashes) == (1, 1)
    fresh = claim(database, unit, OTHER)
    assert fresh is not None
    assert fresh.token == 2
    assert database.retrying(lambda tx: units.end(tx, stale, State.SUCCESS, output="1")) is None
    assert database.retrying(lambda tx: units.hold(tx, stale, 15.0)) is False
    assert database.retrying(lambda tx: units.put_off(tx, stale, State.RETRY, 1, failed=True, error=None)) is None
    assert database.retrying(lambda tx: units.end(tx, fresh, State.SUCCESS, output="2")) is not None


def test_a_lease_that_was_renewed_is_not_taken_back(database: Database) -> None:
    run_pk, _ = start(database, CHAIN)
    assert claim(database, Unit(run_pk, 0)) is not None
    assert database.retrying(lambda tx: units.take_back_expired(tx, Unit(run_pk, 0), "{}")) is None


def test_a_death_is_counted_once_however_many_see_it(database: Database) -> None:
    run_pk, _ = start(database, CHAIN)
    unit = Unit(run_pk, 0)
    assert claim(database, unit, ME, lease=-1.0) is not None
    assert database.retrying(lambda tx: units.take_back_from_dead(tx, unit, ME, "{}")) is not None
    assert database.retrying(lambda tx: units.take_back_from_dead(tx, unit, ME, "{}")) is None
    assert database.retrying(lambda tx: units.take_back_expired(tx, unit, "{}")) is None


def test_a_step_that_is_put_off_is_due_only_later(database: Database) -> None:
    run_pk, _ = start(database, CHAIN)
    unit = Unit(run_pk, 0)
    held = claim(database, unit)
    assert held is not None
    assert database.retrying(lambda tx: units.put_off(tx, held, State.RETRY, 3600, failed=True, error="{}")) is not None
    assert claim(database, unit) is None
    found = database.retrying(lambda tx: units.standing(tx, unit), autocommit=True)
    assert found == units.Standing(State.RETRY, 0, False)


def test_the_answer_of_a_commit_that_was_lost_is_found_again(database: Database) -> None:
    run_pk, _ = start(database, CHAIN)
    held = claim(database, Unit(run_pk, 0))
    assert held is not None
    assert database.retrying(lambda tx: units.end(tx, held, State.SUCCESS, output="1")) is not None
    assert database.retrying(lambda tx: units.end(tx, held, State.SUCCESS, output="1")) is None
    assert database.retrying(lambda tx: units.was_ended(tx, held, State.SUCCESS))
    assert not database.retrying(lambda tx: units.was_ended(tx, held, State.FAILURE))


def test_exactly_one_of_many_completions_brings_a_join_to_zero(database: Database) -> None:
    width = 24
    names = [f"p{i}" for i in range(width)]
    text = "id: join\nsteps:\n" + "".join(f"  {n}: {{uses: x}}\n" for n in names)
    text += f"  z: {{uses: x, needs: [{', '.join(names)}]}}\n  y: {{uses: x, needs: [{', '.join(names)}]}}\n"
    run_pk, plan = start(database, text)
    joins = tuple(sorted((plan.ordinal_of("y"), plan.ordinal_of("z"))))
    zeros: list[int] = []
    barrier = threading.Barrier(8)

    def complete(share: list[int]) -> None:
        barrier.wait()
        for _ in share:
            found = database.retrying(lambda tx: units.count_down(tx, run_pk, joins, 10.0))
            zeros.extend(ordinal for ordinal, pending, _ in found if pending == 0)

    threads = [threading.Thread(target=complete, args=(list(range(width))[n::8],)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(zeros) == list(joins)


def test_equal_definitions_are_one_version(database: Database) -> None:
    first, _ = start(database, CHAIN)
    again = "id: chain\nsteps:\n  b: {uses: x, needs: [a]}\n  a: {uses: x}\n"
    plan = compile_workflow(parse_workflow(again))
    version = database.retrying(lambda tx: runs.register_version(tx, plan, again))
    assert database.retrying(
        lambda tx: tx.row(Statement("SELECT version_id FROM job_runs WHERE id = :id"), {"id": first})
    ) == (version,)


def test_a_statement_reads_the_same_on_both_databases(database: Database) -> None:
    statement = Statement("SELECT :a + 1, 3 IN :many[], 4 IN :many[], '50%' WHERE 2 IN :many[]")
    row = database.retrying(lambda tx: tx.row(statement, {"a": 1, "many": [1, 2, 3]}), autocommit=True)
    assert row is not None
    assert (row[0], bool(row[1]), bool(row[2]), row[3]) == (2, True, False, "50%")


def test_a_transaction_that_fails_leaves_nothing(database: Database) -> None:
    run_pk, _ = start(database, CHAIN)

    def work(tx: Transaction) -> None:
        units.claim(tx, Unit(run_pk, 0), ME, 15.0, None)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        database.retrying(work)
    assert claim(database, Unit(run_pk, 0)) is not None
