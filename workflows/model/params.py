"""Params: which JSON-Schema words a definition may declare them with, and how the values of a run meet them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from workflows.model.diagnostics import did_you_mean, listed
from workflows.model.errors import ParamError
from workflows.model.json_types import Path, PatternError, Problem, Schema, matcher, problems
from workflows.model.spec import Json, ParamSpec

TYPES = ("string", "integer", "number", "boolean", "array", "object")

COMMON_WORDS = frozenset({"type", "title", "description", "default", "enum", "examples"})
WORDS_OF_TYPE: Mapping[str, frozenset[str]] = {
    "string": frozenset({"minLength", "maxLength", "pattern"}),
    "integer": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}),
    "number": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}),
    "boolean": frozenset(),
    "array": frozenset({"items", "minItems", "maxItems"}),
    "object": frozenset({"properties", "required", "additionalProperties"}),
}
_ALL_WORDS = COMMON_WORDS.union(*WORDS_OF_TYPE.values())
_COUNTS = frozenset({"minLength", "maxLength", "minItems", "maxItems"})
_NUMBERS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})
_ORDERED = (("minLength", "maxLength"), ("minItems", "maxItems"), ("minimum", "maximum"))
_MAX_NESTING = 8
_MAX_VALUE_NESTING = 40

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_BOOLEANS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def coerce_params(
    specs: tuple[ParamSpec, ...], given: Mapping[str, Any], *, from_text: bool = False
) -> dict[str, Json]:
    """The params of a run: what was given, checked against what is declared, and the defaults of the rest.

    With `from_text` the values are the texts of a command line: `5`, `true`, `null`, JSON for lists and mappings, or
    `a,b` for a list.

    Raises:
        ParamError: a param is not declared, lacks a value, or does not fit; the message lists all problems.
    """
    declared = {spec.name for spec in specs}
    found = [(name, _undeclared(name, specs)) for name in given if name not in declared]
    values: dict[str, Json] = {}
    for spec in specs:
        if spec.name not in given:
            if spec.required:
                found.append((spec.name, f"param '{spec.name}' is required{_described(spec)}"))
            values[spec.name] = spec.default
            continue
        value = given[spec.name]
        if from_text and isinstance(value, str):
            value = _from_text(value, spec.schema, nullable=is_nullable(spec))
        found.extend((spec.name, _message(spec.name, problem)) for problem in value_problems(spec, value))
        values[spec.name] = _normal(value, spec.schema)
    if found:
        raise ParamError("\n".join(text for _, text in found), problems=found)
    return values


def is_nullable(spec: ParamSpec) -> bool:
    """Whether null is a value of this param: when it is its default."""
    return not spec.required and spec.default is None


def schema_of(spec: ParamSpec) -> Schema:
    """The type of a param's value."""
    return Schema.of({"anyOf": [spec.schema, {"type": "null"}]} if is_nullable(spec) else spec.schema)


def value_problems(spec: ParamSpec, value: Json) -> list[Problem]:
    """Why a value does not fit a param; nothing when it does."""
    if value is None and is_nullable(spec):
        return []
    return [*_not_json(value, ()), *problems(value, Schema.of(spec.schema))]


def schema_problems(words: Mapping[str, Json], path: Path = ()) -> Iterator[Problem]:
    """What is wrong with the JSON-Schema words of a param, those of its elements and fields included."""
    if len(path) > _MAX_NESTING:
        yield Problem(path, f"the schema is nested deeper than {_MAX_NESTING} levels")
        return
    kind = words.get("type")
    if kind is None:
        yield Problem(path, "'type' is missing", f"it is one of {' '.join(TYPES)}", "missing")
        return
    if kind not in TYPES:
        near = did_you_mean(str(kind), TYPES) or f"it is one of {' '.join(TYPES)}"
        hint = "to allow null write default: null" if kind == "null" or isinstance(kind, list) else near
        yield Problem((*path, "type"), f"{json.dumps(kind)} is no type", hint)
        return
    for word, value in words.items():
        if word not in _ALL_WORDS:
            near = (
                did_you_mean(word, _ALL_WORDS) or f"for {kind} there are {listed(COMMON_WORDS | WORDS_OF_TYPE[kind])}"
            )
            yield Problem((*path, word), f"unknown word '{word}'", near, "unknown")
        elif word not in COMMON_WORDS | WORDS_OF_TYPE[kind]:
            yield Problem((*path, word), f"'{word}' means nothing for type {kind}", kind="unknown")
        else:
            yield from _word_problems(word, value, words, path)
    for least, most in _ORDERED:
        if _is_number(words.get(least)) and _is_number(words.get(most)) and words[least] > words[most]:
            yield Problem((*path, least), f"{least} {words[least]} is more than {most} {words[most]}")


