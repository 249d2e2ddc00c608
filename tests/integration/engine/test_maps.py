"""Maps: every call is a row, ranges ride in messages, failures stay with the calls that caused them."""

from __future__ import annotations

from tests.support.cluster import Cluster
from tests.support.waiting import wait_until
from workflows.engine import control

MAP = """
id: map
params: {{num: {{type: integer, default: {num}}}}}
steps:
  list: {{uses: ledger.numbers, with: {{num: "${{{{ params.num }}}}"}}}}
  double:
    uses: ledger.double
    for_each: {{items: "${{{{ steps.list.output.values }}}}", key: "n${{{{ item }}}}", {options}}}
    with: {{num: "${{{{ item }}}}", fail_on: [{fail_on}], ms: {ms}}}
    retry: {{max_attempts: {max_attempts}, delay: 500ms, jitter: none}}
  sum: {{uses: ledger.sum, run_if: {run_if}, with: {{values: "${{{{ steps.double.outputs.num }}}}"}}}}
outputs: {{total: "${{{{ steps.sum.output.num }}}}", failures: "${{{{ steps.double.failures }}}}"}}
"""


def definition(
    num: int,
    options: str = "max_parallel: 8",
    fail_on: str = "",
    ms: int = 0,
    max_attempts: int = 1,
    run_if: str = "all_success",
) -> str:
    """A list of numbers, each doubled, summed up."""
    return MAP.format(num=num, options=options, fail_on=fail_on, ms=ms, max_attempts=max_attempts, run_if=run_if)


def test_every_call_of_a_map_has_its_row_and_its_output(engine: Cluster) -> None:
    engine.start_worker(slots=2)
    report = engine.run(definition(2500))
    assert report.run.status == "SUCCESS", report
    assert report.run.outputs == {"total": 2499 * 2500, "failures": []}
    assert engine.rows("SELECT status, count(*) FROM item_runs GROUP BY status") == [("SUCCESS", 2500)]
    assert engine.rows("SELECT key FROM item_runs WHERE item_index = 17") == [("n17",)]
    assert report.to_json()["steps"]["double"]["items"] == {"total": 2500, "success": 2500, "failure": 0}
    assert engine.rows("SELECT count(*) FROM step_runs WHERE part > 0") == [(0,)]
    assert report.dispatches["reconciler"] == 0


def test_an_empty_map_is_success(engine: Cluster) -> None:
    engine.start_worker(slots=2)
    report = engine.run(definition(0))
    assert report.run.status == "SUCCESS"
    assert report.run.outputs == {"total": 0, "failures": []}
    assert report.run.progress == 100


def test_batches_are_calls(engine: Cluster) -> None:
    engine.start_worker(slots=2)
    report = engine.run(
        """
        id: batches
        steps:
          sums:
            uses: ledger.sum
            for_each: {items: "${{ range(10) }}", batch: 4, max_parallel: 1}
            with: {values: "${{ batch }}"}
        outputs: {sums: "${{ steps.sums.outputs.num }}"}
        """
    )
    assert report.run.outputs == {"sums": [0 + 1 + 2 + 3, 4 + 5 + 6 + 7, 8 + 9]}


def test_failed_calls_are_listed_and_tolerated_up_to_the_limit(engine: Cluster) -> None:
    engine.start_worker(slots=2)
    report = engine.run(definition(40, options="tolerate: 5%", fail_on="3, 7", max_attempts=2))
    assert report.run.status == "SUCCESS", report
    assert report.run.outputs is not None
    assert report.run.outputs["total"] == 39 * 40 - 2 * (3 + 7)
    assert [(f["index"], f["key"], f["attempts"]) for f in report.run.outputs["failures"]] == [
        (3, "n3", 2),
        (7, "n7", 2),
    ]
    assert len(engine.ledger("failed", "n3")) == 2


def test_more_failures_than_tolerated_fail_the_map_and_stop_new_calls(engine: Cluster) -> None:
    engine.start_worker(slots=1)
    report = engine.run(definition(400, options="max_parallel: 1, tolerate: 1", fail_on="0, 1", ms=5))
    assert report.run.status == "FAILURE"
    states = {step.step_id: step.status for step in report.steps}
    assert states == {"list": "SUCCESS", "double": "FAILURE", "sum": "SKIPPED"}
    never_started = engine.rows("SELECT count(*) FROM item_runs WHERE status = 'SKIPPED'")[0][0]
    assert never_started > 200
    assert "2 of 400 calls failed" in report.to_json()["steps"]["double"]["error"]


