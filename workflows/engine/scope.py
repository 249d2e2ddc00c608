"""The values that the expressions of a step see."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from workflows.compile.plan import Plan, PlanStep
from workflows.db import maps, payloads, runs
from workflows.db.database import Statement, Transaction
from workflows.db.runs import RunContext
from workflows.engine.job import Job
from workflows.model.spec import Block

_STEP = Statement("""
    SELECT status, output, items_total FROM step_runs WHERE run_pk = :run AND ordinal = :ordinal AND part = 0""")


class StepValues(Mapping[str, Any]):
    """`steps.ID`: status, output, outputs, failures; read from the database when they are first asked for."""

    def __init__(self, tx: Transaction, run_pk: int, ordinal: int) -> None:
        self._tx, self._run_pk, self._ordinal = tx, run_pk, ordinal
        self._cache: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._cache:
            self._cache[name] = self._read(name)
        return self._cache[name]

    def __iter__(self) -> Iterator[str]:
        return iter(("status", "output", "outputs", "failures"))

    def __len__(self) -> int:
        return 4

    def _read(self, name: str) -> Any:
        if name == "outputs":
            return maps.outputs(self._tx, self._run_pk, self._ordinal)
        if name == "failures":
            return maps.failures(self._tx, self._run_pk, self._ordinal)
        if name not in ("status", "output"):
            raise KeyError(name)
        row = self._tx.row(_STEP, {"run": self._run_pk, "ordinal": self._ordinal})
        status, output = (row[0], row[1]) if row else (None, None)
        self._cache["status"] = status
        self._cache["output"] = payloads.value(self._tx, self._run_pk, self._ordinal, output)
        return self._cache[name]


def step_scope(tx: Transaction, job: Job) -> dict[str, Any]:
    """What the expressions of a step see, but for `item` and `batch`."""
    return scope_of(tx, job.plan, job.step, job.context)


def scope_of(tx: Transaction, plan: Plan, step: PlanStep, context: RunContext) -> dict[str, Any]:
    """The same for a step that nobody has claimed."""
    scope = make_scope(tx, plan, context, step.reads)
    if step.block is not Block.STEPS:
        scope["run"]["status"], scope["run"]["error"] = runs.headline(tx, context.run_pk)
    return scope


def input_scope(tx: Transaction, job: Job) -> dict[str, Any]:
    """What the expressions in `with` see: the same, and the secrets of this process, which nobody keeps."""
    return {**step_scope(tx, job), "secret": job.runtime.secrets}


def make_scope(tx: Transaction, plan: Plan, context: RunContext, reads: Iterable[str], **names: Any) -> dict[str, Any]:
    """The roots of expressions: `params`, `steps` (those in `reads`), `run`, and `item` or `batch` when given."""
    return {
        "params": context.params,
        "steps": {step_id: StepValues(tx, context.run_pk, plan.ordinal_of(step_id)) for step_id in reads},
        "run": {"id": context.run_id, "workflow": context.workflow_id, "fire_time": context.fire_time},
        **names,
    }
