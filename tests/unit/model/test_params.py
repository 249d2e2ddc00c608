from __future__ import annotations

from time import process_time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows.model.errors import ParamError
from workflows.model.params import coerce_params
from workflows.model.spec import ParamSpec

QUERY = ParamSpec("query", {"type": "string", "minLength": 3}, required=True)
LIMIT = ParamSpec("limit", {"type": "integer", "minimum": 1, "maximum": 5}, required=False, default=2)
HOOK = ParamSpec("hook", {"type": "string"}, required=False, default=None)
SPECS = (QUERY, LIMIT, HOOK)


def one(kind: str, **words: Any) -> tuple[ParamSpec, ...]:
    return (ParamSpec("p", {"type": kind, **words}, required=True),)


def test_defaults_fill_in_what_is_not_given() -> None:
    assert coerce_params(SPECS, {"query": "rag"}) == {"query": "rag", "limit": 2, "hook": None}


def test_null_is_a_value_only_where_it_is_the_default() -> None:
    assert coerce_params(SPECS, {"query": "rag", "hook": None})["hook"] is None
    with pytest.raises(ParamError, match="param 'limit': a whole number is expected, not null"):
        coerce_params(SPECS, {"query": "rag", "limit": None})


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ParamError) as refused:
        coerce_params(SPECS, {"llimit": 3, "limit": 9, "hook": 5})
    assert str(refused.value).splitlines() == [
        "param 'llimit' is not declared; did you mean 'limit'?",
        "param 'query' is required (string)",
        "param 'limit': 9 must be at most 5",
        "param 'hook': a text is expected, not the number 5; put it in quotes",
    ]


@pytest.mark.parametrize(
    ("specs", "value"),
    [
        (one("string", enum=["a", "b"]), "c"),
        (one("string", maxLength=2), "abc"),
        (one("string", pattern="^[a-z]+$"), "A"),
        (one("integer"), True),
        (one("integer"), 1.5),
        (one("integer"), "1"),
        (one("number"), float("nan")),
        (one("number"), float("inf")),
        (one("number", exclusiveMinimum=0), 0),
        (one("boolean"), "true"),
        (one("boolean"), 1),
        (one("array", items={"type": "string"}), ["a", 1]),
        (one("array", maxItems=1), [1, 2]),
        (one("object", properties={"a": {"type": "string"}}, required=["a"]), {}),
        (one("object", additionalProperties=False, properties={}), {"x": 1}),
        (one("object"), {1: 2}),
        (one("array"), [object()]),
        (
            one("array"),
            [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]],
        ),
    ],
)
def test_what_does_not_fit_is_refused(specs: tuple[ParamSpec, ...], value: Any) -> None:
    with pytest.raises(ParamError):
        coerce_params(specs, {"p": value})


@pytest.mark.parametrize(
    ("specs", "text", "value"),
    [
        (one("string"), "5", "5"),
        (one("string"), " padded ", " padded "),
        (one("integer"), "-7", -7),
        (one("integer"), "3.0", 3),
        (one("number"), "2.5e3", 2500.0),
        (one("boolean"), "yes", True),
        (one("boolean"), "False", False),
        (one("array"), "a, b", ["a", "b"]),
        (one("array"), "", []),
        (one("array", items={"type": "integer"}), "1,2", [1, 2]),
        (one("array"), '["x", 1]', ["x", 1]),
        (one("object"), '{"a": [1]}', {"a": [1]}),
        ((ParamSpec("p", {"type": "string"}, required=False, default=None),), "null", None),
    ],
)
def test_text_of_the_command_line_becomes_a_value(specs: tuple[ParamSpec, ...], text: str, value: Any) -> None:
    result = coerce_params(specs, {"p": text}, from_text=True)["p"]
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(
    ("kind", "text"), [("integer", "many"), ("boolean", "maybe"), ("object", "{"), ("number", "1e")]
)
def test_text_that_means_no_such_value_is_refused(kind: str, text: str) -> None:
    with pytest.raises(ParamError):
        coerce_params(one(kind), {"p": text}, from_text=True)


def test_a_whole_number_written_with_a_point_is_an_integer() -> None:
    value = coerce_params(one("integer"), {"p": 5.0})["p"]
    assert value == 5
    assert isinstance(value, int)


def test_no_pattern_can_make_matching_slow() -> None:
    specs = one("string", pattern="^(a+)+$|(.*a){20}b")
    begin = process_time()
    with pytest.raises(ParamError):
        coerce_params(specs, {"p": "a" * 20_000 + "!"})
    assert process_time() - begin < 1


_KINDS = st.sampled_from(["string", "integer", "number", "boolean", "array", "object"])


@given(_KINDS, st.text(max_size=30) | st.sampled_from(["[" * 5000, "1e999", "NaN", '{"a": NaN}', "9" * 9000]))
def test_any_text_is_coerced_or_refused(kind: str, text: str) -> None:
    failure = None
    try:
        coerce_params(one(kind), {"p": text}, from_text=True)
    except ParamError as error:
        failure = error
    assert failure is None or str(failure).startswith("param 'p'")
