"""Planted bugs: each takes one safeguard out of the engine, so that the checker can show that it would notice.

They change the engine in the process that asks for it only: workers by an environment variable that reaches them
through the module of their steps, the harness itself where the safeguard lies on the side that submits and cancels.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from types import ModuleType
from typing import Any

from workflows.db import completion, interventions, runs, units
from workflows.db.database import Statement
from workflows.engine import settlement
from workflows.engine.reconciler import TICK_SECONDS, Reconciler
from workflows.model.triggers import Decision
from workflows.steps import StepContext

VARIABLE = "CHAOS_BREAK"

_planted = ""


def _cut(module: ModuleType, name: str, *cuts: tuple[str, str]) -> None:
    """Replace parts of a statement; a part that is not there any more is an error, lest the bug be none."""
    sql = getattr(module, name).sql
    for old, new in cuts:
        assert old in sql, f"{name} has no {old!r}"
        sql = sql.replace(old, new)
    setattr(module, name, Statement(sql))


def _fence() -> None:
    mine = " AND status = 'PROGRESS' AND token = :token"
    for name in ("_CHECK_FENCE", "_END"):
        _cut(units, name, (f"{mine} AND lease_until IS NOT NULL", ""))
    _cut(completion, "_COMPLETE", (mine, ""))


def _reconciler() -> None:
    def rest(_self: Reconciler) -> float:
        return TICK_SECONDS

    _replace(Reconciler, "tick", rest)


def _dedup() -> None:
    sql = units._CLAIM.sql  # noqa: SLF001 - sabotage reaches where nobody else may
    start = sql.index("AND status IN")
    _cut(units, "_CLAIM", (sql[start : sql.index(")", start) + 1], ""))


def _deps() -> None:
    _cut(units, "_CLAIM", ("AND pending = 0", ""))
    _cut(units, "_COUNT_DOWN", ("SET pending = pending - 1", "SET pending = 0"))
    _cut(completion, "_COMPLETE", ("SET pending = s.pending - 1", "SET pending = 0"))
    _replace(settlement, "_decide", lambda *_: (Decision.START, None))


def _cancel() -> None:
    _replace(runs, "is_cancel_requested", lambda *_: False)
    _cut(interventions, "_REVOKE_STEPS", ("run_pk = :run AND", "run_pk = :run AND 1 = 0 AND"))
    _cut(interventions, "_DROP_RANGES", ("run_pk = :run AND", "run_pk = :run AND 1 = 0 AND"))
    _cut(interventions, "_REVOKE_ITEMS", ("run_pk = :run AND", "run_pk = :run AND 1 = 0 AND"))


def _key() -> None:
    """`key_of` looks at what is planted."""


def _trigger() -> None:
    _cut(runs, "_ADD_RUN", (":idempotency_key", "NULLIF(:idempotency_key, :idempotency_key)"))


def _replace(owner: Any, name: str, value: Any) -> None:
    assert hasattr(owner, name), f"{owner} has no {name}"
    setattr(owner, name, value)


BUGS: dict[str, Callable[[], None]] = {
    "fence": _fence,  # a late result is taken whoever holds the step by now
    "reconciler": _reconciler,  # nobody looks for what is lost
    "dedup": _dedup,  # a message that comes twice runs twice
    "deps": _deps,  # one parent is enough
    "cancel": _cancel,  # the flag is set, nobody looks at it
    "key": _key,  # the stable key of an effect changes with the attempt
    "trigger": _trigger,  # the same idempotency key gives a second run
}


def plant(bug: str) -> None:
    """Take a safeguard out of the engine in this process."""
    global _planted  # noqa: PLW0603 - one per process, for its lifetime
    if bug and bug != _planted:
        BUGS[bug]()
        _planted = bug


def plant_from_environment() -> None:
    """What a worker does when it loads its steps."""
    plant(os.environ.get(VARIABLE, ""))  # noqa: TID251 - the harness's own variable, no setting of the engine


def key_of(ctx: StepContext) -> str:
    """The key under which a step makes its effect."""
    return f"{ctx.idempotency_key}/{ctx.attempt}" if _planted == "key" else ctx.idempotency_key
