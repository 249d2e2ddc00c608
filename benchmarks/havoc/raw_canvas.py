"""The same random graphs as a raw Celery canvas, as a careful user would write it.

Levels of the graph are groups in a chain, a task that does nothing joins two of them; tasks are acknowledged late, come
back when their process dies, are tried again when they fail or the database is away, and make their effect in a
transaction of their own. What canvas does not have is left out: cancels, keys of submissions, other trigger rules,
steps that fail for good (they would end a chord, and with it the rest of the run).
"""

from __future__ import annotations

import threading
from functools import cache

import sqlalchemy
from celery import Celery
from celery.canvas import Signature, chain, group

from benchmarks.havoc.ledger import Client, Who
from benchmarks.havoc.steps import COUNT_UP
from benchmarks.havoc.works import Node, Work
from workflows.engine.app import celery_settings
from workflows.settings import Config

RETRY = {"max_retries": 50, "countdown": 0.2}
END = "end"
"""Step that says that a run has come to its end."""

config = Config.from_env()
app = Celery("raw", set_as_current=False)
app.conf.update(celery_settings(config))
_ledger = Client()


@cache
def _engine() -> sqlalchemy.Engine:
    """Of this process: it is first asked for in a child."""
    return sqlalchemy.create_engine(config.database_url, pool_pre_ping=True)


@app.task(shared=False, name="raw.work", autoretry_for=(Exception,), retry_kwargs=RETRY)
def work(run_id: str, step: str, item: str | None, ms: int, failures: int) -> None:
    """What `chaos.work` does, without its engine."""
    who = Who(run_id, step, item)
    _ledger.tell("start", who, 0)
    threading.Event().wait(ms / 1000)
    if failures and _ledger.tell("failure", who, 0) <= failures:
        raise RuntimeError("as asked")
    with _engine().begin() as connection:
        connection.execute(COUNT_UP, {"run": run_id, "step": step, "item": item or ""})
    _ledger.tell("effect", who, 0, "/".join(part for part in who if part is not None))


@app.task(shared=False, name="raw.join")
def join() -> None:
    """Between two groups: Celery's messages are smaller with it."""


@app.task(shared=False, name="raw.end", autoretry_for=(Exception,), retry_kwargs=RETRY)
def end(run_id: str) -> None:
    """The run has ended."""
    _ledger.tell("end", Who(run_id, END), 0)


def canvas(run_id: str, of: Work) -> Signature:
    """The whole run."""
    parts: list[Signature] = []
    for level in levels(of):
        parts += [join.si()] if parts else []
        tasks = [task for name in level for task in _tasks(run_id, name, of.nodes[name])]
        # A group of one within a chain is not waited for.
        parts.append(tasks[0] if len(tasks) == 1 else group(tasks, app=app))
    return chain([*parts, end.si(run_id)], app=app)


def levels(of: Work) -> list[list[str]]:
    """Steps by the length of the longest way to them."""
    depth: dict[str, int] = {}
    for name, node in of.nodes.items():  # their order is topological
        depth[name] = 1 + max((depth[before] for before in node.needs), default=-1)
    found: list[list[str]] = [[] for _ in range(max(depth.values()) + 1)]
    for name, at in depth.items():
        found[at].append(name)
    return found


def units(of: Work) -> list[tuple[str, str | None]]:
    """Every step, and every call of a map, that has an effect to make."""
    return [(name, item) for name, node in of.nodes.items() for item in _items(node)]


def _items(node: Node) -> list[str | None]:
    return [None] if node.calls is None else [str(index) for index in range(node.calls)]


def _tasks(run_id: str, name: str, node: Node) -> list[Signature]:
    found = []
    for item in _items(node):
        is_lucky = item is not None and item != str(node.unlucky)
        failures = 0 if is_lucky else max(0, node.failures)
        found.append(work.si(run_id, name, item, node.ms, failures))
    return found
