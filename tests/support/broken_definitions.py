"""Some hundred files that are no definitions: shipped ones with one mistake each, and a few that mean harm."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from tests.support.cluster import PROJECT

WRITTEN = PROJECT / "tests/unit/model/bad"
SHIPPED = PROJECT / "definitions"

_KEY = re.compile(r"^(\s*)([a-z_]+):(.*)$")
_NAMES = re.compile(r"(params|steps)\.([a-z_]+)")


class Broken(NamedTuple):
    """A file and what is wrong with it."""

    name: str
    data: bytes


def broken_definitions() -> Iterator[Broken]:
    """All of them, always the same."""
    for path in sorted(WRITTEN.glob("*.yaml")):
        yield Broken(f"by hand: {path.stem}", path.read_bytes())
    for path in sorted(SHIPPED.rglob("*.yaml")):
        for what, text in _with_one_mistake(path.read_text()):
            yield Broken(f"{path.stem}: {what}", text.encode())
    yield from _harmful()


def _with_one_mistake(text: str) -> Iterator[tuple[str, str]]:
    lines = text.splitlines()

    def changed(index: int, line: str) -> str:
        return "\n".join([*lines[:index], line, *lines[index + 1 :]])

    for index, line in enumerate(lines):
        found = _KEY.match(line)
        if found is not None and not line.lstrip().startswith("#"):
            indent, key, rest = found.groups()
            place = f"line {index + 1}"
            if _is_word_of_the_language(indent, key):
                yield f"{place}, misspelt key", changed(index, f"{indent}{key}q:{rest}")
            yield f"{place}, key twice", changed(index, f"{line}\n{indent}{key}: 1")
            yield f"{place}, tab", changed(index, f"\t{line}")
        for name in _NAMES.finditer(line):
            wrong = f"{name[1]}.{name[2]}_that_is_not_there"
            yield (
                f"line {index + 1}, unknown {name[1]}",
                changed(index, line[: name.start()] + wrong + line[name.end() :]),
            )
        if "}}" in line:
            yield f"line {index + 1}, open expression", changed(index, line.replace("}}", "", 1))
        if "uses: " in line:
            wrong = re.sub(r"uses: ([a-z_]+)", r"uses: os.system", line)
            yield f"line {index + 1}, Python path", changed(index, wrong.replace("os.system", "os:system"))


def _is_word_of_the_language(indent: str, key: str) -> bool:
    """Names of params, steps, outputs and inputs are free: another name there is no mistake of spelling."""
    words = {"description", "params", "steps", "defaults", "triggers", "outputs", "timeout", "concurrency"}
    in_step = {"uses", "with", "for_each", "needs", "run_if", "when", "queue"}
    return key in (words if not indent else in_step if len(indent) == 4 else set())


def _harmful() -> Iterator[Broken]:
    expression = b'id: x\nsteps: {a: {uses: value, with: {x: "${{ %s }}"}}}\n'
    laughs = "a: &a [x,x,x,x,x,x,x,x,x]\n"
    for before, now in zip("abcdefgh", "bcdefghi", strict=True):
        laughs += f"{now}: &{now} [{','.join([f'*{before}'] * 9)}]\n"
    yield Broken("harm: a billion laughs", f"id: x\n{laughs}steps: *i\n".encode())
    yield Broken("harm: deep brackets", b"id: x\nsteps: " + b"[" * 20_000)
    yield Broken("harm: deep mappings", b"id: x\nsteps: " + b"{a: " * 20_000)
    yield Broken("harm: deep expression", expression % (b"(" * 5_000))
    yield Broken("harm: long expression", expression % (b"not " * 20_000))
    yield Broken("harm: an object of Python", b"id: x\nsteps: !!python/object/apply:os.system [ls]\n")
    yield Broken("harm: a number without end", b"id: x\ntimeout: " + b"9" * 100_000 + b"\nsteps: {a: {uses: value}}\n")
    yield Broken("harm: an id without end", b"id: " + b"x" * 100_000 + b"\nsteps: {a: {uses: value}}\n")
    yield Broken("harm: many steps", b"id: x\nsteps:\n" + b"".join(b"  s%d: {uses: value}\n" % i for i in range(6_000)))
    yield Broken("harm: too large", b"id: x\n# " + b"x" * 1_100_000)
    yield Broken("harm: an endless regular expression", b'id: x\nparams: {p: {type: string, pattern: "((a+)+)+("}}\n')
    yield Broken("harm: no text", bytes(range(256)) * 10)
    yield Broken("harm: NUL", b"id: x\x00\nsteps: {a: {uses: value}}\n")
    yield Broken("harm: UTF-16", "id: x\nsteps: {a: {uses: nothing}}\n".encode("utf-16"))
    yield Broken("harm: empty", b"")
    yield Broken("harm: shell", b"id: x\nsteps: {a: {uses: 'value; rm -rf /'}}\n")
    yield Broken("harm: path", b"id: ../../etc/passwd\nsteps: {a: {uses: value}}\n")
    yield Broken("harm: attributes", expression % b"params.__class__.__mro__")
