"""The tree of an expression: immutable nodes, each with the offset at which it stands in the text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal as OneOf
from typing import TypeAlias

Operator = OneOf["==", "!=", "<", "<=", ">", ">="]


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant: null, true, false, a number or a text."""

    value: bool | int | float | str | None
    offset: int = 0


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list written out: `[a, b]`."""

    items: tuple[Expr, ...]
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Root:
    """Where a path begins: `params`, `steps`, `item`, `batch`, `run`, `secret`."""

    name: str
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Field:
    """`of.name`: a key of a mapping, or of every element of a list."""

    of: Expr
    name: str
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Index:
    """`of[index]`: an element of a list (negative counts from its end), or a computed key of a mapping."""

    of: Expr
    index: Expr
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Compare:
    """Equality of any two JSON values, or order of two numbers or two texts."""

    operator: Operator
    left: Expr
    right: Expr
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Logic:
    """`and`/`or` over two or more conditions, evaluated from the left until the result is known."""

    operator: OneOf["and", "or"]
    operands: tuple[Expr, ...]
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite of a condition."""

    operand: Expr
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Call:
    """A function applied to its arguments."""

    function: str
    arguments: tuple[Expr, ...]
    offset: int = 0


Expr: TypeAlias = Literal | ListOf | Root | Field | Index | Compare | Logic | Not | Call


@dataclass(frozen=True, slots=True)
class PathUse:
    """A path that an expression reads: `steps.a.output.x[0].y` is root `steps` and names `a`, `output`, `x`.

    Attributes:
        offset: Where it begins in the text of the expression.
    """

    root: str
    names: tuple[str, ...]
    offset: int


def path_of(tree: Expr) -> tuple[str, tuple[str, ...]] | None:
    """Root and leading fixed names of a path: None when the tree is no path.

    `steps.a.output.x[0].y` gives `("steps", ("a", "output", "x"))`.
    """
    names: list[str] = []
    while True:
        match tree:
            case Root(name=root):
                return root, tuple(reversed(names))
            case Field(of=of, name=name):
                names.append(name)
                tree = of
            case Index(of=of):
                names.clear()
                tree = of
            case _:
                return None


def children(tree: Expr) -> tuple[Expr, ...]:
    """The direct parts of a tree."""
    match tree:
        case ListOf(items=items):
            return items
        case Field(of=of):
            return (of,)
        case Index(of=of, index=index):
            return (of, index)
        case Compare(left=left, right=right):
            return (left, right)
        case Logic(operands=operands):
            return operands
        case Not(operand=operand):
            return (operand,)
        case Call(arguments=arguments):
            return arguments
        case _:
            return ()


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
