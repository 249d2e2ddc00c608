"""Workers that are brought up again whenever they have gone, as a process manager would."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.havoc import sabotage
from benchmarks.havoc.ledger import VARIABLE
from benchmarks.havoc.machines import family, send
from tests.support.cluster import PROJECT, Cluster

RESTART_SECONDS = 0.5
STOP_SECONDS = 25.0


@dataclass
class Member:
    """A worker, or the place of one that is about to be started again."""

    number: int
    process: subprocess.Popen[bytes] | None = None
    due: float = 0.0

    @property
    def pid(self) -> int:
        """Of its parent process; 0 when there is none."""
        return 0 if self.process is None else self.process.pid


class Fleet:
    """`size` workers of `slots` processes each."""

    def __init__(self, engine: Cluster, ledger: Path, size: int, slots: int, bug: str) -> None:
        self.members = [Member(number) for number in range(size)]
        self.size = size
        self.slots = slots
        self._folder = engine.folder
        self._mark = str(ledger)
        self._env = {**engine.env, VARIABLE: self._mark, sabotage.VARIABLE: bug}

    def tend(self) -> None:
        """Start what is due; notice what has gone."""
        now = time.monotonic()
        for member in self.members:
            if member.process is not None and member.process.poll() is not None:
                member.process, member.due = None, now + RESTART_SECONDS
            if member.process is None and now >= member.due:
                member.process = self._start(member.number)

    def parents(self) -> list[int]:
        """Process ids of the workers that run."""
        return [member.pid for member in self.members if member.process is not None]

    def children(self) -> list[int]:
        """Process ids of all pools."""
        found = []
        for pid in self.parents():
            with suppress(psutil.NoSuchProcess):
                found += [child.pid for child in psutil.Process(pid).children()]
        return found

    def stop(self) -> list[int]:
        """Ask all to end; the process ids that are still there in the end, and are killed."""
        for pid in self.parents():
            send(pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        left = self._mine()
        while left and time.monotonic() < deadline:
            for member in self.members:
                if member.process is not None:
                    with suppress(subprocess.TimeoutExpired):
                        member.process.wait(0.1)
            left = self._mine()
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        return [process.pid for process in left]

    def kill(self) -> None:
        """End everything at once, whatever state it is in."""
        for process in self._mine():
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def _start(self, number: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "celery", "-A", "celery_app", "worker", "--loglevel", "info"]
        command += ["--concurrency", str(self.slots), "--without-mingle", "--without-gossip", "-n", f"w{number}@%h"]
        with (self._folder / f"worker-{number}.log").open("ab") as log:
            return subprocess.Popen(
                command, env=self._env, cwd=PROJECT, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def _mine(self) -> list[psutil.Process]:
        """Every worker process of this fleet, also those whose parent is gone."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(VARIABLE) == self._mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found


def kill_family(pid: int) -> list[int]:
    """SIGKILL to a worker and its pool, as a machine that loses power; the process ids."""
    members = family(pid)
    for process in members:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    return [process.pid for process in members]
