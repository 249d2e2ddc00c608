"""The raw Celery canvas: what people would write without Celeriac, with the same settings. `celery -A benchmarks.raw`.

A task that has to be waited for counts itself in a key of the broker when it is done, which costs next to nothing;
waiting for a canvas with `get()` reads every result again and again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import cache
from typing import TypeAlias

import redis
from celery import Celery
from celery.canvas import Signature, chain, chord, group

from benchmarks import profiling
from benchmarks.graphs import Graph
from workflows.engine.app import celery_settings
from workflows.settings import Config

Canvas: TypeAlias = "tuple[Signature, int]"
"""What to apply, and how many tasks of it count themselves in at the end."""

CanvasMaker: TypeAlias = Callable[[str], Iterable[Canvas]]
"""Makes canvases anew for each run; its argument is the key in which the last tasks count themselves."""

app = Celery("raw", set_as_current=False)
app.conf.update(celery_settings(Config.from_env()))
profiling.begin_in_worker_children()


@cache
def _client() -> redis.Redis:
    return redis.Redis.from_url(app.conf.broker_url)


@app.task(name="raw.task", shared=False)
def task(ms: int = 0, mark: str | None = None) -> None:
    """Sleeps; the last of a canvas counts itself in."""
    if ms:
        time.sleep(ms / 1000)
    if mark is not None:
        _client().incr(mark)


def chains(count: int, length: int) -> CanvasMaker:
    """`count` chains of `length` tasks."""

    def make(mark: str) -> Iterable[Canvas]:
        for _ in range(count):
            yield chain([*(task.si() for _ in range(length - 1)), task.si(mark=mark)], app=app), 1

    return make


def fan(width: int) -> CanvasMaker:
    """One task, a chord of `width`, its body."""

    def make(mark: str) -> Iterable[Canvas]:
        header = group([task.si() for _ in range(width)], app=app)
        yield chain([task.si(), chord(header, task.si(mark=mark), app=app)], app=app), 1

    return make


def levels(graph: Graph, *, joins: bool) -> CanvasMaker:
    """A group for each level, chained: Celery makes chords of them.

    Args:
        joins: With a task that does nothing between two groups. Celery's messages are smaller then.
    """

    def make(mark: str) -> Iterable[Canvas]:
        parts: list[Signature] = []
        found = graph.levels()
        for number, level in enumerate(found):
            is_last = number == len(found) - 1
            if joins and number:
                parts.append(task.si())
            last = {"mark": mark} if is_last else {}
            parts.append(group([task.si(graph.ms.get(step, 0), **last) for step in level], app=app))
        yield chain(parts, app=app), len(found[-1])

    return make
