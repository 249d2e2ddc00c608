"""One trial: a system, runs, faults, calm, verdict."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Event

from benchmarks.havoc import checks
from benchmarks.havoc.client import Client
from benchmarks.havoc.faults import Fault, Storm
from benchmarks.havoc.fleet import Fleet
from benchmarks.havoc.ledger import Entry, ledger, read
from benchmarks.havoc.recovery import recovery_seconds
from benchmarks.havoc.systems import Database, Servers, servers
from benchmarks.havoc.violations import Violation
from benchmarks.havoc.watcher import Watcher
from benchmarks.havoc.web import Web
from benchmarks.havoc.works import make_work
from tests.support.cluster import Cluster
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
    database: Database
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
    with ExitStack() as stack:
        engine, given = stack.enter_context(servers(trial.database, folder, **SETTINGS))
        ledger_path = stack.enter_context(ledger(folder))
        fleet = Fleet(engine, ledger_path, trial.workers, trial.slots, trial.bug)
        stack.callback(fleet.kill)
        stop = Event()
        watcher = Watcher(engine.runtime.database, lambda: client.accepted)
        until = time.monotonic() + trial.minutes * 60
        web = Web(fleet.url, given.definitions, stop)
        make = partial(make_work, trial.seed)
        client = Client(web, make, trial.runs, trial.at_once, until, watcher.open_runs, stop)
        stack.callback(stop.set)
        return _carry_out(trial, engine, given, fleet, client, watcher, ledger_path, tell)


def _carry_out(
    trial: Trial,
    engine: Cluster,
    given: Servers,
    fleet: Fleet,
    client: Client,
    watcher: Watcher,
    ledger_path: Path,
    tell: Callable[[str], None],
) -> Verdict:
    pause = Event()
    while len(engine.live_workers()) < trial.workers or not fleet.answers():
        fleet.tend()
        pause.wait(0.2)
    watcher.start()
    client.start()
    storm = Storm(
        trial.seed,
        engine,
        fleet,
        given,
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
