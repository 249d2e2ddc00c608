"""The steps that disturbed workers run; what they do is told to the ledger and counted in the run's own database."""

from __future__ import annotations

import threading

from pydantic import BaseModel
from sqlalchemy import text

from benchmarks.havoc import borders, sabotage
from benchmarks.havoc.ledger import Client, Who
from workflows.steps import PermanentError, StepContext, TransientError, step

sabotage.plant_from_environment()
borders.watch_from_environment()
_ledger = Client()

COUNT_UP = text(
    "INSERT INTO chaos_effects (run_id, step_id, item, count) VALUES (:run, :step, :item, 1) "
    "ON CONFLICT (run_id, step_id, item) DO UPDATE SET count = chaos_effects.count + 1"
)
TABLE = text(
    "CREATE TABLE chaos_effects (run_id TEXT, step_id TEXT, item TEXT, count INTEGER, "
    "PRIMARY KEY (run_id, step_id, item))"
)


class Work(BaseModel):
    """What a step is to do.

    Attributes:
        ms: Time to sleep.
        failures: How often it fails before it succeeds; -1 means for good.
        size: Characters of its output.
    """

    ms: int = 0
    failures: int = 0
    size: int = 0


class Done(BaseModel):
    text: str = ""


@step("chaos.work")
def work(inp: Work, ctx: StepContext) -> Done:
    """Sleep, perhaps fail; then one keyed effect, and one in the completing transaction."""
    who = Who(ctx.run_id, ctx.step_id, ctx.item_key)
    _ledger.tell("start", who, ctx.attempt)
    threading.Event().wait(inp.ms / 1000)
    if inp.failures < 0:
        _ledger.tell("failure", who, ctx.attempt)
        raise PermanentError("as asked")
    if inp.failures and _ledger.tell("failure", who, ctx.attempt) <= inp.failures:
        raise TransientError("as asked")
    _ledger.tell("effect", who, ctx.attempt, sabotage.key_of(ctx))
    with ctx.transaction() as connection:
        connection.execute(COUNT_UP, {"run": ctx.run_id, "step": ctx.step_id, "item": ctx.item_key or ""})
    return Done(text="x" * inp.size)
