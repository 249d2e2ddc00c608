"""API and workers on machines of their own: a run spreads over them, and survives the loss of one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.engine.conftest import QUICK
from tests.integration.engine.test_faults import assert_all_done_once
from tests.integration.engine.test_runs import workflow
from tests.support.cluster import PROJECT, Cluster, cluster
from tests.support.network import Machine, network
from tests.support.servers import free_port, postgres_server, shared_folder, valkey_server
from tests.support.waiting import wait_until
from workflows.engine.launch import Submitted

WIDE: dict[str, list[str]] = {"a": [], **{f"p{i}": ["a"] for i in range(24)}, "z": [f"p{i}" for i in range(24)]}

_ASK = """
import sys, urllib.request
request = urllib.request.Request(sys.argv[2], method=sys.argv[1])
sys.stdout.write(urllib.request.urlopen(request, timeout=30).read().decode())
"""


def test_a_run_spreads_over_two_machines_and_survives_the_loss_of_one(tmp_path: Path, run_id: str) -> None:
    (tmp_path / "definitions").mkdir()
    (tmp_path / "definitions/graph.yaml").write_text(workflow(WIDE, ms=700))
    with (
        network(3) as net,
        valkey_server(tmp_path / "valkey", address=net.address) as broker,
        postgres_server(
            shared_folder(run_id, "machines"), address=net.address, prefix_length=net.prefix_length
        ) as database,
        cluster(tmp_path, database, broker, CELERIAC_DEFINITIONS=str(tmp_path / "definitions"), **QUICK) as engine,
        api(engine, net.machines[0]) as port,
    ):
        first = engine.start_worker(slots=2, prefix=net.machines[1].prefix)
        lost = set(nodes(engine))
        engine.start_worker(slots=2, prefix=net.machines[2].prefix)

        accepted = ask(net.machines[0], "POST", f"http://127.0.0.1:{port}/api/cronjobs/graph/trigger")
        # Told apart from steps that are only taken: the machine that is lost shall have a part in what was done.
        wait_until(lambda: busy(engine) == done_by(engine) == set(nodes(engine)), 30, "steps on both machines")
        net.machines[1].cut_off()
        # Usually the length of a lease. On a busy machine with leases this short the others' own heartbeats come late
        # now and then, and nobody takes anything back until they have been steady for half a lease.
        wait_until(lambda: not busy(engine) & lost, 90, "the end of the leases of the lost machine")
        first.kill()

        (run_pk,) = engine.rows("SELECT id FROM job_runs")[0]
        report = engine.wait(Submitted(run_pk, accepted["task_id"], is_published=True, is_new=True), timeout=60)
        assert report.run.status == "SUCCESS"
        assert_all_done_once(engine, WIDE)
        assert len(done_by(engine)) == 2
        told = ask(net.machines[0], "GET", f"http://127.0.0.1:{port}/api/cronjobs/tasks/{accepted['task_id']}/status")
        assert (told["status"], told["job_run_id"]) == ("SUCCESS", accepted["job_run_id"])


def nodes(engine: Cluster) -> list[str]:
    return [worker.node for worker in engine.live_workers()]


def busy(engine: Cluster) -> set[str]:
    """Workers that hold a lease on a step."""
    return {row[0] for row in engine.rows("SELECT DISTINCT lease_node FROM step_runs WHERE lease_node IS NOT NULL")}


def done_by(engine: Cluster) -> set[str]:
    """Workers that have brought a step to its end."""
    return {row[0] for row in engine.rows("SELECT DISTINCT node FROM attempts WHERE status = 'SUCCESS'")}


@contextmanager
def api(engine: Cluster, machine: Machine) -> Iterator[int]:
    """The API on a machine; its port there."""
    port = free_port()
    line = [*machine.prefix, sys.executable, "-m", "uvicorn", "api.server:app", "--host", "127.0.0.1"]
    with (engine.folder / "api.log").open("wb") as log:
        server = subprocess.Popen(
            [*line, "--port", str(port)], env=engine.env, cwd=PROJECT, stdout=log, stderr=log, start_new_session=True
        )
    try:
        wait_until(lambda: b"Application startup complete" in Path(log.name).read_bytes(), 60, "the API")
        yield port
    finally:
        server.terminate()
        server.wait(20)


def ask(machine: Machine, method: str, url: str) -> dict[str, str]:
    """Call the API from its own machine: it has no keys, and serves nobody else."""
    line = [*machine.prefix, sys.executable, "-c", _ASK, method, url]
    answer: dict[str, str] = json.loads(subprocess.run(line, check=True, capture_output=True, text=True).stdout)
    return answer
