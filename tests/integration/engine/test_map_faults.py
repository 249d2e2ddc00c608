"""Maps that are disturbed: crashes, losses and failures stay with the calls that caused them."""

from __future__ import annotations

import os

import pytest
from sqlalchemy import text

from tests.integration.engine import test_interventions
from tests.integration.engine.test_maps import definition
from tests.support.cluster import Cluster
from tests.support.hands import Given, Hands
from tests.support.waiting import wait_until
from workflows.db import maps, upkeep
from workflows.db.units import Unit
from workflows.engine import mapping
from workflows.engine.execution import end_over_time
from workflows.engine.job import Job
from workflows.engine.outcomes import Outcome
from workflows.engine.recovery import take_back_from_dead
from workflows.engine.settlement import Settlement
from workflows.model.errors import DatabaseUnavailableError
from workflows.steps import StepContext


def test_more_failures_than_tolerated_fail_the_map_and_stop_new_calls(engine: Cluster) -> None:
    engine.start_worker(slots=1)
    report = engine.run(definition(400, options="max_parallel: 1, tolerate: 1", fail_on="0, 1", ms=5))
    assert report.run.status == "FAILURE"
    states = {step.step_id: step.status for step in report.steps}
    assert states == {"list": "SUCCESS", "double": "FAILURE", "sum": "SKIPPED"}
    never_started = engine.rows("SELECT count(*) FROM item_runs WHERE status = 'SKIPPED'")[0][0]
    assert never_started > 200
    told = report.to_json()["steps"]["double"]["error"]
    assert "2 of 400 calls failed, more than 'tolerate' allows; 'n0' by " in told


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


@pytest.mark.parametrize("calls", [1, 3])
def test_a_map_goes_on_when_its_only_range_dies_between_its_last_call_and_its_end(
    hands: Hands, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    def told(inp: Given, ctx: StepContext) -> int:
        with ctx.transaction() as connection:
            connection.execute(text("SELECT 1"))
        return 0

    hands.define(told=told)
    accepted = test_interventions.expanded(hands, test_interventions.definition(calls, options="max_parallel: 1"))
    only = Unit(accepted.run_pk, 1, 1)
    with monkeypatch.context() as patch:
        patch.setattr(mapping, "_finish_range", lambda *_, **__: Outcome.IGNORE)
        hands.execute(only)
    assert hands.rows("SELECT count(*) FROM item_runs WHERE status = 'SUCCESS'") == [(1,)]
    assert take_back_from_dead(hands.runtime, only, os.getpid(), "killed")
    for _ in range(calls):
        hands.reconciler().tick()
        hands.drain()
    assert hands.standing(Unit(accepted.run_pk, 1), "status, items_success") == ("SUCCESS", calls)
    assert hands.engine.view(accepted).status == "SUCCESS"


def test_calls_whose_commit_lost_its_answer_are_written_again_without_harm(hands: Hands) -> None:
    hands.define(told=lambda inp, ctx: inp.value)
    accepted = hands.start(test_interventions.definition(3))
    hands.execute(Unit(accepted.run_pk, 0))
    claim = hands.claim(Unit(accepted.run_pk, 1))
    for _ in range(2):
        assert hands.database.retrying(lambda tx: maps.add_items(tx, claim, 0, ["0", "1"], [0, 1], 3, 60.0))
    assert mapping.expand(hands.job(claim)) is not None
    hands.drain()
    assert hands.rows("SELECT status, count(*) FROM item_runs GROUP BY status") == [("SUCCESS", 3)]
    assert hands.engine.view(accepted).status == "SUCCESS"


def test_a_renewal_that_was_decided_before_a_map_was_opened_gives_it_no_lease(hands: Hands) -> None:
    hands.define(told=lambda inp, ctx: inp.value)
    accepted = hands.start(test_interventions.definition(3))
    hands.execute(Unit(accepted.run_pk, 0))
    unit = Unit(accepted.run_pk, 1)
    claim = hands.claim(unit)
    held = hands.database.retrying(lambda tx: upkeep.leases(tx, hands.runtime.node))
    assert mapping.expand(hands.job(claim)) is not None
    hands.database.retrying(lambda tx: upkeep.renew(tx, hands.runtime.node, held, 60.0))
    assert hands.standing(unit, "status, lease_until") == ("PROGRESS", None)
    hands.drain()
    assert hands.engine.view(accepted).status == "SUCCESS"


def test_a_map_that_was_opened_is_not_given_back_when_nobody_heard_that_it_was(
    hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = mapping.expand

    def without_answer(job: Job) -> Settlement | None:
        whole(job)
        raise DatabaseUnavailableError("the commit went through, its answer was lost")

    monkeypatch.setattr(mapping, "expand", without_answer)
    hands.define(told=lambda inp, ctx: inp.value)
    accepted = test_interventions.expanded(hands, test_interventions.definition(3))
    assert hands.standing(Unit(accepted.run_pk, 1), "status, lease_until") == ("PROGRESS", None)
    hands.drain()
    assert hands.standing(Unit(accepted.run_pk, 1), "status, items_success") == ("SUCCESS", 3)
    assert hands.engine.view(accepted).status == "SUCCESS"


def test_a_map_is_opened_once_though_the_answer_was_lost(hands: Hands) -> None:
    accepted = hands.start(test_interventions.definition(3))
    hands.execute(Unit(accepted.run_pk, 0))
    job = hands.job(hands.claim(Unit(accepted.run_pk, 1)))
    assert mapping.expand(job) is not None
    ranges = hands.rows("SELECT count(*) FROM step_runs WHERE part > 0")
    assert mapping.expand(job) is None
    assert hands.rows("SELECT count(*) FROM step_runs WHERE part > 0") == ranges


def test_a_call_whose_process_did_not_heed_its_timeout_is_tried_again_as_its_policy_says(hands: Hands) -> None:
    hands.define(told=lambda inp, ctx: inp.value)
    accepted = test_interventions.expanded(hands, test_interventions.definition(3))
    first = Unit(accepted.run_pk, 1, 1)
    claim = hands.claim(first, limit=-1.0)
    assert end_over_time(hands.runtime, first, claim.token)
    state = "SELECT status, failures FROM item_runs WHERE item_index = 0"
    assert hands.rows(state) == [("RETRY", 1)]
    for _ in range(2):
        hands.change("UPDATE item_runs SET not_before = 0 WHERE status = 'RETRY'")
        hands.change("UPDATE step_runs SET next_dispatch_at = 0 WHERE status = 'PROGRESS'")
        hands.reconciler().tick()
        hands.drain()
    assert hands.rows(state) == [("SUCCESS", 1)]
    assert hands.engine.view(accepted).status == "SUCCESS"
