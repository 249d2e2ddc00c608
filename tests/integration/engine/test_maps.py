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


def test_every_call_of_a_map_has_its_row_and_its_output(calm: Cluster) -> None:
    report = calm.run(definition(2500))
    assert report.run.status == "SUCCESS", report
    assert report.run.outputs == {"total": 2499 * 2500, "failures": []}
    assert calm.rows(
        "SELECT status, count(*) FROM item_runs WHERE run_pk = :run GROUP BY status", run=report.run.run_pk
    ) == [("SUCCESS", 2500)]
    assert calm.rows("SELECT key FROM item_runs WHERE run_pk = :run AND item_index = 17", run=report.run.run_pk) == [
        ("n17",)
    ]
    assert report.to_json()["steps"]["double"]["items"] == {"total": 2500, "success": 2500, "failure": 0}
    assert calm.rows("SELECT count(*) FROM step_runs WHERE part > 0") == [(0,)]
    assert report.dispatches["reconciler"] == 0


def test_an_empty_map_is_success(calm: Cluster) -> None:
    report = calm.run(definition(0))
    assert report.run.status == "SUCCESS"
    assert report.run.outputs == {"total": 0, "failures": []}
    assert report.run.progress == 100


def test_batches_are_calls(calm: Cluster) -> None:
    report = calm.run(
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


def test_failed_calls_are_listed_and_tolerated_up_to_the_limit(calm: Cluster) -> None:
    report = calm.run(definition(40, options="tolerate: 5%", fail_on="3, 7", max_attempts=2))
    assert report.run.status == "SUCCESS", report
    assert report.run.outputs is not None
    assert report.run.outputs["total"] == 39 * 40 - 2 * (3 + 7)
    assert [(f["index"], f["key"], f["attempts"]) for f in report.run.outputs["failures"]] == [
        (3, "n3", 2),
        (7, "n7", 2),
    ]
    assert len(calm.ledger("failed", "n3")) == 2


def test_a_retried_map_does_only_the_failed_calls_again(calm: Cluster) -> None:
    accepted = calm.submit(
        """
        id: some
        steps:
          calls:
            uses: ledger.fail
            for_each: {items: "${{ range(6) }}", tolerate: 2}
            with: {node: "n${{ item }}", times: 1}
        """
    )
    report = calm.wait(accepted)
    assert report.run.status == "FAILURE"
    before = len(calm.ledger("start"))
    control.retry(calm.runtime, accepted.run_id)
    wait_until(lambda: calm.view(accepted).status == "SUCCESS", message="SUCCESS after the retry")
    assert calm.rows(
        "SELECT status, count(*) FROM item_runs WHERE run_pk = :run GROUP BY status", run=report.run.run_pk
    ) == [("SUCCESS", 6)]
    assert len(calm.ledger("start")) - before <= 6


def test_completing_transactions_of_calls_commit_once(calm: Cluster) -> None:
    with calm.runtime.database.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE effects (node text PRIMARY KEY, count integer NOT NULL)")
    report = calm.run(
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
    assert calm.rows("SELECT count(*), min(count), max(count) FROM effects") == [(60, 1, 1)]
    assert report.steps[0].items_success == 60
    assert report.run.progress == 100


def test_a_cancelled_map_starts_no_more_calls(calm: Cluster) -> None:
    accepted = calm.submit(definition(2000, ms=10))
    (run_pk,) = calm.rows("SELECT id FROM job_runs WHERE task_id = :id", id=accepted.run_id)[0]
    first = "SELECT 1 FROM item_runs WHERE run_pk = :run AND status = 'SUCCESS' LIMIT 1"
    wait_until(lambda: calm.rows(first, run=run_pk), message="first calls")
    control.cancel(calm.runtime, accepted.run_id)
    report = calm.wait(accepted)
    assert report.run.status == "REVOKED"
    wait_until(lambda: calm.rows("SELECT count(*) FROM step_runs WHERE part > 0") == [(0,)], message="last ranges")
    revoked = calm.rows("SELECT count(*) FROM item_runs WHERE run_pk = :run AND status = 'REVOKED'", run=run_pk)[0][0]
    assert revoked > 1000
