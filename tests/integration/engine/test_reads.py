"""What reports say of runs that workers have hardly touched."""

from __future__ import annotations

from tests.integration.engine.test_runs import DIAMOND, workflow
from tests.support.cluster import Cluster
from workflows.engine import control


def test_the_steps_of_a_run_cancelled_before_it_began_are_revoked(engine: Cluster) -> None:
    accepted = engine.submit(workflow(DIAMOND))
    assert {step.status for step in engine.report(accepted).steps} == {"PENDING"}
    control.cancel(engine.runtime, accepted.run_id)
    report = engine.report(accepted)
    assert report.run.status == "REVOKED"
    assert {step.status for step in report.steps} == {"REVOKED"}
