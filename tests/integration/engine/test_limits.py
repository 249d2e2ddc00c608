"""`rate_limits`, `pools` and `priority`, over all workers, on both databases."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.support.hands import Hands
from workflows.db import limits
from workflows.db.database import Transaction
from workflows.db.units import Unit
from workflows.engine import control, execution
from workflows.engine.machine import Machine
from workflows.engine.outcomes import Outcome
from workflows.engine.recovery import take_back_from_dead
from workflows.model.policies import Rate
from workflows.model.states import State

RATED = """
id: rated
rate_limits: {api: {rate: 1/10m}}
steps:
  a: {uses: told, rate_limit: api}
  b: {uses: told, rate_limit: api}
  c: {uses: told, rate_limit: api}
"""
POOLED = """
id: pooled
pools: {gpu: 1}
steps:
  a: {uses: told, pool: gpu}
  b: {uses: told, pool: gpu}
  c: {uses: told, pool: gpu, priority: 9}
"""


class QuickMachine(Machine):
    """Remembers how long it was asked to sleep, and does not."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@pytest.fixture
def told(hands: Hands) -> list[Any]:
    """The ids of the steps that have run, in order."""
    steps: list[Any] = []

    def tell(inp: Any, ctx: Any) -> Any:
        steps.append(ctx.step_id if ctx.item_key is None else f"{ctx.step_id} {ctx.item_key}")
        return inp.value

    hands.define(told=tell)
    return steps


@pytest.fixture
def machine(hands: Hands) -> QuickMachine:
    """What the engine sleeps on."""
    hands.runtime.machine = QuickMachine()
    return hands.runtime.machine


def waits(hands: Hands) -> list[tuple[str, int | None]]:
    """Steps that wait, and for how many whole minutes from now."""
    rows = hands.rows(
        "SELECT step_id, status, not_before - ready_at FROM step_runs WHERE status = 'WAITING' ORDER BY 1"
    )
    return [(row[0], None if row[2] is None else round(row[2] / 60)) for row in rows]


def let_pass(hands: Hands, seconds: float) -> None:
    """So much time has passed."""
    hands.change("UPDATE limits SET booked_until = booked_until - :seconds", seconds=seconds)
    hands.change(
        "UPDATE step_runs SET not_before = not_before - :seconds, next_dispatch_at = next_dispatch_at - :seconds",
        seconds=seconds,
    )
    hands.change("UPDATE item_runs SET not_before = not_before - :seconds", seconds=seconds)


def test_steps_over_the_rate_leave_the_worker_and_line_up(hands: Hands, told: list[Any]) -> None:
    accepted = hands.start(RATED)
    units = [Unit(accepted.run_pk, ordinal) for ordinal in range(3)]
    assert [hands.execute(unit) for unit in units] == [Outcome.RETURN, Outcome.IGNORE, Outcome.IGNORE]
    assert told == ["a"]
    assert waits(hands) == [("b", 10), ("c", 20)]
    assert hands.execute(units[2]) is Outcome.IGNORE
    let_pass(hands, 601)
    hands.execute(units[1])
    hands.execute(units[2])
    assert told == ["a", "b"]
    let_pass(hands, 601)
    hands.execute(units[2])
    assert told == ["a", "b", "c"]
    assert hands.rows("SELECT status FROM job_runs") == [("SUCCESS",)]


def test_a_rate_is_shared_by_all_runs_and_workflows(hands: Hands, told: list[Any]) -> None:
    first, second = hands.start(RATED), hands.start(RATED.replace("id: rated", "id: other"))
    hands.execute(Unit(first.run_pk, 0))
    hands.execute(Unit(second.run_pk, 0))
    assert told == ["a"]


def test_a_cancelled_run_leaves_no_gap_in_a_rate(hands: Hands, told: list[Any]) -> None:
    first, second = hands.start(RATED), hands.start(RATED)
    for ordinal in range(3):
        hands.execute(Unit(first.run_pk, ordinal))
    control.cancel(hands.runtime, first.run_id)
    hands.execute(Unit(second.run_pk, 0))
    assert waits(hands) == [("a", 10)]


def test_a_short_wait_is_spent_in_the_worker(hands: Hands, told: list[Any], machine: QuickMachine) -> None:
    accepted = hands.start(RATED.replace("1/10m", "2/s"))
    for ordinal in range(3):
        hands.execute(Unit(accepted.run_pk, ordinal))
    assert told == ["a", "b", "c"]
    assert machine.slept[0] == 0.0
    assert 0.3 < machine.slept[1] <= 0.5
    assert 0.6 < machine.slept[2] <= 1.0


