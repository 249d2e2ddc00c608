"""Who keeps a lease and who loses it, looked at from the worker's parent. No worker runs: the test is the parent."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from sqlalchemy import text

from tests.support.hands import Hands, outage, quick_time
from tests.support.waiting import wait_until
from workflows.db import units, upkeep
from workflows.db.database import Transaction
from workflows.db.units import Unit, Worker
from workflows.engine import control, execution
from workflows.engine.app import make_app
from workflows.engine.broker import Broker
from workflows.engine.context import EngineContext
from workflows.engine.execution import end_over_time
from workflows.engine.job import Job
from workflows.engine.machine import Machine
from workflows.engine.outcomes import Outcome
from workflows.engine.reconciler import Reconciler
from workflows.model.errors import DatabaseUnavailableError
from workflows.model.states import State
from workflows.settings import Config

IDLE_IN_TRANSACTION = """
    SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'"""
STEP = "id: one\nsteps:\n  a: {uses: ledger.nap, with: {node: a}}\n"
TWO = f"{STEP}  b: {{uses: ledger.nap, with: {{node: b}}}}\n"
LIMITED = """
id: limited
steps:
  list: {uses: ledger.numbers, with: {num: 24}}
  map:
    uses: ledger.double
    timeout: 1s
    retry: {max_attempts: 1}
    for_each: {items: "${{ steps.list.output.values }}", tolerate: 24}
    with: {num: "${{ item }}"}
"""


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A child process of the test, as a pool process is one of the worker's parent."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def start(hands: Hands, definition: str = STEP) -> Unit:
    """The first step of a started run."""
    return Unit(hands.start(definition).run_pk, 0)


def test_a_lease_is_renewed_while_its_message_is_in_progress(hands: Hands) -> None:
    unit = start(hands)
    hands.claim(unit)
    hands.expire(unit)
    hands.keeper((unit, os.getpid())).renew()
    assert not hands.is_expired(unit)


def test_a_claim_that_its_living_process_knows_nothing_of_runs_out_and_is_taken_again(hands: Hands) -> None:
    unit = start(hands)
    hands.claim(unit)  # The answer to this was lost on its way to the child, so nobody runs the step.
    hands.expire(unit)
    hands.keeper().renew()
    assert hands.is_expired(unit)
    hands.reconciler().tick()
    assert hands.standing(unit)[0] == "PENDING"
    assert hands.execute(unit) is Outcome.RETURN
    assert hands.standing(unit)[0] == "SUCCESS"


def test_a_child_that_was_born_and_claimed_during_the_round_is_not_taken_for_dead(
    hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = start(hands)
    late: list[subprocess.Popen[bytes]] = []
    read = upkeep.leases

    def birth_then_read(tx: Transaction, node: str) -> list[upkeep.Lease]:
        late.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))
        units.claim(tx, unit, Worker(node, late[0].pid), 60.0, None)
        return read(tx, node)

    monkeypatch.setattr(upkeep, "leases", birth_then_read)
    hands.keeper().renew()
    late[0].communicate(b"\n")
    assert hands.standing(unit) == ("PROGRESS", 0, 0)


def test_the_step_of_a_child_that_is_gone_is_given_back_at_once_and_the_crash_counted(
    hands: Hands, child: subprocess.Popen[bytes]
) -> None:
    unit = start(hands)
    hands.claim(unit, child.pid)
    child.kill()
    child.wait()
    hands.keeper((unit, child.pid)).renew()
    assert hands.standing(unit) == ("PENDING", 0, 1)


def test_a_child_that_is_stopped_is_not_vouched_for(hands: Hands, child: subprocess.Popen[bytes]) -> None:
    unit = start(hands)
    hands.claim(unit, child.pid)
    child.send_signal(signal.SIGSTOP)
    wait_until(lambda: psutil.Process(child.pid).status() == psutil.STATUS_STOPPED)
    hands.expire(unit)
    hands.keeper((unit, child.pid)).renew()
    assert hands.is_expired(unit)
    assert hands.standing(unit)[0] == "PROGRESS"


def test_what_dies_with_a_worker_that_is_being_stopped_is_no_crash(
    hands: Hands, child: subprocess.Popen[bytes]
) -> None:
    dead, frozen = start(hands), start(hands)
    hands.claim(dead, child.pid)
    hands.claim(frozen)
    reconciler, keeper = hands.reconciler(), hands.keeper()
    keeper.leave()
    child.kill()
    child.wait()
    keeper.renew()
    assert hands.standing(dead) == ("PENDING", 0, 0)
    hands.expire(frozen)
    reconciler.tick()
    assert hands.standing(frozen) == ("PENDING", 0, 0)


def test_a_lease_that_ends_while_its_worker_should_be_there_is_a_crash(hands: Hands) -> None:
    unit = start(hands)
    hands.claim(unit)
    hands.expire(unit)
    hands.reconciler().tick()
    assert hands.standing(unit) == ("PENDING", 0, 1)


