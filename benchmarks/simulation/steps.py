"""What simulated steps do, and the book in which it is written down: it outlives every simulated process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pydantic import BaseModel
from sqlalchemy import text

from benchmarks.simulation.loop import Killed, Loop
from benchmarks.simulation.works import TIMEOUT_SECONDS
from workflows.steps import PermanentError, StepContext, StepDefinition, StepRegistry, TransientError

COUNT_UP = text(
    "INSERT INTO simulated_effects (run_id, step_id, item, count) VALUES (:run, :step, :item, 1) "
    "ON CONFLICT (run_id, step_id, item) DO UPDATE SET count = simulated_effects.count + 1"
)
TABLE = (
    "CREATE TABLE simulated_effects (run_id TEXT, step_id TEXT, item TEXT, count INTEGER, "
    "PRIMARY KEY (run_id, step_id, item))"
)


class Who(NamedTuple):
    """A step, or a call of a map."""

    run_id: str
    step_id: str
    item: str | None


class Task(BaseModel):
    """What a step is to do; see `works.Node`."""

    ms: int = 0
    failures: int = 0
    slow: int = 0
    deaths: int = 0
    in_transaction: bool = False
    seen: dict[str, Any] = {}


class Done(BaseModel):
    name: str


@dataclass
class Ledger:
    """What steps have done outside of the engine's database.

    Attributes:
        keyed: How often each effect was made, by a target that refuses a key it has seen.
        asked: How often it was asked for.
        seen: What steps were given of those before them.
    """

    starts: list[tuple[Who, float]] = field(default_factory=list)
    counts: Counter[tuple[str, Who]] = field(default_factory=Counter)
    keyed: Counter[Who] = field(default_factory=Counter)
    asked: Counter[Who] = field(default_factory=Counter)
    seen: dict[Who, dict[str, Any]] = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)

    def happens(self, what: str, who: Who, times: int) -> bool:
        """Whether it happens once more to somebody to whom it is to happen so many times; -1 means always."""
        if times < 0:
            return True
        if self.counts[what, who] >= times:
            return False
        self.counts[what, who] += 1
        return True

    def make_effect(self, who: Who, key: str) -> None:
        """One effect, unless it was made under this key before."""
        self.asked[who] += 1
        if key not in self.keys:
            self.keys.add(key)
            self.keyed[who] += 1


def key_of(ctx: StepContext) -> str:
    """The key under which a step makes its effect."""
    return ctx.idempotency_key


def make_registry(loop: Loop, ledger: Ledger, *, knows_all: bool) -> StepRegistry:
    """The steps that a worker knows."""

    def work(inp: Task, ctx: StepContext) -> Done:
        who = Who(ctx.run_id, ctx.step_id, ctx.item_key)
        ledger.starts.append((who, loop.now))
        ledger.seen[who] = inp.seen
        loop.pause("in the body", inp.ms / 1000)
        ctx.progress(1, 2)
        ctx.check_cancelled()
        if ledger.happens("death", who, inp.deaths):
            raise Killed
        if ledger.happens("slow", who, inp.slow):
            loop.pause("too long in the body", 2 * TIMEOUT_SECONDS)
        if inp.failures < 0:
            raise PermanentError("as asked")
        if ledger.happens("failure", who, inp.failures):
            raise TransientError("as asked")
        ledger.make_effect(who, key_of(ctx))
        ctx.log.info("done")
        if inp.in_transaction:
            with ctx.transaction() as connection:
                connection.execute(COUNT_UP, {"run": ctx.run_id, "step": ctx.step_id, "item": ctx.item_key or ""})
        else:
            loop.pause("after the effect")
        return Done(name=ctx.step_id)

    return _registry({"simulated.work": work, **({"simulated.rare": work} if knows_all else {})})


def _registry(functions: dict[str, Callable[..., Any]]) -> StepRegistry:
    made = StepRegistry()
    for name, function in functions.items():
        made.add(StepDefinition(name, function, Task, Done, "1"))
    return made
