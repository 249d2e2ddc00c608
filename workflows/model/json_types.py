"""JSON Schema, as far as definitions and steps use it: does a value fit, what does a path lead to, can two types meet.

Values may hold `Unknown`: something that an expression will give, of which at most the type is known. All checks are
generous where nothing can be proved, so that a finding is always a real one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import re2

from workflows.model.diagnostics import did_you_mean, listed
from workflows.model.expression_values import equal, kind_of
from workflows.model.spec import Json

MAX_PATTERN = 1_000
"""Characters of a `pattern`."""

_MAX_DEPTH = 40
_ARRAY, _OBJECT, _NULL = frozenset({"array"}), frozenset({"object"}), frozenset({"null"})
_TIMES = frozenset({"duration", "date-time", "date", "time"})
_TYPE_NAMES = {
    "null": "null", "boolean": "true or false", "integer": "a whole number", "number": "a number", "string": "a text",
    "array": "a list", "object": "a mapping",
}  # fmt: skip

Path = tuple[str | int, ...]


class PatternError(ValueError):
    """A `pattern` that is malformed or uses what a matcher of bounded time cannot do."""


class NoFieldError(LookupError):
    """A path leads to a field that its type does not have."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Schema:
    """A JSON Schema together with the document whose `$defs` its references mean."""

    words: Mapping[str, Json]
    document: Mapping[str, Json]

    @classmethod
    def of(cls, document: Mapping[str, Json]) -> Schema:
        """The schema that a whole document is."""
        return cls(document, document).resolved()

    def at(self, words: object) -> Schema | None:
        """A part of this schema; None when the part says nothing."""
        return Schema(words, self.document).resolved() if isinstance(words, Mapping) else None

    def resolved(self) -> Schema:
        """Itself with `$ref` followed, and with an `allOf` of one replaced by what it holds."""
        words = self.words
        for _ in range(_MAX_DEPTH):
            reference, parts = words.get("$ref"), words.get("allOf")
            if isinstance(reference, str) and reference.startswith("#/"):
                words = _pointer(self.document, reference)
            elif isinstance(parts, list) and len(parts) == 1 and "type" not in words:
                words = parts[0]
            else:
                break
        return self if words is self.words else Schema(words, self.document)

    def alternatives(self) -> tuple[Schema, ...]:
        """The branches of `anyOf`/`oneOf`, or itself alone."""
        return tuple(_flat(self, 0))

    def types(self) -> frozenset[str] | None:
        """Names of the JSON types that it allows; None when it does not say."""
        found: set[str] = set()
        for branch in self.alternatives():
            named = branch.words.get("type")
            if named == "string" and branch.words.get("format") in _TIMES:
                found.update(("string", "number"))  # models read a number of seconds here, too
            elif isinstance(named, str):
                found.add(named)
            elif isinstance(named, list):
                found.update(map(str, named))
            elif "const" in branch.words or "enum" in branch.words:
                values = branch.words.get("enum", [branch.words.get("const")])
                found.update(type_of(value) for value in values)
            else:
                return None
        return frozenset(found)

    def element(self) -> Schema | None:
        """The type of an array's elements, where it is one and the same."""
        arrays = [branch for branch in self.alternatives() if branch.types() == _ARRAY]
        return arrays[0].at(arrays[0].words.get("items")) if len(arrays) == 1 else None


@dataclass(frozen=True, slots=True)
class Unknown:
    """Stands for what an expression will give."""

    schema: Schema | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """A value that does not fit.

    Attributes:
        path: Keys and indexes from the whole value to the wrong part.
        kind: `type` for a value of the wrong kind or size, `unknown` for a key too many, `missing` for one too few.
    """

    path: Path
    message: str
    hint: str = ""
    kind: str = "type"