def test_nothing_is_taken_back_before_everybody_has_had_the_time_to_renew_after_an_outage(hands: Hands) -> None:
    unit = start(hands)
    hands.claim(unit)
    reconciler = hands.reconciler()
    hands.change("UPDATE workers SET seen_at = seen_at - 12")  # So long nobody could write,
    hands.expire(unit)  # and all leases have ended.
    reconciler.tick()
    hands.keeper().beat()
    reconciler.tick()
    assert hands.standing(unit) == ("PROGRESS", 0, 0)
    hands.change("UPDATE workers SET steady_since = steady_since - 1000")
    reconciler.tick()
    assert hands.standing(unit) == ("PENDING", 0, 1)


def test_a_leader_whose_heartbeat_does_not_get_steady_lets_another_one_lead(hands: Hands) -> None:
    def leaders() -> int:
        return len(hands.rows("SELECT holder FROM leader_leases WHERE name = 'reconciler'"))

    unit = start(hands)
    hands.claim(unit)
    hands.expire(unit)
    with quick_time(hands):
        wedged = hands.reconciler()
        wedged.tick()  # It leads, and all is well.
        assert hands.standing(unit) == ("PENDING", 0, 1)
        hands.change("UPDATE workers SET steady_since = seen_at")
        wedged.tick()
        assert leaders() == 1
        hands.database.clock.sleep(100)
        wedged.tick()
        wedged.tick()
        assert leaders() == 0
        hands.database.clock.sleep(10)
        wedged.tick()  # Nobody else has taken it.
        assert leaders() == 1


def test_a_broker_that_hangs_keeps_no_thread_from_renewing_and_no_child_from_being_born(hands: Hands) -> None:
    unit = start(hands)
    hands.claim(unit)
    hands.expire(unit)
    hands.keeper().beat()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        reconciler = Reconciler(hands.runtime, Broker(make_app(Config({"CELERY_BROKER_URL": url}))))
        asking = threading.Thread(target=reconciler.tick)
        asking.start()
        connection, _ = silent.accept()
        with connection:
            assert connection.recv(1)  # From now on the reconciler waits for an answer.
            assert hands.database.fork_lock.acquire(blocking=False)
            hands.database.fork_lock.release()
            hands.keeper((unit, os.getpid())).renew()
            assert not hands.is_expired(unit)
    asking.join(20)
    assert not asking.is_alive()


def test_a_try_over_its_time_is_ended_and_its_process_killed(hands: Hands, child: subprocess.Popen[bytes]) -> None:
    unit = start(hands)
    hands.claim(unit, child.pid, limit=-1.0)
    hands.keeper((unit, child.pid)).renew()
    assert child.wait(10) == -signal.SIGKILL
    assert hands.standing(unit)[0] == "FAILURE"


def test_a_step_that_does_not_heed_a_cancel_is_revoked_and_its_process_killed_after_a_grace(
    hands: Hands, child: subprocess.Popen[bytes]
) -> None:
    unit = start(hands)
    hands.claim(unit, child.pid)
    (run_id,) = (row[0] for row in hands.rows("SELECT task_id FROM job_runs"))
    assert control.cancel(hands.runtime, run_id).stopping == 1
    keeper = hands.keeper((unit, child.pid))
    keeper.renew()
    assert hands.standing(unit, "status") == ("PROGRESS",), "it has the grace to stop by itself"
    hands.change(
        "UPDATE step_runs SET deadline_at = deadline_at - :grace", grace=hands.runtime.config.cancel_grace_seconds
    )
    keeper.renew()
    assert child.wait(10) == -signal.SIGKILL
    assert hands.standing(unit, "status, failures") == ("REVOKED", 0)
    assert hands.rows("SELECT status FROM job_runs") == [("REVOKED",)]


