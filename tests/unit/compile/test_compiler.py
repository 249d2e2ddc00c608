from __future__ import annotations

import doctest
from collections.abc import Callable
from types import ModuleType

import pytest

from tests.unit.compile.graphs import ids, workflow
from workflows.compile import compile_workflow, compiler, graph, order, passes, series_parallel
from workflows.compile.explain import canvas_text, critical_path
from workflows.compile.order import GraphError
from workflows.compile.passes import PASSES, find_gates
from workflows.model.spec import ForEach, StepSpec, Workflow


@pytest.mark.parametrize("module", [compiler, graph, order, passes, series_parallel])
def test_the_examples_in_the_docstrings_are_true(module: ModuleType) -> None:
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("one_pass", [*PASSES, find_gates], ids=lambda one_pass: one_pass.__name__)
def test_every_pass_shows_what_it_does(one_pass: Callable[..., object]) -> None:
    assert ">>>" in (one_pass.__doc__ or "")


def canvases(definition: Workflow) -> list[str]:
    plan = compile_workflow(definition)
    return [canvas_text(plan, fragment) for fragment in plan.fragments]


def test_a_straight_line_is_cut_into_chains_of_six() -> None:
    assert canvases(workflow(8, [(n, n + 1) for n in range(7)])) == ["chain(s0, s1, s2, s3, s4, s5)", "chain(s6, s7)"]


def test_a_diamond_is_a_chord_after_its_first_step() -> None:
    assert canvases(workflow(4, [(0, 1), (0, 2), (1, 3), (2, 3)])) == ["s0", "chord([s1, s2], s3)"]


def test_a_diamond_of_roots_is_one_chord_and_what_follows_is_a_fragment_of_its_own() -> None:
    edges = [(0, 1), (1, 3), (2, 3), (3, 4), (4, 5)]
    assert canvases(workflow(6, edges)) == ["chord([chain(s0, s1), s2], s3)", "chain(s4, s5)"]


def test_the_n_graph_needs_gates_only() -> None:
    plan = compile_workflow(workflow(4, [(0, 2), (1, 2), (1, 3)]))
    assert [ids(plan, *gate) for gate in plan.gates] == [["s0", "s2"], ["s1", "s2"], ["s1", "s3"]]
    assert not plan.series_parallel


def test_header_chains_of_four_make_a_chord_and_of_five_do_not() -> None:
    def branches(length: int) -> Workflow:
        first, second = range(length), range(length, 2 * length)
        edges = [(n, n + 1) for branch in (first, second) for n in branch[:-1]]
        join = 2 * length
        return workflow(join + 1, [*edges, (first[-1], join), (second[-1], join)])

    assert canvases(branches(4)) == ["chord([chain(s0, s1, s2, s3), chain(s4, s5, s6, s7)], s8)"]
    assert canvases(branches(5)) == ["group([chain(s0, s1, s2, s3, s4), chain(s5, s6, s7, s8, s9)])", "s10"]


def test_where_m_tails_feed_n_heads_are_two_groups_and_gates() -> None:
    edges = [(a, b) for a in (0, 1) for b in (2, 3, 4)]
    plan = compile_workflow(workflow(5, edges))
    assert [canvas_text(plan, fragment) for fragment in plan.fragments] == ["group([s0, s1])", "group([s2, s3, s4])"]
    assert len(plan.gates) == 6


def test_a_tail_that_feeds_something_else_too_keeps_its_join_out_of_a_chord() -> None:
    assert canvases(workflow(4, [(0, 2), (1, 2), (1, 3)])) == ["s0", "s1", "s2", "s3"]


def test_branches_with_different_beginnings_are_no_chord() -> None:
    edges = [(0, 1), (0, 2), (1, 4), (2, 4), (3, 4)]
    assert canvases(workflow(5, edges)) == ["s0", "s3", "group([s1, s2])", "s4"]


@pytest.mark.parametrize("place", [0, 1, 3])
def test_a_map_is_no_part_of_any_canvas(place: int) -> None:
    plan = compile_workflow(workflow(4, [(0, 1), (0, 2), (1, 3), (2, 3)], maps=[place]))
    alone = plan.fragments[plan.steps[plan.ordinal_of(f"s{place}")].fragment]
    assert canvas_text(plan, alone) == f"s{place}"


def test_a_chain_stops_before_a_step_with_a_rule_and_starts_after_it() -> None:
    assert canvases(workflow(5, [(n, n + 1) for n in range(4)], rules=[2])) == ["chain(s0, s1)", "s2", "chain(s3, s4)"]


def test_an_edge_stays_when_the_way_around_it_leads_over_a_rule() -> None:
    plan = compile_workflow(workflow(3, [(0, 1), (1, 2), (0, 2)], rules=[1]))
    assert (0, 2) in plan.edges


def test_expressions_may_read_steps_that_are_not_next_to_theirs() -> None:
    steps = (
        StepSpec("a", "x"),
        StepSpec("b", "x", needs=("a",)),
        StepSpec(
            "c",
            "x",
            needs=("a", "b"),
            with_={"deep": [{"one": "${{ steps.a.output.value }}"}]},
            for_each=ForEach("${{ steps.b.output.ids }}"),
        ),
    )
    plan = compile_workflow(Workflow("w", steps))
    assert plan.steps[2].reads == ("a", "b")
    assert plan.edges == ((0, 1), (1, 2))


def test_the_critical_path_follows_the_durations_when_they_are_known() -> None:
    plan = compile_workflow(workflow(4, [(0, 1), (1, 3), (2, 3)]))
    assert ids(plan, *critical_path(plan)) == ["s0", "s1", "s3"]
    assert ids(plan, *critical_path(plan, {"s2": 60})) == ["s2", "s3"]


def test_an_empty_workflow_has_an_empty_plan() -> None:
    plan = compile_workflow(Workflow("w", ()))
    assert (plan.steps, plan.fragments, plan.gates, critical_path(plan)) == ((), (), (), ())


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ((StepSpec("a", "x", needs=("b",)), StepSpec("b", "x", needs=("a",))), "circle"),
        ((StepSpec("a", "x", needs=("a",)),), "circle"),
        ((StepSpec("a", "x", needs=("zoo",)),), "'zoo'"),
        ((StepSpec("a", "x"), StepSpec("a", "x")), "one id"),
    ],
)
def test_what_is_no_acyclic_graph_is_refused_with_a_hint(steps: tuple[StepSpec, ...], words: str) -> None:
    with pytest.raises(GraphError, match=words) as caught:
        compile_workflow(Workflow("w", steps))
    assert caught.value.hint
