"""The servers that all other integration tests stand on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import redis
import sqlalchemy
from sqlalchemy import text

from tests.support import wait_until
from tests.support.servers import PROJECT


def test_the_broker_is_empty_and_takes_commands(broker_url: str, broker_client: redis.Redis) -> None:
    assert broker_client.dbsize() == 0
    broker_client.set("left", "behind")
    assert broker_client.get("left") == b"behind"


def test_what_a_test_leaves_in_the_broker_is_gone_in_the_next(broker_client: redis.Redis) -> None:
    assert broker_client.keys() == []


def test_a_database_is_fresh_and_writable(database_url: str) -> None:
    engine = sqlalchemy.create_engine(database_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE fresh (id INTEGER)"))
        connection.execute(text("INSERT INTO fresh VALUES (1)"))
        assert connection.execute(text("SELECT count(*) FROM fresh")).scalar_one() == 1
    engine.dispose()


def test_postgres_has_the_vector_extension(postgres_url: str) -> None:
    engine = sqlalchemy.create_engine(postgres_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE EXTENSION vector"))
        assert connection.execute(text("SELECT '[3,4]'::vector <-> '[0,0]'")).scalar_one() == 5.0
    engine.dispose()


HOLDER = """
import sys
from pathlib import Path
from tests.support.servers import valkey_server
with valkey_server(Path(sys.argv[1])):
    print("up", flush=True)
    sys.stdin.read()
"""


def test_servers_end_with_a_test_run_that_is_killed(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdin
    assert holder.stdout
    assert holder.stdout.readline() == "up\n"
    (guard,) = (process for process in psutil.process_iter() if _guards(process, tmp_path))
    (server,) = guard.children()
    assert "valkey" in server.name()

    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()

    wait_until(lambda: not guard.is_running() and not server.is_running())
    assert not (tmp_path / "server.log").exists()
    holder.stdin.close()
    holder.stdout.close()


def _guards(process: psutil.Process, folder: Path) -> bool:
    with suppress(psutil.Error):
        return "tests.support.guard" in process.cmdline() and str(folder) in process.cmdline()
    return False
