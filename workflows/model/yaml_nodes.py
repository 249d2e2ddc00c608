"""YAML text -> a tree of nodes with positions, within limits.

The tree is built from parser events rather than composed, so that depth, number of nodes and expansion of aliases are
bounded while reading. Bare words mean what YAML 1.2 says (`yes` and `1:30` are text, as editors show them); where
readers of YAML 1.1 would see something else, a warning says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml
from yaml import events as ev

from workflows.model.diagnostics import Code, Report
from workflows.model.language import MAX_STEPS
from workflows.model.nodes import Entry, ListNode, MapNode, Node, Scalar, describe
from workflows.model.spec import Position

MAX_BYTES = 1_000_000
"""Size of a definition."""
MAX_NODES = 200_000
"""Values in a definition, each alias counted as all that it stands for."""
MAX_DEPTH = 40
"""Levels of nesting."""

_MOST_PARTS = 2 * MAX_STEPS
"""Keys and values of a mapping right below the top; a block of steps is the largest of them."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NEVER_TEXT = re.compile("[\x00\ud800-\udfff]")
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_JSON = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_OLD_BOOLEAN = re.compile(r"yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF")
_OLD_NUMBER = re.compile(r"[-+]?0[0-9]+|[-+]?[0-9][0-9_]*_[0-9_]*(\.[0-9_]*)?|[-+]?[0-9]+(:[0-5]?[0-9])+(\.[0-9]*)?")
_MAY_BE_SPECIAL = frozenset("-+.0123456789~nNtTfFyYoO")
_PLAIN_TAGS = {"tag:yaml.org,2002:str", "!"}
_MAX_INTEGER = 2**63
_MERGE = Scalar("<<", 0, 0)
"""Stands for a plain `<<` key; a quoted one is an ordinary key."""


def load(text: str | bytes, report: Report) -> Node | None:
    """Read one YAML document; None when it cannot be read at all, and then the report says why."""
    decoded = _decode(text, report)
    if decoded is None:
        return None
    try:
        return _Builder(decoded, report).document()
    except _UnreadableError as error:
        report.add(error.code, error.position, str(error), error.hint)
    except yaml.MarkedYAMLError as error:
        report.add(Code.SYNTAX, _mark_position(error), *_syntax_message(error, decoded))
    except yaml.YAMLError as error:
        report.add(Code.SYNTAX, Position(1, 1), f"the YAML cannot be read: {str(error).splitlines()[0]}")
    return None


