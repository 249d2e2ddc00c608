"""Planted bugs: each takes one safeguard out of the engine for a while, so that the laws can show that they see it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from benchmarks.simulation import steps
from workflows.db import interventions, runs, units
from workflows.db.database import Statement
from workflows.engine import settlement
from workflows.engine.reconciler import TICK_SECONDS, Reconciler
from workflows.model.triggers import Decision
from workflows.steps import StepContext

Bug = tuple[Any, str, Any]
"""Owner, name and what stands there instead."""


def _cut(owner: Any, name: str, old: str, new: str = "") -> Bug:
    """A statement without a part of it; a part that is not there any more is an error, lest the bug be none."""
    sql = getattr(owner, name).sql
    assert old in sql, f"{name} has no {old!r}"
    return owner, name, Statement(sql.replace(old, new))


def _fence() -> list[Bug]:
    mine = " AND status = 'PROGRESS' AND token = :token AND lease_until IS NOT NULL"
    return [_cut(units, "_CHECK_FENCE", mine), _cut(units, "_END", mine)]


def _reconciler() -> list[Bug]:
    return [(Reconciler, "tick", lambda _self: TICK_SECONDS)]


def _dedup() -> list[Bug]:
    sql = units._CLAIM.sql  # noqa: SLF001 - sabotage reaches where nobody else may
    start = sql.index("AND status IN")
    return [_cut(units, "_CLAIM", sql[start : sql.index(")", start) + 1])]


def _deps() -> list[Bug]:
    return [
        _cut(units, "_CLAIM", "AND pending = 0"),
        _cut(units, "_COUNT_DOWN", "SET pending = pending - 1", "SET pending = 0"),
        (settlement, "_decide", lambda *_: (Decision.START, None)),
    ]


def _cancel() -> list[Bug]:
    where, nowhere = "run_pk = :run", "run_pk = :run AND 1 = 0"
    return [_cut(interventions, name, where, nowhere) for name in ("_REVOKE_STEPS", "_DROP_RANGES", "_REVOKE_ITEMS")]


def _key() -> list[Bug]:
    def key_of(ctx: StepContext) -> str:
        return f"{ctx.idempotency_key}/{ctx.attempt}"

    return [(steps, "key_of", key_of)]


def _trigger() -> list[Bug]:
    return [_cut(runs, "_ADD_RUN", ":idempotency_key", "NULLIF(:idempotency_key, :idempotency_key)")]


BUGS: dict[str, Callable[[], list[Bug]]] = {
    "fence": _fence,  # a late result is taken whoever holds the step by now
    "reconciler": _reconciler,  # nobody looks for what is lost
    "dedup": _dedup,  # a message that comes twice runs twice
    "deps": _deps,  # one parent is enough
    "cancel": _cancel,  # the flag is set, what has not started stays
    "key": _key,  # the stable key of an effect changes with the attempt
    "trigger": _trigger,  # the same idempotency key gives a second run
}


@contextmanager
def planted(bug: str | None) -> Iterator[None]:
    """The engine of this process has the bug within the block; None changes nothing."""
    with ExitStack() as stack:
        for owner, name, value in BUGS[bug]() if bug else ():
            stack.enter_context(patch.object(owner, name, value))
        yield
