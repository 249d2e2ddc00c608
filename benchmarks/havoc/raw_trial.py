"""The second arm: the same graphs and faults on a raw Celery canvas, to see what there is to be kept from."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.havoc.faults import Fault, Storm
from benchmarks.havoc.fleet import Fleet
from benchmarks.havoc.ledger import Entry, Reader, Who, ledger
from benchmarks.havoc.systems import Servers, servers
from benchmarks.havoc.trial import LAST_RUNS, LEASE_SECONDS, STALL_SECONDS, TELL_SECONDS, Trial
from benchmarks.havoc.works import Work, make_work
from workflows.db.database import Statement

APP = "benchmarks.havoc.raw_canvas"

_log = logging.getLogger(__name__)
_EFFECTS = Statement("SELECT run_id, step_id, item, count FROM chaos_effects")


@dataclass(frozen=True, slots=True)
class RawVerdict:
    """What came of it.

    Attributes:
        units: Steps and calls that had an effect to make.
        hung: Runs that had not ended 60 s after the last fault, or that were given up before because nothing moved.
        lost: Effects that were not made; `doubled`: made twice or more; `early`: steps that started before the end of
            another that they need.
    """

    runs: int
    units: int
    hung: int
    lost: int
    doubled: int
    early: int
    faults: list[Fault]
    seconds: float


def carry_out_raw(trial: Trial, folder: Path, tell: Callable[[str], None] = lambda _: None) -> RawVerdict:
    """Do it in `folder`, an empty one that other users may enter."""
    with ExitStack() as stack:
        engine, given = stack.enter_context(servers(trial.database, folder))
        path = stack.enter_context(ledger(folder))
        fleet = Fleet(engine, path, trial.workers, trial.slots, "", app=APP)
        stack.callback(fleet.kill)
        storm = Storm(trial.seed, engine, fleet, given, LEASE_SECONDS + 0.5, trial.intensity, trial.only)
        runs = _Runs(trial, given, Reader(path))
        stack.callback(runs.stop.set)
        fleet.tend()
        runs.start()
        began = told = time.monotonic()
        while runs.is_alive() or len(runs.open()) > LAST_RUNS:
            storm.tick()
            fleet.tend()
            now = time.monotonic()
            if now - max(runs.moved, began) > STALL_SECONDS:
                tell(f"no run has begun or ended for {STALL_SECONDS:.0f} s")
                break
            if now - told > TELL_SECONDS:
                told = now
                tell(f"{len(runs.works)} runs applied, {len(runs.open())} open, {len(storm.log)} faults")
            runs.stop.wait(0.05)
        runs.stop.set()
        storm.calm()
        seconds, calm = time.monotonic() - began, time.monotonic()
        runs.join(60.0)
        pause = threading.Event()
        while runs.open() and time.monotonic() < calm + trial.end_seconds:
            fleet.tend()
            pause.wait(0.1)
        runs.forget_results()
        rows = engine.runtime.database.retrying(lambda tx: tx.rows(_EFFECTS), autocommit=True)
        counts = {Who(run_id, step, item or None): count for run_id, step, item, count in rows}
        return _verdict(runs, counts, storm.log, seconds)


class _Runs(threading.Thread):
    """Applies canvases, as many open at a time as the trial says. A run that hangs takes no place for ever."""

    def __init__(self, trial: Trial, given: Servers, reader: Reader) -> None:
        super().__init__(name="chaos-raw-client", daemon=True)
        from benchmarks.havoc import raw_canvas

        self.works: dict[str, tuple[Work, float]] = {}
        self.stop = threading.Event()
        self.moved = 0.0
        self.reader = reader
        self._trial = trial
        self._canvas = raw_canvas
        raw_canvas.app.conf.update(broker_url=given.broker_url, result_backend=given.broker_url)

    def run(self) -> None:
        """See `threading.Thread.run`."""
        for number in range(self._trial.runs):
            while self._places() <= 0 and not self.stop.is_set():
                self.stop.wait(0.05)
            if self.stop.is_set():
                break
            self._apply(make_work(self._trial.seed, number))

    def open(self) -> set[str]:
        """Runs that have not ended."""
        ended = {entry.who.run_id for entry in list(self.reader.entries()) if entry.event == "end"}
        found = set(self.works) - ended
        if len(found) != getattr(self, "_last", None):
            self._last, self.moved = len(found), time.monotonic()
        return found

    def forget_results(self) -> None:
        """Or else results that are collected at the end of this process look for a broker that is gone."""
        self._canvas.app.backend.result_consumer.subscribed_to.clear()

    def _places(self) -> int:
        """Runs older than half a minute are left to themselves, or the first that hang would end the trial."""
        young = [run for run in self.open() if time.monotonic() - self.works[run][1] < STALL_SECONDS / 2]
        return self._trial.at_once - len(young)

    def _apply(self, work: Work) -> None:
        run_id = f"raw-{work.number}"
        self.works[run_id] = (work, time.monotonic())
        while not self.stop.is_set():
            try:
                self._canvas.canvas(run_id, work).apply_async()
                return
            except Exception as error:  # noqa: BLE001 - whatever the broker's clients raise when it is away
                _log.info("applied again: %s", error)
                self.stop.wait(0.2)


def _verdict(runs: _Runs, counts: dict[Who, int], faults: list[Fault], seconds: float) -> RawVerdict:
    from benchmarks.havoc.raw_canvas import units

    wanted = [Who(run_id, step, item) for run_id, (work, _) in runs.works.items() for step, item in units(work)]
    entries = list(runs.reader.entries())
    return RawVerdict(
        runs=len(runs.works),
        units=len(wanted),
        hung=len(runs.open()),
        lost=sum(counts.get(who, 0) == 0 for who in wanted),
        doubled=sum(counts.get(who, 0) > 1 for who in wanted),
        early=_early(runs, entries),
        faults=faults,
        seconds=seconds,
    )


def _early(runs: _Runs, entries: list[Entry]) -> int:
    """Steps of which a call started before every call of a step that it needs had made its effect once."""
    begun: dict[tuple[str, str], float] = {}
    done: dict[tuple[str, str], float] = {}
    for entry in entries:
        key = (entry.who.run_id, entry.who.step)
        if entry.event == "start":
            begun.setdefault(key, entry.at)
        elif entry.event == "effect" and entry.is_new:
            done[key] = max(done.get(key, 0.0), entry.at)
    return sum(
        any(begun[run_id, name] < done.get((run_id, before), float("inf")) for before in node.needs)
        for run_id, (work, _) in runs.works.items()
        for name, node in work.nodes.items()
        if (run_id, name) in begun
    )
