"""Many steps that become ready at once: fewer messages than steps, each step once, every slot busy, whatever dies."""

from __future__ import annotations

import pytest

from tests.integration.engine.test_relay import messages
from tests.integration.engine.test_runs import assert_order, workflow
from tests.support.cluster import Cluster
from tests.support.waiting import wait_until
from workflows.compile import compile_workflow
from workflows.engine.order import expected, is_wide, ranks
from workflows.model.parser import parse_workflow


def fan(width: int) -> dict[str, list[str]]:
    """One step, then `width` at the same time, then one."""
    middle = [f"p{number}" for number in range(width)]
    return {"first": [], **{step: ["first"] for step in middle}, "last": middle}


def changed(definition: str, node: str, uses: str, inputs: str = "ms: 0", more: str = "") -> str:
    """The definition with another step for one node; `more` are further lines of it."""
    old = f"uses: ledger.nap\n    with: {{node: {node}, ms: 0}}"
    assert old in definition
    return definition.replace(old, f"uses: {uses}\n    with: {{node: {node}, {inputs}}}" + (more and f"\n    {more}"))


def test_a_wide_fan_out_sends_few_messages_and_runs_every_step_once(engine: Cluster) -> None:
    engine.start_worker(slots=2)
    graph = fan(300)
    report = engine.run(workflow(graph), timeout=60)
    assert report.run.status == "SUCCESS"
    assert_order(engine, graph)
    assert engine.rows("SELECT count(*), max(number) FROM attempts") == [(302, 1)]
    assert engine.rows("SELECT sum(redispatches) FROM step_runs") == [(0,)]
    # 16 at first, then one for every 17 steps; slow machines need more, because a message does no more than a second.
    assert messages(engine) <= 90


def test_every_slot_is_kept_busy(engine: Cluster) -> None:
    engine.start_worker(slots=4)
    graph = fan(80)
    assert engine.run(workflow(graph).replace("ms: 0}", "ms: 100}"), timeout=60).run.status == "SUCCESS"
    shares = [row[0] for row in engine.rows("SELECT count(*) FROM attempts GROUP BY pid")]
    assert sum(shares) == 82
    assert len(shares) == 4
    assert min(shares) >= 10  # a process without a message would have stood idle


def test_workers_that_come_later_take_their_part(engine: Cluster) -> None:
    engine.start_worker(slots=1)
    graph = fan(80)
    accepted = engine.submit(workflow(graph).replace(", ms: 0}", ", ms: 200}"))
    wait_until(lambda: engine.ledger("start", "p0") or engine.rows("SELECT count(*) FROM attempts")[0][0] > 2)
    engine.start_worker(slots=2)
    assert engine.wait(accepted, 60).run.status == "SUCCESS"
    nodes = engine.rows("SELECT node, count(*) FROM attempts GROUP BY node")
    assert len(nodes) == 2
    assert engine.rows("SELECT count(*), max(number) FROM attempts") == [(82, 1)]


def test_steps_of_several_queues_reach_their_workers(engine: Cluster) -> None:
    engine.start_worker(slots=1, queues="research")
    engine.start_worker(slots=1, queues="processing")
    graph = fan(80)
    definition = workflow(graph)
    for number in range(0, 80, 2):
        definition = changed(definition, f"p{number}", "ledger.nap", more="queue: research")
    report = engine.run(definition, timeout=60)
    assert report.run.status == "SUCCESS"
    assert_order(engine, graph)
    assert engine.rows("SELECT sum(redispatches) FROM step_runs") == [(0,)]
    by_queue = engine.rows(
        "SELECT s.queue, count(DISTINCT a.node) FROM attempts a JOIN step_runs s ON s.run_pk = a.run_pk "
        "AND s.ordinal = a.ordinal WHERE s.step_id LIKE 'p%' GROUP BY s.queue"
    )
    assert sorted(by_queue) == [("processing", 1), ("research", 1)]


@pytest.mark.parametrize(("width", "victim"), [(60, "p40"), (80, "p0"), (80, "p40"), (80, "p79")])
def test_a_process_that_dies_takes_no_step_with_it(engine: Cluster, width: int, victim: str) -> None:
    """The narrower one is a chord."""
    engine.start_worker(slots=1)
    graph = fan(width)
    report = engine.run(changed(workflow(graph), victim, "ledger.die", "times: 1"), timeout=60)
    assert report.run.status == "SUCCESS"
    assert [len(engine.ledger("start", node)) for node in graph] == [2 if node == victim else 1 for node in graph]


