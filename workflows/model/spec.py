"""What a workflow is: the immutable values that the parser builds and the compiler reads.

Strings under `with`, `when`, `items`, `key` and `outputs` may hold `${{ ... }}`; they are kept as text here, checked by
the parser, and evaluated when the step runs (`workflows.model.expressions`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from workflows.model.policies import Concurrency, Rate, RetryPolicy, Tolerance

Json = Any
"""A JSON value: None, bool, int, float, str, list of Json, dict of str to Json."""


class TriggerRule(StrEnum):
    """When a step may start, given how its dependencies ended (Airflow's words)."""

    ALL_SUCCESS = "all_success"
    ALL_DONE = "all_done"
    ALL_FAILED = "all_failed"
    ALL_SKIPPED = "all_skipped"
    ALL_DONE_MIN_ONE_SUCCESS = "all_done_min_one_success"
    ONE_SUCCESS = "one_success"
    ONE_FAILED = "one_failed"
    ONE_DONE = "one_done"
    NONE_FAILED = "none_failed"
    NONE_FAILED_MIN_ONE_SUCCESS = "none_failed_min_one_success"
    NONE_SKIPPED = "none_skipped"


class Block(StrEnum):
    """Which part of a workflow a step stands in, by the key of the file; the parts run one after the other."""

    STEPS = "steps"
    ON_FAILURE = "on_failure"
    FINALLY = "finally"

    @property
    def turn(self) -> int:
        """When its steps run, from 0."""
        return list(Block).index(self)


@dataclass(frozen=True, slots=True)
class Position:
    """Where something stands in a file; both count from 1, 0 means unknown."""

    line: int = 0
    column: int = 0


@dataclass(frozen=True, slots=True)
class ParamSpec:
    """One declared param.

    Attributes:
        schema: JSON-Schema words as written (`type`, `minLength`, `minimum`, `enum`, `items` ...), without `default`.
        required: True when there is no default.
        default: The default; None when required.
    """

    name: str
    schema: Mapping[str, Json]
    required: bool
    default: Json = None
    position: Position = field(default=Position(), compare=False)


@dataclass(frozen=True, slots=True)
class ForEach:
    """The map of a step: one call per item, or per `batch` items.

    Attributes:
        items: Expression text or a literal list.
        key: Template that names a call (`${{ item }}` ...); None means its index.
        batch: Items per call at most; None means one item per call, named `item` instead of `batch`.
        batch_bytes: Bytes of the items of a call at most, as JSON text; one that is larger goes alone. None: no limit.
        max_parallel: Calls in progress at the same time; None means no limit.
    """

    items: Json
    key: str | None = None
    batch: int | None = None
    batch_bytes: int | None = None
    max_parallel: int | None = None
    tolerate: Tolerance = Tolerance()


@dataclass(frozen=True, slots=True)
class StepSpec:
    """A vertex of the graph as written, defaults merged in.

    Attributes:
        uses: Name of the registered step.
        needs: Declared dependencies and those that its expressions imply (`steps.NAME...`), sorted, without doubles.
        with_: Input of the step; strings may hold expressions.
        timeout_seconds: None means no limit.
        rate_limit: Name under `rate_limits`; each try, or call of a map, takes one start of it.
        pool: Name under `pools`; a try holds one of its slots.
        priority: 0 to 9, higher first.
        cache_seconds: How long an output serves later tries that are given the same; None means not at all.
        when: A text that is one expression, or a boolean; when it gives false the step is skipped. None means true.
    """

    id: str
    uses: str
    needs: tuple[str, ...] = ()
    with_: Mapping[str, Json] = field(default_factory=dict)
    for_each: ForEach | None = None
    retry: RetryPolicy = RetryPolicy()
    timeout_seconds: float | None = None
    queue: str = "processing"
    run_if: TriggerRule = TriggerRule.ALL_SUCCESS
    when: str | bool | None = None
    block: Block = Block.STEPS
    rate_limit: str | None = None
    pool: str | None = None
    priority: int = 5
    cache_seconds: float | None = None
    position: Position = field(default=Position(), compare=False)


class Catchup(StrEnum):
    """What to do about times that passed while no scheduler ran."""

    SKIP = "skip"
    LAST = "last"
    ALL = "all"


class Overlap(StrEnum):
    """What to do while a run of the same schedule goes on; the words of `concurrency.behavior`, and `allow`."""

    SKIP = "skip"
    QUEUE = "queue"
    ALLOW = "allow"
    CANCEL_RUNNING = "cancel_running"


@dataclass(frozen=True, slots=True)
class ScheduleSpec:
    """One schedule of a workflow.

    Attributes:
        id: Names it among the schedules of its workflow; empty when it is the only one without a name.
        cron: Five fields, or a word such as `@daily`, as written.
        timezone: IANA name of the zone whose clocks count.
        params: What its runs are given; the rest are defaults.
    """

    id: str
    cron: str
    timezone: str = "UTC"
    catchup: Catchup = Catchup.LAST
    overlap: Overlap = Overlap.SKIP
    params: Mapping[str, Json] = field(default_factory=dict)
    position: Position = field(default=Position(), compare=False)

    def name_in(self, workflow: str) -> str:
        """Its name among all schedules."""
        return f"{workflow}.{self.id}" if self.id else workflow


@dataclass(frozen=True, slots=True)
class Workflow:
    """A checked definition. Steps stand in the order of the file, block by block.

    Attributes:
        schedules: When it runs by itself; no part of its version, which says what a run does.
        timeout_seconds: For the steps of the block `steps` together; None means no limit.
    """

    id: str
    steps: tuple[StepSpec, ...]
    description: str = ""
    params: tuple[ParamSpec, ...] = ()
    schedules: tuple[ScheduleSpec, ...] = ()
    outputs: Mapping[str, Json] = field(default_factory=dict)
    timeout_seconds: float | None = None
    concurrency: Concurrency | None = None
    rate_limits: Mapping[str, Rate] = field(default_factory=dict)
    pools: Mapping[str, int] = field(default_factory=dict)

    def step(self, step_id: str) -> StepSpec:
        """The step of that id; KeyError when there is none."""
        for step in self.steps:
            if step.id == step_id:
                return step
        raise KeyError(step_id)

    def canonical(self) -> dict[str, Json]:
        """A JSON value that is equal for definitions whose runs do the same.

        No positions, no order of steps or params, no schedules.
        """
        value = asdict(self)
        value.pop("schedules")
        for part in (*value["steps"], *value["params"]):
            part.pop("position")
        value["steps"] = sorted(value["steps"], key=lambda step: str(step["id"]))
        value["params"] = sorted(value["params"], key=lambda param: str(param["name"]))
        return value

    def fingerprint(self) -> str:
        """Hash of the canonical form, 64 hex digits (SHA-256)."""
        text = json.dumps(self.canonical(), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()
