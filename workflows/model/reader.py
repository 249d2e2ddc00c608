"""Typed values out of nodes; whatever does not fit goes to the report, and the reader carries on."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from workflows.model.diagnostics import Code, Report, listed
from workflows.model.expressions import holds_expression
from workflows.model.language import ELSEWHERE, MAX_SECONDS
from workflows.model.names import IDENTIFIER, QUEUE_NAME
from workflows.model.nodes import ListNode, MapNode, Node, Scalar, describe
from workflows.model.policies import SIZE, UNIT_BYTES, parse_duration
from workflows.model.spec import Position

T = TypeVar("T")

_NAME_HINT = "use letters, digits, '_' and '-', not a digit first, at most 64 characters"
_QUEUE_HINT = "use letters, digits, '_' and '-', not a digit first, at most 48 characters"


@dataclass(frozen=True, slots=True)
class Named:
    """A name as it stands in the file."""

    name: str
    position: Position


@dataclass(frozen=True, slots=True)
class Reader:
    """Each method gives the value, or None after reporting why there is none."""

    report: Report

    def mapping(self, node: Node, what: str, when_empty: str = "leave the key out, or write {}") -> MapNode | None:
        """A mapping, which may be empty; `when_empty` is the hint when nothing stands there."""
        if isinstance(node, MapNode):
            return node
        self.wrong_type(node, what, "a mapping", when_empty if _is_empty(node) else "")
        return None

    def check_keys(self, node: MapNode, known: frozenset[str], where: str) -> None:
        """Report keys that the language does not have."""
        for entry in node:
            if entry.key in known:
                continue
            hint = ELSEWHERE.get(entry.key) or self.report.did_you_mean(entry.key, sorted(known))
            hint = hint or f"the keys are {listed(known, limit=len(known))}"
            self.report.add(Code.UNKNOWN_KEY, entry.position, f"{where} has no key '{entry.key}'", hint)

    def optional(self, node: MapNode, key: str, read: Callable[[Node, str], T | None]) -> T | None:
        """The value of a key by a method of this reader, None when the key is not there."""
        entry = node.entry(key)
        return None if entry is None else read(entry.node, f"'{key}'")

    def text(self, node: Node, what: str) -> str | None:
        """A fixed text, without expressions."""
        if not isinstance(node, Scalar) or not isinstance(node.value, str):
            hint = "put it in quotes" if isinstance(node, Scalar) and node.value is not None else ""
            self.wrong_type(node, what, "a text", hint)
            return None
        if holds_expression(node.value):
            self.report.add(
                Code.EXPRESSION_NOT_ALLOWED,
                node.position,
                f"no expression is evaluated in {what}",
                "expressions may stand under with, when, for_each.items, for_each.key and outputs",
            )
            return None
        return node.value

    def identifier(self, node: Node, what: str) -> str | None:
        """A name as `names.IDENTIFIER` allows it."""
        text = self.text(node, what)
        return text if text is not None and self.check_name(text, node.position, what) else None

    def queue(self, node: Node, what: str) -> str | None:
        """A name as `names.QUEUE_NAME` allows it."""
        text = self.text(node, what)
        if text is None or not self.check_name(text, node.position, what, QUEUE_NAME, _QUEUE_HINT):
            return None
        return text

    def check_name(
        self, name: str, position: Position, what: str, pattern: re.Pattern[str] = IDENTIFIER, hint: str = _NAME_HINT
    ) -> bool:
        """Whether a name is well-formed."""
        if pattern.fullmatch(name):
            return True
        shown = name if len(name) <= 40 else f"{name[:37]}..."
        self.report.add(Code.BAD_NAME, position, f"'{shown}' is no name for {what}", hint)
        return False

    def names(self, node: Node, what: str) -> tuple[Named, ...]:
        """A text or a list of texts."""
        parts = node.items if isinstance(node, ListNode) else (node,)
        found: list[Named] = []
        for part in parts:
            if isinstance(part, Scalar) and part.value is not None:
                text = self.text(part, what)
                if text is not None:
                    found.append(Named(text, part.position))
            else:
                self.wrong_type(part, what, "a name or a list of names", "leave the key out when there is none")
        return tuple(found)

    def choice(self, node: Node, what: str, choices: tuple[str, ...]) -> str | None:
        """One of fixed words."""
        text = self.text(node, what)
        if text is None or text in choices:
            return text
        hint = self.report.did_you_mean(text, choices) or f"it is one of {' '.join(choices)}"
        self.report.add(Code.BAD_VALUE, node.position, f"'{text}' is no value of {what}", hint)
        return None

    def integer(self, node: Node, what: str, least: int, most: int) -> int | None:
        """A whole number within bounds."""
        value = node.value if isinstance(node, Scalar) else None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            self.wrong_type(node, what, "a whole number", _unquote_hint(value))
            return None
        return self._within(value, node, what, least, most)

    def number(self, node: Node, what: str, least: float, most: float) -> float | None:
        """A number within bounds."""
        value = node.value if isinstance(node, Scalar) else None
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.wrong_type(node, what, "a number", _unquote_hint(value))
            return None
        return self._within(float(value), node, what, least, most)

    def duration(self, node: Node, what: str, *, positive: bool = False) -> float | None:
        """Seconds of a duration."""
        value = node.value if isinstance(node, Scalar) else describe(node)
        if isinstance(value, str) and holds_expression(value):
            self.text(node, what)
            return None
        try:
            seconds = parse_duration(value)
        except ValueError:
            self.report.add(
                Code.BAD_DURATION,
                node.position,
                f"{what} is a duration, {describe(node)} is none",
                "write it like 30s, 10m, 6h, 1d, or as a number of seconds",
            )
            return None
        if seconds > MAX_SECONDS or (positive and seconds == 0):
            limit = "more than 0" if seconds == 0 else f"at most {MAX_SECONDS / 86_400:.0f}d"
            self.report.add(Code.BAD_DURATION, node.position, f"{what} must be {limit}")
            return None
        return seconds

    def byte_count(self, node: Node, what: str, most: int) -> int | None:
        """A number of bytes, as `100kB`, `2MB` or a whole number."""
        value = node.value if isinstance(node, Scalar) else None
        match = SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
        if match is None:
            if isinstance(value, str) and not holds_expression(value):
                self.report.add(
                    Code.BAD_VALUE, node.position, f"{what} is no number of bytes", "write it like 500, 100kB or 2MB"
                )
                return None
            return self.integer(node, what, 1, most)
        return self._within(int(match[1]) * UNIT_BYTES[match[2].lower()], node, what, 1, most)

    def wrong_type(self, node: Node, what: str, wanted: str, hint: str = "") -> None:
        """Report that something else stands here."""
        if isinstance(node, Scalar) and isinstance(node.value, str) and holds_expression(node.value):
            self.text(node, what)
            return
        self.report.add(Code.WRONG_TYPE, node.position, f"{what} is {wanted}, not {describe(node)}", hint)

    def _within(self, value: T, node: Node, what: str, least: float, most: float) -> T | None:
        if isinstance(value, int | float) and least <= value <= most:
            return value
        self.report.add(
            Code.BAD_VALUE, node.position, f"{what} is {value}, it must be from {_plain(least)} to {_plain(most)}"
        )
        return None


def _is_empty(node: Node) -> bool:
    return isinstance(node, Scalar) and node.value is None


def _plain(number: float) -> str:
    return str(int(number)) if number == int(number) else f"{number:g}"


def _unquote_hint(value: object) -> str:
    return "write it without quotes" if isinstance(value, str) and value.strip().isdigit() else ""
