"""The embedded stack with real processes: shared, restarted, and gone when nobody uses it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest
import redis

from tests.support import wait_until
from tests.support.servers import PROJECT
from workflows.settings import Config
from workflows.stack import EmbeddedStack, StackError, StackStatus, find
from workflows.stack.broker import find_server
from workflows.stack.places import Places

# Stands in for the Celery worker where the stack is under test and not what runs in it: a leader with a pool process,
# which dies with it as Celery's do.
WORKER = """
import subprocess, sys, signal
from workflows.stack.processes import dies_with_parent
pool = [sys.executable, "-c", "import signal; signal.pause()"]
child = subprocess.Popen(pool, preexec_fn=dies_with_parent())
signal.signal(signal.SIGTERM, lambda *_: (child.kill(), child.wait(), print("warm", flush=True), sys.exit(0)))
print("up", flush=True)
while True:
    signal.pause()
"""
WORKER_COMMAND = (sys.executable, "-c", WORKER)

LAUNCHER = """
import sys
from workflows.settings import Config
from workflows.stack import EmbeddedStack
with EmbeddedStack(Config.from_env(), slots=1, worker_command=(sys.executable, "-c", sys.argv[1])) as stack:
    print("up", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def config(home: Path) -> Iterator[Config]:
    """The settings of a home; at the end of the test nothing may be left of its stack."""
    config = Config.from_env()
    yield config
    wait_until(lambda: not processes_of(home), message="the end of every process of the stack")


def processes_of(home: Path) -> list[psutil.Process]:
    """Every process but this one that has the home in its environment or command line."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            words = [*process.environ().values(), *process.cmdline()]
            mine = process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE
            if not mine and any(str(home) in word for word in words):
                found.append(process)
    return found


def stack_of(config: Config, slots: int = 1) -> EmbeddedStack:
    return EmbeddedStack(config, slots, worker_command=WORKER_COMMAND)


def launcher(config: Config) -> subprocess.Popen[str]:
    """Another program that uses the stack until its standard input closes."""
    process = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, WORKER],
        cwd=PROJECT,
        env={**config.env},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "up\n"
    return process


def finish(process: subprocess.Popen[str]) -> None:
    process.communicate(timeout=30)


def status(config: Config) -> StackStatus:
    found = find(config)
    assert found is not None
    return found


def running(config: Config) -> StackStatus:
    """The status once broker and worker both run."""

    def look() -> StackStatus | None:
        found = find(config)
        return found if found and found.broker_answers and found.worker_pid else None

    found = wait_until(look)
    assert found is not None
    return found


def client(stack: EmbeddedStack) -> redis.Redis:
    path = stack.broker_url.removeprefix("redis+socket://").partition("?")[0]
    return redis.Redis(unix_socket_path=path)


def test_the_broker_answers_as_soon_as_the_stack_is_entered(config: Config) -> None:
    with stack_of(config) as stack, client(stack) as broker:
        assert broker.set("key", "value")
        assert status(config).broker_answers


def test_nothing_is_found_where_no_stack_is_up(config: Config) -> None:
    assert find(config) is None
    with stack_of(config):
        assert status(config).phase == "running"
    assert find(config) is None


def test_leaving_waits_until_everything_has_ended_and_lets_the_worker_finish(config: Config) -> None:
    with stack_of(config):
        worker_log = running(config).worker_log
        wait_until(lambda: worker_log.read_text() == "up\n")
    assert not processes_of(config.home)
    assert worker_log.read_text() == "up\nwarm\n"


def test_two_users_share_a_stack_and_the_last_one_stops_it(config: Config) -> None:
    other = launcher(config)
    with stack_of(config, slots=7) as stack:
        before = running(config)
        assert before.users == 2
        assert before.slots == 1, "the second user must be told how many slots there really are"
        finish(other)
        assert running(config).supervisor_pid == before.supervisor_pid
        assert running(config).users == 1
        with client(stack) as broker:
            assert broker.ping()
    assert find(config) is None


def test_a_user_whose_steps_the_worker_has_not_loaded_is_refused(config: Config) -> None:
    stranger = Config({**config.env, "CELERIAC_STEP_MODULES": "other_steps"})
    with stack_of(config), pytest.raises(StackError, match="has not loaded the step modules other_steps"):
        stack_of(stranger).start()


def test_a_user_of_another_database_is_refused(config: Config) -> None:
    stranger = Config({**config.env, "DATABASE_URL": "postgresql://user:secret@localhost/other"})
    with stack_of(config), pytest.raises(StackError, match="works on another database"):
        stack_of(stranger).start()


def test_launchers_that_start_together_get_one_supervisor(config: Config) -> None:
    line = [sys.executable, "-c", LAUNCHER, WORKER]
    launchers = [
        subprocess.Popen(
            line, cwd=PROJECT, env={**config.env}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for process in launchers:
        assert process.stdout
        assert process.stdout.readline() == "up\n"
    assert running(config).users == 4
    brokers = [process for process in processes_of(config.home) if "valkey" in process.name()]
    assert len(brokers) == 1
    for process in launchers:
        finish(process)
    assert find(config) is None


def test_a_user_who_comes_while_the_last_one_leaves_gets_a_stack(config: Config) -> None:
    for _ in range(5):
        first = stack_of(config)
        first.start()
        first.close(wait=False)
        with stack_of(config) as stack, client(stack) as broker:
            assert broker.ping()


def test_a_killed_launcher_leaves_nothing_behind(config: Config) -> None:
    process = launcher(config)
    running(config)
    process.kill()
    process.communicate()
    wait_until(lambda: not processes_of(config.home))


def test_a_killed_supervisor_takes_its_children_along(config: Config) -> None:
    process = launcher(config)
    os.kill(running(config).supervisor_pid, signal.SIGKILL)
    wait_until(lambda: [left.pid for left in processes_of(config.home)] == [process.pid])
    finish(process)


def test_a_user_brings_a_killed_supervisor_up_again_with_what_the_broker_held(config: Config) -> None:
    with stack_of(config) as stack:
        before = running(config)
        assert stack.ensure() is False
        with client(stack) as broker:
            broker.set("message", "kept")
            broker.execute_command("WAITAOF", 1, 0, 5000)
        os.kill(before.supervisor_pid, signal.SIGKILL)
        wait_until(lambda: stack.status() is None)

        assert stack.ensure() is True

        assert running(config).supervisor_pid != before.supervisor_pid
        with client(stack) as broker:
            assert broker.get("message") == b"kept"


def test_a_killed_broker_is_started_again(config: Config) -> None:
    with stack_of(config) as stack:
        before = running(config)
        assert before.broker_pid
        os.kill(before.broker_pid, signal.SIGKILL)
        wait_until(lambda: status(config).broker_starts == 2 and status(config).broker_answers)
        after = running(config)
        assert (after.supervisor_pid, after.worker_pid) == (before.supervisor_pid, before.worker_pid)
        with client(stack) as broker:
            assert broker.ping()


def test_a_killed_worker_is_started_again_without_its_orphans(config: Config) -> None:
    with stack_of(config):
        before = running(config)
        assert before.worker_pid
        worker = psutil.Process(before.worker_pid)
        pool = wait_until(worker.children)
        worker.kill()
        wait_until(lambda: status(config).worker_starts == 2)
        wait_until(lambda: not any(process.is_running() for process in pool))
        assert running(config).broker_starts == 1


def test_a_worker_that_ignores_every_signal_does_not_outlive_the_stack(home: Path, config: Config) -> None:
    stubborn = """
import signal
for signum in (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT):
    signal.signal(signum, signal.SIG_IGN)
print("up", flush=True)
while True:
    signal.pause()
"""
    short = Config({**config.env, "CELERIAC_STOP_GRACE_SECONDS": "0.2"})
    with EmbeddedStack(short, 1, worker_command=(sys.executable, "-c", stubborn)):
        wait_until(lambda: running(config).worker_log.read_text() == "up\n")
    assert not processes_of(home)


def test_a_signal_stops_the_whole_stack_in_order(config: Config) -> None:
    with stack_of(config):
        before = running(config)
        wait_until(lambda: before.worker_log.read_text() == "up\n")
        os.kill(before.supervisor_pid, signal.SIGTERM)
        wait_until(lambda: find(config) is None)
        assert before.worker_log.read_text() == "up\nwarm\n"


def test_what_the_broker_holds_outlives_the_stack(config: Config) -> None:
    with stack_of(config) as stack, client(stack) as broker:
        broker.set("message", "kept")
    with stack_of(config) as stack, client(stack) as broker:
        assert broker.get("message") == b"kept"


def test_a_broker_that_cannot_read_its_data_starts_without_it(config: Config) -> None:
    with stack_of(config) as stack, client(stack) as broker:
        broker.set("message", "lost")
    manifest = next(Places(config.home).data.rglob("*.manifest"))
    manifest.write_text("this is no manifest")
    with stack_of(config) as stack, client(stack) as broker:
        assert broker.get("message") is None
    assert next((config.home / "stack" / "data.unreadable").rglob("*.manifest")).read_text() == "this is no manifest"


def test_a_deep_home_does_not_break_the_socket(home: Path, config: Config) -> None:
    deep = Config({**config.env, "CELERIAC_HOME": str(home.joinpath(*["a-rather-long-name"] * 9))})
    with stack_of(deep) as stack, client(stack) as broker:
        assert broker.ping()
        folder = Path(broker.connection_pool.connection_kwargs["path"]).parent
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()


def test_a_socket_folder_of_someone_else_is_refused(home: Path, config: Config) -> None:
    deep = Config({**config.env, "CELERIAC_HOME": str(home.joinpath(*["a-rather-long-name"] * 9))})
    folder = Places(deep.home).socket().parent
    folder.symlink_to("/")
    try:
        with pytest.raises(StackError, match="not a folder of your own"):
            stack_of(deep).start()
    finally:
        folder.unlink()


def test_two_homes_never_meet(home: Path, config: Config) -> None:
    other = Config({**config.env, "CELERIAC_HOME": str(home / "inner")})
    with ExitStack() as stacks:
        first, second = (stacks.enter_context(stack_of(one)) for one in (config, other))
        with client(first) as left, client(second) as right:
            left.set("whose", "first")
            assert right.get("whose") is None
        assert status(config).supervisor_pid != status(other).supervisor_pid


def test_a_child_process_is_given_the_stack_whatever_its_folder(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    relative = Config({**config.env, "DATABASE_URL": "sqlite:///runs.db", "PYTHONPATH": "/elsewhere"})
    with stack_of(relative) as stack:
        env = stack.env()
    assert env["CELERY_BROKER_URL"] == env["CELERY_RESULT_BACKEND"] == stack.broker_url
    assert env["CELERIAC_HOME"] == str(config.home)
    assert env["DATABASE_URL"] == f"sqlite:///{tmp_path / 'runs.db'}"
    assert env["PYTHONPATH"] == f"{tmp_path}{os.pathsep}/elsewhere"
    assert Config.from_env(env).broker_url == stack.broker_url


def test_celery_sends_and_receives_through_the_stack(config: Config, tmp_path: Path) -> None:
    (tmp_path / "adding_app.py").write_text(
        "import celery, os\n"
        "app = celery.Celery(broker=os.environ['CELERY_BROKER_URL'], backend=os.environ['CELERY_RESULT_BACKEND'])\n"
        "@app.task(name='add')\n"
        "def add(a, b):\n"
        "    return a + b\n"
    )
    worker = (sys.executable, "-m", "celery", "-A", "adding_app", "worker", "--concurrency", "1", "--without-mingle")
    in_folder = Config({**config.env, "PYTHONPATH": str(tmp_path)})
    with EmbeddedStack(in_folder, 1, worker_command=worker) as stack:
        script = "from adding_app import app; print(app.signature('add', (2, 3)).apply_async().get(timeout=60))"
        answer = subprocess.run(
            [sys.executable, "-c", script], env=stack.env(), cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert answer.stdout == "5\n"
        assert status(config).worker_starts == 1
        os.kill(status(config).supervisor_pid, signal.SIGKILL)
        wait_until(lambda: not processes_of(config.home), message="the end of the worker and its pool processes")


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    blocked = Config({"CELERIAC_HOME": str(tmp_path / "file" / "home")})
    with pytest.raises(StackError, match="cannot be used") as raised:
        stack_of(blocked).start()
    assert "CELERIAC_HOME" in raised.value.hint


def test_the_server_of_the_wheel_is_found() -> None:
    assert find_server().name == "valkey-server"


def test_the_keeper_ends_its_command_when_its_starter_dies(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    script = f"import os, pathlib, signal; pathlib.Path({str(told)!r}).write_text(str(os.getpid())); signal.pause()"
    keeper = subprocess.Popen(
        [sys.executable, "-m", "workflows.stack.keeper", sys.executable, "-c", script],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    wait_until(lambda: told.exists() and told.read_text())
    kept = psutil.Process(int(told.read_text()))
    assert keeper.stdin
    keeper.stdin.close()  # what the kernel does when the starter dies
    wait_until(lambda: not kept.is_running())
    assert keeper.wait() == -signal.SIGKILL


def test_the_state_is_plain_json_that_names_no_secret(config: Config) -> None:
    with stack_of(config):
        running(config)
        told = json.loads(Places(config.home).state.read_text())
    assert set(told) == {
        "phase", "supervisor_pid", "socket", "slots", "database", "step_modules", "broker", "worker", "broker_starts",
                "worker_starts",
    }  # fmt: skip


def test_a_home_that_is_removed_takes_its_stack_along(home: Path, config: Config) -> None:
    with stack_of(config) as stack:
        running(config)
        shutil.rmtree(home)
        wait_until(lambda: not processes_of(home))
        assert stack.status() is None
