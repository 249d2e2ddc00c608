"""The `${{ ... }}` of definitions: what they read, and what they give for the values of a run.

A scope is a mapping with the roots that exist: `params` {name: value}, `steps` {id: {"output", "outputs", "failures",
"status"}}, `item`, `batch`, `run` {"id"}. Only keys of mappings and indexes of lists are ever looked up, never
attributes of Python objects. Values are not scanned for expressions again: what a param holds stays text.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, assert_never

from workflows.model.errors import ExpressionError
from workflows.model.expression_syntax import (
    Call,
    Compare,
    Expr,
    Field,
    Index,
    ListOf,
    Literal,
    Logic,
    Not,
    Root,
    children,
    parse,
    path_of,
)
from workflows.model.spec import Json

__all__ = [
    "Expr",
    "References",
    "Template",
    "evaluate",
    "holds_expression",
    "parse",
    "parse_template",
    "paths",
    "references",
    "render",
    "template_texts",
]

MAX_ELEMENTS = 2_000_000
"""Elements that one expression may produce in lists of its own (range, flatten, projection)."""

_OPEN, _CLOSE = "${{", "}}"
_ORDER: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True)
class Hole:
    """One `${{ ... }}` of a template: its tree, and where its text (without the braces) begins in the template."""

    tree: Expr
    offset: int


@dataclass(frozen=True, slots=True)
class Template:
    """A string cut into fixed texts and expressions; `"${{ a }}"` alone is one hole and nothing else."""

    parts: tuple[str | Hole, ...]

    @property
    def holes(self) -> tuple[Hole, ...]:
        """Its expressions, in order."""
        return tuple(part for part in self.parts if isinstance(part, Hole))

    @property
    def sole(self) -> Expr | None:
        """The expression when the string is exactly one, which then keeps its type."""
        match self.parts:
            case (Hole(tree=tree),):
                return tree
            case _:
                return None


@dataclass(frozen=True, slots=True)
class PathUse:
    """A path that an expression reads: `steps.a.output.x[0].y` is root `steps` and names `a`, `output`, `x`.

    Attributes:
        offset: Where it begins in the text of the expression.
    """

    root: str
    names: tuple[str, ...]
    offset: int


@dataclass(frozen=True, slots=True)
class References:
    """What expressions read.

    Attributes:
        params: Names of params.
        steps: Step id -> which of `output`, `outputs`, `failures`, `status` are read.
        item: Whether `item` is read; likewise `batch` and `run`.
        secrets: Names of secrets.
    """

    params: frozenset[str] = frozenset()
    steps: Mapping[str, frozenset[str]] = field(default_factory=dict)
    item: bool = False
    batch: bool = False
    run: bool = False
    secrets: frozenset[str] = frozenset()


def holds_expression(text: str) -> bool:
    """Whether a string has a `${{`."""
    return _OPEN in text


@lru_cache(maxsize=4096)
def parse_template(text: str) -> Template:
    """Cut a string at its expressions.

    Raises:
        ExpressionError: an expression is malformed or not closed; `offset` counts from the beginning of the string.
    """
    parts: list[str | Hole] = []
    done = 0
    while (start := text.find(_OPEN, done)) >= 0:
        if start > done:
            parts.append(text[done:start])
        begin = start + len(_OPEN)
        end = _closing(text, begin)
        try:
            parts.append(Hole(parse(text[begin:end]), begin))
        except ExpressionError as error:
            raise ExpressionError(str(error), error.hint, begin + error.offset) from None
        done = end + len(_CLOSE)
    if done < len(text):
        parts.append(text[done:])
    return Template(tuple(parts))


def render(value: Json, scope: Mapping[str, Any]) -> Json:
    """A JSON value with its expressions replaced by what they give; keys of mappings are left as they are.

    A string that is exactly one expression becomes the typed value. In mixed text, strings are put in as they are and
    other values as JSON.

    Raises:
        ExpressionError: an expression fails on these values, or null would be put into text.
    """
    match value:
        case str() if _OPEN in value:
            return _rendered(parse_template(value), scope)
        case dict():
            return {key: render(inner, scope) for key, inner in value.items()}
        case list() | tuple():
            return [render(inner, scope) for inner in value]
        case _:
            return value


def references(value: Json) -> References:
    """What the expressions anywhere in a JSON value read.

    Raises:
        ExpressionError: one of them is malformed.
    """
    params: set[str] = set()
    steps: dict[str, set[str]] = {}
    secrets: set[str] = set()
    roots: set[str] = set()
    for text in template_texts(value):
        for hole in parse_template(text).holes:
            for path in paths(hole.tree):
                roots.add(path.root)
                if path.root == "params":
                    params.add(path.names[0])
                elif path.root == "steps":
                    steps.setdefault(path.names[0], set()).add(path.names[1])
                elif path.root == "secret":
                    secrets.add(path.names[0])
    return References(
        params=frozenset(params),
        steps={step: frozenset(fields) for step, fields in sorted(steps.items())},
        item="item" in roots,
        batch="batch" in roots,
        run="run" in roots,
        secrets=frozenset(secrets),
    )


def paths(tree: Expr) -> Iterator[PathUse]:
    """Every path in a tree, each once at its full length; those within indexes too."""
    found = path_of(tree)
    if found is None:
        for child in children(tree):
            yield from paths(child)
        return
    while isinstance(tree, Field | Index):
        if isinstance(tree, Index):
            yield from paths(tree.index)
        tree = tree.of
    yield PathUse(*found, tree.offset)


def template_texts(value: Json) -> Iterator[str]:
    """Every string with an expression in a JSON value, in order."""
    match value:
        case str():
            if _OPEN in value:
                yield value
        case dict():
            for inner in value.values():
                yield from template_texts(inner)
        case list() | tuple():
            for inner in value:
                yield from template_texts(inner)
        case _:
            return


def evaluate(expr: Expr, scope: Mapping[str, Any]) -> Json:
    """What an expression gives.

    Raises:
        ExpressionError: a name, key or element does not exist, or a value has the wrong type; `offset` says where.
    """
    return _Evaluation(scope).value(expr)


class _MissingError(ExpressionError):
    """A path leads nowhere: the one failure that `default` mends."""


class _Evaluation:
    """One evaluation, with its budget of elements."""

    def __init__(self, scope: Mapping[str, Any]) -> None:
        self._scope = scope
        self._left = MAX_ELEMENTS

    def value(self, tree: Expr) -> Json:
        match tree:
            case Literal(value=constant):
                return constant
            case ListOf(items=items):
                return [self.value(item) for item in items]
            case Root(name=name, offset=offset):
                if name not in self._scope:
                    raise _MissingError(f"there is no '{name}' here", offset=offset)
                return self._scope[name]
            case Field(of=of, name=name, offset=offset):
                return self._field(self.value(of), name, offset)
            case Index(of=of, index=index, offset=offset):
                return self._element(self.value(of), self.value(index), offset)
            case Compare():
                return self._compare(tree)
            case Logic(operator=word, operands=operands):
                decisive = word == "or"
                return decisive if any(self._condition(o, word) is decisive for o in operands) else not decisive
            case Not(operand=operand):
                return not self._condition(operand, "not")
            case Call(function=function, arguments=arguments, offset=offset):
                return self._call(function, arguments, offset)
        assert_never(tree)

    def _spend(self, elements: int, offset: int) -> None:
        self._left -= elements
        if self._left < 0:
            raise ExpressionError(f"the expression makes more than {MAX_ELEMENTS} elements", offset=offset)

    def _field(self, value: Json, name: str, offset: int) -> Json:
        if isinstance(value, list | tuple):
            self._spend(len(value), offset)
            return [self._field(element, name, offset) for element in value]
        if not isinstance(value, Mapping):
            raise _MissingError(f"{kind_of(value)} has no field '{name}'", offset=offset)
        if name not in value:
            known = ", ".join(sorted(map(str, value))[:12])
            raise _MissingError(f"there is no '{name}'", f"there is {known}" if known else "", offset)
        return value[name]

    def _element(self, value: Json, index: Json, offset: int) -> Json:
        if isinstance(value, Mapping) and isinstance(index, str):
            return self._field(value, index, offset)
        if not isinstance(value, list | tuple):
            raise _MissingError(f"{kind_of(value)} has no elements", offset=offset)
        if isinstance(index, bool) or not isinstance(index, int):
            raise ExpressionError(f"an index of a list is a whole number, not {kind_of(index)}", offset=offset)
        if not -len(value) <= index < len(value):
            raise _MissingError(f"the list has {len(value)} elements, there is no [{index}]", offset=offset)
        return value[index]

    def _condition(self, tree: Expr, word: str) -> bool:
        value = self.value(tree)
        if not isinstance(value, bool):
            raise ExpressionError(
                f"'{word}' takes true or false, not {kind_of(value)}",
                "compare it, as in size(x) > 0 or x != null",
                tree.offset,
            )
        return value

    def _compare(self, tree: Compare) -> bool:
        left, right = self.value(tree.left), self.value(tree.right)
        if tree.operator in {"==", "!="}:
            return equal(left, right) is (tree.operator == "==")
        numbers = _is_number(left) and _is_number(right)
        if not (numbers or (isinstance(left, str) and isinstance(right, str))):
            raise ExpressionError(
                f"'{tree.operator}' compares two numbers or two texts, not {kind_of(left)} with {kind_of(right)}",
                offset=tree.offset,
            )
        return bool(_ORDER[tree.operator](left, right))

    def _call(self, function: str, arguments: tuple[Expr, ...], offset: int) -> Json:
        if function == "default":
            return self._default(*arguments)
        values = [self.value(argument) for argument in arguments]
        match function:
            case "size":
                return _size(values[0], offset)
            case "flatten":
                return self._flatten(values[0], offset)
            case "sum":
                return _sum(values[0], offset)
            case "first" | "last":
                return self._element(_list(values[0], function, offset), 0 if function == "first" else -1, offset)
            case "range":
                return self._range(values, offset)
            case _:
                raise ExpressionError(f"unknown function '{function}'", offset=offset)

    def _default(self, tree: Expr, fallback: Expr) -> Json:
        try:
            value = self.value(tree)
        except _MissingError:
            value = None
        return self.value(fallback) if value is None else value

    def _flatten(self, value: Json, offset: int) -> list[Json]:
        joined: list[Json] = []
        for index, inner in enumerate(_list(value, "flatten", offset)):
            if not isinstance(inner, list | tuple):
                raise ExpressionError(
                    f"flatten() takes a list of lists; element {index} is {kind_of(inner)}", offset=offset
                )
            self._spend(len(inner), offset)
            joined.extend(inner)
        return joined

    def _range(self, values: list[Json], offset: int) -> list[int]:
        for value in values:
            if isinstance(value, bool) or not isinstance(value, int):
                raise ExpressionError(f"range() takes whole numbers, not {kind_of(value)}", offset=offset)
        if len(values) == 3 and values[2] == 0:
            raise ExpressionError("the step of range() is 0", offset=offset)
        numbers = range(*values)
        # The length of a huge range does not fit len(); its bounds are compared instead.
        span = abs(numbers.stop - numbers.start) // abs(numbers.step) if bool(numbers) else 0
        self._spend(span, offset)
        return list(numbers)


def equal(left: Json, right: Json) -> bool:
    """Equality of JSON values: true is not 1, 1 is 1.0."""
    match left, right:
        case (dict(), dict()):
            return left.keys() == right.keys() and all(equal(left[key], right[key]) for key in left)
        case (list() | tuple(), list() | tuple()):
            return len(left) == len(right) and all(equal(a, b) for a, b in zip(left, right, strict=True))
        case _:
            return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)


def kind_of(value: Json) -> str:
    """What a value is, in the words of messages: `a list`, `the number 3`."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return f"the number {value}" if abs(value) < 1e15 else "a number"
        case str():
            return f"the text '{value}'" if len(value) <= 40 else f"the text '{value[:37]}...'"
        case Mapping():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case _:
            return f"a {type(value).__name__}"