def test_a_step_that_ends_by_itself_at_the_last_moment_is_not_killed(
    hands: Hands, child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = start(hands)
    claim = hands.claim(unit, child.pid, limit=-1.0)
    verdict = execution.fail

    def complete_first(job: Job, *reason: Any) -> Outcome:
        assert execution._end(hands.job(claim), State.SUCCESS, output="{}") is Outcome.RETURN
        return verdict(job, *reason)

    monkeypatch.setattr(execution, "fail", complete_first)
    hands.keeper((unit, child.pid)).renew()
    child.communicate(b"\n")
    assert child.returncode == 0
    assert hands.standing(unit)[0] == "SUCCESS"


def test_the_next_try_does_not_answer_for_the_time_of_the_last_one(hands: Hands) -> None:
    unit = start(hands)
    old = hands.claim(unit)
    hands.expire(unit)
    hands.reconciler().tick()
    hands.claim(unit)
    assert not end_over_time(hands.runtime, unit, old.token)
    assert hands.standing(unit)[0] == "PROGRESS"


def ranges(hands: Hands) -> list[tuple[Unit, int]]:
    """Ranges that are ready, with the number of their calls."""
    found = hands.rows("SELECT run_pk, ordinal, part, item_to - item_from FROM step_runs WHERE part > 0 ORDER BY part")
    return [(Unit(*row[:3]), row[3]) for row in found]


def test_a_range_has_a_hard_limit_and_of_many_calls_none_is_blamed(hands: Hands) -> None:
    unit = start(hands, LIMITED)
    hands.execute(unit)
    hands.execute(Unit(unit.run_pk, 1))
    single, calls = ranges(hands)[0]
    assert calls == 1
    hands.execute(single)  # Now the pace is known, and the next range holds several calls.
    many, calls = ranges(hands)[-1]
    assert calls > 1
    for found in (many, ranges(hands)[0][0]):
        claim = hands.claim(found, limit=-1.0)
        (lease,) = hands.database.retrying(lambda tx: upkeep.leases(tx, hands.runtime.node))
        assert lease.is_over_time
        assert end_over_time(hands.runtime, found, claim.token)
    states = dict(hands.rows("SELECT status, count(*) FROM item_runs GROUP BY status"))
    assert states == {"SUCCESS": 1, "RETRY": calls, "FAILURE": 1, "PENDING": 22 - calls}
    assert hands.rows("SELECT sum(crashes) FROM item_runs") == [(0,)]
    (error,) = hands.rows("SELECT error FROM item_runs WHERE status = 'FAILURE'")[0]
    assert "StepTimeoutError" in error


def test_a_range_that_goes_on_from_call_to_call_puts_its_limit_off(hands: Hands) -> None:
    unit = start(hands, LIMITED)
    hands.execute(unit)
    hands.execute(Unit(unit.run_pk, 1))
    found, _ = ranges(hands)[0]
    claim = hands.claim(found, limit=1.0)
    hands.database.retrying(lambda tx: units.put_deadline_off(tx, claim, 500.0))
    (before, after) = hands.standing(found, "started_at, deadline_at")
    assert after - before > 400


def test_a_child_frozen_in_a_transaction_is_ended_when_it_keeps_everybody_from_writing(
    hands: Hands, child: subprocess.Popen[bytes]
) -> None:
    child.send_signal(signal.SIGSTOP)
    wait_until(lambda: psutil.Process(child.pid).status() == psutil.STATUS_STOPPED)
    keeper = hands.keeper()
    with outage(hands):
        keeper.start()
        if hands.database.dialect == "sqlite":
            assert child.wait(10) == -signal.SIGKILL
    keeper.stop()
    keeper.join()
    # PostgreSQL cuts off such a transaction by itself, and locks rows only: there no child is killed for an outage.
    assert (child.poll() is None) is (hands.database.dialect == "postgresql")


def test_a_step_within_its_transaction_keeps_no_other_lease_from_being_renewed(hands_on_postgres: Hands) -> None:
    hands = hands_on_postgres
    held = start(hands, TWO)
    other = Unit(held.run_pk, 1)
    claim = hands.claim(held)
    hands.claim(other)
    hands.expire(held)
    hands.expire(other)
    context = EngineContext(hands.runtime, claim, "run", "a")
    with context.transaction():
        hands.keeper((held, os.getpid()), (other, os.getpid())).renew()
        assert not hands.is_expired(other)
        assert not hands.is_expired(held)  # Its row is locked: nobody would wait for it.
        context.roll_back()


def test_a_transaction_that_was_left_open_is_cut_off_and_its_step_goes_to_another(hands_on_postgres: Hands) -> None:
    hands = hands_on_postgres
    unit = start(hands)
    hands.with_lease_of(0.1)
    context = EngineContext(hands.runtime, hands.claim(unit), "run", "a")

    def go_on_too_late() -> None:
        with context.transaction() as connection:
            assert hands.rows(IDLE_IN_TRANSACTION)
            wait_until(lambda: not hands.rows(IDLE_IN_TRANSACTION), message="the end of the open transaction")
            connection.execute(text("SELECT 1"))

    with pytest.raises(DatabaseUnavailableError):
        go_on_too_late()
    hands.expire(unit)
    hands.reconciler().tick()
    assert hands.standing(unit)[0] == "PENDING"


def test_a_number_that_belongs_to_another_process_by_now_is_not_killed(child: subprocess.Popen[bytes]) -> None:
    line = "import subprocess, sys; print(subprocess.Popen(['sleep', '30']).pid, flush=True); sys.stdin.read()"
    other = subprocess.Popen([sys.executable, "-c", line], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout is not None
    grandchild = psutil.Process(int(other.stdout.readline()))
    Machine().kill(grandchild.pid)
    assert grandchild.is_running()
    assert grandchild.status() != psutil.STATUS_ZOMBIE
    grandchild.kill()
    other.communicate(timeout=10)
    Machine().kill(child.pid)
    assert child.wait(10) == -9
    Machine().kill(child.pid)  # It has ended.
