"""What an expression gives for the values of a run."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, assert_never

from workflows.model.errors import ExpressionError
from workflows.model.expression_tree import Call, Compare, Expr, Field, Index, ListOf, Literal, Logic, Not, Root
from workflows.model.spec import Json

MAX_ELEMENTS = 2_000_000
"""Elements that one expression may produce in lists of its own (range, flatten, projection)."""

_ORDER: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


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
