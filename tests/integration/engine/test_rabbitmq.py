"""The engine on RabbitMQ, without a Redis anywhere: joins wait in SQL, and what holds on Redis holds here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.havoc.machines import Server
from celeriac import main
from tests.integration.engine.conftest import QUICK
from tests.integration.engine.test_faults import (
    GRAPH,
    assert_all_done_once,
    test_a_cancelled_run_starts_nothing_more,
    test_a_killed_child_costs_one_try_and_the_run_ends_right,
    test_a_killed_worker_loses_nothing,
    test_a_worker_that_stops_politely_finishes_its_step,
    test_every_message_twice_changes_nothing,
)
from tests.integration.engine.test_runs import (
    DIAMOND,
    WIDE,
    chain_of,
    test_a_failed_step_skips_what_needs_it_and_nothing_else,
    test_a_step_is_retried_by_its_policy_and_sql_keeps_the_time,
    test_graphs_of_every_shape_end_in_order_and_the_reconciler_dispatches_nothing,
    test_within_a_chain_the_canvas_delivers,
    workflow,
)
from tests.support import rabbitmq
from tests.support.api import served
from tests.support.cluster import Cluster, cluster
from tests.support.hands import Hands
from tests.support.servers import free_port
from tests.support.waiting import wait_until
from workflows.compile import compile_workflow
from workflows.db.units import Unit
from workflows.engine import health, launch
from workflows.engine.app import make_app
from workflows.engine.broker import MARKER_PREFIX, Broker
from workflows.model.errors import BrokerUnavailableError
from workflows.model.parser import parse_workflow
from workflows.settings import NO_RESULTS, Config

SHARED = [  # tests of other modules that run here too
    test_a_cancelled_run_starts_nothing_more,
    test_a_failed_step_skips_what_needs_it_and_nothing_else,
    test_a_killed_child_costs_one_try_and_the_run_ends_right,
    test_a_killed_worker_loses_nothing,
    test_a_step_is_retried_by_its_policy_and_sql_keeps_the_time,
    test_a_worker_that_stops_politely_finishes_its_step,
    test_every_message_twice_changes_nothing,
    test_graphs_of_every_shape_end_in_order_and_the_reconciler_dispatches_nothing,
    test_within_a_chain_the_canvas_delivers,
]

PATIENCE_SECONDS = 4

MAP = """
id: map
steps:
  list: {uses: ledger.numbers, with: {num: 300}}
  double:
    uses: ledger.double
    for_each: {items: "${{ steps.list.output.values }}", key: "n${{ item }}"}
    with: {num: "${{ item }}"}
  sum: {uses: ledger.sum, with: {values: "${{ steps.double.outputs.num }}"}}
