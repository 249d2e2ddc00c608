"""`on_failure` and `finally` in the plan: last ordinals, canvases of their own, nothing shared with the steps."""

from __future__ import annotations

from workflows.compile import compile_workflow
from workflows.compile.explain import canvas_text, critical_path
from workflows.compile.plan import Plan
from workflows.model.parser import parse_workflow
from workflows.model.spec import Block

TEXT = """
id: w
timeout: 90s
finally:
  z: {uses: x}
  y: {uses: x, needs: z}
on_failure: {n: {uses: x}, m: {uses: x}}
steps: {b: {uses: x}, a: {uses: x}}
"""


def plan() -> Plan:
    return compile_workflow(parse_workflow(TEXT))


def test_blocks_follow_each_other_in_the_order_of_the_ordinals() -> None:
    made = plan()
    assert [step.id for step in made.steps] == ["a", "b", "m", "n", "z", "y"]
    assert made.handlers == (2, 2)
    assert [list(made.ordinals(block)) for block in Block] == [[0, 1], [2, 3], [4, 5]]
    assert [made.heads(block) for block in Block] == [(0, 1), (2, 3), (4,)]
    assert made.timeout_seconds == 90.0


def test_steps_without_edges_are_grouped_with_those_of_their_block_only() -> None:
    made = plan()
    assert [canvas_text(made, fragment) for fragment in made.fragments] == [
        "group([a, b])",
        "group([m, n])",
        "chain(z, y)",
    ]


def test_a_turn_is_where_only_steps_of_later_blocks_are_open() -> None:
    made = plan()
    assert [count for count in range(7) if made.is_turn(count)] == [0, 2, 4]


def test_the_critical_path_is_that_of_the_steps() -> None:
    assert critical_path(plan(), {"z": 100.0, "b": 2.0}) == (1,)


def test_a_stored_plan_keeps_its_blocks() -> None:
    assert Plan.from_json(plan().to_json()) == plan()


def test_a_block_is_part_of_the_fingerprint() -> None:
    moved = TEXT.replace("on_failure: {n: {uses: x}, m: {uses: x}}", "on_failure: {n: {uses: x}}")
    assert parse_workflow(TEXT).fingerprint() != parse_workflow(moved).fingerprint()