class _UnreadableError(Exception):
    """Reading stops here."""

    def __init__(self, code: Code, position: Position, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code, self.position, self.hint = code, position, hint


@dataclass(slots=True)
class _Open:
    """A list or mapping whose end has not come yet; `parts` of a mapping alternate between keys and values."""

    is_map: bool
    anchor: str | None
    position: Position
    parts: list[Node]
    sizes: int = 1


class _Builder:
    """Turns events into nodes, with a stack of its own: no depth of the file reaches Python's recursion limit."""

    def __init__(self, text: str, report: Report) -> None:
        self._report = report
        self._events: Iterator[Any] = iter(yaml.parse(text, Loader=_LOADER))
        self._stack: list[_Open] = []
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._nodes = 0

    def document(self) -> Node | None:
        root: Node | None = None
        documents = 0
        for event in self._events:
            if type(event) is ev.DocumentStartEvent:
                documents += 1
                if documents > 1:
                    raise _UnreadableError(
                        Code.YAML_FEATURE,
                        _position(event),
                        "a second document begins here",
                        "one file holds one workflow; put the other into a file of its own",
                    )
            node = self._node(event)
            if node is not None:
                root = node
        if root is None:
            raise _UnreadableError(
                Code.NO_STEPS, Position(1, 1), "the file is empty", "a definition has at least id and steps"
            )
        return root

    def _node(self, event: Any) -> Node | None:
        """Take one event; the root when it is complete."""
        kind = type(event)
        if kind is ev.ScalarEvent:
            return self._put(self._scalar(event), 1, event.anchor)
        if kind is ev.AliasEvent:
            return self._alias(event)
        if kind is ev.MappingStartEvent or kind is ev.SequenceStartEvent:
            self._open(event)
        elif kind is ev.MappingEndEvent or kind is ev.SequenceEndEvent:
            return self._close()
        return None

    def _open(self, event: Any) -> None:
        position = _position(event)
        is_map = isinstance(event, ev.MappingStartEvent)
        standard = "tag:yaml.org,2002:map" if is_map else "tag:yaml.org,2002:seq"
        if event.tag not in {None, "!", standard}:
            self._refuse_tag(event.tag, position)
        if len(self._stack) >= MAX_DEPTH:
            raise _UnreadableError(Code.LIMIT, position, f"the file is nested deeper than {MAX_DEPTH} levels")
        self._stack.append(_Open(is_map, event.anchor, position, []))

    def _close(self) -> Node | None:
        done = self._stack.pop()
        line, column = done.position.line, done.position.column
        node: Node
        if done.is_map:
            node = MapNode(self._entries(done.parts), line, column)
        else:
            node = ListNode(tuple(done.parts), line, column)
        self._nodes -= done.sizes - 1  # counted once more with the whole
        return self._put(node, done.sizes, done.anchor)

    def _put(self, node: Node, size: int, anchor: str | None) -> Node | None:
        self._nodes += size
        if self._nodes > MAX_NODES:
            raise _UnreadableError(
                Code.LIMIT,
                node.position,
                f"the file has more than {MAX_NODES} values, aliases expanded",
                "hand large data to a step as a file, not within the definition",
            )
        if anchor:
            self._anchors[anchor] = node, size
        if not self._stack:
            return node
        parent = self._stack[-1]
        if len(parent.parts) == _MOST_PARTS and len(self._stack) == 2 and parent.is_map:
            raise _UnreadableError(
                Code.TOO_MANY_STEPS,
                node.position,
                f"more than {MAX_STEPS} keys stand here",
                "let one step with for_each do what many equal steps do",
            )
        parent.parts.append(node)
        parent.sizes += size
        return None

    def _alias(self, event: Any) -> Node | None:
        name = event.anchor
        if any(parent.anchor == name for parent in self._stack):
            raise _UnreadableError(Code.YAML_FEATURE, _position(event), f"'*{name}' stands within what it refers to")
        if name not in self._anchors:
            raise _UnreadableError(
                Code.SYNTAX,
                _position(event),
                f"'*{name}' refers to no anchor",
                f"write &{name} before the value that it repeats, or quote a text that begins with *",
            )
        return self._put(*self._anchors[name], None)

    def _scalar(self, event: Any) -> Scalar:
        start, end = event.start_mark, event.end_mark
        line, column = start.line + 1, start.column + 1
        value: str = event.value
        style, tag = event.style, event.tag
        quotes = 1 if style in {"'", '"'} else 0
        is_verbatim = start.line == end.line and end.column - start.column - 2 * quotes == len(value)
        inner = column + quotes if is_verbatim else 0
        if tag is not None and tag not in _PLAIN_TAGS:
            self._refuse_tag(tag, Position(line, column))
        if style == '"' and _NEVER_TEXT.search(value):
            message = "the text holds a NUL or half of a surrogate pair, which no database keeps"
            raise _UnreadableError(Code.TEXT, Position(line, column), message)
        if not (event.implicit[0] and tag in {None, "!"}):
            return Scalar(value, line, column, inner)
        is_key = bool(self._stack) and self._stack[-1].is_map and len(self._stack[-1].parts) % 2 == 0
        if value and value[0] not in _MAY_BE_SPECIAL:
            if not (is_key and value == "<<"):
                return Scalar(value, line, column, inner)
            if event.anchor:
                raise _UnreadableError(Code.YAML_FEATURE, Position(line, column), "the key '<<' cannot have an anchor")
            return _MERGE
        if is_key:
            return self._special_key(value, Position(line, column))
        return Scalar(self._resolved(value, Position(line, column)), line, column, inner)

    def _special_key(self, value: str, position: Position) -> Scalar:
        """A plain key that some reader takes for no text; it goes on as text so that the rest is still checked."""
        if _OLD_BOOLEAN.fullmatch(value) or value in _BOOLEANS:
            hint = f'rename it, or quote it: "{value}"'
            self._report.add(
                Code.KEY_NOT_TEXT, position, f"the key '{value}' is a boolean to many readers of YAML", hint
            )
        elif value in _NULLS or _INTEGER.fullmatch(value) or _FLOAT.fullmatch(value) or _NOT_JSON.fullmatch(value):
            shown = f"'{value}'" if value else "an empty key"
            self._report.add(
                Code.KEY_NOT_TEXT, position, f"{shown} is no text, and keys are texts", f'quote it: "{value}"'
            )
        return Scalar(value, position.line, position.column)

    def _resolved(self, value: str, position: Position) -> bool | int | float | str | None:
        if value in _NULLS:
            return None
        if value in _BOOLEANS:
            return _BOOLEANS[value]
        if _OLD_BOOLEAN.fullmatch(value):
            self._report.add(
                Code.AMBIGUOUS_WORD,
                position,
                f"'{value}' is read as text, by some other readers as a boolean",
                f'write true or false, or quote it: "{value}"',
            )
            return value
        if _OLD_NUMBER.fullmatch(value):
            self._report.add(
                Code.AMBIGUOUS_WORD,
                position,
                f"'{value}' means different things to different readers of YAML",
                f'quote it if it is text: "{value}"; write numbers without _ and leading zeros',
            )
        if _INTEGER.fullmatch(value):
            return self._integer(value, position)
        if _FLOAT.fullmatch(value):
            number = float(value)
            if number in {float("inf"), float("-inf")}:
                raise _UnreadableError(Code.YAML_FEATURE, position, f"'{value}' is too large a number")
            return number
        if _NOT_JSON.fullmatch(value):
            raise _UnreadableError(
                Code.YAML_FEATURE,
                position,
                f"'{value}' is a number that JSON does not have",
                f'quote it if it is text: "{value}"',
            )
        return value

    def _integer(self, value: str, position: Position) -> int:
        base = {"0o": 8, "0x": 16}.get(value[:2], 10)
        number = _MAX_INTEGER if len(value) > 40 else int(value[2:] if base != 10 else value, base)
        if abs(number) >= _MAX_INTEGER:
            raise _UnreadableError(
                Code.YAML_FEATURE, position, "the number does not fit into 64 bits", "quote it if it is text"
            )
        return number

    def _refuse_tag(self, tag: str, position: Position) -> None:
        short = tag.replace("tag:yaml.org,2002:", "!!")
        self._report.add(
            Code.YAML_FEATURE,
            position,
            f"the tag '{short}' is not accepted",
            "write plain YAML: text, numbers, lists, mappings",
        )

    def _entries(self, parts: list[Node]) -> tuple[Entry, ...]:
        entries: dict[str, Entry] = {}
        merged: list[Entry] = []
        for key, node in zip(parts[::2], parts[1::2], strict=True):
            if key is _MERGE:
                merged.extend(self._merge(node))
                continue
            if not isinstance(key, Scalar) or not isinstance(key.value, str):
                self._report.add(
                    Code.KEY_NOT_TEXT, key.position, f"{describe(key)} is no text, and keys are texts", "quote it"
                )
                continue
            entry = Entry(key.value, key.line, key.column, node)
            first = entries.setdefault(key.value, entry)
            if first is not entry:
                self._report.add(
                    Code.DUPLICATE_KEY,
                    entry.position,
                    f"the key '{key.value}' stands twice",
                    f"the first is in line {first.position.line}; remove or rename one of them",
                )
        for entry in merged:
            entries.setdefault(entry.key, entry)
        return tuple(entries.values())

    def _merge(self, node: Node) -> list[Entry]:
        """What `<<: *anchor` brings in; keys written out win, then the earlier of several mappings."""
        sources = node.items if isinstance(node, ListNode) else (node,)
        found: list[Entry] = []
        for source in sources:
            if isinstance(source, MapNode):
                found.extend(source.entries)
            else:
                self._report.add(
                    Code.WRONG_TYPE,
                    source.position,
                    f"'<<' merges mappings, not {describe(source)}",
                    "write <<: *anchor, where &anchor marks a mapping",
                )
        return found


def _decode(text: str | bytes, report: Report) -> str | None:
    if len(text) > MAX_BYTES:
        report.add(
            Code.LIMIT,
            Position(1, 1),
            f"the file is larger than {MAX_BYTES} bytes",
            "hand large data to a step as a file, not within the definition",
        )
        return None
    if isinstance(text, bytes):
        raw, encoding = text, "utf-16" if text[:2] in {b"\xff\xfe", b"\xfe\xff"} else "utf-8"
        try:
            text = raw.decode(encoding)
        except UnicodeDecodeError as error:
            before = raw[: error.start].decode(encoding, "replace")
            report.add(Code.TEXT, _place(before), f"the bytes here are no {encoding.upper()}", "save the file as UTF-8")
            return None
    text = text.removeprefix("\ufeff")
    wrong = _UNPRINTABLE.search(text)
    if wrong is not None:
        number = ord(wrong.group())
        name = "a NUL character" if number == 0 else f"the character U+{number:04X}"
        place = _place(text[: wrong.start()])
        report.add(
            Code.TEXT,
            place,
            f"{name} may not stand in a definition",
            "remove it, or write it as an escape in double quotes",
        )
        return None
    return text


def _place(before: str) -> Position:
    """The position right after a stretch of text."""
    return Position(before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)


def _position(event: Any) -> Position:
    mark = event.start_mark
    return Position(mark.line + 1, mark.column + 1)


def _mark_position(error: yaml.MarkedYAMLError) -> Position:
    mark = error.problem_mark or error.context_mark
    if "could not find expected ':'" in str(error.problem):
        mark = error.context_mark or mark  # found missing only at the end of the next line
    return Position(mark.line + 1, mark.column + 1) if mark is not None else Position(1, 1)


def _syntax_message(error: yaml.MarkedYAMLError, text: str) -> tuple[str, str]:
    """The scanner's problem, and how to mend the kinds that people meet."""
    problem = str(error.problem or error.context or "the YAML is malformed")
    place = _mark_position(error)
    lines = text.splitlines()
    line = lines[place.line - 1] if place.line <= len(lines) else ""
    opened = f" (opened in line {error.context_mark.line + 1})" if error.context_mark is not None else ""
    indent = line[: len(line) - len(line.lstrip())]
    if "\t" in indent or "'\\t'" in problem:
        return "a tab stands where YAML wants spaces", "indent with spaces only"
    if "end of stream" in problem and "quoted" in str(error.context):
        return f"a quoted text is never closed{opened}", "close the quote"
    if "flow" in str(error.context):
        hint = "close the bracket; within [ ] and { } quote texts that hold ${{ }}, braces or commas"
        return f"the YAML is malformed: {problem}, {error.context}{opened}", hint
    if "mapping values are not allowed" in problem:
        return (
            "a ':' stands where no key can be",
            "quote a text that holds ': ', and check the indentation of this line",
        )
    return (
        f"the YAML is malformed: {problem}",
        "check the indentation, quotes and brackets of this line and the one before",
    )