"""


@pytest.fixture
def broker_url(amqp_url: str) -> str:
    """All fixtures that ask for a broker get this one."""
    return amqp_url


@pytest.fixture
def results_url(_valkey: str) -> str:
    """A Redis beside the RabbitMQ."""
    return _valkey


@pytest.fixture
def migrated_url(_postgres_copy: str) -> str:
    """The database that is used with a RabbitMQ."""
    return _postgres_copy


@pytest.fixture(scope="module")
def _shared(tmp_path_factory: pytest.TempPathFactory, _rabbitmq: str) -> Iterator[Cluster]:
    url = f"{_rabbitmq}-calm"
    rabbitmq.empty_queues(url)
    folder = tmp_path_factory.mktemp("rabbitmq")
    with cluster(folder, f"sqlite:///{folder / 'test.db'}", url, **QUICK) as made:
        made.start_worker(slots=2)
        yield made


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, str]]:
    """A server that tests may kill, which waits for an acknowledgement for `PATIENCE_SECONDS` only."""
    folder, port = tmp_path_factory.mktemp("own-rabbitmq"), free_port()
    url = f"{rabbitmq.url_of(port)}/master"
    server = Server(
        folder, rabbitmq.command(folder, port, consumer_timeout=1000 * PATIENCE_SECONDS), lambda: rabbitmq.answers(url)
    )
    server.start()
    try:
        wait_until(server.is_up, rabbitmq.START_SECONDS, "RabbitMQ", interval=0.2)
        yield server, url
    finally:
        server.close()


@pytest.fixture
def by_hand(tmp_path: Path, sqlite_url: str, broker_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hands]:
    with cluster(tmp_path, sqlite_url, broker_url, **QUICK) as made:
        monkeypatch.setenv("LEDGER", str(made.ledger_file))
        yield Hands(made)


def test_without_a_result_backend_a_chord_becomes_a_group_and_its_body_waits_in_sql(calm: Cluster) -> None:
    assert calm.runtime.config.result_backend == NO_RESULTS
    report = calm.run(workflow(DIAMOND))
    assert report.run.status == "SUCCESS"
    assert report.dispatches == {"canvas": 0, "sql": 4, "reconciler": 0}


def test_with_a_redis_for_results_a_chord_delivers_its_body(
    tmp_path: Path, sqlite_url: str, broker_url: str, results_url: str
) -> None:
    with cluster(tmp_path, sqlite_url, broker_url, CELERY_RESULT_BACKEND=results_url, **QUICK) as engine:
        engine.start_worker(slots=1)
        report = engine.run(workflow(DIAMOND))
        assert report.run.status == "SUCCESS"
        assert report.dispatches == {"canvas": 1, "sql": 3, "reconciler": 0}


def test_the_api_triggers_and_tells(calm: Cluster, tmp_path: Path) -> None:
    (tmp_path / "diamond.yaml").write_text(workflow(DIAMOND))
    with served({**calm.env, "CELERIAC_DEFINITIONS": str(tmp_path)}) as api:
        accepted = api.http.post("/api/cronjobs/graph/trigger", params={"wait": 20})
        assert (accepted.status_code, accepted.json()["status"]) == (200, "SUCCESS")
        told = api.http.get(f"/api/cronjobs/tasks/{accepted.json()['task_id']}/progress").json()
        assert (told["status"], told["progress"], told["celery_state"]) == ("SUCCESS", 100, "SUCCESS")
        assert api.http.get("/api/cronjobs/tasks/health-check").json()["broker"] == {"ok": True, "detail": "answers"}


def test_a_map_runs_call_by_call(calm: Cluster) -> None:
    report = calm.run(MAP)
    assert report.run.status == "SUCCESS"
    assert report.dispatches["reconciler"] == 0
    (total,) = calm.rows("SELECT output FROM step_runs WHERE step_id = 'sum' AND part = 0")
    assert json.loads(total[0])["num"] == sum(2 * number for number in range(300))


def test_purged_queues_are_filled_again(engine: Cluster) -> None:
    engine.start_worker(slots=2)
    accepted = engine.submit(workflow(WIDE, ms=50))
    wait_until(lambda: engine.ledger("start", "p1"), message="start of p1")
    assert engine.runtime.app.control.purge() > 0  # what `celery purge` calls
    report = engine.wait(accepted)
    assert report.run.status == "SUCCESS"
    assert_all_done_once(engine, WIDE)


def test_a_broker_that_is_killed_and_restarted_costs_a_moment(
    tmp_path: Path, sqlite_url: str, own: tuple[Server, str]
) -> None:
    server, url = own
    with cluster(tmp_path, sqlite_url, url, **QUICK) as engine:
        engine.start_worker(slots=2)
        accepted = engine.submit(workflow(GRAPH, ms=300))
        wait_until(lambda: engine.ledger("start", "b1"), message="start of b1")
        server.kill()
        late = engine.submit(chain_of(2))  # recorded, whether or not its message is written to a dying connection
        server.start()
        wait_until(server.is_up, rabbitmq.START_SECONDS, "RabbitMQ", interval=0.2)
        assert engine.wait(accepted, timeout=60).run.status == "SUCCESS"
        assert engine.wait(late, timeout=60).run.status == "SUCCESS"
        assert engine.rows("SELECT count(*) FROM attempts WHERE status = 'SUCCESS'") == [(len(GRAPH) + 2,)]


def test_a_step_that_rabbitmq_has_no_patience_for_is_done_once_all_the_same(
    tmp_path: Path, sqlite_url: str, own: tuple[Server, str]
) -> None:
    with cluster(tmp_path, sqlite_url, own[1], **QUICK) as engine:
        worker = engine.start_worker(slots=1)
        report = engine.run(chain_of(2, ms=1000 * (PATIENCE_SECONDS + 3)), timeout=60)
        assert report.run.status == "SUCCESS"
        assert [step.attempts for step in report.steps] == [1, 1]
        assert "PRECONDITION_FAILED" in worker.log.read_text()


def test_a_broker_that_has_lost_its_memory_is_told_by_its_marker(by_hand: Hands, broker_url: str) -> None:
    unit = Unit(by_hand.start("id: one\nsteps:\n  a: {uses: ledger.nap, with: {node: a}}\n").run_pk, 0)
    reconciler = by_hand.reconciler()
    reconciler.tick()
    assert rabbitmq.queue_length(broker_url, "processing") == 1
    # As a node that comes back with an empty disk.
    (marker,) = by_hand.rows("SELECT holder FROM leader_leases WHERE name = 'broker marker'")[0]
    rabbitmq.delete_queue(broker_url, MARKER_PREFIX + marker)
    rabbitmq.empty_queues(broker_url)
    reconciler.tick()
    assert rabbitmq.queue_length(broker_url, "processing") == 1
    assert by_hand.standing(unit, "redispatches") == (1,)
    reconciler.tick()
    assert rabbitmq.queue_length(broker_url, "processing") == 1


def test_an_empty_queue_beside_free_slots_is_a_loss_and_a_long_one_is_not(by_hand: Hands, broker_url: str) -> None:
    unit = Unit(by_hand.start("id: one\nsteps:\n  a: {uses: ledger.nap, with: {node: a}}\n").run_pk, 0)
    reconciler = by_hand.reconciler()
    due = "UPDATE step_runs SET next_dispatch_at = 1 WHERE next_dispatch_at IS NOT NULL"
    by_hand.change(due)
    reconciler.tick()
    assert by_hand.standing(unit, "redispatches") == (0,)
    rabbitmq.empty_queues(broker_url)
    by_hand.change(due)
    reconciler.tick()
    assert by_hand.standing(unit, "redispatches") == (1,)
    assert rabbitmq.queue_length(broker_url, "processing") == 1


def test_a_run_planned_with_chords_goes_on_without_what_counted_them(by_hand: Hands) -> None:
    text = workflow(DIAMOND)
    plan = compile_workflow(parse_workflow(text))
    assert plan.chords
    accepted = launch.submit(by_hand.runtime, plan, text, {})
    assert launch.start_run(by_hand.runtime, accepted.run_pk)
    by_hand.drain()
    assert by_hand.engine.view(accepted).status == "SUCCESS"
    again = by_hand.start(text)
    assert by_hand.rows("SELECT count(DISTINCT version_id) FROM job_runs") == [(2,)]
    arrivals = by_hand.rows("SELECT DISTINCT arrives_by FROM step_runs WHERE run_pk = :run", run=again.run_pk)
    assert arrivals == [("sql",)]


def test_the_command_line_plans_runs_and_examines(
    calm: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "diamond.yaml").write_text(workflow(DIAMOND))
    (tmp_path / "long.yaml").write_text("id: long\nsteps:\n  a: {uses: ledger.nap, timeout: 1h, with: {node: a}}\n")
    monkeypatch.chdir(tmp_path)
    for name, value in {**calm.env, "CELERIAC_DEFINITIONS": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)

    def told(*line: str) -> str:
        assert main.run(list(line)) == 0
        return capsys.readouterr().out

    planned = told("plan", "diamond.yaml")
    assert "group([b, c])" in planned
    assert "note: no chords, because the result backend cannot count their members: d waits in SQL" in planned
    assert "note: RabbitMQ cuts off a worker whose step has not ended after 1800 s" in told("plan", "long.yaml")
    assert json.loads(told("run", "diamond.yaml", "--json"))["status"] == "SUCCESS"
    checks = {check["name"]: check for check in json.loads(told("doctor", "--json"))["checks"]}
    assert checks["broker"]["verdict"] == "ok"
    assert checks["timeouts"]["verdict"] == "warn"
    assert health.examine(calm.runtime).is_healthy
    assert any("pong" in str(answer) for answer in calm.runtime.app.control.ping(timeout=5))


def test_a_rabbitmq_that_is_away_or_refuses_is_named(broker_url: str) -> None:
    for url, says in (
        (f"amqp://127.0.0.1:{free_port()}//", "refused"),
        (broker_url.replace("guest:guest", "guest:wrong"), "ACCESS_REFUSED"),
        (f"{broker_url}-unknown", "not found"),
    ):
        broker = Broker(make_app(Config({"CELERY_BROKER_URL": url})))
        with pytest.raises(BrokerUnavailableError, match=says):
            broker.check()
