from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel, Field

from workflows.model.json_types import NoFieldError, Schema, Unknown, conflict, field, problems


class Author(BaseModel):
    name: str
    orcid: str | None = None


class Paper(BaseModel):
    title: str = Field(min_length=2)
    authors: list[Author] = []
    best: Author | None = None
    extra: dict[str, int] = {}
    refs: list[Paper] = []


PAPER = Schema.of(Paper.model_json_schema())


def found(value: Any, schema: Schema = PAPER) -> list[tuple[tuple[str | int, ...], str]]:
    return [(problem.path, problem.kind) for problem in problems(value, schema, closed=True)]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"title": "ab", "authors": [{"name": "x", "orcid": None}], "best": None, "extra": {"k": 1}}, []),
        ({}, [((), "missing")]),
        ({"title": "a"}, [(("title",), "type")]),
        (
            {"title": "ab", "authors": [{"nname": "x"}]},
            [(("authors", 0, "nname"), "unknown"), (("authors", 0), "missing")],
        ),
        ({"title": "ab", "best": {"name": 5}}, [(("best", "name"), "type")]),
        ({"title": "ab", "best": "x"}, [(("best",), "type")]),
        ({"title": "ab", "extra": {"k": "v"}}, [(("extra", "k"), "type")]),
        (
            {"title": "ab", "refs": [{"title": "cd", "refs": [{"title": "e"}]}]},
            [(("refs", 0, "refs", 0, "title"), "type")],
        ),
        ([], [((), "type")]),
    ],
)
def test_values_are_checked_against_the_schema_of_a_model(value: Any, expected: list[Any]) -> None:
    assert found(value) == expected


def test_a_value_known_by_its_type_alone_is_refused_only_when_it_can_never_fit() -> None:
    text, number, whole = (Schema.of({"type": name}) for name in ("string", "number", "integer"))
    assert found({"title": Unknown(text)}) == []
    assert found({"title": Unknown(None)}) == []
    assert found({"title": Unknown(number)}) == [(("title",), "type")]
    assert conflict(number, whole) == ""
    assert conflict(Schema.of({"type": "array", "items": {"type": "string"}}), Schema.of({"type": "array"})) == ""
    assert "in each element" in conflict(
        Schema.of({"type": "array", "items": {"type": "string"}}),
        Schema.of({"type": "array", "items": {"type": "integer"}}),
    )


def test_paths_lead_through_references_options_and_lists() -> None:
    def at(*names: str) -> Any:
        schema: Schema | None = PAPER
        for name in names:
            assert schema is not None
            schema = field(schema, name)
        return schema and schema.types()

    assert at("authors", "name") == {"array"}
    assert at("best", "orcid") == {"string", "null"}
    assert at("extra", "anything") == {"integer"}
    assert at("refs", "refs", "title") == {"array"}
    with pytest.raises(NoFieldError) as wrong:
        at("authors", "nname")
    assert wrong.value.hint == "did you mean 'name'?"
    with pytest.raises(NoFieldError, match="a text has no field 'upper'"):
        at("title", "upper")


def test_a_step_that_gives_nothing_has_no_fields() -> None:
    with pytest.raises(NoFieldError):
        field(Schema.of({"type": "null"}), "count")


def test_models_of_times_take_texts_and_seconds() -> None:
    class Pause(BaseModel):
        wait: timedelta

    schema = Schema.of(Pause.model_json_schema())
    assert problems({"wait": 30}, schema) == problems({"wait": "PT30S"}, schema) == []
    assert problems({"wait": [30]}, schema)


def test_a_schema_that_says_nothing_allows_everything() -> None:
    silent: list[dict[str, Any]] = [
        {},
        {"$ref": "#/$defs/nowhere"},
        {"anyOf": []},
        {"type": "string", "pattern": "(?<=x)"},
    ]
    for words in silent:
        assert problems("text", Schema.of(words), closed=True) == []