def problems(value: Json, schema: Schema, *, closed: bool = False) -> list[Problem]:
    """Everything about a JSON value (which may hold `Unknown`) that its schema forbids.

    `closed` refuses keys that a mapping's schema does not name unless it says that others are welcome: a typed model
    would drop them in silence.
    """
    return list(_Check(closed).value(value, schema, ()))


def conflict(given: Schema, wanted: Schema) -> str:
    """Why a value of one type can never be one of the other; empty when it may."""
    return _conflict(given, wanted, 0)


def field(schema: Schema, name: str) -> Schema | None:
    """What `.name` leads to, None when that cannot be told. A field of an array is the array of its elements' fields.

    Raises:
        NoFieldError: no value of this type can have such a field.
    """
    branches = [branch for branch in schema.alternatives() if branch.types() != _NULL]
    if not branches:
        raise NoFieldError(f"null has no field '{name}'", "the step gives nothing")
    if len(branches) > 1:
        return None
    branch = branches[0]
    types = branch.types()
    if types == _ARRAY:
        inner = branch.element()
        found = None if inner is None else field(inner, name)
        return array_of(found)
    if types is not None and "object" not in types:
        raise NoFieldError(f"{_named(types)} has no field '{name}'")
    properties, others = branch.words.get("properties"), branch.words.get("additionalProperties")
    if not isinstance(properties, Mapping):
        return branch.at(others)
    if name in properties:
        return branch.at(properties[name])
    if others:
        return branch.at(others)
    hint = did_you_mean(name, properties) or (f"it has {listed(properties)}" if properties else "it has none")
    raise NoFieldError(f"there is no field '{name}'", hint)


def array_of(element: Schema | None) -> Schema | None:
    """The type of a list of such elements."""
    return None if element is None else Schema({"type": "array", "items": element.words}, element.document)


