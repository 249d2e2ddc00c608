"""Text of an expression -> its tree.

    or      = and { "or" and }
    and     = not { "and" not }
    not     = "not" not | compare
    compare = operand [ ("==" | "!=" | "<" | "<=" | ">" | ">=") operand ]
    operand = primary { "." name | "[" or "]" }
    primary = literal | "[" [ or { "," or } ] "]" | "(" or ")" | function "(" or { "," or } ")" | root

Names may hold hyphens, as ids of steps may; there is no arithmetic that they could be mistaken for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal as OneOf

from workflows.model.errors import ExpressionError
from workflows.model.expression_tree import (
    Call,
    Compare,
    Expr,
    Field,
    Index,
    ListOf,
    Literal,
    Logic,
    Not,
    Operator,
    Root,
    path_of,
)

MAX_LENGTH = 4_000
"""Characters of one expression."""
MAX_DEPTH = 24
"""Levels of nesting in one expression."""

ARITY: dict[str, tuple[int, int]] = {
    "size": (1, 1),
    "flatten": (1, 1),
    "sum": (1, 1),
    "first": (1, 1),
    "last": (1, 1),
    "default": (2, 2),
    "range": (1, 3),
}
"""The functions, with the least and the greatest number of their arguments."""

ROOT_FIELDS: dict[str, frozenset[str] | None] = {
    "params": None,
    "steps": None,
    "run": frozenset({"id", "fire_time", "status", "error"}),
    "secret": None,
}
"""Roots that must be followed by a name, and the names when they are fixed."""

FREE_ROOTS = frozenset({"item", "batch"})
"""Roots that may stand alone."""

STEP_FIELDS = frozenset({"output", "outputs", "failures", "status"})
"""What may follow `steps.ID`."""

_CONSTANTS: dict[str, bool | None] = {"true": True, "false": False, "null": None}
_KEYWORDS = frozenset({"and", "or", "not", *_CONSTANTS})
_TOKEN = re.compile(
    r"""
    (?P<space>[ \t\r\n]+)
  | (?P<name>[A-Za-z_][A-Za-z0-9_-]*)
  | (?P<number>-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)(?![A-Za-z0-9_.])
  | (?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
  | (?P<sign>==|!=|<=|>=|[<>()\[\].,])
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_ESCAPE = re.compile(r"\\(u[0-9A-Fa-f]{4}|.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", "'": "'", '"': '"'}
_FOREIGN = {
    "&&": "write 'and'",
    "||": "write 'or'",
    "!": "write 'not'",
    "=": "write '==' to compare",
    "+": "there is no arithmetic; compute it in a step",
    "-": "there is no arithmetic; compute it in a step",
    "*": "there is no arithmetic; compute it in a step",
    "/": "there is no arithmetic; compute it in a step",
    "%": "there is no arithmetic; compute it in a step",
    "|": "there are no filters; call a function, as in flatten(x)",
    "'": "the text has no closing quote",
    '"': "the text has no closing quote",
    "{": "there are no mappings in expressions; build them in the YAML around it",
    "$": "inside of ${{ }} write the path alone",
}


@lru_cache(maxsize=4096)
def parse(text: str) -> Expr:
    """The tree of an expression, given without its `${{ }}`.

    Raises:
        ExpressionError: the text is no expression, or too long or too deep; `offset` says where.
    """
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"the expression has more than {MAX_LENGTH} characters", offset=MAX_LENGTH)
    return _Parser(text).parse()


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    offset: int


