"""The crash matrix: at every border of the engine a process dies, or stops beyond its lease, and the run ends right.

Each case is a run of its own on a system that is up: the process that comes to the border is struck there, and the laws
of `benchmarks.havoc.checks` are looked at once the run has ended.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import redis
from kombu.utils.uuid import uuid

from benchmarks.havoc import borders, checks
from benchmarks.havoc.borders import BORDERS, Orders, Role, Signal, Strike
from benchmarks.havoc.client import Accepted
from benchmarks.havoc.fleet import Fleet
from benchmarks.havoc.ledger import ledger, read
from benchmarks.havoc.machines import send
from benchmarks.havoc.systems import Database, Servers, servers
from benchmarks.havoc.violations import Violation
from benchmarks.havoc.web import Web
from benchmarks.havoc.works import Node, Work
from tests.support.cluster import Cluster
from tests.support.waiting import wait_until
from workflows.db.database import Statement
from workflows.engine.canvas import publish_steps, step_signature
from workflows.model.states import is_terminal

LEASE_SECONDS = 2.0
STOP_SECONDS = 1.5 * LEASE_SECONDS
"""So long is a process stopped: its lease is over before it goes on."""

REACH_SECONDS = 60.0
END_SECONDS = 45.0
PAUSE_SECONDS = 0.05
WORKERS = 2
SLOTS = 2
OCCURRENCES = (1, 2)

Trouble = Literal["", "child killed", "child stopped", "broker flushed", "message early", "cancel", "retry"]
"""What happens to the run besides: some borders are only come to when something else went wrong, or was asked for."""

_FLAKY = 4
"""So often a step fails that its first generation ends in FAILURE; the next one ends well."""


@dataclass(frozen=True, slots=True)
class Case:
    """One strike.

    Attributes:
        trouble: What happens before, so that anybody comes to the border at all.
    """

    database: Database
    strike: Strike
    trouble: Trouble = ""

    @property
    def role(self) -> Role:
        """Who is struck."""
        return BORDERS[self.strike.border]

    def __str__(self) -> str:
        after = f" after: {self.trouble}" if self.trouble else ""
        strike = self.strike
        return f"{self.database}, {self.role}, {strike.border} #{strike.occurrence}, {strike.signal}{after}"


@dataclass
class Result:
    """What came of a case.

    Attributes:
        seconds: From the strike to the end of the run; None when it was not struck, or has not ended.
    """

    case: Case
    seconds: float | None
    violations: list[Violation] = field(default_factory=list)


_TROUBLES: dict[str, Trouble] = {
    "hand-over: before": "message early",
    "hand-over: done": "message early",
    "take back: before": "child killed",
    "take back: written": "child killed",
    "take back: committed": "child killed",
    "flush: noticed": "broker flushed",
    "flush: written": "broker flushed",
    "flush: committed": "broker flushed",
    "flush: over": "broker flushed",
    "cancel: written": "cancel",
    "cancel: committed": "cancel",
    "resume: written": "retry",
    "resume: committed": "retry",
    "resume: published": "retry",
}

_ONCE = ("start: before", "start: written", "expand: opened", "hand-over: before", "hand-over: done")
"""A run comes there once only; so it does where something else has to happen first, and in the API."""


def cases(databases: Sequence[Database]) -> list[Case]:
    """The whole matrix: every border, first and second time, both signals, on each of these databases."""
    found = []
    for database in databases:
        for border, role in BORDERS.items():
            trouble = _TROUBLES.get(border, "")
            occurrences = OCCURRENCES[:1] if trouble or role == "api" or border in _ONCE else OCCURRENCES
            for occurrence in occurrences:
                found += [Case(database, Strike(border, kind, occurrence), trouble) for kind in get_args(Signal)]
        # The same borders, come to by another way: the lease ends instead of the parent seeing the death.
        for border in ("take back: before", "take back: written", "take back: committed"):
            found += [Case(database, Strike(border, kind), "child stopped") for kind in get_args(Signal)]
    return found


class Matrix:
    """A system with borders on one database; `try_case` as often as wanted."""

    def __init__(self, engine: Cluster, given: Servers, fleet: Fleet, ledger_path: Path, orders: Orders) -> None:
        self._engine = engine
        self._servers = given
        self._fleet = fleet
        self._ledger = ledger_path
        self._orders = orders
        self._number = 0

    def is_up(self) -> bool:
        """Whether all workers and the API answer."""
        self._fleet.tend()
        living = {worker.pid for worker in self._engine.live_workers()}
        return set(self._fleet.parents()) <= living and len(self._fleet.parents()) == WORKERS and self._fleet.answers()

    def try_case(self, case: Case) -> Result:
        """Run it; the system is whole again afterwards."""
        wait_until(self.is_up, 60, "workers and API")
        self._number += 1
        work = _work(self._number, case)
        run = _Case(case, work, self._engine, self._servers, self._fleet, self._orders)
        try:
            return run.judge(self._ledger)
        finally:
            self._orders.withdraw()
            run.end()


@contextmanager
def matrix(database: Database, folder: Path, bug: str = "") -> Iterator[Matrix]:
    """A system in `folder`, an empty one that other users may enter; with a planted bug it should fail."""
    settings = {
        "CELERIAC_LEASE_SECONDS": f"{LEASE_SECONDS:g}",
        "CELERIAC_REDISPATCH_SECONDS": "2",
        "CELERIAC_MAX_CRASHES": "1000",
    }
    with ExitStack() as stack:
        engine, given = stack.enter_context(servers(database, folder, **settings))
        path = stack.enter_context(ledger(folder))
        orders = stack.enter_context(borders.orders(folder))
        fleet = Fleet(engine, path, WORKERS, SLOTS, bug, **{borders.VARIABLE: str(orders.folder)})
        stack.callback(fleet.kill)
        yield Matrix(engine, given, fleet, path, orders)


class _Case:
    """One case under way."""

    def __init__(self, case: Case, work: Work, engine: Cluster, given: Servers, fleet: Fleet, orders: Orders) -> None:
        self._case = case
        self._work = work
        self._engine = engine
        self._servers = given
        self._fleet = fleet
        self._orders = orders
        self._stop = threading.Event()
        self._web = Web(fleet.url, given.definitions, self._stop)
        self._run: Accepted | None = None
        self._error: BaseException | None = None
        self._caller = threading.Thread(target=self._call, name="matrix-caller", daemon=True)

    def judge(self, ledger_path: Path) -> Result:
        strikes = [self._case.strike]
        if self._case.trouble == "child killed":
            strikes.insert(0, Strike("body: done", "KILL"))
        elif self._case.trouble == "child stopped":
            # Not within its transaction: on SQLite its parent would kill it, to free the lock of all writers.
            strikes.insert(0, Strike("body: before", "STOP"))
        self._orders.give(strikes)
        self._caller.start()
        thawed: set[int] = set()
        deadline, ended = time.monotonic() + REACH_SECONDS, False
        while time.monotonic() < deadline and not ended:
            hits = self._orders.hits()
            if len(hits) == len(strikes):
                deadline = max(deadline, _monotonic(hits[-1].at) + END_SECONDS)
                if time.time() > hits[-1].at + STOP_SECONDS:
                    stopped = {hit.pid for hit, strike in zip(hits, strikes, strict=True) if strike.signal == "STOP"}
                    for pid in stopped - thawed:
                        send(pid, signal.SIGCONT)
                    thawed |= stopped
            self._fleet.tend()
            ended = self._has_ended() and len(thawed) == sum(strike.signal == "STOP" for strike in strikes)
            self._stop.wait(PAUSE_SECONDS)
        for hit in self._orders.hits():
            send(hit.pid, signal.SIGCONT)
        return self._result(strikes, ended, ledger_path)

    def end(self) -> None:
        """No more calls."""
        self._stop.set()
        self._caller.join(20)

    def _has_ended(self) -> bool:
        if self._run is None or self._caller.is_alive():
            return False
        return is_terminal(str(self._web.run(self._run.run_id)["status"]))

    def _result(self, strikes: list[Strike], ended: bool, ledger_path: Path) -> Result:
        hits = self._orders.hits()
        number = self._work.number
        found: list[Violation] = []
        if len(hits) < len(strikes):
            found.append(Violation("the border is come to", number, None, f"{strikes[len(hits)].border} was not"))
        if self._error is not None:
            found.append(Violation("whatever is triggered is accepted", number, None, repr(self._error)))
        if not ended or self._run is None:
            run_id = None if self._run is None else self._run.run_id
            found.append(Violation("every run ends", number, run_id, "it has not in time"))
        seconds = None
        if self._run is not None:
            # Late messages and late processes have their chance to do harm.
            self._wait_for_quiet()
            evidence = checks.gather(self._engine.runtime.database, [self._run], read(ledger_path), [])
            found += checks.check(evidence)
            finished = evidence.facts[0].report.run.finished_at
            if hits and finished is not None:
                seconds = max(0.0, finished - hits[-1].at)
        return Result(self._case, seconds, found)

    def _wait_for_quiet(self) -> None:
        leased = Statement("SELECT count(*) FROM step_runs WHERE lease_until IS NOT NULL OR status = 'PROGRESS'")

        def is_quiet() -> bool:
            self._fleet.tend()
            rows = self._engine.runtime.database.retrying(lambda tx: tx.rows(leased), autocommit=True)
            return bool(rows == [(0,)])

        wait_until(is_quiet, END_SECONDS, "the last lease")

    # The caller, in a thread of its own: the API may be struck while it answers

    def _call(self) -> None:
        try:
            self._trigger()
        except BaseException as error:
            self._error = error
            raise

    def _trigger(self) -> None:
        work, web = self._work, self._web
        key = f"matrix-{work.number}-{uuid()}"
        file = web.publish(f"chaos-{work.number}", work.definition())
        ids = tuple(web.trigger(f"chaos-{work.number}", key) for _ in range(work.submissions))
        file.unlink()
        run = Accepted(work, ids[0], ids)
        match self._case.trouble:
            case "broker flushed":
                self._until(lambda: self._progress(run) > 0)
                with redis.Redis.from_url(self._servers.broker_url) as client:
                    client.flushall()
            case "message early":
                self._until(lambda: self._send_too_early(run))
                while not self._orders.hits() and self._send_too_early(run):
                    self._stop.wait(0.2)
            case "cancel":
                self._until(lambda: self._progress(run) > 0)
                web.cancel(run.run_id)
                run.cancelled_at = time.time()
            case "retry":
                self._until(lambda: web.run(run.run_id)["status"] == "FAILURE")
                web.retry(run.run_id)
            case _:
                pass
        self._run = run

    def _until(self, condition: Callable[[], bool]) -> None:
        wait_until(lambda: self._stop.is_set() or condition(), END_SECONDS, "a state of the run")

    def _progress(self, run: Accepted) -> int:
        return int(str(self._web.run(run.run_id)["progress"]))

    def _send_too_early(self, run: Accepted) -> bool:
        """The message of a join comes while its dependencies are open; False when there is none yet."""
        app = self._engine.runtime.app
        rows = self._engine.rows(
            "SELECT run_pk, ordinal FROM step_runs s JOIN job_runs j ON s.run_pk = j.id"
            " WHERE j.task_id = :run AND step_id = 'join' AND pending > 0",
            run=run.run_id,
        )
        signatures = [step_signature(app, *row, queue="processing").set(task_id=uuid()) for row in rows]
        publish_steps(app, signatures)
        return bool(signatures)


def _monotonic(at: float) -> float:
    return time.monotonic() - (time.time() - at)


def _work(number: int, case: Case) -> Work:
    """A run that comes to every border: a chain, a chord, gates, a retry, a map with a retry, a skip."""

    def node(*needs: str, ms: int = 20, failures: int = 0, run_if: str = "all_success") -> Node:
        return Node(needs, run_if, ms, failures, 10)

    if case.trouble == "retry":
        nodes = {"first": node(), "flaky": node("first", failures=_FLAKY), "last": node("flaky")}
        return Work(number, nodes, 1, None)
    busy = 3000 if case.trouble == "message early" else 1200
    nodes = {
        "first": node(),
        "second": node("first"),
        "again": node("second", failures=2),
        "left": node("second", ms=busy),
        "right": node("second", ms=busy),
        "join": node("left", "right"),
        "after": node("join"),
        "map": Node(("first",), "all_success", 20, 2, 0, calls=10, max_parallel=2, unlucky=9),
        "gate": node("after", "map", "again"),
        "fails": node("first", failures=-1),
        "skipped": node("fails"),
        "last": node("gate", "skipped", run_if="all_done"),
    }
    return Work(number, nodes, 2 if case.role == "api" else 1, None)
