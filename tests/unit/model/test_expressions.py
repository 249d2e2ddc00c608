from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows.model.errors import ExpressionError
from workflows.model.expressions import evaluate, parse, references, render

SCOPE: dict[str, Any] = {
    "params": {"query": "rag", "limit": 3, "hook": None, "on": True, "tags": ["a", "b"]},
    "steps": {
        "fetch": {"output": {"paper_ids": ["p1", "p2"], "by": {"p1": 7}}, "status": "SUCCESS"},
        "chunk-it": {"outputs": [{"ids": [1, 2]}, {"ids": []}, {"ids": [3]}], "failures": [], "status": "SUCCESS"},
    },
    "item": {"id": "x"},
    "run": {"id": "run-1"},
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("params.query", "rag"),
        ("steps.fetch.output.paper_ids", ["p1", "p2"]),
        ("steps.fetch.output.paper_ids[1]", "p2"),
        ("steps.fetch.output.paper_ids[-1]", "p2"),
        ("steps.fetch.output['paper_ids'][0]", "p1"),
        ("steps.fetch.output.by[first(steps.fetch.output.paper_ids)]", 7),
        ("steps.chunk-it.outputs.ids", [[1, 2], [], [3]]),
        ('steps["chunk-it"].outputs[0].ids', [1, 2]),
        ("flatten(steps.chunk-it.outputs.ids)", [1, 2, 3]),
        ("flatten([[[1]], [[2]]])", [[1], [2]]),
        ("sum(flatten(steps.chunk-it.outputs.ids))", 6),
        ("size(steps.chunk-it.failures)", 0),
        ("size('four')", 4),
        ("first(params.tags)", "a"),
        ("last(params.tags)", "b"),
        ("range(3)", [0, 1, 2]),
        ("range(1, 6, 2)", [1, 3, 5]),
        ("range(3, 0)", []),
        ("default(params.hook, 'none')", "none"),
        ("default(params.nowhere, 1)", 1),
        ("default(first([]), 2)", 2),
        ("default(steps.fetch.status, 'X')", "SUCCESS"),
        ("run.id", "run-1"),
        ("item.id", "x"),
        ("null", None),
        ("[1, -2.5, 'x', true]", [1, -2.5, "x", True]),
        (r"'it\'s \u00e9'", "it's é"),
        ("1 == 1.0", True),
        ("true == 1", False),
        ("[1, [2]] == [1, [2]]", True),
        ("params.hook != null", False),
        ("params.limit >= 3 and params.query == 'rag'", True),
        ("not params.on or params.limit < 2", False),
        ("not (params.on and false)", True),
        ("'a' < 'b'", True),
        ("true or params.nowhere", True),
        ("false and params.nowhere", False),
    ],
)
def test_an_expression_gives(text: str, value: Any) -> None:
    result = evaluate(parse(text), SCOPE)
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(
    ("text", "message", "offset"),
    [
        ("params.nowhere", "there is no 'nowhere'", 7),
        ("params.query.upper", "the text 'rag' has no field 'upper'", 13),
        ("params.tags[2]", "there is no [2]", 11),
        ("params.tags['x']", "the text 'a' has no field 'x'", 12),
        ("params.tags[true]", "an index of a list is a whole number, not true", 11),
        ("batch", "there is no 'batch' here", 0),
        ("params.limit and true", "'and' takes true or false, not the number 3", 7),
        ("params.limit < 'x'", "compares two numbers or two texts", 13),
        ("flatten(params.tags)", "element 0 is the text 'a'", 0),
        ("sum(params.tags)", "element 0 is the text 'a'", 0),
        ("first([])", "the list has 0 elements", 0),
        ("range(1, 2, 0)", "step of range() is 0", 0),
        ("range(0, 100000000000000000000000)", "more than", 0),
        ("size(1)", "takes a list, a mapping or a text", 0),
    ],
)
def test_an_expression_that_fails_says_what_and_where(text: str, message: str, offset: int) -> None:
    with pytest.raises(ExpressionError) as failed:
        evaluate(parse(text), SCOPE)
    assert message in str(failed.value)
    assert failed.value.offset == offset


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        ("", 0),
        ("params", 0),
        ("params.", 7),
        ("params[0]", 6),
        ("steps.fetch", 6),
        ("steps.fetch.result", 12),
        ("run.name", 4),
        ("params.a == params.b == params.c", 21),
        ("a.b", 0),
        ("params.a b", 9),
        ("(params.a", 9),
        ("size(params.a", 13),
        ("params.a && params.b", 9),
        ("params.a | size", 9),
        ("'open", 0),
        ("'\\x'", 1),
        ("1.2.3", 0),
        ("upper(params.a)", 0),
        ("default(params.a)", 0),
        ("9" * 50, 0),
        ("lambda: 1", 6),
        ("item.__class__.", 15),
    ],
)
def test_what_is_no_expression_is_refused_at_its_place(text: str, offset: int) -> None:
    with pytest.raises(ExpressionError) as refused:
        parse(text)
    assert refused.value.offset == offset