def _word_problems(word: str, value: Json, words: Mapping[str, Json], path: Path) -> Iterator[Problem]:
    here = (*path, word)
    if word in {"title", "description"} and not isinstance(value, str):
        yield Problem(here, f"'{word}' is a text")
    elif word in _COUNTS and not (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        yield Problem(here, f"'{word}' is a whole number, 0 or more")
    elif word in _NUMBERS and not _is_number(value):
        yield Problem(here, f"'{word}' is a number")
    elif word in {"enum", "examples"}:
        yield from _choice_problems(word, value, words, here)
    elif word == "pattern":
        yield from _pattern_problems(value, here)
    elif word == "items" or (word == "additionalProperties" and not isinstance(value, bool)):
        yield from _nested_problems(value, here)
    elif word == "properties":
        if not isinstance(value, dict):
            yield Problem(here, "'properties' is a mapping from names to schemas")
        else:
            for name, inner in value.items():
                yield from _nested_problems(inner, (*here, name))
    elif word == "required" and not (isinstance(value, list) and all(isinstance(name, str) for name in value)):
        yield Problem(here, "'required' is a list of names")


def _choice_problems(word: str, value: Json, words: Mapping[str, Json], here: Path) -> Iterator[Problem]:
    if not isinstance(value, list) or not value:
        yield Problem(here, f"'{word}' is a list of at least one value")
        return
    for index, choice in enumerate(value):
        for problem in problems(choice, Schema.of({"type": words["type"]})):
            yield Problem((*here, index, *problem.path), problem.message, problem.hint)


def _pattern_problems(value: Json, here: Path) -> Iterator[Problem]:
    if not isinstance(value, str):
        yield Problem(here, "'pattern' is a text")
        return
    try:
        matcher(value)
    except PatternError as error:
        yield Problem(here, str(error), "write it as RE2 reads it: no look-around, no back-references")


def _nested_problems(value: Json, here: Path) -> Iterator[Problem]:
    if isinstance(value, dict):
        yield from schema_problems(value, here)
    else:
        yield Problem(here, "a schema is a mapping, as in {type: string}")


def _from_text(text: str, schema: Mapping[str, Json], *, nullable: bool) -> Json:
    """The value that a text of the command line means; itself when it means none, which the check then refuses."""
    kind = schema.get("type")
    stripped = text.strip()
    if nullable and stripped == "null":
        return None
    if kind == "integer" and _INTEGER.fullmatch(stripped):
        return int(stripped)
    if kind in {"integer", "number"} and len(stripped) <= 40 and _NUMBER.fullmatch(stripped):
        return float(stripped)
    if kind == "boolean":
        return _BOOLEANS.get(stripped.lower(), text)
    if kind == "object" or (kind == "array" and stripped.startswith("[")):
        try:
            return json.loads(stripped)
        except (ValueError, RecursionError):
            return text
    if kind == "array":
        items = schema.get("items")
        inner = items if isinstance(items, dict) else {"type": "string"}
        return [_from_text(part.strip(), inner, nullable=False) for part in stripped.split(",")] if stripped else []
    return text


def _normal(value: Json, schema: Mapping[str, Json]) -> Json:
    """A whole number written as 5.0 becomes 5 where the type is integer."""
    if schema.get("type") == "integer" and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _not_json(value: Json, path: Path) -> Iterator[Problem]:
    if len(path) > _MAX_VALUE_NESTING:
        yield Problem((), f"the value is nested deeper than {_MAX_VALUE_NESTING} levels")
        return
    match value:
        case None | bool() | int() | str():
            return
        case float():
            if not math.isfinite(value):
                yield Problem(path, f"{value} is no number of JSON")
        case Mapping():
            for key, inner in value.items():
                if isinstance(key, str):
                    yield from _not_json(inner, (*path, key))
                else:
                    yield Problem(path, f"the key {key!r} is no text")
        case list() | tuple():
            for index, inner in enumerate(value):
                yield from _not_json(inner, (*path, index))
        case _:
            yield Problem(path, f"a {type(value).__name__} is no JSON value")


def _undeclared(name: str, specs: tuple[ParamSpec, ...]) -> str:
    names = [spec.name for spec in specs]
    hint = did_you_mean(name, names) or (f"there are {listed(names)}" if names else "this workflow takes no params")
    return f"param '{name}' is not declared; {hint}"


def _described(spec: ParamSpec) -> str:
    description = spec.schema.get("description")
    return f" ({spec.schema.get('type')}{': ' + description if isinstance(description, str) else ''})"


def _message(name: str, problem: Problem) -> str:
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem.path)
    hint = f"; {problem.hint}" if problem.hint else ""
    return f"param '{name}'{place}: {problem.message}{hint}"


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
