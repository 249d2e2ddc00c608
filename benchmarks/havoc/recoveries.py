"""How long the system takes to go on after one fault, nothing else being wrong, with the settings of production.

One fault at a time: the next one comes only when work flows again. What is measured is what a caller sees: the time
from the fault to the next start of what it interrupted, or from a server's first answer to the next start of anything.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random

from benchmarks.havoc.client import Client
from benchmarks.havoc.fleet import Fleet, kill_family
from benchmarks.havoc.ledger import Entry, Reader, Who, ledger
from benchmarks.havoc.machines import Server, family, send
from benchmarks.havoc.systems import Database, Servers, servers
from benchmarks.havoc.watcher import Watcher
from benchmarks.havoc.web import Web
from benchmarks.havoc.works import Node, Work
from tests.support.cluster import Cluster
from tests.support.waiting import wait_until

WORKERS = 3
SLOTS = 2
AT_ONCE = 8
PATIENCE_SECONDS = 90.0
STEADY_STARTS = 12
"""Work flows when so many steps have started since the last fault was over."""

MOST_AWAY_SECONDS = 4.0


@dataclass(frozen=True, slots=True)
class Limit:
    """What a kind of fault may cost.

    Attributes:
        p99_seconds: 99 % of recoveries take no longer; the worst, when there are fewer than a hundred.
        faults: How often it is done in a full measurement.
    """

    p99_seconds: float
    faults: int


LIMITS = {
    "child killed": Limit(5.0, 100),
    "worker killed": Limit(20.0, 30),
    "broker killed": Limit(5.0, 20),
    "database restarted": Limit(10.0, 20),
}


@dataclass(frozen=True, slots=True)
class Recovery:
    """Of one kind.

    Attributes:
        faults: How often it was done.
        seconds: One for each step that a death interrupted, one for each server that was away.
        unseen: Faults after which what was waited for did not come within 90 s.
    """

    kind: str
    faults: int
    seconds: tuple[float, ...]
    unseen: int


def measure(
    kind: str, faults: int, database: Database, folder: Path, tell: Callable[[str], None] = lambda _: None
) -> Recovery:
    """Do it `faults` times on a system in `folder`, an empty one that other users may enter."""
    with ExitStack() as stack:
        engine, given = stack.enter_context(servers(database, folder))
        path = stack.enter_context(ledger(folder))
        fleet = Fleet(engine, path, WORKERS, SLOTS)
        stack.callback(fleet.kill)
        stop = threading.Event()
        stack.callback(stop.set)
        watcher = Watcher(engine.runtime.database, lambda: client.accepted)
        client = Client(
            Web(fleet.url, given.definitions, stop),
            _steady_work,
            runs=1_000_000,
            at_once=AT_ONCE,
            until=float("inf"),
            open_runs=watcher.open_runs,
            stop=stop,
        )
        wait_until(lambda: _is_up(engine, fleet), 60, "workers and API")
        watcher.start()
        stack.callback(watcher.stop)
        client.start()
        stack.callback(client.join, 20.0)
        stack.callback(stop.set)
        patient = _Patient(kind, engine, given, fleet, path)
        seconds: list[float] = []
        unseen = 0
        for number in range(faults):
            found = patient.once()
            seconds += [one for one in found if one is not None]
            unseen += found.count(None)
            tell(f"{kind} {number + 1} of {faults}: {', '.join('never' if s is None else f'{s:.2f} s' for s in found)}")
        return Recovery(kind, faults, tuple(seconds), unseen)


def _is_up(engine: Cluster, fleet: Fleet) -> bool:
    fleet.tend()
    return len(engine.live_workers()) >= fleet.size and fleet.answers()


def _steady_work(number: int) -> Work:
    """Short chains that cross, of steps long enough to be hit: nothing fails, nothing is skipped."""
    random = Random(number)

    def node(*needs: str) -> Node:
        return Node(needs, "all_success", random.randint(200, 600), 0, 0)

    nodes = {"a": node(), "b": node("a"), "c": node("a"), "d": node("b", "c"), "e": node("b"), "f": node("d", "e")}
    return Work(number, nodes, 1, None)


class _Patient:
    """A system that is hit, and watched until it is well again."""

    def __init__(self, kind: str, engine: Cluster, given: Servers, fleet: Fleet, path: Path) -> None:
        self._kind = kind
        self._engine = engine
        self._given = given
        self._fleet = fleet
        self._ledger = Reader(path)
        self._random = Random(kind)
        self._dead: set[int] = set()
        self._pause = threading.Event()

    def once(self) -> list[float | None]:
        """Seconds of the recoveries after one fault; None for one that was not seen."""
        since = time.time()
        self._wait(lambda: self._is_steady(since))
        match self._kind:
            case "child killed":
                pid = self._at_work(self._fleet.children)
                died = time.time()
                send(pid, signal.SIGKILL)
                return self._interrupted(died, [pid])
            case "worker killed":
                parent = self._at_work(self._fleet.parents)
                died = time.time()
                return self._interrupted(died, kill_family(parent))
            case "broker killed":
                self._given.broker.kill()
                return [self._return_of(self._given.broker)]
            case _:
                assert self._given.database is not None
                self._given.database.crash()
                return [self._return_of(self._given.database)]

    def _is_steady(self, since: float) -> bool:
        starts = sum(entry.event == "start" and entry.at > since for entry in self._ledger.entries())
        return starts >= STEADY_STARTS and _is_up(self._engine, self._fleet)

    def _at_work(self, candidates: Callable[[], list[int]]) -> int:
        """A process that runs a step, or has a child that does."""

        def find() -> int:
            entries = self._ledger.entries()
            busy = [
                pid
                for pid in candidates()
                if pid not in self._dead  # Its parent may not have noticed yet.
                and any(_unfinished(entries, member.pid) is not None for member in family(pid))
            ]
            return self._random.choice(busy) if busy else 0

        return wait_until(find, 30, "a process at work")

    def _interrupted(self, died: float, pids: list[int]) -> list[float | None]:
        """Since the death of these, to the next start of what each was doing when it died."""
        self._dead.update(pids)
        entries = self._ledger.entries()
        lost = [who for pid in pids if (who := _unfinished(entries, pid)) is not None]
        again: dict[Who, float] = {}

        def all_again() -> bool:
            for entry in self._ledger.entries():
                if entry.event == "start" and entry.at > died and entry.who in lost and entry.pid not in pids:
                    again.setdefault(entry.who, entry.at)
            return len(again) == len(lost)

        self._wait(all_again)
        return [again[who] - died if who in again else None for who in lost]

    def _return_of(self, server: Server) -> float | None:
        """Since its first answer, to the next start of a step."""
        self._pause.wait(self._random.uniform(0.1, MOST_AWAY_SECONDS))
        server.start()
        while not server.is_up():
            server.mend()
            self._pause.wait(0.01)
        back = time.time()

        def starts() -> list[float]:
            return [entry.at for entry in self._ledger.entries() if entry.event == "start" and entry.at > back]

        self._wait(lambda: bool(starts()))
        found = starts()
        return min(found) - back if found else None

    def _wait(self, condition: Callable[[], bool]) -> None:
        """Until it holds, or for 90 s; who has died is replaced meanwhile."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition() and time.monotonic() < deadline:
            self._fleet.tend()
            self._pause.wait(0.05)


def _unfinished(entries: list[Entry], pid: int) -> Who | None:
    """What this process had begun and not brought to its effect."""
    mine = [entry for entry in entries if entry.pid == pid]
    return mine[-1].who if mine and mine[-1].event == "start" else None
