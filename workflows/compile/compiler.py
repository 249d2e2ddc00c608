"""From a checked workflow to the plan that the engine executes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

from workflows.compile.graph import Graph
from workflows.compile.order import order_steps
from workflows.compile.passes import PASSES, Draft, find_chords, find_gates
from workflows.compile.plan import ArrivesBy, Fragment, Plan, PlanStep
from workflows.compile.series_parallel import is_series_parallel
from workflows.model.expressions import references
from workflows.model.spec import Block, StepSpec, TriggerRule, Workflow


def compile_workflow(workflow: Workflow, *, chords: bool = True) -> Plan:
    """Compile a workflow; pure, and equal for definitions with the same fingerprint.

    Args:
        workflow: What is to be done.
        chords: Whether the result backend can count the members of a chord. Without it a chord's header becomes a
            group, and its body a fragment of its own that SQL delivers.

    Raises:
        GraphError: the steps do not form an acyclic graph.
    """
    specs = order_steps(workflow)
    start = _draft(specs)
    passes = [a_pass for a_pass in PASSES if chords or a_pass is not find_chords]
    draft = reduce(lambda value, a_pass: a_pass(value), passes, start)
    return Plan(
        workflow=workflow.id,
        fingerprint=workflow.fingerprint(),
        params=tuple(sorted(workflow.params, key=lambda param: param.name)),
        steps=_steps(specs, draft),
        fragments=draft.fragments,
        gates=find_gates(draft),
        series_parallel=is_series_parallel(_draft(_of_block(specs, Block.STEPS)).graph.reduced()),
        outputs=workflow.outputs,
        handlers=(len(_of_block(specs, Block.ON_FAILURE)), len(_of_block(specs, Block.FINALLY))),
        timeout_seconds=workflow.timeout_seconds,
        concurrency=workflow.concurrency,
        chords=chords,
        rate_limits=workflow.rate_limits,
        pools=workflow.pools,
    )


def _of_block(specs: tuple[StepSpec, ...], block: Block) -> tuple[StepSpec, ...]:
    return tuple(spec for spec in specs if spec.block is block)


def _draft(specs: tuple[StepSpec, ...]) -> Draft:
    ordinals = {spec.id: ordinal for ordinal, spec in enumerate(specs)}
    edges = ((ordinals[needed], ordinals[spec.id]) for spec in specs for needed in spec.needs)
    ruled = frozenset(ordinals[spec.id] for spec in specs if spec.run_if is not TriggerRule.ALL_SUCCESS)
    leaving = frozenset(ordinals[spec.id] for spec in specs if spec.for_each or spec.rate_limit or spec.pool)
    # A canvas goes on after a success only, and these leave their worker before they are done.
    turns = {ordinal: spec.block.turn for ordinal, spec in enumerate(specs) if spec.block is not Block.STEPS}
    return Draft(Graph.of(len(specs), edges), ruled=ruled, alone=ruled | leaving, turns=turns)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a step stands in its fragment."""

    fragment: int
    arrives_by: ArrivesBy
    off_canvas: tuple[int, ...]


def _steps(specs: tuple[StepSpec, ...], draft: Draft) -> tuple[PlanStep, ...]:
    places = {ordinal: place for fragment in draft.fragments for ordinal, place in _places(fragment)}
    return tuple(_step(ordinal, spec, draft.graph, places[ordinal]) for ordinal, spec in enumerate(specs))


def _places(fragment: Fragment) -> Iterator[tuple[int, _Place]]:
    body = () if fragment.body is None else (fragment.body,)
    for chain in fragment.chains:
        for position, ordinal in enumerate(chain):
            arrives_by = ArrivesBy.CANVAS if position else ArrivesBy.SQL
            yield ordinal, _Place(fragment.index, arrives_by, (*chain[position + 1 :], *body))
    for ordinal in body:
        yield ordinal, _Place(fragment.index, ArrivesBy.CANVAS, ())


def _step(ordinal: int, spec: StepSpec, graph: Graph, place: _Place) -> PlanStep:
    mapping = spec.for_each
    read = references([spec.with_, spec.when, mapping and [mapping.items, mapping.key]])
    return PlanStep(
        ordinal=ordinal,
        id=spec.id,
        uses=spec.uses,
        with_=spec.with_,
        for_each=spec.for_each,
        retry=spec.retry,
        timeout_seconds=spec.timeout_seconds,
        queue=spec.queue,
        run_if=spec.run_if,
        when=spec.when,
        block=spec.block,
        rate_limit=spec.rate_limit,
        pool=spec.pool,
        priority=spec.priority,
        cache_seconds=spec.cache_seconds,
        predecessors=graph.predecessors[ordinal],
        successors=graph.successors[ordinal],
        fragment=place.fragment,
        arrives_by=place.arrives_by,
        off_canvas=place.off_canvas,
        reads=tuple(sorted(read.steps)),
    )