def type_of(value: Json) -> str:
    """JSON Schema's name for the type of a value; 3.0 is an integer."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "integer" if value.is_integer() else "number"
        case str():
            return "string"
        case Mapping():
            return "object"
        case _:
            return "array"


@lru_cache(maxsize=256)
def matcher(pattern: str) -> Callable[[str], bool]:
    """A search for `pattern` anywhere in a text, in time linear in the text whatever the pattern.

    Raises:
        PatternError: the pattern is malformed, too long, or uses look-around or back-references.
    """
    if len(pattern) > MAX_PATTERN:
        raise PatternError(f"the pattern has more than {MAX_PATTERN} characters")
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 1 << 20
    try:
        compiled = re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else str(error)
        raise PatternError(f"the pattern is not accepted: {reason}") from None
    return lambda text: compiled.search(text) is not None


class _Check:
    """One walk over a value beside its schema."""

    def __init__(self, closed: bool) -> None:
        self._closed = closed

    def value(self, value: Json, schema: Schema, path: Path) -> Iterator[Problem]:
        if len(path) > _MAX_DEPTH:
            return
        if isinstance(value, Unknown):
            why = conflict(value.schema, schema) if value.schema is not None else ""
            if why:
                yield Problem(path, why)
            return
        branches = schema.alternatives()
        if len(branches) > 1:
            yield from self._any(value, branches, path)
            return
        for part in _all_of(schema):
            yield from self._one(value, part, path)

    def _any(self, value: Json, branches: tuple[Schema, ...], path: Path) -> Iterator[Problem]:
        """The value fits one branch, or the nearest branch says why it does not."""
        found = [list(self.value(value, branch, path)) for branch in branches]
        if all(found):
            same_type = [
                problems for branch, problems in zip(branches, found, strict=True) if _admits(branch.types(), value)
            ]
            if same_type:
                yield from min(same_type, key=len)
            else:
                types = frozenset[str]().union(*(branch.types() or frozenset() for branch in branches))
                yield Problem(path, f"{_named(types)} is expected, not {kind_of(value)}", _type_hint(types, value))

    def _one(self, value: Json, schema: Schema, path: Path) -> Iterator[Problem]:
        words = schema.words
        types = schema.types()
        if not _admits(types, value):
            yield Problem(
                path, f"{_named(types or frozenset())} is expected, not {kind_of(value)}", _type_hint(types, value)
            )
            return
        if "enum" in words and not any(equal(value, choice) for choice in words["enum"]):
            choices = ", ".join(_shown(choice) for choice in words["enum"][:20])
            near = (
                did_you_mean(value, [c for c in words["enum"] if isinstance(c, str)]) if isinstance(value, str) else ""
            )
            yield Problem(path, f"{kind_of(value)} is none of {choices}", near)
        if "const" in words and not equal(value, words["const"]):
            yield Problem(path, f"{_shown(words['const'])} is expected, not {kind_of(value)}")
        match value:
            case str():
                yield from _text(value, words, path)
            case int() | float() if not isinstance(value, bool):
                yield from _number(value, words, path)
            case list() | tuple():
                yield from self._list(value, schema, path)
            case Mapping():
                yield from self._mapping(value, schema, path)
            case _:
                return

    def _list(self, value: Json, schema: Schema, path: Path) -> Iterator[Problem]:
        yield from _bounds(len(value), schema.words, ("minItems", "maxItems"), "elements", path)
        element = schema.at(schema.words.get("items"))
        if element is not None:
            for index, inner in enumerate(value):
                yield from self.value(inner, element, (*path, index))

    def _mapping(self, value: Mapping[str, Json], schema: Schema, path: Path) -> Iterator[Problem]:
        words = schema.words
        properties: Mapping[str, Json] = words.get("properties") or {}
        others = words.get("additionalProperties")
        refuses = others is False or (self._closed and others is None and "properties" in words)
        for key, inner in value.items():
            if key in properties:
                expected = schema.at(properties[key])
            elif refuses and "patternProperties" not in words:
                hint = did_you_mean(key, properties) or (
                    f"it takes {listed(properties)}" if properties else "it takes none"
                )
                yield Problem((*path, key), f"unknown key '{key}'", hint, "unknown")
                continue
            else:
                expected = schema.at(others)
            if expected is not None:
                yield from self.value(inner, expected, (*path, key))
        yield from _bounds(len(value), words, ("minProperties", "maxProperties"), "keys", path)
        for key in words.get("required", ()):
            if key not in value:
                yield Problem(path, f"the key '{key}' is missing", kind="missing")


def _conflict(given: Schema, wanted: Schema, depth: int) -> str:
    have, want = given.types(), wanted.types()
    if have is None or want is None or depth > _MAX_DEPTH:
        return ""
    reachable = want | ({"integer"} if "number" in want else set())
    offered = have | ({"integer"} if "number" in have else set())
    common = reachable & offered
    if not common:
        return f"{_named(want)} is expected, this gives {_named(have)}"
    if common == _ARRAY:
        inner, expected = given.element(), wanted.element()
        if inner is not None and expected is not None:
            why = _conflict(inner, expected, depth + 1)
            return f"in each element: {why}" if why else ""
    if common == _OBJECT:
        return _object_conflict(given, wanted, depth + 1)
    return ""


def _object_conflict(given: Schema, wanted: Schema, depth: int) -> str:
    """Of two mappings whose keys are known: what one lacks, has too much, or has in another type."""
    if len(given.alternatives()) > 1 or len(wanted.alternatives()) > 1:
        return ""
    has, takes = given.words.get("properties"), wanted.words.get("properties")
    if not isinstance(has, Mapping) or not isinstance(takes, Mapping):
        return ""
    required = wanted.words.get("required", ())
    # A typed output has the fields of its model and no others, unless it says so.
    missing = next((key for key in required if key not in has), None)
    if missing is not None and not given.words.get("additionalProperties") and "patternProperties" not in given.words:
        return f"this has no key '{missing}', which is required"
    if wanted.words.get("additionalProperties") is False and "patternProperties" not in wanted.words:
        strange = next((key for key in given.words.get("required", ()) if key not in takes), None)
        if strange is not None:
            return f"this has the key '{strange}', which is not taken"
    sure = {*required, *given.words.get("required", ())}
    for key in has:
        inner, expected = given.at(has[key]), wanted.at(takes.get(key)) if key in sure else None
        why = _conflict(inner, expected, depth) if inner is not None and expected is not None else ""
        if why:
            return f"in '{key}': {why}"
    return ""


def _flat(schema: Schema, depth: int) -> Iterator[Schema]:
    branches = schema.words.get("anyOf") or schema.words.get("oneOf")
    if not isinstance(branches, list) or depth > _MAX_DEPTH:
        yield schema
        return
    for branch in branches:
        inner = schema.at(branch)
        if inner is not None:
            yield from _flat(inner, depth + 1)


def _all_of(schema: Schema) -> Iterator[Schema]:
    yield schema
    parts = schema.words.get("allOf")
    for part in parts if isinstance(parts, list) else ():
        inner = schema.at(part)
        if inner is not None:
            yield inner


def _pointer(document: Mapping[str, Json], reference: str) -> Mapping[str, Any]:
    node: Any = document
    for part in reference.removeprefix("#/").split("/"):
        node = node.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(node, Mapping) else None
    return node if isinstance(node, Mapping) else {}


def _admits(types: frozenset[str] | None, value: Json) -> bool:
    if types is None:
        return True
    found = type_of(value)
    return found in types or (found == "integer" and "number" in types)


def _text(value: str, words: Mapping[str, Json], path: Path) -> Iterator[Problem]:
    yield from _bounds(len(value), words, ("minLength", "maxLength"), "characters", path)
    pattern = words.get("pattern")
    if isinstance(pattern, str):
        try:
            fits = matcher(pattern)(value)
        except PatternError:
            return  # a step's model may use what this matcher does not have; the model itself will check
        if not fits:
            yield Problem(path, f"{kind_of(value)} does not match the pattern {pattern}")


def _number(value: float, words: Mapping[str, Json], path: Path) -> Iterator[Problem]:
    checks = (
        ("minimum", value >= words.get("minimum", value), "at least"),
        ("maximum", value <= words.get("maximum", value), "at most"),
        ("exclusiveMinimum", value > words.get("exclusiveMinimum", value - 1), "more than"),
        ("exclusiveMaximum", value < words.get("exclusiveMaximum", value + 1), "less than"),
    )
    for word, fits, phrase in checks:
        if word in words and not fits:
            yield Problem(path, f"{value} must be {phrase} {words[word]}")


def _bounds(size: int, words: Mapping[str, Json], names: tuple[str, str], unit: str, path: Path) -> Iterator[Problem]:
    least, most = words.get(names[0]), words.get(names[1])
    if least is not None and size < least:
        yield Problem(path, f"it has {size} {unit}, at least {least} are required")
    if most is not None and size > most:
        yield Problem(path, f"it has {size} {unit}, at most {most} are allowed")


def _named(types: frozenset[str]) -> str:
    names = [_TYPE_NAMES.get(name, name) for name in sorted(types) if not (name == "integer" and "number" in types)]
    return " or ".join(names) if names else "nothing"


def _type_hint(types: frozenset[str] | None, value: Json) -> str:
    wanted = types or frozenset()
    if "string" in wanted and isinstance(value, int | float):
        return "put it in quotes"
    if isinstance(value, str):
        if "boolean" in wanted and value.lower() in {"yes", "no", "on", "off", "true", "false"}:
            return "write true or false, without quotes"
        if wanted & {"integer", "number"} and value.strip().lstrip("+-").replace(".", "", 1).isdigit():
            return "write it without quotes"
    if "array" in wanted and value is not None and not isinstance(value, Mapping):
        return "write a list, as in [a, b]"
    return ""


def _shown(value: Json) -> str:
    return f"'{value}'" if isinstance(value, str) else json.dumps(value)
