"""The borders of the engine: moments at which a process may die or stop, and the ways to make it do so right there.

Production code knows nothing of them. A process that finds `CHAOS_BORDERS` in its environment wraps the functions
between which the borders lie; at each it reads from a folder whether it is to be struck there.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

VARIABLE = "CHAOS_BORDERS"
"""Names the folder in which a process finds its orders."""

ROLE = "CHAOS_ROLE"
"""`worker` or `api`."""

CALLS_PER_TRANSACTION = 4
"""The calls of a map are written so many at a time in a process with borders: a small map has some."""

Role = Literal["child", "parent", "api"]
Signal = Literal["KILL", "STOP"]

_born = os.getpid()


@dataclass(frozen=True, slots=True)
class Strike:
    """At the `occurrence`-th time (from 1) that any process comes to `border`, it gets the signal."""

    border: str
    signal: Signal
    occurrence: int = 1


@dataclass(frozen=True, slots=True)
class Hit:
    """A strike that was carried out, at `at` seconds since 1970."""

    border: str
    pid: int
    at: float


BORDERS: dict[str, Role] = {
    # A message on its way through a child
    "start: before": "child",
    "start: written": "child",
    "claim: before": "child",
    "claim: committed": "child",
    "body: before": "child",
    "body: done": "child",
    "step's transaction: open": "child",
    "step's transaction: before commit": "child",
    "step's transaction: committed": "child",
    "completion: before": "child",
    "completion: written": "child",
    "publish: before": "child",
    "publish: between messages": "child",
    "publish: done": "child",
    "message: done": "child",
    "retry: written": "child",
    "retry: committed": "child",
    "hand-over: before": "child",
    "hand-over: done": "child",
    # Maps
    "expand: between batches": "child",
    "expand: batch written": "child",
    "expand: opened": "child",
    "range: between calls": "child",
    "call: before": "child",
    "call: done": "child",
    "call: result written": "child",
    "range: ended": "child",
    "range: followed up": "child",
    # The worker's parent
    "ack: before": "parent",
    "ack: done": "parent",
    "lease: before renewal": "parent",
    "lease: renewed": "parent",
    "take back: before": "parent",
    "take back: written": "parent",
    "take back: committed": "parent",
    "redispatch: written": "parent",
    "redispatch: committed": "parent",
    "redispatch: published": "parent",
    "top-up: written": "parent",
    "top-up: committed": "parent",
    "top-up: published": "parent",
    "flush: noticed": "parent",
    "flush: written": "parent",
    "flush: committed": "parent",
    "flush: over": "parent",
    # The API
    "submit: written": "api",
    "submit: committed": "api",
    "submit: published": "api",
    "cancel: written": "api",
    "cancel: committed": "api",
    "resume: written": "api",
    "resume: committed": "api",
    "resume: published": "api",
}
"""Every border, and which kind of process comes there."""


class Orders:
    """The folder, as the harness sees it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self._number = 0

    def give(self, strikes: Sequence[Strike]) -> None:
        """From now on these are carried out, one after the other."""
        self._number += 1
        order = {"number": self._number, "strikes": [asdict(strike) for strike in strikes]}
        new = self.folder / "new"
        new.write_text(json.dumps(order))
        new.replace(self.folder / "order")

    def withdraw(self) -> None:
        """Nobody is struck any more."""
        (self.folder / "order").unlink(missing_ok=True)

    def hits(self) -> list[Hit]:
        """What was carried out of the latest order."""
        return [Hit(*json.loads(line)) for line in _lines(self.folder / f"hits-{self._number}")]


def reach(border: str) -> None:
    """This process has come to a border."""
    folder = Path(os.environ[VARIABLE])  # noqa: TID251 - the harness's own variable, no setting of the engine
    try:
        order = json.loads((folder / "order").read_text())
    except FileNotFoundError:
        return
    hits = folder / f"hits-{order['number']}"
    done = len(_lines(hits))
    if done == len(order["strikes"]):
        return
    strike = Strike(**order["strikes"][done])
    if strike.border != border or _count(folder / f"count-{order['number']}-{done}") != strike.occurrence:
        return
    _append(hits, json.dumps([border, os.getpid(), time.time()]) + "\n")
    os.kill(os.getpid(), signal.SIGKILL if strike.signal == "KILL" else signal.SIGSTOP)


def _count(file: Path) -> int:
    """One more; how many there are now. The kernel keeps processes apart."""
    return _append(file, ".")


