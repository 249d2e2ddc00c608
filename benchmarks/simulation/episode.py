"""One episode: a new database, a few runs, a storm, calm, and the verdict. The same seed gives the same history."""

from __future__ import annotations

import gc
import logging
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from benchmarks.simulation.laws import AUDIT, Auditor
from benchmarks.simulation.loop import START, Loop
from benchmarks.simulation.post import Mischief, SimulatedBroker
from benchmarks.simulation.steps import TABLE, Ledger, make_registry
from benchmarks.simulation.store import Weather
from benchmarks.simulation.storm import LEASE_SECONDS, Storm
from benchmarks.simulation.users import Users
from benchmarks.simulation.workers import SimulatedWorker, Site
from benchmarks.simulation.works import make_work
from workflows.db.database import Database
from workflows.db.migrate import upgrade
from workflows.engine.app import make_app
from workflows.settings import Config

STORM_SECONDS = 120.0
END_SECONDS = 60.0
MOST_MOVES = 150_000
SETTINGS = {
    "CELERY_BROKER_URL": "memory://",
    "CELERIAC_LEASE_SECONDS": f"{LEASE_SECONDS:g}",
    "CELERIAC_REDISPATCH_SECONDS": "2",
    # So many crashes in one place are no poison here: they are ours.
    "CELERIAC_MAX_CRASHES": "100000",
}


@dataclass(frozen=True, slots=True)
class Setting:
    """What to simulate.

    Attributes:
        intensity: How often processes and servers fail, as a factor; 0 is an undisturbed history.
        harm: How often messages and replies are harmed, as a factor.
    """

    seed: int
    number: int = 0
    runs: int = 5
    workers: int = 2
    slots: int = 2
    intensity: float = 1.0
    harm: float = 1.0

    @property
    def name(self) -> str:
        """Seeds everything."""
        return f"{self.seed}/{self.number}"


@dataclass
class Episode:
    """What came of it.

    Attributes:
        steps: Bodies of steps and calls that were started.
        ended: Steps and calls of maps that ended, by status.
        simulated_seconds: Length of the history.
        end_seconds: From the storm's end to that of the last run, simulated.
        borders: Where children were killed.
        history: The last moves.
    """

    setting: Setting
    violations: list[str]
    digest: str
    moves: int
    changes: int
    steps: int
    runs: Counter[str]
    ended: Counter[str]
    faults: Counter[str]
    borders: Counter[str]
    messages: int
    simulated_seconds: float
    end_seconds: float
    seconds: float
    history: list[str] = field(repr=False)


def make_template(folder: Path) -> Path:
    """An empty database with the triggers that write changes down."""
    path = folder / "template.db"
    database = Database(f"sqlite:///{path}")
    upgrade(database)
    with database.transaction() as tx:
        connection = tx._connection  # noqa: SLF001 - many statements in one text
        for statement in (TABLE, *AUDIT.split(";\nCREATE ")):
            text = statement.strip()
            connection.execute(text if text.startswith("CREATE") else f"CREATE {text}")
        connection.execute("DELETE FROM workers")
    database.close()
    with closing(Database(f"sqlite:///{path}")) as again, again.autocommit() as tx:
        tx._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()  # noqa: SLF001 - the file is to be whole
    return path


def simulate(setting: Setting, template: Path) -> Episode:
    """Play one episode in the folder of the template."""
    path = template.with_name("episode.db")
    for old in template.parent.glob("episode.db*"):
        old.unlink()
    shutil.copy(template, path)
    with _quiet():
        return _World(setting, path).play()


