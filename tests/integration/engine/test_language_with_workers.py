"""Conditions, blocks, groups and limits with real workers: runs that nobody disturbs."""

from __future__ import annotations

import time
from itertools import pairwise

from tests.support.cluster import Cluster
from workflows.engine import control

BLOCKS = """
id: blocks
params: {bad: {type: boolean, default: false}}
steps:
  a: {uses: ledger.nap, with: {node: a}}
  b: {uses: ledger.nap, needs: a, when: "${{ not params.bad }}", with: {node: b}}
  c: {uses: ledger.fail, needs: a, when: "${{ params.bad }}", with: {node: c}}
on_failure:
  n: {uses: ledger.nap, with: {node: n}}
  o: {uses: ledger.nap, needs: n, with: {node: o}}
finally:
  y: {uses: ledger.nap, with: {node: y}}
  z: {uses: ledger.nap, needs: y, with: {node: z}}
"""
GROUP = """
id: group
concurrency: {group: one}
steps: {a: {uses: ledger.nap, with: {node: a, ms: 150}}}
"""
POOL = """
id: pool
pools: {narrow: 1}
steps:
  m: {uses: ledger.nap, pool: narrow, for_each: {items: "${{ range(6) }}", max_parallel: 6}, with: {node: m, ms: 20}}
  a: {uses: ledger.nap, pool: narrow, with: {node: a, ms: 20}}
  b: {uses: ledger.nap, pool: narrow, with: {node: b, ms: 20}}
"""
RATE = """
id: rate
rate_limits: {swift: {rate: 10/s}}
steps:
  m: {uses: ledger.nap, rate_limit: swift, for_each: {items: "${{ range(8) }}"}, with: {node: m}}
"""


def nodes(engine: Cluster) -> list[str]:
    return [line.node for line in engine.ledger("start")]


def test_blocks_arrive_by_canvas_and_sql_alone(calm: Cluster) -> None:
    report = calm.run(BLOCKS)
    assert (report.run.status, nodes(calm)) == ("SUCCESS", ["a", "b", "y", "z"])
    assert report.dispatches["reconciler"] == 0


def test_a_failed_run_is_handled_without_the_reconciler(calm: Cluster) -> None:
    report = calm.run(BLOCKS, bad=True)
    assert report.run.status == "FAILURE"
    assert nodes(calm)[0] == "a"
    assert nodes(calm)[-4:] == ["n", "o", "y", "z"]
    assert report.dispatches["reconciler"] == 0


def test_runs_of_a_group_follow_each_other_as_soon_as_one_has_ended(calm: Cluster) -> None:
    accepted = [calm.submit(GROUP) for _ in range(4)]
    reports = [calm.wait(one) for one in accepted]
    assert [report.run.status for report in reports] == ["SUCCESS"] * 4
    assert [report.dispatches["reconciler"] for report in reports] == [0] * 4
    for before, after in pairwise(reports):
        assert before.run.finished_at is not None
        assert after.run.started_at is not None
        # The reconciler's tick is a second: who waited was let go by the run that ended.
        assert before.run.finished_at <= after.run.started_at


def test_a_pool_is_never_held_by_more_than_its_size(calm: Cluster) -> None:
    report = calm.run(POOL)
    assert report.run.status == "SUCCESS"
    times = sorted((line.at, 1) for line in calm.ledger("start")) + sorted((line.at, -1) for line in calm.ledger("end"))
    at_work = 0
    for _, change in sorted(times, key=lambda found: (found[0], found[1])):
        at_work += change
        assert at_work <= 1


def test_starts_of_a_rate_are_spread_over_all_workers(calm: Cluster) -> None:
    began = time.monotonic()
    report = calm.run(RATE)
    assert report.run.status == "SUCCESS"
    starts = sorted(line.at for line in calm.ledger("start"))
    assert len(starts) == 8
    assert starts[-1] - starts[0] >= 0.5
    assert time.monotonic() - began < 30


def test_a_cancelled_run_ends_after_its_finally(calm: Cluster) -> None:
    accepted = calm.submit(BLOCKS.replace("with: {node: a}", "with: {node: a, ms: 400}"))
    control.cancel(calm.runtime, accepted.run_id)
    report = calm.wait(accepted)
    assert report.run.status == "REVOKED"
    assert set(nodes(calm)) in ({"a", "y", "z"}, {"y", "z"}, set())
