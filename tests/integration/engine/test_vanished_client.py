"""A machine that vanishes within a transaction: PostgreSQL gives its row locks back, whatever it was doing."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import psycopg
import pytest

from tests.support.cluster import PROJECT
from tests.support.network import network
from tests.support.servers import postgres_server, shared_folder
from tests.support.waiting import wait_until

# `executemany` sends its rows in a pipeline and asks for an answer at its end. Without that the server believes that it
# is in the middle of something, and counts no idle time.
VICTIM = """
import sys
from workflows.db import sessions
from workflows.db.database import Database

sessions.NOTICE.update(tcp_keepalives_idle="1s", tcp_keepalives_interval="1s", tcp_user_timeout="2s")
database = Database(sys.argv[1])

def hold(connection):
    with connection.pipeline():
        connection.execute("BEGIN")
        connection.execute("UPDATE held SET holder = 'lost'")
        sys.stdin.read()  # until the test has ended

if sys.argv[2] == "engine":
    hold(sessions.open_session(sys.argv[1].replace("+psycopg", "")))
else:
    with database.connect() as connection:
        hold(connection.connection.driver_connection)
"""


@pytest.mark.parametrize("whose", ["engine", "step"])
def test_a_client_that_vanishes_within_a_pipeline_gives_up_its_locks(tmp_path: Path, run_id: str, whose: str) -> None:
    with (
        network(1) as net,
        postgres_server(
            shared_folder(run_id, f"vanished-{whose}"), address=net.address, prefix_length=net.prefix_length
        ) as url,
    ):
        with psycopg.connect(url, autocommit=True) as admin:
            admin.execute("CREATE TABLE held AS SELECT 'nobody' AS holder")
        (machine,) = net.machines
        engine_url = url.replace("postgresql://", "postgresql+psycopg://")
        command = [*machine.prefix, sys.executable, "-c", VICTIM, engine_url, whose]
        victim = subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE)
        try:
            wait_until(lambda: not _is_free(url), 30, "the lock of the victim")
            machine.cut_off()
            if not machine.link:
                victim.kill()
            # Longer than the server's patience with a client that is idle: it does not count here.
            wait_until(partial(_is_free, url), 30, "the row that a vanished client had locked")
        finally:
            victim.kill()
            victim.communicate(timeout=10)


def _is_free(url: str) -> bool:
    with psycopg.connect(url) as other:
        try:
            other.execute("SELECT * FROM held FOR UPDATE NOWAIT")
        except psycopg.errors.LockNotAvailable:
            return False
        return True
