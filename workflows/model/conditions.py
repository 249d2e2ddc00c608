"""What can be said of a condition before anything runs: whether it is always true, never, or cannot be told.

Each path of an expression stands for the finite set of values that it can have, where that is known: a param with an
`enum`, a boolean, how a step can have ended. Paths are taken as independent of each other, so that "never" is only
said where it is so for every combination.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

from workflows.model.errors import ExpressionError
from workflows.model.expression_tree import Compare, Expr, Field, Literal, Logic, Not, Operator, path_of
from workflows.model.expression_values import evaluate
from workflows.model.spec import Json

Values = tuple[Json, ...]
Lookup = Callable[[str, tuple[str, ...]], Values | None]
"""Root and names of a path -> all the values it can have; None when they are not known."""

_MOST_PAIRS = 400


def truth(tree: Expr, lookup: Lookup) -> bool | None:
    """True or False when the condition has that value in every run, None when it may have either."""
    match tree:
        case Not(operand=operand):
            inner = truth(operand, lookup)
            return None if inner is None else not inner
        case Logic(operator=operator, operands=operands):
            # `and` is decided by a False, `or` by a True, in whatever place.
            decides = operator == "or"
            found = [truth(operand, lookup) for operand in operands]
            if decides in found:
                return decides
            return None if None in found else not decides
        case Compare(operator=operator, left=left, right=right):
            return _compared(operator, _values(left, lookup), _values(right, lookup))
        case _:
            values = _values(tree, lookup)
            return values[0] if values and len(values) == 1 and isinstance(values[0], bool) else None


def _values(tree: Expr, lookup: Lookup) -> Values | None:
    match tree:
        case Literal(value=value):
            return (value,)
        case Field():
            path = path_of(tree)
            return None if path is None else lookup(*path)
        case _:
            return None


def _compared(operator: Operator, left: Values | None, right: Values | None) -> bool | None:
    if not left or not right or len(left) * len(right) > _MOST_PAIRS:
        return None
    try:
        found = {bool(evaluate(Compare(operator, Literal(a), Literal(b)), {})) for a, b in product(left, right)}
    except ExpressionError:
        return None  # an order of values that have none: the run will say so
    return found.pop() if len(found) == 1 else None
