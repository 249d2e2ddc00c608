"""Runs that are disturbed in every way that a test can: they end right all the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import redis
from kombu.utils.uuid import uuid

from tests.integration.engine.test_runs import DIAMOND, WIDE, assert_order, chain_of, workflow
from tests.support.cluster import PROJECT, Cluster
from tests.support.waiting import wait_until
from workflows.engine import control
from workflows.engine.canvas import publish_steps, step_signature

GRAPH: dict[str, list[str]] = {
    "a": [],
    **{f"b{i}": ["a"] for i in range(6)},
    "c": [f"b{i}" for i in range(6)],
    "d": ["c"],
    "e": ["c", "b0"],
    "f": ["d", "e"],
}


def assert_all_done_once(engine: Cluster, graph: dict[str, list[str]]) -> None:
    """Every step has one committed result, though it may have been started more often."""
    assert engine.rows("SELECT count(*) FROM attempts WHERE status = 'SUCCESS'") == [(len(graph),)]
    first_start = {node: min(line.at for line in engine.ledger("start", node)) for node in graph}
    first_end = {node: min(line.at for line in engine.ledger("end", node)) for node in graph}
    for node, needs in graph.items():
        assert all(first_end[before] <= first_start[node] for before in needs)
    assert engine.rows("SELECT count(*) FROM step_runs WHERE pending <> 0 OR lease_until IS NOT NULL") == [(0,)]


def test_a_killed_child_costs_one_try_and_the_run_ends_right(engine: Cluster) -> None:
    engine.start_worker(slots=2)
    accepted = engine.submit(workflow(GRAPH, ms=300))
    line = wait_until(lambda: engine.ledger("start", "b1"), message="start of b1")[0]
    os.kill(line.pid, signal.SIGKILL)
    report = engine.wait(accepted)
    assert report.run.status == "SUCCESS"
    assert_all_done_once(engine, GRAPH)
    killed = [step for step in report.steps if step.crashes]
    assert [step.crashes for step in killed] == [1]
    assert [step.attempts for step in killed] == [2]


def test_a_killed_worker_loses_nothing(engine: Cluster) -> None:
    first = engine.start_worker(slots=2)
    accepted = engine.submit(workflow(GRAPH, ms=300))
    wait_until(lambda: engine.ledger("start", "b1"), message="start of b1")
    first.kill()
    engine.start_worker(slots=2)
    report = engine.wait(accepted, timeout=45)
    assert report.run.status == "SUCCESS"
    assert_all_done_once(engine, GRAPH)


def test_a_flushed_broker_costs_a_moment(engine: Cluster, broker_client: redis.Redis) -> None:
    engine.start_worker(slots=2)
    accepted = engine.submit(workflow(GRAPH, ms=200))
    wait_until(lambda: engine.ledger("start", "b0"), message="start of b0")
    broker_client.flushall()
    report = engine.wait(accepted)
    assert report.run.status == "SUCCESS"
    assert_all_done_once(engine, GRAPH)


def test_a_purged_queue_is_filled_again(engine: Cluster, broker_client: redis.Redis) -> None:
    engine.start_worker(slots=2)
    accepted = engine.submit(workflow(WIDE, ms=20))
    wait_until(lambda: engine.ledger("start", "p1"), message="start of p1")
    broker_client.delete("processing")
    report = engine.wait(accepted)
    assert report.run.status == "SUCCESS"
    assert_all_done_once(engine, WIDE)


def test_after_celerys_own_purge_every_run_still_ends(engine: Cluster) -> None:
    accepted = [engine.submit(workflow(DIAMOND, ms=0)) for _ in range(3)]
    purged = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "celery_app", "purge", "-f"],
        cwd=PROJECT, env=engine.env, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "3 messages" in purged.stdout
    engine.start_worker(slots=2)
    assert {engine.wait(run, 60).run.status for run in accepted} == {"SUCCESS"}


def test_chord_keys_that_vanish_do_not_matter(engine: Cluster, broker_client: redis.Redis) -> None:
    engine.start_worker(slots=2)
    accepted = engine.submit(workflow(DIAMOND, ms=400))
    wait_until(lambda: engine.ledger("start", "b"), message="start of b")
    for key in broker_client.keys("celery-task-meta-*"):
        broker_client.delete(key)
    report = engine.wait(accepted)
    assert report.run.status == "SUCCESS"
    assert_all_done_once(engine, DIAMOND)


def test_every_message_twice_changes_nothing(engine: Cluster) -> None:
    engine.start_worker(slots=2)
    accepted = engine.submit(workflow(GRAPH, ms=50))
    (run_pk,) = engine.rows("SELECT id FROM job_runs")[0]
    ordinals = range(len(GRAPH))
    for _ in range(3):
        app = engine.runtime.app
        publish_steps(app, [step_signature(app, run_pk, n, queue="processing").set(task_id=uuid()) for n in ordinals])
    report = engine.wait(accepted)
    assert report.run.status == "SUCCESS"
    assert_order(engine, GRAPH)
    assert {step.attempts for step in report.steps} == {1}


def test_a_run_that_no_message_announced_is_started_all_the_same(engine: Cluster, broker_client: redis.Redis) -> None:
    accepted = engine.submit(chain_of(3))
    broker_client.delete("research")
    engine.start_worker(slots=2)
    report = engine.wait(accepted)
    assert report.run.status == "SUCCESS"
    assert report.dispatches["reconciler"] >= 1


def test_a_poison_step_ends_as_worker_lost_and_its_neighbours_go_on(engine: Cluster) -> None:
    engine.start_worker(slots=2, CELERIAC_MAX_CRASHES="3")
    report = engine.run(
        """
        id: poison
        steps:
          poison: {uses: ledger.die, with: {node: poison}}
          after: {uses: ledger.nap, needs: poison, with: {node: after}}
          good: {uses: ledger.nap, with: {node: good, ms: 100}}
        """,
        timeout=60,
    )
    states = {step.step_id: step.status for step in report.steps}
    assert states == {"poison": "FAILURE", "after": "SKIPPED", "good": "SUCCESS"}
    assert "worker lost" in report.to_json()["steps"]["poison"]["error"]
    assert len(engine.ledger("died")) == 3


def test_a_frozen_worker_loses_its_step_and_its_late_result_is_refused(engine: Cluster) -> None:
    engine.start_worker(slots=1)
    accepted = engine.submit(chain_of(2, uses="ledger.count_up", ms=1500))
    with engine.runtime.database.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE effects (node text PRIMARY KEY, count integer NOT NULL)")
    (pid,) = wait_until(
        lambda: [row[0] for row in engine.rows("SELECT lease_pid FROM step_runs WHERE lease_pid IS NOT NULL")],
        message="a claim",
    )
    os.kill(pid, signal.SIGSTOP)
    engine.start_worker(slots=1)
    report = engine.wait(accepted, timeout=45)
    assert report.run.status == "SUCCESS"
    os.kill(pid, signal.SIGCONT)
    engine.workers[0].stop()
    assert sorted(engine.rows("SELECT node, count FROM effects")) == [("s0", 1), ("s1", 1)]


def test_a_step_that_computes_keeps_its_lease(engine: Cluster) -> None:
    engine.start_worker(slots=2, CELERIAC_LEASE_SECONDS="2")
    report = engine.run(chain_of(1, uses="ledger.spin", ms=6000))
    assert report.run.status == "SUCCESS"
    assert [step.attempts for step in report.steps] == [1]


def test_a_cancelled_run_starts_nothing_more(engine: Cluster) -> None:
    engine.start_worker(slots=2)
    accepted = engine.submit(
        """
        id: long
        steps:
          done: {uses: ledger.nap, with: {node: done}}
          busy: {uses: ledger.wait_for_cancel, needs: done, with: {node: busy}}
          later: {uses: ledger.nap, needs: busy, with: {node: later}}
          retrying:
            uses: ledger.fail
            needs: done
            with: {node: retrying}
            retry: {delay: 1h, max_delay: 1h, jitter: none}
        """
    )
    wait_until(lambda: engine.ledger("start", "busy") and engine.ledger("failed"), message="busy and retrying")
    wait_until(lambda: engine.rows("SELECT 1 FROM step_runs WHERE status = 'RETRY'"), message="RETRY")
    answer = control.cancel(engine.runtime, accepted.run_id)
    assert (answer.finished, answer.stopping, answer.stopped, answer.never_started) == (1, 1, 1, 1)
    report = engine.wait(accepted)
    assert report.run.status == "REVOKED"
    final = control.cancel(engine.runtime, accepted.run_id)
    assert (final.status, final.finished, final.stopping, final.stopped, final.never_started) == ("REVOKED", 1, 0, 2, 1)
    assert not engine.ledger("start", "later")


def test_a_run_cancelled_before_it_started_can_be_resumed(engine: Cluster) -> None:
    accepted = engine.submit(chain_of(3))
    answer = control.cancel(engine.runtime, accepted.run_id)
    assert (answer.status, answer.never_started) == ("REVOKED", 3)
    engine.start_worker(slots=2)
    control.retry(engine.runtime, accepted.run_id)
    assert engine.wait(accepted).run.status == "SUCCESS"
    assert len(engine.ledger("start")) == 3


def test_a_retried_run_goes_on_with_what_failed_and_keeps_what_is_done(engine: Cluster) -> None:
    engine.start_worker(slots=2)
    accepted = engine.submit(
        """
        id: resume
        steps:
          done: {uses: ledger.nap, with: {node: done}}
          flaky: {uses: ledger.fail, needs: done, with: {node: flaky, times: 1}}
          after: {uses: ledger.nap, needs: flaky, with: {node: after}}
        """
    )
    assert engine.wait(accepted).run.status == "FAILURE"
    control.retry(engine.runtime, accepted.run_id)
    wait_until(lambda: engine.view(accepted).status == "SUCCESS", message="SUCCESS after the retry")
    report = engine.report(accepted)
    assert {step.step_id: step.attempts for step in report.steps} == {"done": 1, "flaky": 2, "after": 1}
    assert len(engine.ledger("start", "done")) == 1
    assert report.run.progress == 100


def test_a_worker_that_stops_politely_finishes_its_step(engine: Cluster) -> None:
    worker = engine.start_worker(slots=2)
    accepted = engine.submit(chain_of(2, ms=1000))
    wait_until(lambda: engine.ledger("start", "s0"), message="start of s0")
    worker.stop()
    assert engine.ledger("end", "s0")
    engine.start_worker(slots=2)
    report = engine.wait(accepted)
    assert report.run.status == "SUCCESS"
    assert [step.crashes for step in report.steps] == [0, 0]


def test_a_worker_that_is_stopped_at_once_gives_its_step_back_and_blames_it_for_nothing(engine: Cluster) -> None:
    worker = engine.start_worker(slots=1)
    engine.submit(chain_of(1, ms=60_000))
    wait_until(lambda: engine.ledger("start", "s0"), message="start of s0")
    worker.process.send_signal(signal.SIGQUIT)
    worker.process.wait(20)
    assert engine.rows("SELECT status, failures, crashes FROM step_runs") == [("PENDING", 0, 0)]
