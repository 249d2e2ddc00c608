"""What a step costs each part of a cluster, and what clusters of many machines would do with that.

The costs are measured here: processor time by process, bytes to the broker and to the write-ahead log of PostgreSQL.
A simulation of queues lets them meet on as many machines as one likes; it is held against runs of this machine first.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy.engine import make_url

from benchmarks.arms import CeleriacArm, Servers, celeriac_arm
from benchmarks.works import WORKS, Work

MEASURED = ("W6", "W2", "W3", "W2m-10000")
"""Works that always have more steps ready than there are slots."""
PARTS = ("submitter", "worker parent", "worker children", "broker", "database")


@dataclass(frozen=True, slots=True)
class Cost:
    """What one step, or one call of a map, takes.

    Attributes:
        seconds: Of processor time, by part.
        broker_bytes: Sent to the broker's server.
        wal_bytes: Written to PostgreSQL's log.
        per_second: Steps of this work in a second of wall time, on this machine.
    """

    work: str
    slots: int
    seconds: Mapping[str, float]
    broker_bytes: float
    wal_bytes: float
    per_second: float

    @property
    def total(self) -> float:
        """Seconds of processor time, of all parts together."""
        return sum(self.seconds.values())


def costs(servers: Servers, folder: Path, slots: int, repeat: int) -> Iterator[Cost]:
    """Medians of undisturbed runs on PostgreSQL, after one that warms up."""
    with celeriac_arm(folder / f"slots-{slots}", servers, "postgresql", slots) as arm:
        for key in MEASURED:
            work = next(work for work in WORKS if work.key == key)
            arm.measure(work)
            yield _median([_once(arm, work, slots) for _ in range(repeat)])


def _once(arm: CeleriacArm, work: Work, slots: int) -> Cost:
    before = _wal(arm)
    sample = arm.measure(work)
    written = _wal(arm) - before
    seconds = {part: spent / work.steps for part, spent in sample.processor_seconds.items()}
    taken = sample.database_seconds or sample.wall_seconds
    return Cost(work.key, slots, seconds, sample.broker_bytes / work.steps, written / work.steps, work.steps / taken)


def _wal(arm: CeleriacArm) -> int:
    url = make_url(arm.database_url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(sql.SQL("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")).fetchone()
    assert row is not None
    return int(row[0])


def _median(found: list[Cost]) -> Cost:
    first = found[0]
    return Cost(
        first.work,
        first.slots,
        {part: median(one.seconds.get(part, 0.0) for one in found) for part in PARTS},
        median(one.broker_bytes for one in found),
        median(one.wal_bytes for one in found),
        median(one.per_second for one in found),
    )


@dataclass(frozen=True, slots=True)
class Site:
    """Machines of a cluster.

    Attributes:
        machines: With workers, each of `slots` processes, one parent and `cores`.
        databases: Of `database_cores` each; runs are spread over them.
        brokers: Each of which serves with one thread, as Valkey does.
        body_seconds: What a step does besides: it waits, and takes no core.
        is_shared: Whether everything stands on the cores of the one worker machine.
    """

    machines: int
    slots: int
    cores: int
    databases: int = 1
    database_cores: int = 8
    brokers: int = 1
    body_seconds: float = 0.0
    is_shared: bool = False


@dataclass(slots=True)
class _Place:
    """A part with servers, and when each of them is free."""

    free: list[float]

    def serve(self, at: float, seconds: float) -> float:
        """When work that comes at a time is done."""
        begin = max(at, heapq.heappop(self.free))
        heapq.heappush(self.free, begin + seconds)
        return begin + seconds


def steps_per_second(cost: Cost, site: Site, steps: int = 20_000) -> float:
    """Steps that a site ends in a second when there are always enough ready.

    Each slot takes one after the other: message and acknowledgement (broker, parent), claim (database), the body and
    what the engine does around it (child), completion (database). Each part serves in the order of arrival.
    """
    shared = _Place([0.0] * site.cores)
    cores = [shared if site.is_shared else _Place([0.0] * site.cores) for _ in range(site.machines)]
    parents = [_Place([0.0]) for _ in range(site.machines)]
    databases = [shared if site.is_shared else _Place([0.0] * site.database_cores) for _ in range(site.databases)]
    brokers = [shared if site.is_shared else _Place([0.0]) for _ in range(site.brokers)]
    spent = cost.seconds
    tie = count()
    # When each slot is free, and what it does next.
    events = [(0.0, next(tie), slot, 0) for slot in range(site.machines * site.slots)]
    heapq.heapify(events)
    done, warm, began, now = 0, steps // 5, 0.0, 0.0
    while done < steps:
        now, _, slot, stage = heapq.heappop(events)
        machine, database, broker = slot % site.machines, slot % site.databases, slot % site.brokers
        match stage:
            case 0:
                end = brokers[broker].serve(now, spent["broker"])
            case 1:
                end = cores[machine].serve(parents[machine].serve(now, 0.0), spent["worker parent"])
                parents[machine].free = [max(parents[machine].free[0], end)]
            case 2 | 4:
                end = databases[database].serve(now, spent["database"] / 2)
            case _:
                end = cores[machine].serve(now, spent["worker children"]) + site.body_seconds
        if stage == 4:
            done += 1
            if done == warm:
                began = end
        heapq.heappush(events, (end, next(tie), slot, (stage + 1) % 5))
    return (steps - warm) / (now - began)


def held_against(measured: list[Cost], cores: int) -> list[dict[str, Any]]:
    """Prediction and measurement of this machine, where all parts share the cores."""
    return [
        {
            "work": one.work,
            "slots": one.slots,
            "measured": one.per_second,
            "predicted": steps_per_second(one, Site(1, one.slots, cores, is_shared=True)),
        }
        for one in measured
    ]


SITES = {
    "10 machines": Site(10, 8, 8, body_seconds=0.2),
    "100 machines": Site(100, 8, 8, body_seconds=0.2),
    "100 machines, database of 32 cores": Site(100, 8, 8, database_cores=32, body_seconds=0.2),
    "100 machines, 32 cores, 4 brokers": Site(100, 8, 8, database_cores=32, brokers=4, body_seconds=0.2),
    "1,000 machines, 8 databases of 32 cores, 16 brokers": Site(
        1000, 8, 8, databases=8, database_cores=32, brokers=16, body_seconds=0.2
    ),
}
"""Steps that wait 0.2 s for something; all slots always have one."""
