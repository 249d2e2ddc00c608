"""A broker that was away for long is found again as soon as it is back."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from benchmarks.havoc.machines import broker
from tests.integration.engine.test_runs import DIAMOND, workflow
from tests.support.cluster import cluster
from tests.support.servers import free_port
from workflows.engine.app import RECONNECT_SECONDS, make_app
from workflows.settings import Config

AWAY_SECONDS = 13.0


def test_tries_to_reach_the_broker_do_not_become_rarer() -> None:
    app = make_app(Config.from_env({"CELERY_BROKER_URL": f"redis://127.0.0.1:{free_port()}/0"}))
    waits: list[float] = []
    with app.connection_for_read() as connection, pytest.raises(connection.connection_errors):
        connection.ensure_connection(lambda _error, wait: waits.append(wait), 3, reraise_as_library_errors=False)
    assert waits == [RECONNECT_SECONDS] * 3


def test_a_worker_goes_on_within_seconds_of_the_return_of_a_broker_that_was_long_away(tmp_path: Path) -> None:
    quick = {"CELERIAC_LEASE_SECONDS": "4", "CELERIAC_REDISPATCH_SECONDS": "2"}
    with (
        broker(tmp_path / "broker") as (server, url),
        cluster(tmp_path, f"sqlite:///{tmp_path / 'test.db'}", url, **quick) as engine,
    ):
        engine.start_worker(slots=1)
        engine.run(workflow(DIAMOND))
        server.kill()
        accepted = engine.submit(workflow(DIAMOND))
        threading.Event().wait(AWAY_SECONDS)
        server.start()
        server.wait()
        answered = time.monotonic()
        assert engine.wait(accepted, timeout=20).run.status == "SUCCESS"
        first = min(line.at for line in engine.ledger("start")[len(DIAMOND) :])
        assert first - answered < 5.0
