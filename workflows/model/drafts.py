"""A definition on its way from nodes to a `Workflow`: read piece by piece, not yet checked as a whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from workflows.model.diagnostics import Code
from workflows.model.expressions import template_texts
from workflows.model.language import (
    CONCURRENCY_KEYS,
    DEFAULT_PRIORITY,
    DEFAULTS_KEYS,
    MAX_BURST,
    MAX_POOL,
    MAX_RUNS_AT_ONCE,
    MAX_STEPS,
    RATE_LIMIT_KEYS,
    WORKFLOW_KEYS,
)
from workflows.model.nodes import Entry, MapNode, Node, Scalar, key_position_of, position_of, to_json
from workflows.model.params import schema_problems, value_problems
from workflows.model.policies import Behavior, Rate, parse_rate
from workflows.model.reader import Reader
from workflows.model.spec import Block, ParamSpec, ScheduleSpec
from workflows.model.step_drafts import (
    DEFAULT_QUEUE,
    Defaults,
    StepDraft,
    name_of,
    priority_of,
    read_step,
    retry_policy,
    retry_words,
)
from workflows.model.trigger_drafts import read_triggers

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ConcurrencyDraft:
    """A `concurrency`; `group` may hold expressions, None means the id of the workflow."""

    group: Scalar | None
    limit: int
    behavior: Behavior


@dataclass(frozen=True, slots=True)
class Draft:
    """A whole definition; `steps` holds those of all blocks."""

    id: str = ""
    description: str = ""
    params: tuple[ParamSpec, ...] = ()
    schedules: tuple[ScheduleSpec, ...] = ()
    steps: dict[str, StepDraft] = field(default_factory=dict)
    outputs: tuple[Entry, ...] = ()
    timeout_seconds: float | None = None
    concurrency: ConcurrencyDraft | None = None
    rate_limits: Mapping[str, Rate] = field(default_factory=dict)
    pools: Mapping[str, int] = field(default_factory=dict)


def read_definition(root: Node, read: Reader) -> Draft:
    """Read the nodes of a file."""
    node = read.mapping(root, "a definition")
    if node is None:
        return Draft()
    read.check_keys(node, WORKFLOW_KEYS, "a definition")
    if node.entry("id") is None:
        read.report.add(
            Code.MISSING_KEY, node.position, "the key 'id' is missing", "give the workflow a name: id: my-workflow"
        )
    params, outputs = read.optional(node, "params", read.mapping), read.optional(node, "outputs", read.mapping)
    defaults = read.optional(node, "defaults", read.mapping)
    specs = () if params is None else tuple(filter(None, (_param(entry, read) for entry in params)))
    triggers = node.entry("triggers")
    return Draft(
        id=read.optional(node, "id", read.identifier) or "",
        description=read.optional(node, "description", read.text) or "",
        params=specs,
        schedules=() if triggers is None else read_triggers(triggers.node, specs, read),
        steps=_all_steps(node, Defaults() if defaults is None else _defaults(defaults, read), read),
        timeout_seconds=read.optional(node, "timeout", lambda inner, what: read.duration(inner, what, positive=True)),
        outputs=()
        if outputs is None
        else tuple(entry for entry in outputs if read.check_name(entry.key, entry.position, "an output")),
        concurrency=read.optional(node, "concurrency", lambda inner, what: _concurrency(inner, what, read)),
        rate_limits=_limits(node, "rate_limits", lambda inner, what: _rate(inner, what, read), read),
        pools=_limits(node, "pools", lambda inner, what: read.integer(inner, what, 1, MAX_POOL), read),
    )


def _limits(root: MapNode, key: str, value: Callable[[Node, str], T | None], read: Reader) -> dict[str, T]:
    """A mapping of limits by name; one that could not be read is left out, and has been reported."""
    node = read.optional(root, key, read.mapping)
    found: dict[str, T] = {}
    for entry in node or ():
        if read.check_name(entry.key, entry.position, "a limit"):
            limit = value(entry.node, f"'{entry.key}'")
            if limit is not None:
                found[entry.key] = limit
    return found


def _rate(node: Node, what: str, read: Reader) -> Rate | None:
    mapping = read.mapping(node, what, "write {rate: 1/3s}")
    if mapping is None:
        return None
    read.check_keys(mapping, RATE_LIMIT_KEYS, what)
    burst = read.optional(mapping, "burst", lambda inner, name: read.integer(inner, name, 1, MAX_BURST))
    entry = mapping.entry("rate")
    if entry is None:
        read.report.add(Code.MISSING_KEY, mapping.position, f"{what} has no 'rate'", "write {rate: 1/3s}")
        return None
    text = read.text(entry.node, "'rate'")
    if text is None:
        return None
    try:
        return Rate(parse_rate(text), burst or 1)
    except ValueError:
        read.report.add(
            Code.BAD_VALUE, entry.node.position, f"'{text}' is no rate", "write starts per time: 1/3s, 10/m, 100/1h"
        )
        return None


def _concurrency(node: Node, what: str, read: Reader) -> ConcurrencyDraft | None:
    mapping = read.mapping(node, what)
    if mapping is None:
        return None
    read.check_keys(mapping, CONCURRENCY_KEYS, what)
    group = mapping.entry("group")
    scalar = None if group is None else group.node
    if scalar is not None and not (isinstance(scalar, Scalar) and isinstance(scalar.value, str) and scalar.value):
        read.wrong_type(scalar, "'group'", "a text", 'write a name, as in "review-${{ params.query }}"')
        scalar = None
    behavior = read.optional(mapping, "behavior", lambda inner, name: read.choice(inner, name, tuple(Behavior)))
    limit = read.optional(mapping, "limit", lambda inner, name: read.integer(inner, name, 1, MAX_RUNS_AT_ONCE))
    return ConcurrencyDraft(
        group=scalar if isinstance(scalar, Scalar) else None,
        limit=limit or 1,
        behavior=Behavior(behavior) if behavior else Behavior.QUEUE,
    )


def _param(entry: Entry, read: Reader) -> ParamSpec | None:
    what = f"param '{entry.key}'"
    if not read.check_name(entry.key, entry.position, "a param"):
        return None
    node = read.mapping(entry.node, what)
    if node is None:
        return None
    words = to_json(node)
    found = list(schema_problems(words))
    for problem in found:
        code = Code.MISSING_KEY if problem.kind == "missing" else Code.BAD_PARAM
        locate = key_position_of if problem.kind == "unknown" else position_of
        place = locate(node, problem.path) if problem.path else entry.position
        read.report.add(code, place, f"{what}: {problem.message}", problem.hint)
    required = "default" not in words
    default = words.pop("default", None)
    spec = ParamSpec(entry.key, words, required, default, entry.position)
    for _ in template_texts(default):
        place = position_of(node, ("default",))
        read.report.add(
            Code.EXPRESSION_NOT_ALLOWED, place, f"the default of {what} is fixed, no expression is evaluated"
        )
    if not required and not found:
        for problem in value_problems(spec, default):
            place = position_of(node, ("default", *problem.path))
            read.report.add(
                Code.BAD_DEFAULT, place, f"the default of {what} does not fit: {problem.message}", problem.hint
            )
    return spec


def _defaults(node: MapNode, read: Reader) -> Defaults:
    read.check_keys(node, DEFAULTS_KEYS, "'defaults'")
    words = read.optional(node, "retry", lambda inner, what: retry_words(inner, what, read))
    if words is not None:
        retry_policy(words, None, read)
    return Defaults(
        queue=read.optional(node, "queue", read.queue) or DEFAULT_QUEUE,
        timeout_seconds=read.optional(node, "timeout", lambda inner, what: read.duration(inner, what, positive=True)),
        retry=words,
        rate_limit=name_of(node, "rate_limit", read),
        pool=name_of(node, "pool", read),
        priority=DEFAULT_PRIORITY if (priority := priority_of(node, read)) is None else priority,
    )


def _all_steps(root: MapNode, defaults: Defaults, read: Reader) -> dict[str, StepDraft]:
    """The steps of all blocks by id; an id stands for one step, whatever its block."""
    found: dict[str, StepDraft] = {}
    for block in Block:
        for step in _steps(root, block, defaults, read).values():
            known = found.setdefault(step.id, step)
            if known is not step:
                read.report.add(
                    Code.SAME_STEP,
                    step.position,
                    f"there is a step '{step.id}' under '{known.block}' already",
                    "give one of them another id",
                )
    return found


def _steps(root: MapNode, block: Block, defaults: Defaults, read: Reader) -> dict[str, StepDraft]:
    entry = root.entry(block)
    hint = "a workflow has at least one step" if block is Block.STEPS else "leave the key out"
    if entry is None:
        if block is Block.STEPS:
            read.report.add(Code.NO_STEPS, root.position, "the key 'steps' is missing", hint)
        return {}
    if isinstance(entry.node, Scalar) and entry.node.value is None:
        read.report.add(Code.NO_STEPS, entry.position, f"'{block}' is empty", hint)
        return {}
    node = read.mapping(entry.node, f"'{block}'")
    if node is None:
        return {}
    if not node.entries:
        read.report.add(Code.NO_STEPS, entry.position, f"'{block}' is empty", hint)
    if len(node.entries) > MAX_STEPS:
        read.report.add(
            Code.TOO_MANY_STEPS,
            node.entries[MAX_STEPS].position,
            f"there are {len(node.entries)} steps, {MAX_STEPS} are allowed",
            "let one step with for_each do what many equal steps do",
        )
        return {}
    return {step.key: replace(read_step(step, defaults, read), block=block) for step in node}