class _Parser:
    """Recursive descent with one token of lookahead."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _tokens(text)
        self._next = 0
        self._depth = 0

    def parse(self) -> Expr:
        if self._peek().kind == "end":
            raise ExpressionError("the expression is empty", "write a path, as in params.query")
        tree = self._or()
        token = self._peek()
        if token.kind != "end":
            raise ExpressionError(f"'{token.text}' is not expected here", _after_hint(token), token.offset)
        return tree

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._tokens[self._next]
        self._next += 1
        return token

    def _accept(self, text: str) -> bool:
        token = self._peek()
        if token.text == text and token.kind in {"sign", "name"}:
            self._next += 1
            return True
        return False

    def _expect(self, text: str, opened: _Token) -> None:
        token = self._peek()
        if not self._accept(text):
            found = f"'{token.text}'" if token.text else "the end"
            raise ExpressionError(
                f"'{text}' is expected, {found} found",
                f"it closes '{opened.text}' at character {opened.offset + 1}",
                token.offset,
            )

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ExpressionError(
                f"the expression is nested deeper than {MAX_DEPTH} levels", offset=self._peek().offset
            )

    def _or(self) -> Expr:
        self._deeper()
        tree = self._logic("or", self._and())
        self._depth -= 1
        return tree

    def _and(self) -> Expr:
        return self._logic("and", self._not())

    def _logic(self, operator: OneOf["and", "or"], first: Expr) -> Expr:
        operands = [first]
        while self._accept(operator):
            operands.append(self._and() if operator == "or" else self._not())
        return first if len(operands) == 1 else Logic(operator, tuple(operands), first.offset)

    def _not(self) -> Expr:
        token = self._peek()
        if not self._accept("not"):
            return self._compare()
        self._deeper()
        operand = self._not()
        self._depth -= 1
        return Not(operand, token.offset)

    def _compare(self) -> Expr:
        left = self._operand()
        token = self._peek()
        operator = _operator(token)
        if operator is None:
            return left
        self._take()
        right = self._operand()
        if _operator(self._peek()) is not None:
            raise ExpressionError("comparisons cannot be chained", "join them with 'and'", self._peek().offset)
        return Compare(operator, left, right, token.offset)

    def _operand(self) -> Expr:
        tree = self._primary()
        length = 0
        while True:
            token = self._peek()
            if self._accept("."):
                tree = self._field(tree)
            elif self._accept("["):
                tree = self._index(tree, token)
            else:
                break
            length += 1
            if length > MAX_DEPTH:
                raise ExpressionError(f"the path has more than {MAX_DEPTH} parts", offset=token.offset)
        _check_path(tree)
        return tree

    def _field(self, of: Expr) -> Expr:
        name = self._take()
        if name.kind != "name":
            found = f"'{name.text}'" if name.text else "the end"
            raise ExpressionError(
                f"a name is expected after '.', {found} found", "an element of a list is [0]", name.offset
            )
        return Field(of, name.text, name.offset)

    def _index(self, of: Expr, opened: _Token) -> Expr:
        index = self._or()
        self._expect("]", opened)
        if isinstance(index, Literal) and isinstance(index.value, str):
            return Field(of, index.value, index.offset)
        return Index(of, index, opened.offset)

    def _primary(self) -> Expr:
        token = self._take()
        if token.kind == "number":
            return Literal(_number(token), token.offset)
        if token.kind == "text":
            return Literal(_unquoted(token), token.offset)
        if token.text == "(":
            tree = self._or()
            self._expect(")", token)
            return tree
        if token.text == "[":
            return ListOf(self._arguments("]", token), token.offset)
        if token.kind == "name":
            return self._named(token)
        found = f"'{token.text}' is not expected here" if token.text else "the expression ends too early"
        raise ExpressionError(found, "a value is expected: a path, a literal or a function", token.offset)

    def _named(self, token: _Token) -> Expr:
        name = token.text
        if name in _CONSTANTS:
            return Literal(_CONSTANTS[name], token.offset)
        opened = self._peek()
        if name not in _KEYWORDS and self._accept("("):
            return self._call(token, self._arguments(")", opened))
        if name in FREE_ROOTS or name in ROOT_FIELDS:
            return Root(name, token.offset)
        if name in _KEYWORDS:
            raise ExpressionError(f"'{name}' is not expected here", "a value is expected before it", token.offset)
        raise ExpressionError(f"unknown name '{name}'", _name_hint(name), token.offset)

    def _arguments(self, closing: str, opened: _Token) -> tuple[Expr, ...]:
        if self._accept(closing):
            return ()
        arguments = [self._or()]
        while self._accept(","):
            arguments.append(self._or())
        self._expect(closing, opened)
        return tuple(arguments)

    def _call(self, token: _Token, arguments: tuple[Expr, ...]) -> Expr:
        arity = ARITY.get(token.text)
        if arity is None:
            raise ExpressionError(
                f"unknown function '{token.text}'", f"the functions are {' '.join(sorted(ARITY))}", token.offset
            )
        least, most = arity
        if not least <= len(arguments) <= most:
            wanted = str(least) if least == most else f"{least} to {most}"
            raise ExpressionError(
                f"{token.text}() takes {wanted} arguments, {len(arguments)} given", offset=token.offset
            )
        return Call(token.text, arguments, token.offset)


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    offset = 0
    while offset < len(text):
        match = _TOKEN.match(text, offset)
        if match is None:
            sign = text[offset : offset + 2] if text[offset : offset + 2] in _FOREIGN else text[offset]
            raise ExpressionError(f"'{sign}' is not part of an expression", _FOREIGN.get(sign, ""), offset)
        kind = match.lastgroup or ""
        if kind != "space":
            tokens.append(_Token(kind, match.group(), offset))
        offset = match.end()
    tokens.append(_Token("end", "", len(text)))
    return tokens


def _operator(token: _Token) -> Operator | None:
    if token.kind != "sign":
        return None
    match token.text:
        case "==" | "!=" | "<" | "<=" | ">" | ">=" as operator:
            return operator
        case _:
            return None


def _number(token: _Token) -> int | float:
    digits = token.text
    if len(digits) > 40:
        raise ExpressionError("the number has too many digits", offset=token.offset)
    if digits.lstrip("-").isdigit():
        return int(digits)
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise ExpressionError("the number is too large", offset=token.offset)
    return number


def _unquoted(token: _Token) -> str:
    def replaced(match: re.Match[str]) -> str:
        escape = match.group(1)
        if len(escape) == 5 and not 0xD800 <= int(escape[1:], 16) <= 0xDFFF:
            return chr(int(escape[1:], 16))
        if escape in _ESCAPES:
            return _ESCAPES[escape]
        offset = token.offset + 1 + match.start()
        raise ExpressionError(f"unknown escape '\\{escape}'", r"a backslash itself is written \\", offset)

    return _ESCAPE.sub(replaced, token.text[1:-1])


def _check_path(tree: Expr) -> None:
    """Refuse paths that no run could ever resolve: `params` alone, `steps.x.foo`, `run.name`."""
    found = path_of(tree)
    if found is None:
        return
    root, names = found
    if root not in ROOT_FIELDS:
        return
    if not names:
        raise ExpressionError(f"'{root}' alone is no value", f"write {root}.NAME", tree.offset)
    allowed = ROOT_FIELDS[root]
    if allowed is not None and names[0] not in allowed:
        raise ExpressionError(f"'{root}' has no field '{names[0]}'", f"it has {' '.join(sorted(allowed))}", tree.offset)
    if root == "steps" and (len(names) < 2 or names[1] not in STEP_FIELDS):
        message = f"'steps.{names[0]}' alone is no value" if len(names) < 2 else f"a step has no field '{names[1]}'"
        raise ExpressionError(message, f"write steps.{names[0]}.output, .outputs, .failures or .status", tree.offset)


def _name_hint(name: str) -> str:
    roots = "a path begins with params, steps, item, batch or run"
    if name.lower() in _KEYWORDS | {"none"}:
        return f"write {'null' if name.lower() == 'none' else name.lower()}"
    return f"{roots}; text needs quotes, as in '{name}'"


def _after_hint(token: _Token) -> str:
    return "text needs quotes" if token.kind == "name" else ""
