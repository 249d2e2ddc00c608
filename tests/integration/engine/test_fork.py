"""Children are forked from a process that uses the database: each has connections, and locks of SQLite, of its own."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import PROJECT
from tests.support.hands import Hands
from tests.support.waiting import wait_until
from workflows.db import units
from workflows.db.database import Transaction
from workflows.db.units import Unit

PARENT = """
import os, signal, sys
from workflows.db.database import Database, Statement
database = Database(sys.argv[1])
read = lambda: database.retrying(lambda tx: tx.rows(Statement("SELECT count(*) FROM workers")), autocommit=True)
write = lambda: database.retrying(lambda tx: tx.run(Statement(
    "INSERT INTO leader_leases (name, holder, lease_until) VALUES ('child', 'child', 0)")))
read()
child = os.fork()
if child == 0:
    read()
    print(os.getpid(), flush=True)
    sys.stdin.readline()
    write()
    os._exit(0)
read()
signal.pause()
"""


@pytest.fixture
def parent(hands: Hands) -> Iterator[subprocess.Popen[str]]:
    """A process that has the database open and a child that has opened it too; the child's id is its first line."""
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT, hands.database.url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
    )
    yield process
    process.kill()
    process.communicate()


def test_what_a_child_writes_after_its_parent_was_killed_is_kept(hands: Hands, parent: subprocess.Popen[str]) -> None:
    assert parent.stdout is not None
    assert parent.stdin is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    hands.rows("SELECT count(*) FROM workers")
    hands.database.close()  # Nobody has the file open now but the child: the last one to close it takes the WAL away.
    if hands.database.path is not None:
        wal = hands.database.path.with_name(hands.database.path.name + "-wal")
        assert wal.exists(), "the child's lock was not seen, and its file was taken away"
    parent.stdin.write("\n")
    parent.stdin.flush()
    assert wait_until(lambda: hands.rows("SELECT holder FROM leader_leases"), message=f"the line of child {child}")
    if hands.database.path is not None:
        hands.database.close()
        with sqlite3.connect(hands.database.path) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_no_child_is_born_while_a_thread_is_in_the_middle_of_a_transaction(hands: Hands) -> None:
    unit = Unit(hands.start("id: one\nsteps:\n  a: {uses: ledger.nap, with: {node: a}}\n").run_pk, 0)
    inside, go_on = threading.Event(), threading.Event()
    seen: list[str] = []

    def work(tx: Transaction) -> None:
        units.claim(tx, unit, hands.runtime.worker, 60.0, None)
        inside.set()
        assert go_on.wait(10)
        seen.append("written")

    keeper = threading.Thread(target=lambda: hands.database.guarded(work))
    keeper.start()
    assert inside.wait(10)
    let_go = threading.Timer(0.05, go_on.set)
    let_go.start()
    child = os.fork()
    if child == 0:
        os._exit(len(seen))
    _, status = os.waitpid(child, 0)
    keeper.join()
    assert os.waitstatus_to_exitcode(status) == 1
    assert hands.standing(unit)[0] == "PROGRESS"


def test_a_child_uses_none_of_its_parents_connections(hands_on_postgres: Hands, tmp_path: Path) -> None:
    hands = hands_on_postgres
    backend = "SELECT pg_backend_pid()"
    mine = hands.rows(backend)
    answer = tmp_path / "answer"
    child = os.fork()
    if child == 0:
        try:
            answer.write_text(str(hands.rows(backend)))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert answer.read_text().startswith("[(")
    assert answer.read_text() != str(mine)
    assert hands.rows(backend) == mine
