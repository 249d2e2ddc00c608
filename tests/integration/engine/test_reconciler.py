"""What the reconciler sends again, and what it leaves alone: ticks of it, one by one, over a real broker."""

from __future__ import annotations

from dataclasses import replace

import pytest
import redis

from tests.support.hands import Hands
from workflows.compile import compile_workflow
from workflows.db.units import Unit
from workflows.engine import launch
from workflows.engine.app import make_app
from workflows.engine.execution import fail
from workflows.engine.outcomes import failure_of
from workflows.engine.reconciler import TICK_SECONDS
from workflows.engine.runtime import Lru
from workflows.engine.signing import Signer
from workflows.model.errors import TransientError
from workflows.model.parser import parse_workflow
from workflows.settings import Config

STEP = "id: one\nsteps:\n  a: {uses: ledger.nap, with: {node: a}}\n"
PAIR = """
id: pair
steps:
  early: {uses: ledger.nap, with: {node: early}, retry: {delay: 1s, jitter: none}}
  late: {uses: ledger.nap, with: {node: late}}
"""
NARROW = """
id: narrow
steps:
  list: {uses: ledger.numbers, with: {num: 3}}
  map:
    uses: ledger.double
    for_each: {items: "${{ steps.list.output.values }}", max_parallel: 1, tolerate: 3}
    with: {num: "${{ item }}", fail_on: [0]}
    retry: {max_attempts: 2, delay: 1ms, jitter: none}
"""


def make_due(hands: Hands) -> None:
    """Whoever waits for a sign of life has waited for long enough."""
    hands.change("UPDATE step_runs SET next_dispatch_at = 1 WHERE next_dispatch_at IS NOT NULL")
    hands.change("UPDATE job_runs SET next_dispatch_at = 1 WHERE next_dispatch_at IS NOT NULL")


def test_a_long_queue_is_no_loss_and_is_looked_at_ever_more_rarely(hands: Hands, broker_client: redis.Redis) -> None:
    waiting = hands.engine.submit(STEP)
    unit = Unit(hands.start(STEP).run_pk, 0)
    before = broker_client.llen("research"), broker_client.llen("processing")
    reconciler = hands.reconciler()
    waits = []
    for _ in range(3):
        make_due(hands)
        reconciler.tick()
        (run,) = hands.rows("SELECT dispatch_wait_seconds FROM job_runs WHERE id = :run", run=waiting.run_pk)
        waits.append((*run, *hands.standing(unit, "dispatch_wait_seconds")))
    assert (broker_client.llen("research"), broker_client.llen("processing")) == before
    assert waits == [(4.0, 4.0), (8.0, 8.0), (16.0, 16.0)]


def test_a_message_that_later_ones_have_overtaken_is_sent_again_but_once(
    hands: Hands, broker_client: redis.Redis
) -> None:
    run_pk = hands.start(PAIR).run_pk
    early, late = Unit(run_pk, 0), Unit(run_pk, 1)
    hands.change("UPDATE step_runs SET dispatched_at = dispatched_at - 30 WHERE ordinal = 0")
    hands.claim(late)
    before = broker_client.llen("processing")
    reconciler = hands.reconciler()
    for _ in range(3):
        make_due(hands)
        reconciler.tick()
    # The second message stands behind all that the queue held: that `late` runs is no evidence against it.
    assert broker_client.llen("processing") == before + 1
    assert hands.standing(early, "redispatches") == (1,)


def test_a_retry_in_a_long_queue_is_sent_once(hands: Hands, broker_client: redis.Redis) -> None:
    run_pk = hands.start(PAIR).run_pk
    early, late = Unit(run_pk, 0), Unit(run_pk, 1)
    fail(hands.job(hands.claim(early)), failure_of(TransientError("later")))
    hands.change("UPDATE step_runs SET not_before = NULL WHERE ordinal = 0")
    hands.claim(late)
    before = broker_client.llen("processing")
    reconciler = hands.reconciler()
    for _ in range(3):
        make_due(hands)
        reconciler.tick()
    assert broker_client.llen("processing") == before + 1


def test_an_empty_queue_beside_free_slots_is_a_loss(hands: Hands, broker_client: redis.Redis) -> None:
    unit = Unit(hands.start(STEP).run_pk, 0)
    waiting = hands.engine.submit(STEP)
    broker_client.delete("processing", "research")
    reconciler = hands.reconciler()
    make_due(hands)
    reconciler.tick()
    assert (broker_client.llen("research"), broker_client.llen("processing")) == (1, 1)
    assert hands.standing(unit, "redispatches") == (1,)
    assert hands.rows("SELECT redispatches FROM job_runs WHERE id = :run", run=waiting.run_pk) == [(1,)]


def test_a_run_that_cannot_be_read_stops_neither_the_loop_nor_a_run_that_can(
    hands: Hands, broker_client: redis.Redis
) -> None:
    bad = Unit(hands.start("id: bad\nsteps:\n  a: {uses: ledger.nap, with: {node: a}}\n").run_pk, 0)
    hands.claim(bad)
    hands.change("UPDATE workflow_versions SET plan = 'garbage'")
    hands.runtime._plans = Lru(64)
    good = Unit(hands.start(STEP).run_pk, 0)
    broker_client.delete("processing")
    hands.expire(bad)
    reconciler = hands.reconciler()
    for _ in range(2):
        make_due(hands)
        assert reconciler.tick() == TICK_SECONDS
    # The step that nobody can take back does not fill the only slot either.
    assert broker_client.llen("processing") == 1
    assert hands.standing(good, "redispatches") == (1,)
    assert hands.standing(bad)[0] == "PROGRESS"


def test_a_map_whose_window_is_full_wakes_nobody_for_calls_that_wait(hands: Hands) -> None:
    run_pk = hands.start(NARROW).run_pk
    for unit in (Unit(run_pk, 0), Unit(run_pk, 1), Unit(run_pk, 1, 1)):
        hands.execute(unit)
    hands.claim(Unit(run_pk, 1, 2))  # The window of one call is full, and the first call is due for another try.
    assert hands.rows("SELECT item_index FROM item_runs WHERE status = 'RETRY'") == [(0,)]
    reconciler = hands.reconciler()
    assert reconciler.tick() == TICK_SECONDS
    assert hands.standing(Unit(run_pk, 1), "next_dispatch_at, parts_open") == (None, 1)


@pytest.mark.parametrize("is_started", [False, True])
def test_what_could_not_be_published_is_sent_without_asking_for_evidence(
    hands: Hands, broker_client: redis.Redis, is_started: bool
) -> None:
    nobody = make_app(Config({"CELERY_BROKER_URL": "redis://127.0.0.1:1/0"}))
    nobody.signer = Signer(lambda: bytes(32))
    cut_off = replace(hands.runtime, app=nobody)
    for queue in ("research", "processing"):
        broker_client.lpush(queue, "many", "others")
    plan = compile_workflow(parse_workflow(STEP))
    accepted = launch.submit(hands.runtime if is_started else cut_off, plan, STEP, {})
    assert accepted.is_published is is_started
    if is_started:
        assert launch.start_run(cut_off, accepted.run_pk)
    reconciler = hands.reconciler()
    before = broker_client.llen("research") + broker_client.llen("processing")
    make_due(hands)
    reconciler.tick()
    assert broker_client.llen("research") + broker_client.llen("processing") == before + 1
    assert hands.rows("SELECT redispatches FROM job_runs") == [(1,)]
