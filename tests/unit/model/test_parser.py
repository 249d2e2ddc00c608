from __future__ import annotations

from dataclasses import replace
from time import process_time

import pytest
import yaml

from tests.unit.model.catalogue import LITERATURE_REVIEW, STEPS
from workflows.model import yaml_nodes
from workflows.model.diagnostics import MAX_DIAGNOSTICS
from workflows.model.errors import DefinitionError
from workflows.model.parser import parse_with_warnings, parse_workflow
from workflows.model.policies import RetryPolicy, Tolerance
from workflows.model.spec import ForEach, TriggerRule, Workflow

STEP = "{uses: fetch, with: {source: local}}"


def errors(text: str | bytes) -> list[str]:
    with pytest.raises(DefinitionError) as refused:
        parse_workflow(text, steps=STEPS)
    return [f"{d.line}:{d.column} {d.code}" for d in refused.value.diagnostics]


def only_step(body: str, before: str = "") -> Workflow:
    return parse_workflow(
        f"id: w\n{before}steps:\n  a:\n    uses: fetch\n    with: {{source: local}}\n{body}", steps=STEPS
    )


def test_a_queue_may_have_48_characters_because_messages_carry_its_name() -> None:
    step = "    queue: {}\n"
    assert only_step(step.format("q" * 48)).steps[0].queue == "q" * 48
    with pytest.raises(DefinitionError) as caught:
        only_step(step.format("q" * 49))
    assert "at most 48 characters" in str(caught.value)


def test_the_example_becomes_a_workflow() -> None:
    workflow, warnings = parse_with_warnings(LITERATURE_REVIEW, steps=STEPS)
    assert warnings == ()
    assert [step.id for step in workflow.steps] == ["fetch", "process_papers", "embed", "store"]
    process_papers = workflow.step("process_papers")
    assert process_papers.for_each == ForEach(
        items="${{ steps.fetch.output.paper_ids }}", key="${{ item }}", max_parallel=32, tolerate=Tolerance(percent=5.0)
    )
    assert process_papers.timeout_seconds == 600
    assert workflow.step("embed").for_each == ForEach(
        items="${{ flatten(steps.process_papers.outputs.chunk_ids) }}", batch=64, max_parallel=1
    )
    assert workflow.step("store").run_if is TriggerRule.NONE_FAILED
    assert workflow.step("store").queue == "research"
    assert workflow.params[0].schema == {"type": "string", "minLength": 3}
    assert (workflow.params[2].required, workflow.params[2].default) == (False, None)
    assert workflow.outputs["stored"] == "${{ steps.store.output.count }}"


def test_expressions_imply_needs() -> None:
    workflow = parse_workflow(LITERATURE_REVIEW)
    assert workflow.step("embed").needs == ("process_papers",)


def test_a_step_without_retry_is_tried_once_and_a_retry_has_documented_defaults() -> None:
    assert only_step("").steps[0].retry == RetryPolicy(max_attempts=1)
    assert only_step("    retry: {}\n").steps[0].retry == RetryPolicy(4, 60.0, 2.0, 900.0, "full")


def test_retry_merges_with_the_defaults_key_by_key() -> None:
    before = "defaults: {retry: {max_attempts: 6, delay: 1s, only_for: TransientError}, timeout: 5m, queue: slow}\n"
    step = only_step("    retry: {max_attempts: 2, jitter: none}\n", before).steps[0]
    assert step.retry == RetryPolicy(2, 1.0, 2.0, 900.0, "none", only_for=("TransientError",))
    assert (step.timeout_seconds, step.queue) == (300.0, "slow")


def test_order_and_layout_of_the_file_do_not_change_the_fingerprint() -> None:
    one = parse_workflow(f"id: w\nsteps:\n  a: {STEP}\n  b: {STEP}\n")
    two = parse_workflow(f"steps: {{b: {STEP},\n  a: {STEP}}}\nid: 'w'\n")
    assert one.fingerprint() == two.fingerprint()
    assert one.fingerprint() != replace(one, id="v").fingerprint()


def test_anchors_and_merges_are_read() -> None:
    workflow = parse_workflow(
        "id: w\nsteps:\n  a: &base {uses: fetch, with: {source: local}, queue: x}\n  b: {<<: *base, queue: y}\n",
        steps=STEPS,
    )
    assert workflow.step("b") == replace(workflow.step("a"), id="b", queue="y")


def test_bare_words_mean_what_yaml_1_2_says_and_old_readings_are_warned_of() -> None:
    text = (
        "id: w\nparams:\n  answer: {type: string, default: no}\n  on_time: {type: string, default: 1:30}\n"
        f"steps: {{a: {STEP}}}\n"
        "outputs: {x: '${{ params.answer }} ${{ params.on_time }}', day: 2024-01-01, plain: n}\n"
    )
    workflow, warnings = parse_with_warnings(text)
    assert [spec.default for spec in workflow.params] == ["no", "1:30"]
    assert workflow.outputs["day"] == "2024-01-01"
    assert [(w.line, w.code, w.severity) for w in warnings] == [(3, "CEL007", "warning"), (4, "CEL007", "warning")]


