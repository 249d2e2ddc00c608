"""Steps that are gone on with in the message of the one before: fewer messages, and nothing else changes."""

from __future__ import annotations

import pytest

from tests.integration.engine.test_runs import assert_order, workflow
from tests.support.cluster import Cluster
from tests.support.waiting import wait_until
from workflows.compile import compile_workflow
from workflows.db.clock import Clock
from workflows.db.units import Unit
from workflows.engine import control
from workflows.engine.order import Order, expected, ranks
from workflows.engine.relay import MOST_SECONDS, MOST_STEPS, Relay
from workflows.model.parser import parse_workflow

LATTICE = """
id: lattice
steps:
  a1: {uses: x}
  a2: {uses: x}
  b1: {uses: x, needs: [a1]}
  b2: {uses: x, needs: [a1, a2]}
  b3: {uses: x, needs: [a1], queue: research}
  b4: {uses: x, needs: [a1, a2], pool: gpu}
  b5: {uses: x, needs: [a1, a2], priority: 9}
  c1: {uses: x, needs: [b1, b2]}
  c2: {uses: x, needs: [b2, b3]}
  d: {uses: x, needs: [c1, b4]}
pools: {gpu: 1}
"""
PLAN = compile_workflow(parse_workflow(LATTICE))


class StillClock(Clock):
    """Time goes on only when it is told to."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def ordinals(*names: str) -> list[int]:
    return [next(step.ordinal for step in PLAN.steps if step.id == name) for name in names]


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


PROCESSING = frozenset({"processing"})


def kept(relay: Relay, clock: Clock, *ready: str, order: Order | None = None) -> tuple[str | None, list[str]]:
    """What is kept back of what is ready, and what is left to be sent."""
    left = ordinals(*ready)
    relay.keep_back(PLAN, order or ranks(PLAN), 1, left, [], clock)
    taken = relay.take(PLAN, 1, clock)
    assert taken is None or taken == Unit(1, taken.ordinal)
    return (None if taken is None else PLAN.steps[taken.ordinal].id, [PLAN.steps[ordinal].id for ordinal in left])


def test_the_step_with_the_longest_way_behind_it_is_kept_back(clock: StillClock) -> None:
    relay = Relay.of(PROCESSING, clock)
    assert kept(relay, clock, "c2", "b2") == ("b2", ["c2"])
    assert kept(relay, clock) == (None, [])


def test_what_other_workers_or_limits_are_for_is_sent(clock: StillClock) -> None:
    relay = Relay.of(PROCESSING, clock)
    assert kept(relay, clock, "b3", "b4") == (None, ["b3", "b4"])
    assert kept(Relay.of(PROCESSING | {"research"}, clock), clock, "b3", "b4") == ("b3", ["b4"])


def test_a_step_of_higher_priority_is_not_made_to_wait(clock: StillClock) -> None:
    assert kept(Relay.of(PROCESSING, clock), clock, "b2", "b5") == ("b5", ["b2"])


def test_a_message_gives_way_to_others_after_a_while(clock: StillClock) -> None:
    relay = Relay.of(PROCESSING, clock)
    for _ in range(MOST_STEPS):
        assert kept(relay, clock, "b2")[0] == "b2"
    assert kept(relay, clock, "b2") == (None, ["b2"])
    late = Relay.of(PROCESSING, clock)
    clock.now += MOST_SECONDS
    assert kept(late, clock, "b2") == (None, ["b2"])


def test_nothing_is_kept_back_while_a_canvas_waits(clock: StillClock) -> None:
    assert kept(Relay.of(PROCESSING, clock, is_open=False), clock, "b2") == (None, ["b2"])
    relay = Relay.of(PROCESSING, clock, ordinals("c2"))
    assert kept(relay, clock, "b2") == ("c2", ["b2"])
    assert kept(relay, clock, "b2") == ("b2", [])


BRIEF = expected(PLAN, {step.ordinal: 0.001 for step in PLAN.steps})


def test_brief_steps_are_kept_back_together(clock: StillClock) -> None:
    relay = Relay.of(PROCESSING, clock)
    assert kept(relay, clock, "b2", "b3", "b4", "c1", "c2", order=BRIEF) == ("b2", ["b3", "b4"])
    assert relay.spare == ordinals("c2", "c1")  # the best last, on which the longer way follows
    unknown = Relay.of(PROCESSING, clock)
    assert kept(unknown, clock, "b2", "c1", "c2") == ("b2", ["c1", "c2"])
    slow = expected(PLAN, {step.ordinal: 0.1 for step in PLAN.steps})
    assert kept(Relay.of(PROCESSING, clock), clock, "b2", "c1", "c2", order=slow) == ("b2", ["c1", "c2"])


def test_of_many_brief_steps_some_are_sent(clock: StillClock) -> None:
    wide = compile_workflow(parse_workflow("id: w\nsteps:\n" + "".join(f"  s{n:02}: {{uses: x}}\n" for n in range(41))))
    order = expected(wide, {step.ordinal: 0.001 for step in wide.steps})
    relay, ready = Relay.of(PROCESSING, clock), list(range(9))
    relay.keep_back(wide, order, 1, ready, [], clock)
    assert (relay.next, relay.spare, ready) == (Unit(1, 0), [6, 5, 4, 3, 2, 1], [7, 8])
    # Never more than one message may run: here it has one step to come, and so many that wait.
    full, ready = Relay.of(PROCESSING, clock), list(range(41))
    full.keep_back(wide, order, 1, ready, [], clock)
    assert len(full.spare) == MOST_STEPS - 1
    assert len(ready) == 40 - len(full.spare)


GRAPH: dict[str, list[str]] = {
    "a0": [],
    "a1": [],
    "a2": [],
    "b0": ["a0", "a1"],
    "b1": ["a1", "a2"],
    "b2": ["a2", "a0"],
    "c0": ["b0", "b1"],
    "c1": ["b1", "b2"],
    "c2": ["b2", "b0"],
}
"""Three layers that are not series-parallel: no canvas can carry an edge of it."""


PAIR = {"a": [], "b": ["a"]}
CHAIN = {f"s{n}": [f"s{n - 1}"] if n else [] for n in range(40)}


def messages(engine: Cluster) -> int:
    """How many messages of steps the workers have been given."""
    stats = engine.runtime.app.control.inspect(timeout=5).stats() or {}
    return sum(one["total"].get("celeriac.step", 0) for one in stats.values())


def test_a_graph_needs_fewer_messages_than_it_has_steps(engine: Cluster) -> None:
    engine.start_worker(slots=1)
    report = engine.run(workflow(GRAPH))
    assert report.run.status == "SUCCESS"
    assert_order(engine, GRAPH)
    assert engine.rows("SELECT count(*) FROM attempts WHERE status = 'SUCCESS'") == [(9,)]
    assert engine.rows("SELECT sum(redispatches) FROM step_runs") == [(0,)]
    # a0 goes with the message that starts the run; a busy machine looks for better steps more often.
    assert messages(engine) <= 6


def test_a_chain_needs_a_message_for_every_sixteen_steps(engine: Cluster) -> None:
    engine.start_worker(slots=2)
    report = engine.run(workflow(CHAIN))
    assert report.run.status == "SUCCESS"
    assert_order(engine, CHAIN)
    assert engine.rows("SELECT count(*), max(number) FROM attempts") == [(40, 1)]
    assert engine.rows("SELECT sum(redispatches) FROM step_runs") == [(0,)]
    # 16 steps with the message that starts the run, 17 with the one that Celery then sends, and 7 with another; a busy
    # machine needs more, because a message does no more than a second.
    assert 2 <= messages(engine) <= 8


def test_a_step_of_a_chain_that_another_worker_is_for_comes_by_celery(engine: Cluster) -> None:
    engine.start_worker(slots=1, queues="research")
    engine.start_worker(slots=1, queues="processing")
    definition = workflow({"a": [], "b": ["a"], "c": ["b"], "d": ["c"]})
    report = engine.run(definition.replace("{node: c, ms: 0}", "{node: c, ms: 0}\n    queue: research"))
    assert report.run.status == "SUCCESS"
    assert 3 <= messages(engine) <= 4  # of a, which mostly brings b along; of c; of d


@pytest.mark.parametrize("victim", ["s0", "s20"])
def test_a_process_that_dies_in_a_chain_costs_that_try_alone(engine: Cluster, victim: str) -> None:
    """The first one with the message that starts the run."""
    engine.start_worker(slots=1)
    deadly = workflow(CHAIN).replace(
        f"uses: ledger.nap\n    with: {{node: {victim}, ms: 0}}",
        f"uses: ledger.die\n    with: {{node: {victim}, times: 2}}",
    )
    report = engine.run(deadly, timeout=60)
    assert report.run.status == "SUCCESS"
    assert [len(engine.ledger("start", node)) for node in CHAIN] == [3 if node == victim else 1 for node in CHAIN]
    assert engine.rows("SELECT count(*) FROM attempts WHERE status = 'SUCCESS'") == [(40,)]


def test_a_failed_step_of_a_chain_is_tried_again_and_the_rest_arrives_by_sql(engine: Cluster) -> None:
    engine.start_worker(slots=1)
    failing = workflow({"a": [], "b": ["a"], "c": ["b"], "d": ["c"]}).replace(
        "uses: ledger.nap\n    with: {node: b, ms: 0}",
        "uses: ledger.fail\n    with: {node: b, times: 1}\n    retry: {max_attempts: 2, delay: 1ms, jitter: none}",
    )
    report = engine.run(failing)
    assert report.run.status == "SUCCESS"
    assert [len(engine.ledger("start", node)) for node in "abcd"] == [1, 2, 1, 1]


def test_the_lease_of_a_step_without_a_message_is_renewed(engine: Cluster) -> None:
    engine.start_worker(slots=1, CELERIAC_LEASE_SECONDS="1")
    report = engine.run(workflow(PAIR).replace("{node: b, ms: 0}", "{node: b, ms: 4000}"))
    assert report.run.status == "SUCCESS"
    assert engine.rows("SELECT count(*), max(number) FROM attempts") == [(2, 1)]
    assert messages(engine) == 0  # both came with the message that started the run


def test_a_process_that_dies_at_a_step_without_a_message_costs_that_try_alone(engine: Cluster) -> None:
    engine.start_worker(slots=1)
    deadly = workflow(GRAPH).replace(
        "uses: ledger.nap\n    with: {node: b1, ms: 0}", "uses: ledger.die\n    with: {node: b1, times: 2}"
    )
    report = engine.run(deadly, timeout=60)
    assert report.run.status == "SUCCESS"
    for node, needs in GRAPH.items():
        assert len(engine.ledger("start", node)) == (3 if node == "b1" else 1)
        for before in needs:
            assert engine.ledger("end", before)[0].at <= engine.ledger("start", node)[0].at
    assert len(engine.ledger("died")) == 2


def test_a_step_without_a_message_can_be_cancelled(engine: Cluster) -> None:
    engine.start_worker(slots=1)
    waiting = workflow(PAIR).replace(
        "uses: ledger.nap\n    with: {node: b, ms: 0}", "uses: ledger.wait_for_cancel\n    with: {node: b}"
    )
    accepted = engine.submit(waiting)
    wait_until(lambda: engine.ledger("start", "b"))
    assert messages(engine) == 0
    control.cancel(engine.runtime, accepted.run_id)
    assert engine.wait(accepted).run.status == "REVOKED"
    after = engine.run(workflow({"last": []}).replace("id: graph", "id: after"))
    assert after.run.status == "SUCCESS"
