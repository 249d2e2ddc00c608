"""The compiled form of a workflow: what the engine executes and the dry-run prints.

A plan is a plain value, stored as JSON with the version of the definition; nothing of it is computed again at run
time. Steps are numbered by `ordinal`, their index in a topological order, and all edges are pairs of ordinals.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from workflows.model.policies import Behavior, Concurrency, Rate, RetryPolicy, Tolerance
from workflows.model.spec import Block, ForEach, Json, ParamSpec, TriggerRule

PLAN_FORMAT = 1
"""Raised whenever a stored plan of an earlier release can no longer be read as it is."""


class FragmentKind(StrEnum):
    """Shape of the Celery canvas that a fragment becomes."""

    SINGLE = "single"
    CHAIN = "chain"
    GROUP = "group"
    CHORD = "chord"


class ArrivesBy(StrEnum):
    """Who delivers a step once its dependencies are done."""

    CANVAS = "canvas"
    SQL = "sql"


@dataclass(frozen=True, slots=True)
class Fragment:
    """A part of the graph that becomes one Celery canvas.

    Attributes:
        chains: Ordinals. One chain for SINGLE and CHAIN, several for GROUP (all heads have equal predecessors) and
            for a CHORD's header (equal predecessors, and every tail feeds just `body`).
        body: Ordinal of the chord's body; None for the other kinds.
    """

    index: int
    kind: FragmentKind
    chains: tuple[tuple[int, ...], ...]
    body: int | None = None

    @property
    def heads(self) -> tuple[int, ...]:
        """The steps that become ready when the fragment is dispatched."""
        return tuple(chain[0] for chain in self.chains)

    @property
    def members(self) -> tuple[int, ...]:
        """All steps of the fragment."""
        inner = tuple(ordinal for chain in self.chains for ordinal in chain)
        return inner if self.body is None else (*inner, self.body)


@dataclass(frozen=True, slots=True)
class PlanStep:
    """One step, ready to run.

    Attributes:
        predecessors: Edges of the transitive reduction, ascending; their number is the initial `pending`.
        successors: The same, outgoing.
        arrives_by: CANVAS for every member of a fragment but its heads.
        fragment: Index of its fragment.
        off_canvas: Steps that its fragment would have delivered after it (the rest of its chain, the chord's body):
            they arrive by SQL once this step leaves its canvas.
        cache_seconds: How long its outputs serve those that are given the same; None means not at all.
        when: The condition, an expression or a constant; None means that there is none.
        reads: Ids of the steps whose outputs its expressions read.
    """

    ordinal: int
    id: str
    uses: str
    with_: Mapping[str, Json]
    for_each: ForEach | None
    retry: RetryPolicy
    timeout_seconds: float | None
    queue: str
    run_if: TriggerRule
    when: str | bool | None
    block: Block
    rate_limit: str | None
    pool: str | None
    priority: int
    cache_seconds: float | None
    predecessors: tuple[int, ...]
    successors: tuple[int, ...]
    fragment: int
    arrives_by: ArrivesBy
    off_canvas: tuple[int, ...]
    reads: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """A compiled workflow.

    Attributes:
        gates: Edges between fragments, counted in SQL; edges within a fragment are the canvas's.
        handlers: How many of the last steps stand under `on_failure`, and under `finally`.
        timeout_seconds: For the block `steps`; None means no limit.
        series_parallel: For the report only.
        chords: Whether chords were allowed; without them every join is a gate.
    """

    workflow: str
    fingerprint: str
    params: tuple[ParamSpec, ...]
    steps: tuple[PlanStep, ...]
    fragments: tuple[Fragment, ...]
    gates: tuple[tuple[int, int], ...]
    series_parallel: bool
    outputs: Mapping[str, Json]
    handlers: tuple[int, int] = (0, 0)
    timeout_seconds: float | None = None
    concurrency: Concurrency | None = None
    chords: bool = True
    rate_limits: Mapping[str, Rate] = field(default_factory=dict)
    pools: Mapping[str, int] = field(default_factory=dict)
    format: int = PLAN_FORMAT

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """All edges of the transitive reduction, sorted."""
        return tuple((step.ordinal, after) for step in self.steps for after in step.successors)

    def is_turn(self, steps_open: int) -> bool:
        """Whether a block may have ended when so many steps are open: only those of later blocks are."""
        on_failure, last = self.handlers
        return steps_open in (0, last, on_failure + last)

    def heads(self, block: Block) -> tuple[int, ...]:
        """The steps with which a block begins."""
        return tuple(step.ordinal for step in self.steps if step.block is block and not step.predecessors)

    def fragment_of(self, ordinal: int) -> Fragment:
        """The fragment that a step belongs to."""
        return self.fragments[self.steps[ordinal].fragment]

    def chain_of(self, ordinal: int) -> tuple[int, ...]:
        """The chain of its fragment that begins with a step; the step alone when it begins none."""
        chains = self.fragment_of(ordinal).chains
        place = bisect_left(chains, (ordinal,))  # sorted, as the compiler leaves them
        is_head = place < len(chains) and chains[place][0] == ordinal
        return chains[place] if is_head else (ordinal,)

    def ordinals(self, block: Block) -> range:
        """The steps of a block."""
        on_failure, last = self.handlers
        ends = (0, len(self.steps) - on_failure - last, len(self.steps) - last, len(self.steps))
        return range(ends[block.turn], ends[block.turn + 1])

    def ordinal_of(self, step_id: str) -> int:
        """The ordinal of a step id; KeyError when there is none."""
        for step in self.steps:
            if step.id == step_id:
                return step.ordinal
        raise KeyError(step_id)

    def to_json(self) -> dict[str, Json]:
        """A JSON value; `from_json` is its inverse."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Plan:
        """Read a stored plan back."""
        return cls(
            workflow=value["workflow"],
            fingerprint=value["fingerprint"],
            params=tuple(ParamSpec(p["name"], p["schema"], p["required"], p["default"]) for p in value["params"]),
            steps=tuple(_step_from_json(step) for step in value["steps"]),
            fragments=tuple(
                Fragment(f["index"], FragmentKind(f["kind"]), tuple(tuple(c) for c in f["chains"]), f["body"])
                for f in value["fragments"]
            ),
            gates=tuple((a, b) for a, b in value["gates"]),
            series_parallel=value["series_parallel"],
            outputs=value["outputs"],
            handlers=(value["handlers"][0], value["handlers"][1]),
            timeout_seconds=value["timeout_seconds"],
            concurrency=_concurrency_from_json(value["concurrency"]),
            chords=value["chords"],
            rate_limits={name: Rate(**rate) for name, rate in value["rate_limits"].items()},
            pools=value["pools"],
            format=value["format"],
        )


def _concurrency_from_json(value: Mapping[str, Any] | None) -> Concurrency | None:
    return None if value is None else Concurrency(value["group"], value["limit"], Behavior(value["behavior"]))


def _step_from_json(value: Mapping[str, Any]) -> PlanStep:
    retry = dict(value["retry"])
    retry["only_for"], retry["never_for"] = tuple(retry["only_for"]), tuple(retry["never_for"])
    for_each = value["for_each"]
    return PlanStep(
        ordinal=value["ordinal"],
        id=value["id"],
        uses=value["uses"],
        with_=value["with_"],
        for_each=for_each and ForEach(**{**for_each, "tolerate": Tolerance(**for_each["tolerate"])}),
        retry=RetryPolicy(**retry),
        timeout_seconds=value["timeout_seconds"],
        queue=value["queue"],
        run_if=TriggerRule(value["run_if"]),
        when=value["when"],
        block=Block(value["block"]),
        rate_limit=value["rate_limit"],
        pool=value["pool"],
        priority=value["priority"],
        cache_seconds=value.get("cache_seconds"),
        predecessors=tuple(value["predecessors"]),
        successors=tuple(value["successors"]),
        fragment=value["fragment"],
        arrives_by=ArrivesBy(value["arrives_by"]),
        off_canvas=tuple(value["off_canvas"]),
        reads=tuple(value["reads"]),
    )