def test_warnings_do_not_refuse_a_definition() -> None:
    _, warnings = parse_with_warnings(
        f"id: w\nparams: {{unused: {{type: string}}}}\nsteps:\n  a: {STEP}\n  b: {{uses: nap, needs: [a, a]}}\n"
    )
    assert [w.code for w in warnings] == ["CEL023", "CEL042"]


def test_without_a_registry_uses_and_with_are_taken_as_they_are() -> None:
    assert parse_workflow("id: w\nsteps: {a: {uses: any.thing, with: {x: 1}}}").steps[0].with_ == {"x": 1}


@pytest.mark.parametrize(
    ("data", "place"),
    [
        (b"id: w\ndescription: \xff\n", "2:14 CEL001"),
        (b"id: w\x00\n", "1:6 CEL001"),
        ("id: w\ndescription: a\x07b\n", "2:15 CEL001"),
        ("id: \ud800\n", "1:5 CEL001"),
        ('id: w\ndescription: "a\\0"\n', "2:14 CEL001"),
        (b"\xff\xfe\x00", "1:1 CEL001"),
        ("x" * 1_000_001, "1:1 CEL003"),
        ("", "1:1 CEL016"),
    ],
)
def test_what_is_no_text_is_refused_with_its_place(data: str | bytes, place: str) -> None:
    assert errors(data) == [place]


def test_a_byte_order_mark_and_utf_16_are_read() -> None:
    text = f"id: w\ndescription: é\nsteps: {{a: {STEP}}}\n"
    assert parse_workflow(text.encode("utf-8-sig")) == parse_workflow(text.encode("utf-16")) == parse_workflow(text)


def test_columns_count_characters_not_bytes() -> None:
    assert errors(f"id: w\nsteps: {{a: {STEP}}}\noutputs: {{a: é€, b: '${{{{ params.q }}}}'}}\n") == ["3:26 CEL024"]


def test_more_than_five_thousand_steps_are_refused() -> None:
    text = "id: w\nsteps:\n" + "".join(f"  s{i}: {STEP}\n" for i in range(5001))
    assert errors(text) == ["5003:3 CEL019"]


def test_a_long_cycle_is_told_in_short() -> None:
    text = "id: w\nsteps:\n" + "".join(f"  s{i}: {{uses: nap, needs: s{(i + 1) % 500}}}\n" for i in range(500))
    with pytest.raises(DefinitionError, match=r"s0 needs s1 .* needs \.\.\. needs .* needs s499 needs s0"):
        parse_workflow(text)


def test_of_very_many_findings_the_first_are_shown_and_the_rest_counted() -> None:
    text = "id: w\nsteps:\n" + "".join(f"  s{i}: {{uses: nap, needs: t{i}}}\n" for i in range(1000))
    with pytest.raises(DefinitionError) as refused:
        parse_workflow(text)
    shown = refused.value.diagnostics
    assert len(shown) == MAX_DIAGNOSTICS + 1
    assert "at least 800 further findings" in shown[-1].message


def test_two_thousand_steps_are_read_well_within_a_second() -> None:
    text = "id: w\nparams: {q: {type: string}}\nsteps:\n" + "".join(
        f"  s{i}:\n    uses: fetch\n    needs: [{f's{i - 1}' if i else ''}]\n"
        f"    with: {{source: arxiv, query: '${{{{ params.q }}}}', limit: {i + 1}}}\n    retry: {{delay: 3s}}\n"
        for i in range(2000)
    )
    times = []
    for _ in range(3):
        begin = process_time()
        assert len(parse_workflow(text, steps=STEPS).steps) == 2000
        times.append(process_time() - begin)
    assert min(times) < 1


@pytest.mark.parametrize(
    "text",
    [
        "[" * 900_000,
        "{a: " * 200_000,
        "- " * 400_000,
        "? " * 400_000,
        '"' * 900_001,
        "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
        "id: w\nsteps:\n" + "".join(f"  step{i}: {{uses: nap, needs: stop{i}}}\n" for i in range(300)),
        "{" + "a: yes, " * 10_000 + "}",
    ],
    ids=["brackets", "braces", "dashes", "questions", "quotes", "bomb", "many unknown needs", "doubled keys"],
)
def test_a_hostile_file_is_refused_quickly(text: str) -> None:
    times = []
    for _ in range(3):
        begin = process_time()
        with pytest.raises(DefinitionError):
            parse_workflow(text)
        times.append(process_time() - begin)
    assert min(times) < 0.3


def test_the_loader_in_python_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = parse_workflow(LITERATURE_REVIEW, steps=STEPS)
    monkeypatch.setattr(yaml_nodes, "_LOADER", yaml.SafeLoader)
    assert parse_workflow(LITERATURE_REVIEW, steps=STEPS) == expected
    assert errors("id: w\nsteps:\n  a: {uses: fetch, uses: nap}\n") == ["3:3 CEL052", "3:20 CEL004"]
