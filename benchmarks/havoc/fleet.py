"""Workers and the API, brought up again whenever they have gone, as a process manager would."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from benchmarks.havoc import sabotage
from benchmarks.havoc.borders import ROLE
from benchmarks.havoc.ledger import VARIABLE
from benchmarks.havoc.machines import family, send
from tests.support.cluster import Cluster
from tests.support.nursery import Child, Nursery
from tests.support.servers import free_port

OURS = "celery_app"
RESTART_SECONDS = 0.5
STOP_SECONDS = 25.0


@dataclass
class Member:
    """A worker or the API, or the place of one that is about to be started again."""

    name: str
    module: str
    arguments: Sequence[str]
    process: Child | None = None
    due: float = 0.0

    @property
    def pid(self) -> int:
        """Of its parent process; 0 when there is none."""
        return 0 if self.process is None else self.process.pid


class Fleet:
    """`size` workers of `slots` processes each, and an API at `url`; none for an application that is not ours."""

    def __init__(
        self, engine: Cluster, ledger: Path, size: int, slots: int, bug: str = "", app: str = OURS, **variables: str
    ) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.workers = [Member(f"worker-{number}", "celery", _worker(app, number, slots)) for number in range(size)]
        self.api = Member("api", "uvicorn", _api(port)) if app == OURS else None
        self.size = size
        self.slots = slots
        self._folder = engine.folder
        self._mark = str(ledger)
        self._nursery = Nursery({**engine.env, VARIABLE: self._mark, sabotage.VARIABLE: bug, **variables})

    def tend(self) -> None:
        """Start what is due; notice what has gone."""
        now = time.monotonic()
        for member in self._members():
            if member.process is not None and member.process.has_ended():
                member.process, member.due = None, now + RESTART_SECONDS
            if member.process is None and now >= member.due:
                log, role = self._folder / f"{member.name}.log", "api" if member is self.api else "worker"
                member.process = self._nursery.bear(member.module, member.arguments, log, {ROLE: role})

    def parents(self) -> list[int]:
        """Process ids of the workers that run."""
        return [member.pid for member in self.workers if member.process is not None]

    def answers(self) -> bool:
        """Whether the API does."""
        with suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/livez", timeout=2.0).is_success
        return False

    def children(self) -> list[int]:
        """Process ids of all pools."""
        found = []
        for pid in self.parents():
            with suppress(psutil.NoSuchProcess):
                found += [child.pid for child in psutil.Process(pid).children()]
        return found

    def stop(self) -> list[int]:
        """Ask all to end; the process ids that are still there in the end, and are killed."""
        for member in self._members():
            if member.process is not None:
                send(member.pid, signal.SIGTERM)
        psutil.wait_procs(self._mine(), STOP_SECONDS)
        left = self._mine()
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        return [process.pid for process in left]

    def kill(self) -> None:
        """End everything at once, whatever state it is in."""
        self._nursery.close()
        for process in self._mine():
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def _members(self) -> list[Member]:
        return [*self.workers, *([] if self.api is None else [self.api])]

    def _mine(self) -> list[psutil.Process]:
        """Every worker process of this fleet, also those whose parent is gone."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                is_mine = process.pid != self._nursery.pid and process.environ().get(VARIABLE) == self._mark
                if is_mine and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found


def _worker(app: str, number: int, slots: int) -> list[str]:
    command = ["-A", app, "worker", "--loglevel", "info", "--concurrency", str(slots)]
    return [*command, "--without-mingle", "--without-gossip", "-n", f"w{number}@%h"]


def _api(port: int) -> list[str]:
    return ["api.server:app", "--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"]


def kill_family(pid: int) -> list[int]:
    """SIGKILL to a worker and its pool, as a machine that loses power; the process ids."""
    members = family(pid)
    for process in members:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    return [process.pid for process in members]
