"""Which type an expression gives, where that can be told before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from workflows.model.expression_tree import Call, Compare, Expr, Field, Index, ListOf, Literal, Logic, Not, Root
from workflows.model.json_types import NoFieldError, Schema, array_of, field, type_of

Complain = Callable[[str, str, int], None]
"""Takes message, hint and offset of something that can never work."""

_TAKES_LISTS = frozenset({"flatten", "sum", "first", "last"})


def simple(name: str) -> Schema:
    """The type of that name, with nothing further said."""
    return Schema.of({"type": name})


NULLABLE_TEXT = Schema.of({"anyOf": [{"type": "string"}, {"type": "null"}]})


@dataclass(frozen=True, slots=True)
class TypeScope:
    """What is known of the values that expressions at one place may read.

    Attributes:
        params: Types by name.
        outputs: Types of what steps give (one call, for a map), by step id; None where it is not known.
        item: Type of `item`, and of the elements of `batch`.
    """

    params: Mapping[str, Schema]
    outputs: Mapping[str, Schema | None]
    item: Schema | None = None


def infer(tree: Expr, scope: TypeScope, complain: Complain) -> Schema | None:
    """The type of what an expression gives, None when it cannot be told; what can never work goes to `complain`."""
    return _Inference(scope, complain).type(tree)


@dataclass(frozen=True, slots=True)
class _Inference:
    scope: TypeScope
    complain: Complain

    def type(self, tree: Expr) -> Schema | None:
        match tree:
            case Literal(value=value):
                return simple(type_of(value))
            case ListOf(items=items):
                for item in items:
                    self.type(item)
                return simple("array")
            case Root(name=name):
                return array_of(self.scope.item) or simple("array") if name == "batch" else self.scope.item
            case Field():
                return self._field(tree)
            case Index(of=of, index=index):
                self.type(index)
                container = self.type(of)
                return container.element() if container is not None else None
            case Compare(left=left, right=right):
                self.type(left)
                self.type(right)
            case Logic(operands=operands):
                for operand in operands:
                    self.type(operand)
            case Not(operand=operand):
                self.type(operand)
            case Call():
                return self._call(tree)
        return simple("boolean")

    def _field(self, tree: Field) -> Schema | None:
        match tree.of:
            case Root(name="params"):
                return self.scope.params.get(tree.name)
            case Root(name="run"):
                # `error` of a run that has not failed, `fire_time` of one that no schedule started.
                return NULLABLE_TEXT if tree.name in ("error", "fire_time") else simple("string")
            case Root(name="secret"):
                return simple("string")
            case Root(name="steps"):
                return None
            case Field(of=Root(name="steps"), name=step):
                return self._of_step(step, tree.name)
            case of:
                container = self.type(of)
        if container is None:
            return None
        try:
            return field(container, tree.name)
        except NoFieldError as error:
            self.complain(str(error), error.hint, tree.offset)
            return None

    def _of_step(self, step: str, part: str) -> Schema | None:
        output = self.scope.outputs.get(step)
        match part:
            case "output":
                return output
            case "outputs":
                return array_of(output) or simple("array")
            case "failures":
                return simple("array")
            case _:
                return simple("string")

    def _call(self, tree: Call) -> Schema | None:
        types = [self.type(argument) for argument in tree.arguments]
        first = types[0] if types else None
        if tree.function in _TAKES_LISTS and first is not None:
            known = first.types()
            if known is not None and "array" not in known:
                self.complain(f"{tree.function}() takes a list, this is never one", "", tree.arguments[0].offset)
                return None
        match tree.function:
            case "size":
                return simple("integer")
            case "sum":
                return simple("number")
            case "range":
                return Schema.of({"type": "array", "items": {"type": "integer"}})
            case "first" | "last":
                return first.element() if first is not None else None
            case "flatten":
                inner = first.element() if first is not None else None
                return array_of(inner.element() if inner is not None else None) or simple("array")
            case "default":
                return _either(*types) if len(types) == 2 else None
            case _:
                return None


def _either(first: Schema | None, second: Schema | None) -> Schema | None:
    """What `default()` gives: the first unless that is null, or the second."""
    if first is None or second is None:
        return None
    branches = [branch for branch in first.alternatives() if branch.types() != frozenset({"null"})]
    others = [branch for branch in second.alternatives() if branch not in branches]
    documents = [schema.document for schema in (*branches, *others) if schema.document is not schema.words]
    if any(document is not documents[0] for document in documents[1:]):
        return None  # their references mean different things
    words = [branch.words for branch in (*branches, *others)]
    document = documents[0] if documents else {}
    return Schema(words[0] if len(words) == 1 else {"anyOf": words}, document) if words else None
