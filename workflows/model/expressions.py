"""The `${{ ... }}` of definitions: what they read, and what they give for the values of a run.

A scope is a mapping with the roots that exist: `params` {name: value}, `steps` {id: {"output", "outputs", "failures",
"status"}}, `item`, `batch`, `run` {"id"}. Only keys of mappings and indexes of lists are ever looked up, never
attributes of Python objects. Values are not scanned for expressions again: what a param holds stays text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from workflows.model.errors import ExpressionError
from workflows.model.expression_syntax import parse
from workflows.model.expression_tree import Expr, paths
from workflows.model.expression_values import evaluate
from workflows.model.spec import Json

__all__ = [
    "Expr",
    "References",
    "Template",
    "evaluate",
    "holds_expression",
    "parse",
    "parse_template",
    "references",
    "render",
    "template_texts",
]

_OPEN, _CLOSE = "${{", "}}"


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