class _World:
    def __init__(self, setting: Setting, path: Path) -> None:
        self._setting = setting
        self._loop = loop = Loop(Random(setting.name))
        harm = setting.harm
        mischief = Mischief(0.04 * harm, 0.08 * harm, 0.05 * harm, 0.15 * harm, 0.02 * harm)
        self._broker = SimulatedBroker(loop, mischief)
        weather = Weather(lost_replies=0.004 * harm)
        config = Config(SETTINGS)
        self._site = Site(loop, self._broker, weather, f"sqlite:///{path}", make_app(config), config)
        self._ledger = Ledger()
        self._steps = [make_registry(loop, self._ledger, knows_all=knows) for knows in (True, False)]
        self._users = Users(self._site)
        self._workers: list[SimulatedWorker] = []
        self._born = 0
        self._storm = Storm(self._site, self._users, self._workers, self._make_worker, setting.intensity)
        self._auditor = Auditor(str(path), self._users.stories, self._ledger)
        for number in range(setting.runs):
            self._users.want(make_work(setting.name, number), loop.random.uniform(0.0, 3.0))
        for _ in range(setting.workers):
            self._make_worker()

    def _make_worker(self) -> SimulatedWorker:
        knows_all = not any("simulated.rare" in worker.runtime.steps for worker in self._workers)
        steps = self._steps[0] if knows_all else self._loop.random.choice(self._steps)
        self._born += 1
        worker = SimulatedWorker(self._site, f"worker {self._born}", self._setting.slots, steps)
        self._workers.append(worker)
        return worker

    def play(self) -> Episode:
        began = time.perf_counter()
        # Greenlets that end in a cycle of garbage would be ended by the collector, at a time of its own.
        gc_was_on = gc.isenabled()
        gc.disable()
        try:
            self._run_until(START + STORM_SECONDS, storm=True)
            calm_at = self._loop.now
            self._loop.note("the storm ends")
            self._storm.end()
            self._run_until(calm_at + END_SECONDS, storm=False)
            end_seconds = self._loop.now - calm_at
            # A little longer: what is late must not disturb what has ended.
            self._run_until(self._loop.now + 2 * LEASE_SECONDS, storm=False, is_over=True)
            self._auditor.conclude(is_undisturbed=self._setting.intensity == 0 and self._setting.harm == 0)
            return self._episode(end_seconds, time.perf_counter() - began)
        finally:
            self._close()
            if gc_was_on:
                gc.enable()

    def _run_until(self, limit: float, *, storm: bool, is_over: bool = False) -> None:
        loop = self._loop
        while loop.now < limit and loop.moves < MOST_MOVES:
            if not is_over and self._users.are_content and self._is_all_ended():
                return
            self._rouse()
            if loop.move() is None:
                return
            self._auditor.look()
            if storm:
                self._storm.strike()

    def _is_all_ended(self) -> bool:
        query = "SELECT count(*) FROM job_runs WHERE status IN ('PENDING', 'PROGRESS', 'PAUSED')"
        return bool(self._auditor._rows(query) == [(0,)])  # noqa: SLF001 - the one reader of the database

    def _rouse(self) -> None:
        """Idle children see what is in the queues."""
        at = self._broker.next_visible()
        if at is None:
            return
        for worker in self._workers:
            for child in worker.children:
                if child.is_idle:
                    child.actor.wake_at = at

    def _episode(self, end_seconds: float, seconds: float) -> Episode:
        rows = self._auditor._rows  # noqa: SLF001 - the one reader of the database
        ended = Counter(dict(rows("SELECT status, count(*) FROM step_runs WHERE part = 0 GROUP BY status")))
        ended.update(dict(rows("SELECT status, count(*) FROM item_runs GROUP BY status")))
        crashes = [f"no part of the engine breaks: {text}" for text in self._site.crashes]
        faults = self._storm.faults + Counter({f"message {k}": v for k, v in self._broker.harmed.items()})
        faults["reply of a commit lost"] = self._site.weather.replies_lost
        return Episode(
            self._setting,
            [*self._auditor.violations, *crashes],
            self._loop.digest(),
            self._loop.moves,
            self._auditor.changes,
            len(self._ledger.starts),
            Counter(dict(rows("SELECT status, count(*) FROM job_runs GROUP BY status"))),
            ended,
            +faults,
            self._storm.borders,
            self._broker.sent,
            self._loop.now - START,
            end_seconds,
            seconds,
            list(self._loop.last),
        )

    def _close(self) -> None:
        self._loop.close()
        self._auditor.close()
        for database in self._site.databases:
            database.close()
        self._site.app.close()


@contextmanager
def _quiet() -> Iterator[None]:
    """What the engine logs about faults is of no interest here."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
