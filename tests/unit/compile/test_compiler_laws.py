"""Laws that hold for every workflow, over random graphs."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise, product
from random import Random

import networkx as nx
import pytest
from celery import Celery
from celery.canvas import Signature, chord, group
from celery.canvas import _chain as chain_type
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.compile.graphs import Edge, closure_of, ids, layers, shapes, workflow, workflows
from workflows.compile import compile_workflow
from workflows.compile.budget import check_budget
from workflows.compile.graph import Graph
from workflows.compile.plan import ArrivesBy, FragmentKind, Plan
from workflows.compile.series_parallel import is_series_parallel
from workflows.engine.canvas import fragment_canvas
from workflows.engine.dry_run import plan_messages
from workflows.model.spec import TriggerRule, Workflow
from workflows.model.states import State
from workflows.model.triggers import Decision, Dependency, decide

APP = Celery("laws", broker="memory://", backend="cache+memory://", set_as_current=False)


def ordinals(canvas: Signature) -> list[int]:
    """The steps that a signature delivers, first to last."""
    if isinstance(canvas, chord):
        return [*(ordinal for member in canvas.tasks for ordinal in ordinals(member)), *ordinals(canvas.body)]
    if isinstance(canvas, group | chain_type):
        return [ordinal for member in canvas.tasks for ordinal in ordinals(member)]
    return [canvas.args[1]]


def enforced(canvas: Signature) -> Iterator[Edge]:
    """What a signature makes wait for what, as Celery understands it."""
    if isinstance(canvas, chord):
        for member in canvas.tasks:
            yield from enforced(member)
            yield ordinals(member)[-1], ordinals(canvas.body)[0]
        yield from enforced(canvas.body)
    elif isinstance(canvas, group):
        for member in canvas.tasks:
            yield from enforced(member)
    elif isinstance(canvas, chain_type):
        yield from pairwise(ordinals(canvas))


def canvases(plan: Plan) -> list[Signature]:
    return [fragment_canvas(APP, plan, fragment, 1) for fragment in plan.fragments]


@given(workflows())
@settings(max_examples=300)
def test_canvas_and_gates_enforce_the_order_of_the_graph_no_less_and_no_more(definition: Workflow) -> None:
    plan = compile_workflow(definition)
    edges = [edge for canvas in canvases(plan) for edge in enforced(canvas)]
    order = nx.transitive_closure_dag(nx.DiGraph([*edges, *plan.gates]))
    assert {(plan.steps[a].id, plan.steps[b].id) for a, b in order.edges} == closure_of(definition)


@given(workflows())
def test_what_is_dispatched_together_becomes_ready_together(definition: Workflow) -> None:
    plan = compile_workflow(definition)
    for fragment in plan.fragments:
        assert len({plan.steps[head].predecessors for head in fragment.heads}) == 1


@given(workflows())
def test_every_step_is_delivered_once(definition: Workflow) -> None:
    plan = compile_workflow(definition)
    delivered = Counter(ordinal for canvas in canvases(plan) for ordinal in ordinals(canvas))
    assert delivered == Counter(range(len(plan.steps)))


@given(workflows())
def test_an_edge_is_a_gate_or_the_canvas_brings_it(definition: Workflow) -> None:
    plan = compile_workflow(definition)
    by_canvas = {edge for canvas in canvases(plan) for edge in enforced(canvas)}
    assert by_canvas | set(plan.gates) == set(plan.edges)
    assert not by_canvas & set(plan.gates)


@given(workflows())
def test_steps_know_who_delivers_them_and_what_they_would_have_delivered(definition: Workflow) -> None:
    plan = compile_workflow(definition)
    for step in plan.steps:
        fragment = plan.fragments[step.fragment]
        canvas = fragment_canvas(APP, plan, fragment, 1)
        assert step.ordinal in fragment.members
        assert (step.arrives_by is ArrivesBy.SQL) == (step.ordinal in fragment.heads)
        after = nx.transitive_closure_dag(nx.DiGraph(list(enforced(canvas))))
        assert set(step.off_canvas) == (set(after[step.ordinal]) if step.ordinal in after else set())


@given(workflows())
def test_maps_and_steps_with_rules_stand_alone(definition: Workflow) -> None:
    plan = compile_workflow(definition)
    for step in plan.steps:
        if step.for_each is not None or step.run_if is not TriggerRule.ALL_SUCCESS:
            fragment = plan.fragments[step.fragment]
            assert (fragment.kind, fragment.members) == (FragmentKind.SINGLE, (step.ordinal,))


def outcomes(needs: Mapping[str, Sequence[str]], plan: Plan, failing: set[str]) -> dict[str, Dependency]:
    """How every step ends when those of `failing` fail once they run, and rules see the dependencies in `needs`."""
    ends: dict[str, Dependency] = {}
    for step in plan.steps:
        decision, reason = decide(step.run_if, [ends[needed] for needed in needs[step.id]])
        ran = State.FAILURE if step.id in failing else State.SUCCESS
        ends[step.id] = Dependency(ran) if decision is Decision.START else Dependency(State.SKIPPED, reason)
    return ends


@given(shapes, st.data())
@settings(max_examples=300)
def test_the_edges_that_are_left_lead_every_step_to_the_same_end(
    shape: tuple[int, list[Edge]], data: st.DataObject
) -> None:
    size, edges = shape
    numbers = st.integers(0, size - 1)
    rules = data.draw(st.dictionaries(numbers, st.sampled_from(TriggerRule)))
    steps = (replace(step, run_if=rules.get(n, step.run_if)) for n, step in enumerate(workflow(size, edges).steps))
    definition = Workflow("w", tuple(steps))
    failing = {f"s{n}" for n in data.draw(st.sets(numbers))}
    plan = compile_workflow(definition)
    declared = {step.id: step.needs for step in definition.steps}
    left = {step.id: ids(plan, *step.predecessors) for step in plan.steps}
    assert outcomes(left, plan, failing) == outcomes(declared, plan, failing)


@given(workflows(), st.randoms(use_true_random=False))
def test_equal_definitions_give_equal_plans_whatever_the_order_of_the_file(
    definition: Workflow, random: Random
) -> None:
    steps = list(definition.steps)
    random.shuffle(steps)
    assert compile_workflow(Workflow(definition.id, tuple(steps))) == compile_workflow(definition)


@given(workflows())
def test_a_plan_survives_being_stored(definition: Workflow) -> None:
    plan = compile_workflow(definition)
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


@given(workflows())
@settings(max_examples=25)
def test_every_step_is_one_message_within_the_budget(definition: Workflow) -> None:
    messages = plan_messages(APP, compile_workflow(definition))
    check_budget(messages)
    assert Counter(message.ordinal for message in messages) == Counter([None, *range(len(definition.steps))])


@given(shapes)
def test_the_reduction_is_the_transitive_reduction(shape: tuple[int, list[Edge]]) -> None:
    size, edges = shape
    expected = nx.transitive_reduction(nx.DiGraph(edges))
    assert set(Graph.of(size, edges).reduced().edges) == set(expected.edges)


def has_an_n(size: int, order: set[Edge]) -> bool:
    """Whether there are a before c, b before c, b before d, and nothing else between the four."""
    return any(
        (a, c) in order and len({(x, y) for x in (a, b, c, d) for y in (a, b, c, d)} & order) == 3
        for (b, c), (b2, d) in product(order, order)
        if b == b2 and c != d
        for a in range(size)
        if a not in {b, c, d}
    )


@given(shapes.filter(lambda shape: shape[0] <= 14))
def test_an_order_is_series_parallel_when_it_has_no_n(shape: tuple[int, list[Edge]]) -> None:
    size, edges = shape
    order = set(nx.transitive_closure_dag(nx.DiGraph(edges)).edges)
    assert is_series_parallel(Graph.of(size, edges).reduced()) is not has_an_n(size, order)


LARGE = {
    "a chain": [(n, n + 1) for n in range(1999)],
    "one to 1,998 to one": [(0, n) for n in range(1, 1999)] + [(n, 1999) for n in range(1, 1999)],
    "40 layers of 50, each step needs 3": layers(40, 50, 3, Random(1)),
    "40 layers of 50, each step needs all": layers(40, 50, 50, Random(1)),
    "sparse": [(Random(n).randrange(n), n) for n in range(1, 2000) for _ in range(3)],
    "nothing but steps": [],
}


@pytest.mark.parametrize("edges", LARGE.values(), ids=LARGE.keys())
def test_two_thousand_steps_compile_in_well_under_two_seconds(edges: list[Edge]) -> None:
    definition = workflow(2000, edges)
    start = time.process_time()
    compile_workflow(definition)
    assert time.process_time() - start < 1.5
