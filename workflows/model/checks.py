"""What must hold between the parts of a definition: names that exist, scopes, types of data, a graph without cycles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from workflows.model.conditions import truth
from workflows.model.diagnostics import Code, Report, listed
from workflows.model.drafts import Draft
from workflows.model.errors import ExpressionError
from workflows.model.expression_tree import PathUse, paths
from workflows.model.expression_types import TypeScope, infer, simple
from workflows.model.expressions import Template, holds_expression, parse_template
from workflows.model.graph import cycles
from workflows.model.json_types import Problem, Schema, Unknown, problems
from workflows.model.language import RULES_THAT_NEED_UPSTREAM, SECRET_NAME
from workflows.model.nodes import ListNode, MapNode, Node, Scalar, key_position_of, position_of
from workflows.model.params import schema_of
from workflows.model.reader import Named
from workflows.model.spec import Block, Json, Position, TriggerRule
from workflows.model.step_drafts import ForEachDraft, StepDraft

StepSchemas = Mapping[str, tuple[dict[str, Any], dict[str, Any] | None]]
"""Registered step -> JSON Schemas of its input and of its output (None when it gives nothing)."""


def check(draft: Draft, report: Report, steps: StepSchemas | None) -> dict[str, tuple[str, ...]]:
    """Check a draft as a whole; gives each step's dependencies, declared and implied, sorted."""
    return _Checker(draft, report, steps).run()


@dataclass(frozen=True, slots=True)
class _Place:
    """Where expressions stand: what they may read there, and who reads.

    Attributes:
        step: The step that reads; None for the outputs of the workflow.
        loop: The `for_each` whose `item` or `batch` exists here.
        in_with: Whether this is `with`, the only place from which nothing is kept.
        in_items: Whether this is `for_each.items`, where they do not exist yet.
        in_when: Whether this is `when`, which is decided once for the step and not for each of its calls.
        in_group: Whether this is `concurrency.group`, which is decided before the run has begun.
    """

    step: StepDraft | None = None
    loop: ForEachDraft | None = None
    in_with: bool = False
    in_items: bool = False
    in_when: bool = False
    in_group: bool = False


