"""What reports say of runs that workers have hardly touched."""

from __future__ import annotations

import pytest

from tests.integration.engine.test_runs import DIAMOND, workflow
from tests.support.cluster import Cluster
from tests.support.hands import Hands
from workflows.db.units import Unit
from workflows.engine import control


def test_the_steps_of_a_run_cancelled_before_it_began_are_revoked(engine: Cluster) -> None:
    accepted = engine.submit(workflow(DIAMOND))
    assert {step.status for step in engine.report(accepted).steps} == {"PENDING"}
    control.cancel(engine.runtime, accepted.run_id)
    report = engine.report(accepted)
    assert report.run.status == "REVOKED"
    assert {step.status for step in report.steps} == {"REVOKED"}


def test_the_time_left_is_told_from_past_runs_before_there_is_a_pace(hands: Hands) -> None:
    hands.define(told=lambda inp, ctx: inp.value)
    text = "id: timed\nsteps:\n  a: {uses: told}\n  b: {uses: told, needs: a}\n"
    first = hands.start(text)
    assert hands.engine.view(first).eta_seconds is None
    hands.drain()
    hands.change("UPDATE job_runs SET started_at = 1000, finished_at = 1080")
    again = hands.start(text)
    assert hands.engine.view(again).eta_seconds == 80.0
    hands.execute(Unit(again.run_pk, 0))
    hands.change("UPDATE job_runs SET started_at = started_at - 10 WHERE id = :run", run=again.run_pk)
    assert hands.engine.view(again).eta_seconds == pytest.approx(0.5 * 10 + 0.5 * 40, abs=2.0)
    hands.drain()
    assert hands.engine.view(again).eta_seconds is None
