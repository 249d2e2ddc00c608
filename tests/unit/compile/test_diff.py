"""What two versions of a workflow have that the other has not."""

from __future__ import annotations

from hypothesis import given

from tests.unit.compile.graphs import workflows
from workflows.compile import compile_workflow
from workflows.compile.diff import Change, diff, diff_text
from workflows.model.parser import parse_workflow
from workflows.model.spec import Workflow

OLD = """
id: review
params: {n: {type: integer, default: 1}, gone: {type: string}}
rate_limits: {site: {rate: 1/s}}
timeout: 1h
steps:
  a: {uses: x, with: {n: "${{ params.n }}", same: 1, word: "${{ params.gone }}"}, rate_limit: site}
  b: {uses: x, needs: a, retry: {max_attempts: 2}}
  old: {uses: x, needs: b}
outputs: {n: 1}
"""
NEW = """
id: review
params: {n: {type: integer, default: 2}}
rate_limits: {site: {rate: 1/2s}}
steps:
  a: {uses: y, with: {n: "${{ default(params.n, 3) }}", same: 1}, rate_limit: site}
  b: {uses: x, retry: {max_attempts: 3}, cache: {ttl: 1h}}
  new: {uses: x, needs: [a, b]}
outputs: {n: 1}
"""


@given(workflow=workflows())
def test_a_workflow_is_no_other_than_itself(workflow: Workflow) -> None:
    plan = compile_workflow(workflow)
    found = diff(plan, compile_workflow(workflow))
    assert found.is_empty
    assert diff_text(found) == "nothing is other: runs of both do the same"


def test_each_key_that_is_other_is_told_with_both_values() -> None:
    found = diff(compile_workflow(parse_workflow(OLD)), compile_workflow(parse_workflow(NEW)))
    assert (found.added, found.removed) == (("new",), ("old",))
    assert found.new_edges == (("a", "new"), ("b", "new"))
    assert found.old_edges == (("a", "b"), ("b", "old"))
    changes = {change.where: (change.old, change.new) for change in found.changes}
    assert changes == {
        "params.n": ({"type": "integer", "default": 1}, {"type": "integer", "default": 2}),
        "params.gone": ({"type": "string"}, None),
        "rate_limits.site": ({"interval_seconds": 1.0, "burst": 1}, {"interval_seconds": 2.0, "burst": 1}),
        "timeout": (3600.0, None),
        "steps.a.uses": ("x", "y"),
        "steps.a.with.n": ("${{ params.n }}", "${{ default(params.n, 3) }}"),
        "steps.a.with.word": ("${{ params.gone }}", None),
        "steps.b.retry.max_attempts": (2, 3),
        "steps.b.cache": (None, 3600.0),
    }
    lines = diff_text(found).splitlines()
    assert {"+ step new", "- step old", "~ steps.b.retry.max_attempts: 2 -> 3", "+ a -> new", "- a -> b"} <= set(lines)
    assert "~ steps.a.with.n: ${{ params.n }} -> ${{ default(params.n, 3) }}" in lines


def test_long_values_are_cut_in_the_text_alone() -> None:
    long = NEW.replace("same: 1", f'same: "{"x" * 200}"')
    found = diff(compile_workflow(parse_workflow(NEW)), compile_workflow(parse_workflow(long)))
    assert found.changes == (Change("steps.a.with.same", 1, "x" * 200),)
    assert len(diff_text(found).splitlines()[0]) < 120
