from __future__ import annotations

import pytest

from api.sentences import sentence
from workflows.db.progress import ActiveStep
from workflows.db.queries import RunView


def _run(status: str, *, error: str | None = None, cancel_requested: bool = False) -> RunView:
    return RunView(
        run_pk=1, run_id="x", workflow="w", version_id=1, status=status, progress=40, current_step="a", steps_total=5,
        steps_open=2, steps_failed=0, redispatches=0, cancel_requested=cancel_requested, created_at=0.0, started_at=1.0,
        finished_at=None, params={}, outputs=None, error=error, generation=1, schedule=None, fire_time=None, now=9.0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("run", "active", "expected"),
    [
        (_run("PENDING"), None, "Queued: waiting for a worker."),
        (_run("PROGRESS"), ActiveStep("chew", "PROGRESS", 60, 15, None), "Running chew: 15 of 60 items done."),
        (_run("PROGRESS"), ActiveStep("chew", "PROGRESS", None, 0, None), "Running chew."),
        (
            _run("PROGRESS"),
            ActiveStep("chew", "RETRY", None, 0, 12.3),
            "The step chew failed and is tried again in 12 s.",
        ),
        (_run("PROGRESS"), None, "3 of 5 steps done, the next one is queued."),
        (_run("PROGRESS", cancel_requested=True), None, "Stopping: the steps in progress come to their end."),
        (_run("PAUSED"), None, "Paused: 3 of 5 steps done."),
        (
            _run("PAUSED"),
            ActiveStep("chew", "PROGRESS", None, 0, None),
            "Paused: 3 of 5 steps done, chew comes to its end.",
        ),
        (_run("SUCCESS"), None, "Finished all 5 steps."),
        (_run("FAILURE", error="failed: chew"), None, "Failed: chew."),
        (_run("REVOKED"), None, "Cancelled."),
    ],
)
def test_a_run_is_told_in_one_sentence(run: RunView, active: ActiveStep | None, expected: str) -> None:
    assert sentence(run, active) == expected