@dataclass(slots=True)
class _Checker:
    draft: Draft
    report: Report
    steps: StepSchemas | None
    read_params: set[str] = field(default_factory=set)
    reads: dict[str, set[str]] = field(default_factory=dict)
    unreadable: bool = False
    inputs: dict[str, Schema] = field(default_factory=dict)
    types: TypeScope = field(default_factory=lambda: TypeScope({}, {}))

    def run(self) -> dict[str, tuple[str, ...]]:
        self.types = TypeScope(
            params={spec.name: schema_of(spec) for spec in self.draft.params},
            outputs={step.id: self._output(step) for step in self.draft.steps.values()},
        )
        for step in self.draft.steps.values():
            if self.report.full:
                break
            self._step(step)
        for entry in self.draft.outputs:
            self._typed(entry.node, _Place(), self.types)
        if self.draft.concurrency is not None and self.draft.concurrency.group is not None:
            self._typed(self.draft.concurrency.group, _Place(in_group=True), self.types)
        self._unused_params()
        needs = {
            step.id: tuple(sorted({named.name for named in step.needs} | self.reads.get(step.id, set())))
            for step in self.draft.steps.values()
        }
        self._cycles(needs)
        return needs

    # One step

    def _step(self, step: StepDraft) -> None:
        self._uses(step)
        self._needs(step)
        types = self.types
        if step.for_each is not None:
            types = TypeScope(types.params, types.outputs, self._for_each(step, step.for_each))
        self._input(step, types)
        if step.when is not None:
            self._when(step, step.when)
        self._limit("rate_limit", step.rate_limit, self.draft.rate_limits)
        self._limit("pool", step.pool, self.draft.pools)
        if step.run_if in RULES_THAT_NEED_UPSTREAM and not step.needs and not self.reads.get(step.id):
            self.report.add(
                Code.RULE_NEVER_HOLDS,
                step.run_if_position,
                f"'{step.run_if}' can never hold: step '{step.id}' needs nothing",
                "name the steps that it watches under 'needs'",
            )

    def _limit(self, what: str, named: Named | None, declared: Mapping[str, object]) -> None:
        if named is None or named.name in declared:
            return
        known = f"there are {listed(declared)}" if declared else f"declare it under '{what}s'"
        hint = self.report.did_you_mean(named.name, declared) or known
        self.report.add(Code.UNKNOWN_LIMIT, named.position, f"unknown {what} '{named.name}'", hint)

    def _when(self, step: StepDraft, node: Scalar) -> None:
        value = self._typed(node, _Place(step, in_when=True), self.types)
        if isinstance(value, Unknown):
            template = _readable(node)
            if template is None:
                return
            known = None if value.schema is None else value.schema.types()
            if template.sole is None or (known is not None and "boolean" not in known):
                self.report.add(
                    Code.CONDITION,
                    node.position,
                    "'when' is one expression that gives true or false",
                    "put nothing around it, and compare what is no boolean: size(x) > 0, x != null",
                )
                return
            if truth(template.sole, partial(self._possible, step)) is not False:
                return
        elif value is True:
            return
        self.report.add(
            Code.NEVER_TRUE,
            node.position,
            f"'when' is never true: step '{step.id}' is always skipped",
            "correct the condition, or remove the step",
        )

    def _possible(self, step: StepDraft, root: str, names: tuple[str, ...]) -> tuple[Json, ...] | None:
        """All the values that a path in the condition of a step can have; None when they are not known."""
        if root == "steps" and len(names) == 2 and names[1] == "status":
            other = self.draft.steps.get(names[0])
            return _ENDED if other is not None and other.block is not step.block else _statuses(step)
        if root != "params" or len(names) != 1 or names[0] not in self.types.params:
            return None
        branches = self.types.params[names[0]].alternatives()
        found: list[Json] = []
        for branch in branches:
            if "enum" in branch.words:
                found += branch.words["enum"]
            elif branch.words.get("type") in _FEW:
                found += _FEW[branch.words["type"]]
            else:
                return None
        return tuple(found)

    def _uses(self, step: StepDraft) -> None:
        if self.steps is None or step.uses is None or step.uses.name in self.steps:
            return
        hint = self.report.did_you_mean(step.uses.name, self.steps)
        known = f"there are {listed(self.steps)}" if self.steps else "none are; set CELERIAC_STEP_MODULES"
        self.report.add(
            Code.UNKNOWN_USES, step.uses.position, f"no step is registered as '{step.uses.name}'", hint or known
        )

    def _needs(self, step: StepDraft) -> None:
        seen: set[str] = set()
        for named in step.needs:
            if named.name == step.id:
                self.report.add(Code.SELF_DEPENDENCY, named.position, f"step '{step.id}' needs itself", "remove it")
            elif named.name not in self.draft.steps:
                self._unknown_step(named.name, named.position)
            elif self.draft.steps[named.name].block is not step.block:
                there = self.draft.steps[named.name].block
                self.report.add(
                    Code.OTHER_BLOCK,
                    named.position,
                    f"'{named.name}' stands under '{there}', this step under '{step.block}'",
                    "blocks run one after the other as they are; name steps of the same block",
                )
            elif named.name in seen:
                self.report.add(Code.REPEATED_NEED, named.position, f"'{named.name}' is named twice", "remove one")
            seen.add(named.name)

    def _unknown_step(self, name: str, position: Position) -> None:
        hint = self.report.did_you_mean(name, self.draft.steps) or f"there are {listed(self.draft.steps)}"
        self.report.add(Code.UNKNOWN_STEP, position, f"unknown step '{name}'", hint)

    def _for_each(self, step: StepDraft, loop: ForEachDraft) -> Schema | None:
        """Check `items` and `key`; the type of one item, when it can be told."""
        items = self._items(step, loop.items) if loop.items is not None else None
        if loop.key is not None:
            types = TypeScope(self.types.params, self.types.outputs, items)
            self._typed(loop.key, _Place(step, loop), types)
            if not self._depends_on_item(loop.key):
                name = "batch" if loop.is_batched else "item"
                self.report.add(
                    Code.SAME_KEY,
                    loop.key.position,
                    "'key' is the same for every call",
                    f"write an expression that reads {name}, or leave it out to number the calls",
                )
        return items

    def _items(self, step: StepDraft, node: Node) -> Schema | None:
        place = _Place(step, step.for_each, in_items=True)
        value = self._typed(node, place, self.types)
        if isinstance(node, ListNode):
            return None
        if not isinstance(value, Unknown) or not (isinstance(node, Scalar) and self._is_sole(node)):
            self.report.add(
                Code.NOT_AN_EXPRESSION,
                node.position,
                "'items' is one expression or a list",
                "write it like items: ${{ steps.fetch.output.paper_ids }}, with nothing around it",
            )
            return None
        if value.schema is None:
            return None
        found = problems(value, simple("array"))
        for problem in found:
            self.report.add(Code.INPUT_TYPE, node.position, f"'items': {problem.message}", problem.hint)
        return value.schema.element()

    def _is_sole(self, node: Scalar) -> bool:
        template = _readable(node)
        return template is None or template.sole is not None

    def _depends_on_item(self, node: Scalar) -> bool:
        template = _readable(node)
        return template is None or any(
            path.root in {"item", "batch"} for hole in template.holes for path in paths(hole.tree)
        )

    def _input(self, step: StepDraft, types: TypeScope) -> None:
        value = {} if step.with_ is None else self._typed(step.with_, _Place(step, step.for_each, in_with=True), types)
        if self.steps is None or step.uses is None or step.uses.name not in self.steps:
            return
        name = step.uses.name
        schema = self.inputs.get(name) or self.inputs.setdefault(name, Schema.of(self.steps[name][0]))
        for problem in problems(value, schema, closed=True):
            self._input_problem(step, problem)

    def _input_problem(self, step: StepDraft, problem: Problem) -> None:
        code = {"unknown": Code.UNKNOWN_INPUT, "missing": Code.MISSING_INPUT}.get(problem.kind, Code.INPUT_TYPE)
        position = step.position if step.with_ is None else position_of(step.with_, problem.path)
        if problem.kind == "unknown" and step.with_ is not None:
            position = key_position_of(step.with_, problem.path)
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem.path)
        what = f"with{place}" if problem.kind != "unknown" else f"step '{step.uses.name if step.uses else ''}'"
        self.report.add(code, position, f"{what}: {problem.message}", problem.hint)

    def _output(self, step: StepDraft) -> Schema | None:
        if self.steps is None or step.uses is None or step.uses.name not in self.steps:
            return None
        schema = self.steps[step.uses.name][1]
        return simple("null") if schema is None else Schema.of(schema)

    # Expressions

    def _typed(self, node: Node, place: _Place, types: TypeScope) -> Json:
        """The JSON value of a node, expressions checked and replaced by what is known of them."""
        match node:
            case Scalar(value=str() as text) if holds_expression(text):
                return self._template(node, text, place, types)
            case Scalar(value=value):
                return value
            case ListNode(items=items):
                return [self._typed(item, place, types) for item in items]
            case MapNode(entries=entries):
                return {entry.key: self._typed(entry.node, place, types) for entry in entries}

    def _template(self, node: Scalar, text: str, place: _Place, types: TypeScope) -> Unknown:
        try:
            template = parse_template(text)
        except ExpressionError as error:
            self.unreadable = True
            self.report.add(Code.BAD_EXPRESSION, node.position_at(error.offset), str(error), error.hint)
            return Unknown()
        return Unknown(self._template_type(node, template, place, types))

    def _template_type(self, node: Scalar, template: Template, place: _Place, types: TypeScope) -> Schema | None:
        found: Schema | None = None
        for hole in template.holes:
            begin = hole.offset
            sound = [self._path(path, node.position_at(begin + path.offset), place) for path in paths(hole.tree)]
            if all(sound):

                def complain(message: str, hint: str, offset: int, begin: int = begin) -> None:
                    self.report.add(Code.UNKNOWN_OUTPUT, node.position_at(begin + offset), message, hint)

                found = infer(hole.tree, types, complain)
        return found if template.sole is not None else simple("string")

    def _path(self, path: PathUse, position: Position, place: _Place) -> bool:
        """Whether what a path reads exists at this place."""
        if place.in_group and path.root != "params":
            message = f"there is no '{path.root}' in 'group': it is decided before the run has begun"
            self.report.add(Code.OUT_OF_SCOPE, position, message, "read params")
            return False
        match path.root:
            case "params":
                return self._param(path.names[0], position)
            case "steps":
                return self._step_field(path.names[0], path.names[1], position, place)
            case "run":
                return self._of_run(path.names[0], position, place)
            case "item" | "batch":
                return self._loop_variable(path.root, position, place)
            case "secret":
                return self._secret(path.names[0], position, place)
            case _:
                return True

    def _secret(self, name: str, position: Position, place: _Place) -> bool:
        if not place.in_with:
            message = "there is no 'secret' here: what this expression gives is kept"
            self.report.add(Code.OUT_OF_SCOPE, position, message, "hand it to a step, in 'with'")
            return False
        if SECRET_NAME.fullmatch(name) is None:
            message = f"'{name}' is no name of a secret"
            hint = "capital letters, digits and _, such as SLACK_URL; it is the variable CELERIAC_SECRET_SLACK_URL"
            self.report.add(Code.BAD_EXPRESSION, position, message, hint)
            return False
        return True

    def _of_run(self, name: str, position: Position, place: _Place) -> bool:
        if name in ("id", "fire_time") or (place.step is not None and place.step.block is not Block.STEPS):
            return True
        self.report.add(
            Code.OUT_OF_SCOPE,
            position,
            f"there is no 'run.{name}' here: the run has not ended",
            "it exists in steps under 'on_failure' and 'finally'",
        )
        return False

    def _param(self, name: str, position: Position) -> bool:
        self.read_params.add(name)
        if name in self.types.params:
            return True
        names = [spec.name for spec in self.draft.params]
        hint = self.report.did_you_mean(name, names) or "declare it under 'params'"
        self.report.add(Code.UNKNOWN_PARAM, position, f"param '{name}' is not declared", hint)
        return False

    def _step_field(self, step_id: str, part: str, position: Position, place: _Place) -> bool:
        target = self.draft.steps.get(step_id)
        if target is None:
            self._unknown_step(step_id, position)
            return False
        if place.step is not None:
            if step_id == place.step.id:
                self.report.add(Code.SELF_DEPENDENCY, position, f"step '{step_id}' reads its own result")
                return False
            if target.block is place.step.block:
                self.reads.setdefault(place.step.id, set()).add(step_id)
        if target.block.turn > (Block.STEPS if place.step is None else place.step.block).turn:
            self.report.add(
                Code.OTHER_BLOCK,
                position,
                f"step '{step_id}' of '{target.block}' has not run by then",
                "read a step of the same block, or of one before it",
            )
            return False
        if part == "output" and target.for_each is not None:
            self.report.add(
                Code.MAP_OUTPUT,
                position,
                f"step '{step_id}' has for_each, so it has no single output",
                f"write steps.{step_id}.outputs, the list of what its calls gave",
            )
            return False
        if part in {"outputs", "failures"} and target.for_each is None:
            self.report.add(
                Code.MAP_OUTPUT,
                position,
                f"step '{step_id}' has no for_each, so it has no '{part}'",
                f"write steps.{step_id}.output",
            )
            return False
        return True

    def _loop_variable(self, name: str, position: Position, place: _Place) -> bool:
        if place.in_when:
            self.report.add(
                Code.OUT_OF_SCOPE,
                position,
                f"there is no '{name}' in 'when', which is decided once for the step",
                "leave out items in for_each.items, or let the step return early",
            )
            return False
        if place.loop is None or place.in_items:
            where = "'items', which is evaluated before there are any" if place.in_items else "for_each"
            message = f"there is no '{name}' in {where}" if place.in_items else f"there is no '{name}' without {where}"
            self.report.add(Code.OUT_OF_SCOPE, position, message, "'item' and 'batch' exist in a step with for_each")
            return False
        if place.loop.is_batched is (name == "batch"):
            return True
        message, hint = (
            ("there is no 'item': for_each has a batch", "write 'batch', the list of this call's items")
            if place.loop.is_batched
            else ("there is no 'batch': for_each has none", "write 'item', or give for_each a batch: 64")
        )
        self.report.add(Code.OUT_OF_SCOPE, position, message, hint)
        return False

    # The whole

    def _unused_params(self) -> None:
        if self.unreadable:
            return  # the expression that cannot be read may be the one that reads it
        for spec in self.draft.params:
            if spec.name not in self.read_params:
                self.report.add(
                    Code.UNUSED_PARAM, spec.position, f"param '{spec.name}' is never read", "use it or remove it"
                )

    def _cycles(self, needs: Mapping[str, tuple[str, ...]]) -> None:
        for cycle in cycles(needs):
            first = self.draft.steps[cycle[0]]
            position = next((named.position for named in first.needs if named.name == cycle[1]), first.position)
            path = [*cycle, cycle[0]] if len(cycle) <= 12 else [*cycle[:6], "...", *cycle[-5:], cycle[0]]
            self.report.add(
                Code.CYCLE, position, f"steps wait for each other: {' needs '.join(path)}", "remove one of these needs"
            )


_FEW: Mapping[str, tuple[Json, ...]] = {"boolean": (True, False), "null": (None,)}
_ENDED = ("SUCCESS", "FAILURE", "SKIPPED", "REVOKED")
_OPEN = ("PENDING", "PROGRESS", "RETRY", "WAITING")
_RULES_THAT_DO_NOT_WAIT = frozenset({TriggerRule.ONE_SUCCESS, TriggerRule.ONE_FAILED, TriggerRule.ONE_DONE})


def _statuses(step: StepDraft) -> tuple[str, ...]:
    """What the status of a step before this one can be by the time this one may start."""
    if step.run_if is TriggerRule.ALL_SUCCESS:
        return ("SUCCESS",)
    return (*_ENDED, *_OPEN) if step.run_if in _RULES_THAT_DO_NOT_WAIT else _ENDED


def _readable(node: Scalar) -> Template | None:
    """The template of a text; None when it is malformed, which was reported where it was checked."""
    try:
        return parse_template(str(node.value))
    except ExpressionError:
        return None
