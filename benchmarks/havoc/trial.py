"""One trial: a system, runs, faults, calm, verdict."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from benchmarks.havoc import checks, sabotage
from benchmarks.havoc.client import Client
from benchmarks.havoc.faults import Fault, Storm
from benchmarks.havoc.fleet import Fleet
from benchmarks.havoc.ledger import Entry, ledger, read
from benchmarks.havoc.machines import Server, broker, postgresql
from benchmarks.havoc.recovery import recovery_seconds
from benchmarks.havoc.steps import TABLE
from benchmarks.havoc.violations import Violation
from benchmarks.havoc.watcher import Watcher
from tests.support.cluster import Cluster, cluster
from workflows.db.database import Statement

END_SECONDS = 60.0
LAST_RUNS = 3
"""So many are left to end in peace: that they do, and how soon, is what the calm is for."""

STALL_SECONDS = 40.0
"""A storm in which nothing moves any more has shown what it can."""

TELL_SECONDS = 5.0
LEASE_SECONDS = 4.0
SETTINGS = {
    "CELERIAC_LEASE_SECONDS": f"{LEASE_SECONDS:g}",
    "CELERIAC_REDISPATCH_SECONDS": "2",
    # So many crashes in one place are no poison here: they are ours.
    "CELERIAC_MAX_CRASHES": "1000",
}

_LEASED = Statement("SELECT count(*) FROM step_runs WHERE lease_until IS NOT NULL OR status = 'PROGRESS'")
_COUNTS = Statement("SELECT status, count(*) FROM step_runs WHERE part = 0 GROUP BY status")


@dataclass(frozen=True, slots=True)
class Trial:
    """What to try."""

    runs: int
    seed: int
    database: str
    minutes: float = 60.0
    bug: str = ""
    workers: int = 3
    slots: int = 2
    at_once: int = 14
    intensity: float = 1.0
    only: tuple[str, ...] = ()
    end_seconds: float = END_SECONDS


@dataclass
class Verdict:
    """What came of it.

    Attributes:
        steps: How many ended, by status.
        end_seconds: From the last fault to the end of the last run; None when not all have ended.
        looks: How often a run was read and compared with what it had been before.
    """

    trial: Trial
    runs: Counter[str]
    steps: Counter[str]
    tries: Counter[str]
    faults: list[Fault]
    recovery: dict[str, list[float]]
    storm_seconds: float
    end_seconds: float | None
    looks: int
    violations: list[Violation] = field(default_factory=list)


def carry_out(trial: Trial, folder: Path, tell: Callable[[str], None] = lambda _: None) -> Verdict:
    """Do it in `folder`, an empty one that other users may enter."""
    sabotage.plant(trial.bug if trial.bug in ("cancel", "trigger") else "")
    with _system(trial, folder) as (engine, servers, ledger_path):
        fleet = Fleet(engine, ledger_path, trial.workers, trial.slots, trial.bug)
        watcher = Watcher(engine.runtime.database, lambda: client.accepted)
        until = time.monotonic() + trial.minutes * 60
        client = Client(engine, trial.seed, trial.runs, trial.at_once, until, watcher.open_runs)
        try:
            return _carry_out(trial, engine, servers, fleet, client, watcher, ledger_path, tell)
        finally:
            client.stop.set()
            fleet.kill()


@dataclass(frozen=True, slots=True)
class _Servers:
    broker: Server
    broker_url: str
    database: Server | None
    database_url: str


@contextmanager
def _system(trial: Trial, folder: Path) -> Iterator[tuple[Cluster, _Servers, Path]]:
    with ExitStack() as stack:
        broker_server, broker_url = stack.enter_context(broker(folder / "broker"))
        database_server, database_url = None, f"sqlite:///{folder / 'chaos.db'}"
        if trial.database == "postgresql":
            database_server, database_url = stack.enter_context(postgresql(folder / "postgresql"))
        settings = {**SETTINGS, "CELERIAC_STEP_MODULES": "benchmarks.havoc.steps"}
        engine = stack.enter_context(cluster(folder, database_url, broker_url, **settings))
        with engine.runtime.database.begin() as connection:
            connection.execute(TABLE)
        path = stack.enter_context(ledger(folder))
        yield engine, _Servers(broker_server, broker_url, database_server, database_url), path


def _carry_out(
    trial: Trial,
    engine: Cluster,
    servers: _Servers,
    fleet: Fleet,
    client: Client,
    watcher: Watcher,
    ledger_path: Path,
    tell: Callable[[str], None],
) -> Verdict:
    pause = Event()
    fleet.tend()
    while len(engine.live_workers()) < trial.workers:
        pause.wait(0.2)
    watcher.start()
    client.start()
    storm = Storm(
        trial.seed,
        engine,
        fleet,
        servers.broker,
        servers.broker_url,
        servers.database,
        servers.database_url,
        LEASE_SECONDS + 0.5,
        trial.intensity,
        trial.only,
    )
    began = told = moved = time.monotonic()
    counts = (0, 0)
    while client.is_alive() or watcher.open_runs() > LAST_RUNS:
        storm.tick()
        fleet.tend()
        now = time.monotonic()
        if counts != (counts := (len(client.accepted), watcher.open_runs())):
            moved = now
        if now - moved > STALL_SECONDS:
            tell(f"no run has begun or ended for {STALL_SECONDS:.0f} s")
            break
        if now - told > TELL_SECONDS:
            told = now
            tell(f"{counts[0]} runs accepted, {counts[1]} open, {len(storm.log)} faults")
        pause.wait(0.05)
    client.stop.set()
    storm.calm()
    storm_seconds, calm = time.monotonic() - began, time.monotonic()
    tell(f"calm after {storm_seconds:.0f} s and {len(storm.log)} faults")
    client.join(60.0)
    while watcher.open_runs() and time.monotonic() < calm + trial.end_seconds:
        fleet.tend()
        pause.wait(0.1)
    end_seconds = None if watcher.open_runs() else time.monotonic() - calm
    # Late messages and late processes have their chance to do harm.
    pause.wait(2.0)
    for run in client.accepted:
        watcher.look(run)
    watcher.stop()
    violations = [*_left_over(engine, fleet, has_ended=end_seconds is not None), *watcher.violations]
    if client.error is not None:
        violations.append(Violation("whatever is triggered is accepted", None, None, repr(client.error)))
    entries = read(ledger_path)
    evidence = checks.gather(engine.runtime.database, client.accepted, entries, storm.log)
    return Verdict(
        trial,
        runs=Counter(facts.report.run.status for facts in evidence.facts),
        steps=Counter(dict(engine.rows(_COUNTS.sql))),
        tries=_tries(entries),
        faults=storm.log,
        recovery=recovery_seconds(entries, storm.log),
        storm_seconds=storm_seconds,
        end_seconds=end_seconds,
        looks=watcher.looks,
        violations=[*violations, *checks.check(evidence)],
    )


def _left_over(engine: Cluster, fleet: Fleet, *, has_ended: bool) -> list[Violation]:
    """Stop the workers; nothing of them may be left."""
    law = "nothing is left behind"
    found = []
    if has_ended and (leased := engine.rows(_LEASED.sql)[0][0]):
        found.append(Violation(law, None, None, f"{leased} units are leased or in progress"))
    if left := fleet.stop():
        found.append(Violation(law, None, None, f"the processes {left} did not end"))
    return found


def _tries(entries: list[Entry]) -> Counter[str]:
    tries = Counter(entry.event for entry in entries)
    tries["effects again"] = sum(entry.event == "effect" and not entry.is_new for entry in entries)
    return tries
