"""A YAML document as a tree of nodes that know their place in the file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from workflows.model.spec import Json, Position

# Not frozen: that makes them three times as slow to make, and a file has tens of thousands. Nobody changes them.


@dataclass(slots=True, unsafe_hash=True)
class Scalar:
    """A text, number, boolean or null.

    Attributes:
        inner_column: Column of its first character, when each character of the value is one of the file; else 0.
    """

    value: bool | int | float | str | None
    line: int
    column: int
    inner_column: int = 0

    @property
    def position(self) -> Position:
        """Where it begins."""
        return Position(self.line, self.column)

    def position_at(self, offset: int) -> Position:
        """Where the character of that index stands; where the scalar begins when that cannot be told."""
        return Position(self.line, self.inner_column + offset) if self.inner_column else self.position


@dataclass(slots=True, unsafe_hash=True)
class ListNode:
    """A list."""

    items: tuple[Node, ...]
    line: int
    column: int

    @property
    def position(self) -> Position:
        """Where it begins."""
        return Position(self.line, self.column)


@dataclass(slots=True, unsafe_hash=True)
class Entry:
    """One key of a mapping, with the place of the key itself."""

    key: str
    line: int
    column: int
    node: Node

    @property
    def position(self) -> Position:
        """Where the key begins."""
        return Position(self.line, self.column)


@dataclass(slots=True, unsafe_hash=True)
class MapNode:
    """A mapping; keys are texts and stand once."""

    entries: tuple[Entry, ...]
    line: int
    column: int

    @property
    def position(self) -> Position:
        """Where it begins."""
        return Position(self.line, self.column)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def entry(self, key: str) -> Entry | None:
        """The entry of that key."""
        return next((entry for entry in self.entries if entry.key == key), None)


Node: TypeAlias = Scalar | ListNode | MapNode


def to_json(node: Node) -> Json:
    """The JSON value of a node."""
    match node:
        case Scalar(value=value):
            return value
        case ListNode(items=items):
            return [to_json(item) for item in items]
        case MapNode(entries=entries):
            return {entry.key: to_json(entry.node) for entry in entries}


def position_of(node: Node, path: tuple[str | int, ...]) -> Position:
    """Where the value at `path` stands within `node`; the nearest that exists when it does not."""
    place = node.position
    for part in path:
        if isinstance(node, MapNode) and isinstance(part, str):
            entry = node.entry(part)
            if entry is None:
                return place
            node, place = entry.node, entry.node.position
        elif isinstance(node, ListNode) and isinstance(part, int) and part < len(node.items):
            node = node.items[part]
            place = node.position
        else:
            return place
    return place


def key_position_of(node: Node, path: tuple[str | int, ...]) -> Position:
    """Where the key at the end of `path` stands, rather than its value; like `position_of` for an element of a list."""
    holder = node
    for part in path[:-1]:
        if isinstance(holder, MapNode):
            entry = holder.entry(str(part))
            if entry is None:
                return holder.position
            holder = entry.node
        elif isinstance(holder, ListNode) and isinstance(part, int) and part < len(holder.items):
            holder = holder.items[part]
    entry = holder.entry(str(path[-1])) if path and isinstance(holder, MapNode) else None
    return position_of(node, path) if entry is None else entry.position


def describe(node: Node) -> str:
    """What a node is, in the words of messages."""
    match node:
        case MapNode():
            return "a mapping"
        case ListNode():
            return "a list"
        case Scalar(value=None):
            return "nothing"
        case Scalar(value=bool() as value):
            return "true" if value else "false"
        case Scalar(value=str() as value):
            return f"the text '{value}'" if len(value) <= 40 else f"the text '{value[:37]}...'"
        case Scalar(value=value):
            return f"the number {value}"