@pytest.mark.parametrize("text", ["(" * 5000, "not " * 5000, "[" * 3000 + "]" * 900, "item" + ".a" * 1500, "x" * 5000])
def test_length_and_depth_are_bounded(text: str) -> None:
    with pytest.raises(ExpressionError):
        parse(text)


def test_attributes_of_python_objects_cannot_be_reached() -> None:
    for path in ("item.__class__", "item.keys", "params.tags.append", "params.query.__len__"):
        with pytest.raises(ExpressionError):
            evaluate(parse(path), SCOPE)


def test_a_string_that_is_one_expression_keeps_its_type_and_mixed_text_is_text() -> None:
    value = {
        "list": "${{ params.tags }}",
        "text": "${{params.query}}-${{ params.limit }} ${{ params.on }} ${{ params.tags }}",
        "deep": [{"key ${{ not evaluated }}": ["${{ params.limit }}", 5, None]}],
        "braces": "${{ '${{ }}' }}",
    }
    assert render(value, SCOPE) == {
        "list": ["a", "b"],
        "text": 'rag-3 true ["a", "b"]',
        "deep": [{"key ${{ not evaluated }}": [3, 5, None]}],
        "braces": "${{ }}",
    }


def test_what_a_param_holds_is_never_evaluated() -> None:
    assert render("${{ params.x }}!", {"params": {"x": "${{ run.id }}"}}) == "${{ run.id }}!"


def test_null_in_text_is_refused() -> None:
    with pytest.raises(ExpressionError, match="null cannot be put into text"):
        render("x ${{ params.hook }}", SCOPE)


def test_references_tell_everything_that_is_read() -> None:
    found = references(
        {
            "a": ["${{ params.query }} ${{ steps.b.output.x[params.i] }}"],
            "c": "${{ default(steps.b.status, flatten(steps.m.outputs.ids)) }}",
            "d": "${{ size(steps.m.failures) == size(item) or secret.KEY == run.id }}",
        }
    )
    assert found.params == {"query", "i"}
    assert found.steps == {"b": {"output", "status"}, "m": {"outputs", "failures"}}
    assert (found.item, found.batch, found.run) == (True, False, True)
    assert found.secrets == {"KEY"}


_SNIPPETS = st.sampled_from(
    [
        *"()[].,'\"<>=! -",
        "params.a",
        "steps.s.output",
        "item",
        "size",
        "flatten",
        "range",
        "1",
        "not ",
        " and ",
        "==",
        "\\",
    ]
)


@given(st.lists(_SNIPPETS | st.text(max_size=2), max_size=40).map("".join))
def test_any_text_parses_or_is_refused_and_what_parses_evaluates_or_fails_cleanly(text: str) -> None:
    scope = {"params": {"a": [1, {"b": "c"}]}, "steps": {"s": {"output": {}}}, "item": 4}
    failure = None
    try:
        evaluate(parse(text), scope)
    except ExpressionError as error:
        failure = error
    assert failure is None or 0 <= failure.offset <= len(text)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(_JSON)
def test_a_value_passes_through_an_expression_unchanged(value: Any) -> None:
    assert render("${{ item }}", {"item": value}) == value
    assert evaluate(parse("item == params.same"), {"item": value, "params": {"same": value}}) is True