def test_a_retry_takes_a_start_of_its_own(hands: Hands, told: list[Any]) -> None:
    def fail(inp: Any, ctx: Any) -> Any:
        raise RuntimeError("as told")

    hands.define(fails=fail)
    accepted = hands.start(
        "id: w\nrate_limits: {api: {rate: 1/10m}}\nsteps:\n"
        "  a: {uses: fails, rate_limit: api, retry: {max_attempts: 2, delay: 0s}}\n"
    )
    hands.execute(Unit(accepted.run_pk, 0))
    assert hands.execute(Unit(accepted.run_pk, 0)) is Outcome.IGNORE
    assert waits(hands) == [("a", 10)]
    let_pass(hands, 601)
    hands.execute(Unit(accepted.run_pk, 0))
    assert hands.rows("SELECT status, failures FROM step_runs") == [("FAILURE", 2)]


def test_each_call_of_a_map_takes_a_start_and_the_others_come_back_one_by_one(hands: Hands, told: list[Any]) -> None:
    hands.start(
        "id: map\nrate_limits: {api: {rate: 1/10m, burst: 2}}\nsteps:\n"
        "  m: {uses: told, rate_limit: api, for_each: {items: [1, 2, 3, 4], max_parallel: 1}}\n"
    )
    hands.drain()
    assert told == ["m 0", "m 1"]
    dues = hands.rows("SELECT item_index, not_before - started_at FROM item_runs WHERE status = 'RETRY' ORDER BY 1")
    assert [row[0] for row in dues] == [2, 3]
    for calls in (3, 4):
        let_pass(hands, 605)
        hands.reconciler().tick()
        hands.drain()
        assert len(told) == calls
    assert hands.rows("SELECT status FROM job_runs") == [("SUCCESS",)]
    assert hands.rows("SELECT max(failures), max(crashes) FROM item_runs") == [(0, 0)]


def test_a_step_waits_for_its_requests_by_name(hands: Hands, machine: QuickMachine) -> None:
    def ask(inp: Any, ctx: Any) -> Any:
        for _ in range(3):
            ctx.rate_limit("api")
        ctx.rate_limit("ipa")

    hands.define(asks=ask)
    accepted = hands.start("id: w\nrate_limits: {api: {rate: 1/2s}}\nsteps:\n  a: {uses: asks}\n")
    hands.execute(Unit(accepted.run_pk, 0))
    assert 5.0 < sum(machine.slept) <= 6.0
    assert max(machine.slept) <= 0.5
    error = hands.rows("SELECT error FROM step_runs")[0][0]
    assert "declares no rate limit 'ipa'; there is api" in error