def test_only_the_call_that_kills_its_worker_fails(engine: Cluster) -> None:
    engine.start_worker(slots=2, CELERIAC_MAX_CRASHES="2")
    report = engine.run(definition(30, options="tolerate: 1", fail_on="-20"), timeout=60)
    assert report.run.status == "SUCCESS", report
    assert engine.rows("SELECT item_index FROM item_runs WHERE status = 'FAILURE'") == [(20,)]
    assert len(engine.ledger("died")) == 2
    assert report.run.outputs is not None
    assert "worker lost" in report.run.outputs["failures"][0]["error"]["message"]


def test_a_map_survives_the_loss_of_its_worker(engine: Cluster) -> None:
    first = engine.start_worker(slots=2)
    accepted = engine.submit(definition(120, ms=20))
    wait_until(lambda: engine.rows("SELECT 1 FROM item_runs WHERE status = 'SUCCESS'"), message="first calls")
    first.kill()
    engine.start_worker(slots=2)
    report = engine.wait(accepted, timeout=45)
    assert report.run.status == "SUCCESS", report
    assert report.run.outputs == {"total": 119 * 120, "failures": []}
    assert engine.rows("SELECT items_success, items_failure, parts_open FROM step_runs WHERE ordinal = 1") == [
        (120, 0, 0)
    ]


def test_calls_in_progress_never_exceed_max_parallel(engine: Cluster) -> None:
    engine.start_worker(slots=4)
    report = engine.run(
        """
        id: narrow
        steps:
          naps:
            uses: ledger.nap
            for_each: {items: "${{ range(12) }}", max_parallel: 2}
            with: {node: "n${{ item }}", ms: 60}
        """
    )
    assert report.run.status == "SUCCESS"
    edges = sorted([(line.at, 1) for line in engine.ledger("start")] + [(line.at, -1) for line in engine.ledger("end")])
    running = peak = 0
    for _, change in edges:
        running += change
        peak = max(peak, running)
    assert peak == 2


def test_a_retried_map_does_only_the_failed_calls_again(engine: Cluster) -> None:
    engine.start_worker(slots=2)
    accepted = engine.submit(
        """
        id: some
        steps:
          calls:
            uses: ledger.fail
            for_each: {items: "${{ range(6) }}", tolerate: 2}
            with: {node: "n${{ item }}", times: 1}
        """
    )
    report = engine.wait(accepted)
    assert report.run.status == "FAILURE"
    before = len(engine.ledger("start"))
    control.retry(engine.runtime, accepted.run_id)
    wait_until(lambda: engine.view(accepted).status == "SUCCESS", message="SUCCESS after the retry")
    assert engine.rows("SELECT status, count(*) FROM item_runs GROUP BY status") == [("SUCCESS", 6)]
    assert len(engine.ledger("start")) - before <= 6


def test_completing_transactions_of_calls_commit_once(engine: Cluster) -> None:
    with engine.runtime.database.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE effects (node text PRIMARY KEY, count integer NOT NULL)")
    engine.start_worker(slots=2)
    report = engine.run(
        """
        id: effects
        steps:
          calls:
            uses: ledger.count_up
            for_each: {items: "${{ range(60) }}"}
            with: {node: "n${{ item }}"}
        """
    )
    assert report.run.status == "SUCCESS", report
    assert engine.rows("SELECT count(*), min(count), max(count) FROM effects") == [(60, 1, 1)]
    assert engine.rows("SELECT items_success FROM step_runs") == [(60,)]
    assert report.run.progress == 100


def test_a_cancelled_map_starts_no_more_calls(engine: Cluster) -> None:
    engine.start_worker(slots=2)
    accepted = engine.submit(definition(2000, ms=10))
    wait_until(lambda: engine.rows("SELECT 1 FROM item_runs WHERE status = 'SUCCESS'"), message="first calls")
    control.cancel(engine.runtime, accepted.run_id)
    report = engine.wait(accepted)
    assert report.run.status == "REVOKED"
    wait_until(lambda: engine.rows("SELECT count(*) FROM step_runs WHERE part > 0") == [(0,)], message="last ranges")
    revoked = engine.rows("SELECT count(*) FROM item_runs WHERE status = 'REVOKED'")[0][0]
    assert revoked > 1000