def _append(file: Path, text: str) -> int:
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, text.encode())
        return os.lseek(descriptor, 0, os.SEEK_CUR)
    finally:
        os.close(descriptor)


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def watch_from_environment() -> None:
    """Put the borders into this process if it was asked to have some."""
    if os.environ.get(VARIABLE):  # noqa: TID251 - the harness's own variable, no setting of the engine
        _watch()


def _watch() -> None:
    from celery.signals import task_postrun

    from workflows.db import interventions, maps, runs, units, upkeep
    from workflows.engine import (
        blocks,
        canvas,
        control,
        dispatch,
        execution,
        launch,
        mapping,
        reconciler,
        recovery,
        request,
        windows,
    )
    from workflows.engine.broker import Broker
    from workflows.engine.context import EngineContext

    mapping.ITEMS_PER_TRANSACTION = CALLS_PER_TRANSACTION

    _around(launch, "start_run", before="start: before")
    _around(runs, "start", after="start: written")
    _around(units, "claim", before="claim: before", after="claim: committed")
    _around(execution, "call", before="body: before", after="body: done")
    _around(EngineContext, "_guard", after="step's transaction: open")
    _around(EngineContext, "commit", before="step's transaction: before commit", after="step's transaction: committed")
    _around(execution, "complete", before="completion: before", after="completion: written")
    _around(dispatch, "_send", before="publish: before|top-up: committed", after="publish: done|top-up: published")
    _around(canvas, "_send_frozen", after="publish: between messages")
    _around(units, "put_off", after="retry: written")
    _around(execution, "_put_off", after="retry: committed")
    _around(execution, "_hand_over", before="hand-over: before", after="hand-over: done")
    task_postrun.connect(lambda **_: reach("message: done"), weak=False)

    _around(maps, "add_items", before="expand: between batches", after="expand: batch written")
    _around(mapping, "_open", after="expand: opened")
    _around(mapping._Range, "_run_item", before="range: between calls")  # noqa: SLF001 - a border that no function of its own marks
    _around(mapping, "call", before="call: before", after="call: done")
    _around(maps, "end_items", after="call: result written")
    _around(maps, "end_range", after="range: ended")
    _around(mapping, "follow_up", after="range: followed up")

    _around(request.StepRequest, "acknowledge", before="ack: before", after="ack: done")
    _around(upkeep, "renew", before="lease: before renewal", after="lease: renewed")
    _around(recovery, "_settle", before="take back: before", after="take back: written")
    _around(recovery, "_take_back", after="take back: committed")
    _around(upkeep, "push_step", after="redispatch: written")
    _around(reconciler.Reconciler, "_publish", before="redispatch: committed", after="redispatch: published")
    _around(windows, "top_up", after="top-up: written")
    _around(upkeep, "make_all_due", before="flush: noticed", after="flush: written")
    _around(Broker, "remember", before="flush: committed", after="flush: over")

    _around(runs, "add_run", after="submit: written")
    _around(dispatch, "publish_runs", before="submit: committed", after="submit: published")
    _around(blocks, "cancel", after="cancel: written")
    _around(control, "cancel", after="cancel: committed")
    _around(interventions, "resume", after="resume: written")
    _around(dispatch, "publish_singly", before="resume: committed", after="resume: published")


def _around(owner: Any, name: str, *, before: str = "", after: str = "") -> None:
    """Let calls of a function pass one border or two; one that is not there is an error, lest a border be none.

    Args:
        before: Several borders, separated by `|`, when different kinds of processes come there.
    """
    function: Callable[..., Any] = getattr(owner, name)

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        _come_to(before)
        result = function(*args, **kwargs)
        _come_to(after)
        return result

    setattr(owner, name, wrapped)


def _come_to(borders: str) -> None:
    """Only where the border belongs: a reconciler publishes by the same function as a child."""
    for border in filter(None, borders.split("|")):
        if BORDERS[border] == _role():
            reach(border)


def _role() -> Role:
    """A child is forked by the process that has put the borders in."""
    if os.environ[ROLE] == "api":  # noqa: TID251 - the harness's own variable, no setting of the engine
        return "api"
    return "parent" if os.getpid() == _born else "child"


@contextmanager
def orders(folder: Path) -> Iterator[Orders]:
    """Orders that are withdrawn at the end."""
    made = Orders(folder / "borders")
    try:
        yield made
    finally:
        made.withdraw()