def test_starts_booked_at_the_same_time_are_one_interval_apart(hands: Hands) -> None:
    waits: list[float] = []

    def book() -> None:
        for _ in range(10):
            wait, _ = hands.database.retrying(lambda tx: limits.start(tx, "api", Rate(60.0), 1e9))
            waits.append(wait)

    threads = [threading.Thread(target=book) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert [round(wait / 60) for wait in sorted(waits)] == list(range(30))


def test_a_pool_is_held_by_so_many_at_a_time_and_given_on_by_priority(hands: Hands, told: list[Any]) -> None:
    accepted = hands.start(POOLED)
    units = [Unit(accepted.run_pk, ordinal) for ordinal in range(3)]
    job = hands.job(hands.claim(units[0]))
    assert entered(hands, job)
    assert [hands.execute(unit) for unit in units[1:]] == [Outcome.IGNORE, Outcome.IGNORE]
    assert waits(hands) == [("b", None), ("c", None)]
    hands.reconciler().tick()
    assert hands.rows("SELECT count(*) FROM step_runs WHERE next_dispatch_at IS NOT NULL AND status = 'WAITING'") == [
        (0,)
    ]
    finished(hands, job)
    assert woken(hands) == ["c"]
    hands.execute(units[2])
    assert woken(hands) == ["b"]
    hands.execute(units[1])
    assert told == ["c", "b"]


def test_a_slot_of_a_dead_worker_is_given_on_by_the_reconciler(hands: Hands, told: list[Any]) -> None:
    accepted = hands.start(POOLED)
    units = [Unit(accepted.run_pk, ordinal) for ordinal in range(3)]
    job = hands.job(hands.claim(units[0], 4711))
    assert entered(hands, job)
    hands.execute(units[1])
    take_back_from_dead(hands.runtime, units[0], 4711, "killed")
    hands.reconciler().tick()
    assert woken(hands) == ["b"]
    hands.execute(units[1])
    assert told == ["b"]


def test_a_woken_step_that_is_cancelled_keeps_nobody_waiting(hands: Hands, told: list[Any]) -> None:
    first, second = hands.start(POOLED), hands.start(POOLED)
    job = hands.job(hands.claim(Unit(first.run_pk, 2)))
    assert entered(hands, job)
    hands.execute(Unit(first.run_pk, 0))
    hands.execute(Unit(second.run_pk, 0))
    finished(hands, job)
    assert hands.rows("SELECT run_pk FROM step_runs WHERE status = 'WAITING' AND next_dispatch_at IS NOT NULL") == [
        (first.run_pk,)
    ]
    control.cancel(hands.runtime, first.run_id)
    hands.reconciler().tick()
    hands.execute(Unit(second.run_pk, 0))
    assert told == ["a"]


def test_a_retry_gives_the_slot_back_meanwhile_and_takes_one_again(hands: Hands, told: list[Any]) -> None:
    def fail(inp: Any, ctx: Any) -> Any:
        raise RuntimeError("as told")

    hands.define(fails=fail)
    hands.start(
        "id: w\npools: {gpu: 1}\ndefaults: {pool: gpu, retry: {max_attempts: 3, delay: 0s}}\n"
        "steps:\n  a: {uses: fails}\n  b: {uses: told}\n"
    )
    hands.drain()
    assert told == ["b"]
    assert hands.rows("SELECT step_id, status, failures FROM step_runs ORDER BY 1") == [
        ("a", "FAILURE", 3),
        ("b", "SUCCESS", 0),
    ]


def test_ranges_of_a_map_share_the_slots_of_a_pool(hands: Hands, told: list[Any]) -> None:
    accepted = hands.start(
        "id: map\npools: {gpu: 1}\nsteps:\n"
        "  m: {uses: told, pool: gpu, for_each: {items: [1, 2, 3], max_parallel: 3}}\n"
    )
    hands.execute(Unit(accepted.run_pk, 0))
    parts = hands.rows("SELECT part FROM step_runs WHERE part > 0 ORDER BY 1")
    job = hands.job(hands.claim(Unit(accepted.run_pk, 0, parts[0][0])))
    assert entered(hands, job)
    assert hands.execute(Unit(accepted.run_pk, 0, parts[1][0])) is Outcome.IGNORE
    hands.expire(job.claim.unit)
    hands.reconciler().tick()
    hands.drain()
    assert sorted(told) == ["m 0", "m 1", "m 2"]
    assert hands.rows("SELECT status FROM job_runs") == [("SUCCESS",)]


def test_a_slot_that_becomes_free_while_a_step_begins_to_wait_is_not_lost(
    hands: Hands, told: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted = hands.start(POOLED)
    job = hands.job(hands.claim(Unit(accepted.run_pk, 0)))
    assert entered(hands, job)
    park = limits.park

    def park_after_the_end(tx: Transaction, *args: Any) -> float | None:
        execution.complete(tx, job, State.SUCCESS, output="null")
        return park(tx, *args)

    monkeypatch.setattr("workflows.db.limits.park", park_after_the_end)
    hands.execute(Unit(accepted.run_pk, 1))
    assert woken(hands) == ["b"]


def test_units_of_one_run_that_come_and_go_at_the_same_time_do_not_lock_each_other_out(
    hands_on_postgres: Hands,
) -> None:
    hands = hands_on_postgres
    hands.define(told=lambda inp, ctx: None)
    accepted = hands.start(
        "id: w\npools: {gpu: 2}\nsteps:\n" + "".join(f"  s{n}: {{uses: told, pool: gpu}}\n" for n in range(24))
    )

    def work(first: int) -> None:
        while True:
            ready = hands.rows("SELECT ordinal FROM step_runs WHERE status IN ('PENDING', 'WAITING') ORDER BY 1")
            if not ready:
                return
            hands.execute(Unit(accepted.run_pk, ready[first % len(ready)][0]))

    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    before = hands.rows(deadlocks)
    threads = [threading.Thread(target=work, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert hands.rows("SELECT status FROM job_runs") == [("SUCCESS",)]
    hands.rows("SELECT pg_stat_force_next_flush()")
    assert hands.rows(deadlocks) == before


def entered(hands: Hands, job: Any) -> bool:
    """A unit that another worker has claimed takes a slot."""
    return hands.database.retrying(lambda tx: limits.enter_pool(tx, job.claim, "gpu", 1))


def finished(hands: Hands, job: Any) -> None:
    """That worker ends it."""

    def work(tx: Transaction) -> object:
        return execution.complete(tx, job, State.SUCCESS, output="null")

    assert hands.database.retrying(work) is not None


def woken(hands: Hands) -> list[str]:
    """Steps that have waited and may try now."""
    rows = hands.rows("SELECT step_id FROM step_runs WHERE status = 'WAITING' AND next_dispatch_at IS NOT NULL")
    return [row[0] for row in rows]