def _closing(text: str, begin: int) -> int:
    """Index of the `}}` that closes the expression beginning at `begin`; those within quotes do not count."""
    quote = ""
    index = begin
    while index < len(text):
        char = text[index]
        if quote:
            if char == "\\":
                index += 1
            elif char == quote:
                quote = ""
        elif char in "'\"":
            quote = char
        elif text.startswith(_CLOSE, index):
            return index
        index += 1
    hint = "a quote within it is not closed" if quote else "write }} where the expression ends"
    raise ExpressionError("'${{' has no closing '}}'", hint, begin - len(_OPEN))


def _rendered(template: Template, scope: Mapping[str, Any]) -> Json:
    sole = template.sole
    if sole is not None:
        return evaluate(sole, scope)
    return "".join(part if isinstance(part, str) else _as_text(part, scope) for part in template.parts)


def _as_text(hole: Hole, scope: Mapping[str, Any]) -> str:
    value = evaluate(hole.tree, scope)
    if value is None:
        raise ExpressionError("null cannot be put into text", "give a fallback, as in default(x, '')", hole.tree.offset)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _list(value: Json, function: str, offset: int) -> list[Json] | tuple[Json, ...]:
    if not isinstance(value, list | tuple):
        raise ExpressionError(f"{function}() takes a list, not {kind_of(value)}", offset=offset)
    return value


def _size(value: Json, offset: int) -> int:
    if isinstance(value, str | list | tuple | Mapping):
        return len(value)
    raise ExpressionError(f"size() takes a list, a mapping or a text, not {kind_of(value)}", offset=offset)


def _sum(value: Json, offset: int) -> int | float:
    total: int | float = 0
    for index, element in enumerate(_list(value, "sum", offset)):
        if not _is_number(element):
            raise ExpressionError(
                f"sum() takes a list of numbers; element {index} is {kind_of(element)}", offset=offset
            )
        total += element
    return total


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
