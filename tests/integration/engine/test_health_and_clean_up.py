"""Health and clean-up, on each database."""

from __future__ import annotations

from typing import Any

from tests.support.hands import Hands
from workflows.db import runs
from workflows.db.units import Unit
from workflows.engine import health
from workflows.engine.upkeep_tasks import clean_up

ONE = "id: {id}\nsteps:\n  a: {{uses: ledger.nap, with: {{node: a}}}}"
BELONGINGS = ("step_runs", "attempts", "run_events", "log_lines", "item_runs", "payloads", "approvals")


def _health(hands: Hands) -> dict[str, Any]:
    return health.examine(hands.runtime).to_json()


def test_health_names_the_queue_that_no_worker_takes_from(hands: Hands) -> None:
    keeper = hands.keeper()
    keeper.beat()
    hands.reconciler().tick()
    found = _health(hands)
    assert found["status"] == "healthy", found
    assert hands.runtime.node in found["reconciler"]["detail"]
    hands.start("id: lonely\nsteps:\n  a: {uses: ledger.nap, queue: gpu, with: {node: a}}")
    assert _health(hands)["queues"]["ok"]
    hands.change("UPDATE step_runs SET ready_at = ready_at - 100")
    found = _health(hands)
    assert not found["queues"]["ok"]
    assert "'gpu' (a step waits for 100 s)" in found["queues"]["detail"]
    assert found["status"] == "healthy"
    assert found["oldest_ready"]["queue"] == "gpu"


def test_health_says_when_nobody_leads_the_reconciler(hands: Hands) -> None:
    hands.keeper().beat()
    assert _health(hands)["reconciler"] == {"ok": True, "detail": "about to take the lead"}
    hands.change("UPDATE workers SET started_at = started_at - 100")
    assert "for 100 s" in _health(hands)["reconciler"]["detail"]
    hands.reconciler().tick()
    assert _health(hands)["reconciler"]["ok"]
    hands.change("UPDATE leader_leases SET lease_until = lease_until - 50 WHERE name = 'reconciler'")
    found = _health(hands)
    assert not found["reconciler"]["ok"]
    assert found["status"] == "unhealthy"


def test_the_clean_up_leaves_nothing_of_an_old_run_and_no_version_without_a_run(hands: Hands) -> None:
    old = hands.start(ONE.format(id="old"))
    hands.drain()
    hands.start(ONE.format(id="kept"))
    hands.change("UPDATE job_runs SET created_at = created_at - 864000, finished_at = finished_at - 864000")
    hands.change("UPDATE workflow_versions SET created_at = created_at - 864000")
    for table in BELONGINGS[:4]:
        assert hands.rows(f"SELECT count(*) FROM {table} WHERE run_pk = :run", run=old.run_pk)[0][0] > 0
    assert clean_up(hands.runtime, 0) == {"runs": 0, "versions": 0, "cached": 0}
    assert clean_up(hands.runtime, 7) == {"runs": 1, "versions": 1, "cached": 0}
    assert hands.rows("SELECT workflow_id FROM workflow_versions") == [("kept",)]
    for table in BELONGINGS:
        assert hands.rows(f"SELECT count(*) FROM {table} WHERE run_pk = :run", run=old.run_pk) == [(0,)]
    assert hands.execute(Unit(old.run_pk, 0)).name == "IGNORE"
    # The same definition runs again: its version is registered anew.
    hands.start(ONE.format(id="old"))
    hands.drain()
    assert {row[0] for row in hands.rows("SELECT workflow_id FROM workflow_versions")} == {"kept", "old"}


def test_a_version_is_not_taken_from_a_run_that_is_being_accepted(hands_on_postgres: Hands) -> None:
    hands = hands_on_postgres
    hands.start(ONE.format(id="one"))
    hands.drain()
    hands.change("UPDATE workflow_versions SET created_at = created_at - 864000")
    hands.change("UPDATE job_runs SET created_at = created_at - 864000, finished_at = finished_at - 864000")
    plan = hands.runtime.plan(hands.rows("SELECT id FROM workflow_versions")[0][0])
    hands.change("DELETE FROM step_runs")
    hands.change("DELETE FROM job_runs")
    with hands.observer() as other, other.transaction():
        other.execute("SELECT id FROM workflow_versions FOR KEY SHARE")  # as a trigger does that has found its version
        assert clean_up(hands.runtime, 7)["versions"] == 0
    assert clean_up(hands.runtime, 7)["versions"] == 1
    version = hands.database.retrying(lambda tx: runs.register_version(tx, plan, ONE.format(id="one")))
    assert hands.rows("SELECT id FROM workflow_versions") == [(version,)]