def test_steps_that_fail_and_are_tried_again_hold_up_no_others(engine: Cluster) -> None:
    engine.start_worker(slots=2)
    failing = workflow(fan(80))
    for number in range(0, 80, 4):
        retry = "retry: {max_attempts: 2, delay: 1ms, jitter: none}"
        failing = changed(failing, f"p{number}", "ledger.fail", "times: 1", retry)
    report = engine.run(failing, timeout=60)
    assert report.run.status == "SUCCESS"
    assert engine.rows("SELECT count(*) FROM attempts WHERE status = 'SUCCESS'") == [(82,)]


LONG_WAY = """
id: order
steps:
  a: {uses: ledger.nap, with: {node: a, ms: 100}, priority: 9}
  b: {uses: ledger.nap, with: {node: b, ms: 0}, needs: [a]}
  b2: {uses: ledger.nap, with: {node: b2, ms: 0}, needs: [a]}
  c: {uses: ledger.nap, with: {node: c, ms: 0}}
  d: {uses: ledger.nap, with: {node: d, ms: 0}, needs: [c]}
  e: {uses: ledger.nap, with: {node: e, ms: 0}, needs: [d]}
"""


def test_after_a_slow_step_the_one_with_the_longest_way_behind_it_goes_first(engine: Cluster) -> None:
    """`b` was kept back for the slot that `a` leaves; `c` has waited since the start, and three steps hang on it."""
    engine.start_worker(slots=1)
    assert engine.run(LONG_WAY).run.status == "SUCCESS"
    starts = {node: engine.ledger("start", node)[0].at for node in "abcde"}
    assert sorted(starts, key=lambda node: starts[node])[:2] == ["a", "c"]
    assert engine.rows("SELECT count(*), max(number) FROM attempts") == [(6, 1)]


def test_ranks_are_priority_then_the_way_behind_then_those_that_wait() -> None:
    plan = compile_workflow(parse_workflow(LONG_WAY))
    by_id = {step.id: ranks(plan)[step.ordinal] for step in plan.steps}
    assert by_id == {"a": (9, 2, 2), "b": (5, 1, 0), "b2": (5, 1, 0), "c": (5, 3, 1), "d": (5, 2, 1), "e": (5, 1, 0)}


UNEVEN = """
id: uneven
steps:
  a: {uses: ledger.nap, with: {node: a, ms: 60}, priority: 9}
  x: {uses: ledger.nap, with: {node: x, ms: 0}}
  y: {uses: ledger.nap, with: {node: y, ms: 150}}
  z: {uses: ledger.nap, with: {node: z, ms: 0}}
"""


def test_what_steps_took_before_decides_which_goes_first(engine: Cluster) -> None:
    worker = engine.start_worker(slots=1)
    assert engine.run(UNEVEN).run.status == "SUCCESS"
    worker.stop()
    engine.start_worker(slots=1)  # it has read nothing of the first run yet
    assert engine.run(UNEVEN).run.status == "SUCCESS"
    starts = {node: engine.ledger("start", node)[1].at for node in "axyz"}
    assert sorted(starts, key=lambda node: starts[node])[:2] == ["a", "y"]


def test_the_longest_way_is_measured_in_seconds_where_they_are_known() -> None:
    plan = compile_workflow(parse_workflow(LONG_WAY))
    seconds = {step.ordinal: {"b": 9.0, "c": 1.0, "d": 1.0}[step.id] for step in plan.steps if step.id in "bcd"}
    order = {step.id: expected(plan, seconds)[step.ordinal][1] for step in plan.steps}
    mean = 11 / 3  # what of those that nobody knows is expected
    assert order == pytest.approx({"a": mean + 9, "b": 9, "b2": mean, "c": 2 + mean, "d": 1 + mean, "e": mean})


def test_a_chord_does_not_make_a_plan_wide() -> None:
    """Its messages are sent as a whole, so none of its steps is looked for."""
    assert not is_wide(compile_workflow(parse_workflow(workflow(fan(64)))))
    assert is_wide(compile_workflow(parse_workflow(workflow(fan(65)))))
    assert is_wide(compile_workflow(parse_workflow(workflow(fan(64))), chords=False))
