"""Workflows made of nothing but their graph, by hand and by chance."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

import networkx as nx
from hypothesis import strategies as st

from workflows.compile.plan import Plan
from workflows.model.spec import ForEach, StepSpec, TriggerRule, Workflow

Edge = tuple[int, int]


def workflow(size: int, edges: Iterable[Edge], maps: Iterable[int] = (), rules: Iterable[int] = ()) -> Workflow:
    """Steps `s0`, `s1` ... with these edges; `maps` have a `for_each`, `rules` a `run_if` of their own."""
    needs: list[list[str]] = [[] for _ in range(size)]
    for source, target in edges:
        needs[target].append(f"s{source}")
    return Workflow(
        "w",
        tuple(
            StepSpec(
                f"s{number}",
                "x",
                needs=tuple(sorted(needs[number])),
                for_each=ForEach([1, 2]) if number in set(maps) else None,
                run_if=TriggerRule.ALL_DONE if number in set(rules) else TriggerRule.ALL_SUCCESS,
            )
            for number in range(size)
        ),
    )


def ids(plan: Plan, *ordinals: int) -> list[str]:
    """The ids of these steps."""
    return [plan.steps[ordinal].id for ordinal in ordinals]


def closure_of(workflow: Workflow) -> set[tuple[str, str]]:
    """Every pair of steps that the definition orders, by an independent implementation."""
    graph = nx.DiGraph((needed, step.id) for step in workflow.steps for needed in step.needs)
    return set(nx.transitive_closure_dag(graph).edges)


def layers(depth: int, width: int, degree: int, random: Random) -> list[Edge]:
    """`depth` layers of `width` steps; each step needs `degree` of the layer before."""
    return [
        ((layer - 1) * width + source, layer * width + target)
        for layer in range(1, depth)
        for target in range(width)
        for source in random.sample(range(width), degree)
    ]


@st.composite
def _sparse(draw: st.DrawFn) -> tuple[int, list[Edge]]:
    size = draw(st.integers(1, 40))
    sources = st.lists(st.integers(0, 38), max_size=3)
    return size, [(source % target, target) for target in range(1, size) for source in draw(sources)]


@st.composite
def _layered(draw: st.DrawFn) -> tuple[int, list[Edge]]:
    depth, width = draw(st.integers(1, 5)), draw(st.integers(1, 7))
    degree = draw(st.integers(1, width))
    return depth * width, layers(depth, width, degree, draw(st.randoms(use_true_random=False)))


@st.composite
def _series_parallel(draw: st.DrawFn) -> tuple[int, list[Edge]]:
    """Composed by "then" and "beside" from single steps, so chains, chords and groups are frequent."""
    random = draw(st.randoms(use_true_random=False))
    blocks: list[tuple[list[int], list[int]]] = [([n], [n]) for n in range(draw(st.integers(1, 40)))]
    size, edges = len(blocks), []
    while len(blocks) > 1:
        at = random.randrange(len(blocks) - 1)
        (heads, tails), (next_heads, next_tails) = blocks[at], blocks[at + 1]
        if random.random() < 0.6:
            edges += [(source, target) for source in tails for target in next_heads]
            blocks[at : at + 2] = [(heads, next_tails)]
        else:
            blocks[at : at + 2] = [(heads + next_heads, tails + next_tails)]
    return size, edges


shapes = st.one_of(_sparse(), _layered(), _series_parallel())
"""Number of steps, and edges from smaller to larger numbers."""


@st.composite
def workflows(draw: st.DrawFn) -> Workflow:
    """Random workflows of up to 40 steps, some of them maps or with rules; ids do not follow the order of the graph."""
    size, edges = draw(shapes)
    few = st.sets(st.integers(0, size - 1), max_size=3)
    plain = draw(st.booleans())
    made = workflow(size, edges, () if plain else draw(few), () if plain else draw(few))
    names = [f"s{number}" for number in range(size)]
    renamed = dict(zip(names, draw(st.permutations(names)), strict=True))
    return Workflow(
        made.id,
        tuple(
            StepSpec(
                renamed[step.id],
                step.uses,
                needs=tuple(sorted(renamed[needed] for needed in step.needs)),
                for_each=step.for_each,
                run_if=step.run_if,
            )
            for step in made.steps
        ),
    )
