"""Faults, each kind at random times of its own; the seed gives times and choices, the system's state what they hit."""

from __future__ import annotations

import heapq
import json
import signal
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Any

import psycopg
import redis

from benchmarks.havoc.fleet import Fleet, kill_family
from benchmarks.havoc.machines import Server, family, send
from benchmarks.havoc.systems import Servers
from tests.support.cluster import Cluster
from workflows.db.database import Statement
from workflows.model.errors import DatabaseUnavailableError

QUEUES = ("processing", "research")

MEAN_SECONDS = {
    "child killed": 1.2,
    "worker killed": 14.0,
    "worker's parent killed": 25.0,
    "child frozen": 4.0,
    "worker frozen": 25.0,
    "API killed": 20.0,
    "broker flushed": 15.0,
    "broker killed": 20.0,
    "messages copied": 0.5,
    "messages deleted": 1.0,
    "chord keys deleted": 3.0,
    "connections cut": 2.0,
    "database restarted": 30.0,
}
"""How often each kind hits, at an intensity of 1."""

BUSY_SHARE = 0.8
_BUSY = Statement("SELECT lease_pid FROM step_runs WHERE status = 'PROGRESS' AND lease_pid IS NOT NULL")


@dataclass
class Fault:
    """What was done. `pids` were hit; `over_at` is when a frozen process went on or a server answered again."""

    kind: str
    at: float
    pids: tuple[int, ...] = ()
    over_at: float | None = None


@dataclass
class Storm:
    """Call `tick` often; `calm` ends it and repairs everything.

    Attributes:
        freeze_seconds: Processes are stopped for one to two times as long: beyond their lease.
        intensity: Divides the times between faults.
        only: Kinds to use; none means all.
    """

    seed: int
    engine: Cluster
    fleet: Fleet
    given: Servers
    freeze_seconds: float
    intensity: float = 1.0
    only: tuple[str, ...] = ()
    log: list[Fault] = field(default_factory=list)
    _chance: dict[str, Random] = field(default_factory=dict)
    _next: dict[str, float] = field(default_factory=dict)
    _repairs: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _numbers: count[int] = field(default_factory=count)
    _awaited: list[tuple[Server, Fault]] = field(default_factory=list)
    _frozen: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        acts = {
            "child killed": self._kill_child,
            "worker killed": self._kill_worker,
            "worker's parent killed": self._kill_parent,
            "child frozen": self._freeze_child,
            "worker frozen": self._freeze_worker,
            "API killed": self._kill_api,
            "broker flushed": self._flush,
            "broker killed": self._kill_broker,
            "messages copied": self._copy_message,
            "messages deleted": self._delete_message,
            "chord keys deleted": self._delete_chords,
        }
        if self.given.database is not None:
            acts |= {"connections cut": self._cut_connections, "database restarted": self._restart_database}
        self._acts: dict[str, Callable[[Random], None]] = {
            kind: act for kind, act in acts.items() if not self.only or kind in self.only
        }
        now = time.monotonic()
        for kind in self._acts:
            self._chance[kind] = Random(f"{self.seed}/{kind}")
            # Nothing that an intensity asks for may be left out by chance in a short run: the first comes early.
            self._next[kind] = now + self._interval(kind) * 0.5

    def tick(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        while self._repairs and self._repairs[0][0] <= now:
            heapq.heappop(self._repairs)[2]()
        self._look_for_answers()
        for kind, act in self._acts.items():
            if self._next[kind] <= now:
                self._next[kind] = now + self._interval(kind)
                act(self._chance[kind])

    def calm(self) -> None:
        """No more faults: whatever is frozen goes on, whatever is down comes up."""
        while self._repairs:
            heapq.heappop(self._repairs)[2]()
        for server, _ in self._awaited:
            server.wait()
        self._look_for_answers()
        self.fleet.tend()

    def _interval(self, kind: str) -> float:
        return self._chance[kind].expovariate(self.intensity / MEAN_SECONDS[kind])

    def _note(self, kind: str, *pids: int) -> Fault:
        fault = Fault(kind, time.time(), pids)
        self.log.append(fault)
        return fault

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._repairs, (time.monotonic() + seconds, next(self._numbers), act))

    def _look_for_answers(self) -> None:
        for server, fault in list(self._awaited):
            server.mend()
            if server.is_up():
                fault.over_at = time.time()
                self._awaited.remove((server, fault))

    def _is_away(self, server: Server) -> bool:
        return any(server is awaited for awaited, _ in self._awaited)

    # Processes

    def _children(self, random: Random) -> list[int]:
        """Mostly those that run a step, as far as the database can say: to hit an idle process shows little.

        None that is frozen: what it does when it goes on is the very thing to see.
        """
        children = [pid for pid in self.fleet.children() if pid not in self._frozen]
        if random.random() < BUSY_SHARE:
            with suppress(DatabaseUnavailableError):
                rows = self.engine.runtime.database.retrying(
                    lambda tx: tx.rows(_BUSY), autocommit=True, patience_seconds=0.0
                )
                return [pid for pid in children if (pid,) in rows] or children
        return children

    def _kill_child(self, random: Random) -> None:
        children = self._children(random)
        if children and send(pid := random.choice(children), signal.SIGKILL):
            self._note("child killed", pid)

    def _kill_worker(self, random: Random) -> None:
        parents = self.fleet.parents()
        if parents:
            self._note("worker killed", *kill_family(random.choice(parents)))

    def _kill_parent(self, random: Random) -> None:
        """Its children go on with what they are doing, and nobody renews their leases."""
        parents = self.fleet.parents()
        if parents and send(pid := random.choice(parents), signal.SIGKILL):
            self._note("worker's parent killed", pid)

    def _kill_api(self, _random: Random) -> None:
        """Whatever it is answering: callers ask again."""
        pid = 0 if self.fleet.api is None else self.fleet.api.pid
        if pid and send(pid, signal.SIGKILL):
            self._note("API killed", pid)

    def _freeze_child(self, random: Random) -> None:
        children = self._children(random)
        if children:
            self._freeze("child frozen", [random.choice(children)], random)

    def _freeze_worker(self, random: Random) -> None:
        parents = self.fleet.parents()
        if parents:
            self._freeze("worker frozen", [process.pid for process in family(random.choice(parents))], random)

    def _freeze(self, kind: str, pids: list[int], random: Random) -> None:
        fault = self._note(kind, *(pid for pid in pids if send(pid, signal.SIGSTOP)))
        self._frozen.update(fault.pids)

        def thaw() -> None:
            self._frozen.difference_update(fault.pids)
            for pid in fault.pids:
                send(pid, signal.SIGCONT)
            fault.over_at = time.time()

        self._later(self.freeze_seconds * random.uniform(1.0, 2.0), thaw)

    # Broker

    def _client(self) -> redis.Redis:
        return redis.Redis.from_url(self.given.broker_url, socket_timeout=2, socket_connect_timeout=2)

    def _flush(self, _random: Random) -> None:
        with suppress(redis.RedisError), self._client() as client:
            client.flushall()
            self._note("broker flushed")

    def _kill_broker(self, random: Random) -> None:
        if self._is_away(self.given.broker):
            return
        fault = self._note("broker killed")
        self.given.broker.kill()
        self._bring_back(self.given.broker, fault, random.uniform(0.1, 4.0))

    def _bring_back(self, server: Server, fault: Fault, seconds: float) -> None:
        self._awaited.append((server, fault))
        self._later(seconds, server.start)

    def _copy_message(self, random: Random) -> None:
        """A waiting message, or one that a worker has taken; as itself, or as another message of the same content."""
        with suppress(redis.RedisError), self._client() as client:
            where = random.choice((*QUEUES, "unacked"))
            body, queue = _pick(client, where, random)
            if body is None:
                return
            if random.random() < 0.5:
                message = json.loads(body)
                message["properties"]["delivery_tag"] = str(uuid.UUID(int=random.getrandbits(128)))
                body = json.dumps(message)
            client.lpush(queue, body)
            self._note("messages copied")

    def _delete_message(self, random: Random) -> None:
        with suppress(redis.RedisError), self._client() as client:
            body, queue = _pick(client, random.choice(QUEUES), random)
            if body is not None and client.lrem(queue, 1, body):
                self._note("messages deleted")

    def _delete_chords(self, _random: Random) -> None:
        with suppress(redis.RedisError), self._client() as client:
            keys = [*client.scan_iter("celery-taskset-meta-*", count=1000), *client.scan_iter("chord-*", count=1000)]
            if keys:
                client.delete(*keys)
                self._note("chord keys deleted")

    # Database

    def _cut_connections(self, random: Random) -> None:
        with (
            suppress(psycopg.Error),
            psycopg.connect(self.given.database_url, connect_timeout=2, autocommit=True) as admin,
        ):
            rows = admin.execute(
                "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            ).fetchall()
            for (pid,) in random.sample(rows, min(len(rows), random.choice((1, 1, 3)))):
                admin.execute("SELECT pg_terminate_backend(%s)", [pid])
                self._note("connections cut")

    def _restart_database(self, random: Random) -> None:
        assert self.given.database is not None
        if self._is_away(self.given.database):
            return
        fault = self._note("database restarted")
        self.given.database.crash()
        self._bring_back(self.given.database, fault, random.uniform(0.1, 3.0))


def _pick(client: redis.Redis, where: str, random: Random) -> tuple[Any, str]:
    """A random message and its queue; None for the message when there is none."""
    found: Any
    if where != "unacked":
        length: Any = client.llen(where)
        found = client.lindex(where, random.randrange(length)) if length else None
        return found, where
    found = client.hvals("unacked")
    if not found:
        return None, where
    message, _exchange, queue = json.loads(random.choice(found))
    return json.dumps(message), queue
