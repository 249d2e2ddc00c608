"""A definition on its way from nodes to a `Workflow`: read piece by piece, not yet checked as a whole."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from workflows.model.diagnostics import Code
from workflows.model.expressions import holds_expression, template_texts
from workflows.model.language import (
    CONCURRENCY_KEYS,
    DEFAULT_PRIORITY,
    DEFAULTS_KEYS,
    DEFAULTS_KEYS_LATER,
    FOR_EACH_KEYS,
    MAX_ATTEMPTS,
    MAX_BATCH,
    MAX_BURST,
    MAX_FACTOR,
    MAX_PARALLEL,
    MAX_POOL,
    MAX_PRIORITY,
    MAX_RUNS_AT_ONCE,
    MAX_STEPS,
    RATE_LIMIT_KEYS,
    RETRY_KEYS,
    STEP_KEYS,
    STEP_KEYS_LATER,
    WORKFLOW_KEYS,
    WORKFLOW_KEYS_LATER,
)
from workflows.model.names import STEP_NAME
from workflows.model.nodes import Entry, MapNode, Node, Scalar, describe, key_position_of, position_of, to_json
from workflows.model.params import schema_problems, value_problems
from workflows.model.policies import PERMANENT_ERRORS, Behavior, Rate, RetryPolicy, Tolerance, parse_rate
from workflows.model.reader import Named, Reader
from workflows.model.spec import Block, Json, ParamSpec, Position, ScheduleSpec, TriggerRule
from workflows.model.trigger_drafts import read_triggers

DEFAULT_QUEUE = "processing"
T = TypeVar("T")
GIVEN_RETRY = RetryPolicy(max_attempts=4)
"""What the keys left out of a `retry` are; a step without any `retry` is tried once."""

_PERCENT = re.compile(r"(\d{1,3}(?:\.\d+)?)\s*%")
_ERROR_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
_RETRY_FIELDS = {"delay": "delay_seconds", "max_delay": "max_delay_seconds"}


@dataclass(frozen=True, slots=True)
class RetryWords:
    """The keys of a `retry` that were written, by the names of the fields of `RetryPolicy`."""

    values: dict[str, Json]
    position: Position


@dataclass(frozen=True, slots=True)
class ForEachDraft:
    """A `for_each`; `items` and `key` may hold expressions."""

    items: Node | None
    key: Scalar | None
    batch: int | None
    max_parallel: int | None
    tolerate: Tolerance
    is_batched: bool


@dataclass(frozen=True, slots=True)
class StepDraft:
    """A step; whatever could not be read is None, and has been reported."""

    id: str
    position: Position
    uses: Named | None = None
    needs: tuple[Named, ...] = ()
    with_: MapNode | None = None
    for_each: ForEachDraft | None = None
    retry: RetryPolicy = RetryPolicy()
    timeout_seconds: float | None = None
    queue: str = DEFAULT_QUEUE
    run_if: TriggerRule = TriggerRule.ALL_SUCCESS
    run_if_position: Position = Position()
    when: Scalar | None = None
    block: Block = Block.STEPS
    rate_limit: Named | None = None
    pool: Named | None = None
    priority: int = DEFAULT_PRIORITY


@dataclass(frozen=True, slots=True)
class ConcurrencyDraft:
    """A `concurrency`; `group` may hold expressions, None means the id of the workflow."""

    group: Scalar | None
    limit: int
    behavior: Behavior


@dataclass(frozen=True, slots=True)
class Defaults:
    """What steps take over when they do not say it themselves."""

    queue: str = DEFAULT_QUEUE
    timeout_seconds: float | None = None
    retry: RetryWords | None = None
    rate_limit: Named | None = None
    pool: Named | None = None
    priority: int = DEFAULT_PRIORITY


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
    read.check_keys(node, WORKFLOW_KEYS, WORKFLOW_KEYS_LATER, "a definition")
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
    read.check_keys(mapping, RATE_LIMIT_KEYS, frozenset(), what)
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


def _name_of(node: MapNode, key: str, read: Reader) -> Named | None:
    entry = node.entry(key)
    name = None if entry is None else read.identifier(entry.node, f"'{key}'")
    return None if name is None or entry is None else Named(name, entry.node.position)


def _priority(node: MapNode, read: Reader) -> int | None:
    return read.optional(node, "priority", lambda inner, name: read.integer(inner, name, 0, MAX_PRIORITY))


def _concurrency(node: Node, what: str, read: Reader) -> ConcurrencyDraft | None:
    mapping = read.mapping(node, what)
    if mapping is None:
        return None
    read.check_keys(mapping, CONCURRENCY_KEYS, frozenset(), what)
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
    read.check_keys(node, DEFAULTS_KEYS, DEFAULTS_KEYS_LATER, "'defaults'")
    words = read.optional(node, "retry", lambda inner, what: _retry_words(inner, what, read))
    if words is not None:
        _policy(words, None, read)
    return Defaults(
        queue=read.optional(node, "queue", read.queue) or DEFAULT_QUEUE,
        timeout_seconds=read.optional(node, "timeout", lambda inner, what: read.duration(inner, what, positive=True)),
        retry=words,
        rate_limit=_name_of(node, "rate_limit", read),
        pool=_name_of(node, "pool", read),
        priority=DEFAULT_PRIORITY if (priority := _priority(node, read)) is None else priority,
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
    return {step.key: replace(_step(step, defaults, read), block=block) for step in node}


def _step(entry: Entry, defaults: Defaults, read: Reader) -> StepDraft:
    what = f"step '{entry.key}'"
    read.check_name(entry.key, entry.position, "a step")
    draft = StepDraft(entry.key, entry.position)
    node = read.mapping(entry.node, what, "write at least {uses: NAME}")
    if node is None:
        return draft
    read.check_keys(node, STEP_KEYS, STEP_KEYS_LATER, "a step")
    words = read.optional(node, "retry", lambda inner, what: _retry_words(inner, what, read))
    timeout = read.optional(node, "timeout", lambda inner, what: read.duration(inner, what, positive=True))
    rule = read.optional(node, "run_if", lambda inner, what: read.choice(inner, what, tuple(TriggerRule)))
    run_if = node.entry("run_if")
    return replace(
        draft,
        uses=_uses(node, entry, read),
        needs=read.optional(node, "needs", read.names) or (),
        with_=read.optional(node, "with", read.mapping),
        for_each=read.optional(node, "for_each", lambda inner, what: _for_each(inner, what, read)),
        retry=_policy(defaults.retry, words, read),
        timeout_seconds=defaults.timeout_seconds if timeout is None else timeout,
        queue=read.optional(node, "queue", read.queue) or defaults.queue,
        run_if=TriggerRule(rule) if rule else TriggerRule.ALL_SUCCESS,
        run_if_position=entry.position if run_if is None else run_if.node.position,
        rate_limit=_name_of(node, "rate_limit", read) or defaults.rate_limit,
        pool=_name_of(node, "pool", read) or defaults.pool,
        priority=defaults.priority if (priority := _priority(node, read)) is None else priority,
        when=read.optional(node, "when", lambda inner, _: _when(inner, read)),
    )


def _when(node: Node, read: Reader) -> Scalar | None:
    if isinstance(node, Scalar):
        if isinstance(node.value, bool):
            return node
        if isinstance(node.value, str) and holds_expression(node.value):
            return node
    read.report.add(
        Code.CONDITION,
        node.position,
        f"'when' is one expression that gives true or false, not {describe(node)}",
        "write it like when: ${{ params.send }} or when: ${{ size(steps.fetch.output.ids) > 0 }}",
    )
    return None


def _uses(node: MapNode, step: Entry, read: Reader) -> Named | None:
    entry = node.entry("uses")
    if entry is None:
        read.report.add(
            Code.MISSING_KEY,
            step.position,
            f"step '{step.key}' has no 'uses'",
            "name the registered step that does the work",
        )
        return None
    name = read.text(entry.node, "'uses'")
    hint = "use the name of a registered step: lower-case letters, digits, '.', '_' and '-'"
    if name is None or not read.check_name(name, entry.node.position, "a registered step", STEP_NAME, hint):
        return None
    return Named(name, entry.node.position)


def _for_each(node: Node, what: str, read: Reader) -> ForEachDraft | None:
    mapping = read.mapping(node, what)
    if mapping is None:
        return None
    read.check_keys(mapping, FOR_EACH_KEYS, frozenset(), what)
    items, key = mapping.entry("items"), mapping.entry("key")
    if items is None:
        read.report.add(
            Code.MISSING_KEY, mapping.position, "'for_each' has no 'items'", "items: ${{ steps.ID.output.NAME }}"
        )
    if key is not None and not (isinstance(key.node, Scalar) and isinstance(key.node.value, str)):
        read.wrong_type(key.node, "'key'", "a text", 'write an expression, as in "${{ item }}"')
    return ForEachDraft(
        items=None if items is None else items.node,
        key=key.node if key is not None and isinstance(key.node, Scalar) and isinstance(key.node.value, str) else None,
        batch=read.optional(mapping, "batch", lambda inner, name: read.integer(inner, name, 1, MAX_BATCH)),
        max_parallel=read.optional(
            mapping, "max_parallel", lambda inner, name: read.integer(inner, name, 1, MAX_PARALLEL)
        ),
        tolerate=read.optional(mapping, "tolerate", lambda inner, _: _tolerance(inner, read)) or Tolerance(),
        is_batched=mapping.entry("batch") is not None,
    )


def _tolerance(node: Node, read: Reader) -> Tolerance | None:
    value = node.value if isinstance(node, Scalar) else None
    if isinstance(value, int) and not isinstance(value, bool):
        if value >= 0:
            return Tolerance(count=value)
    elif isinstance(value, str):
        match = _PERCENT.fullmatch(value.strip())
        if match and float(match[1]) <= 100:
            return Tolerance(percent=float(match[1]))
    else:
        read.wrong_type(node, "'tolerate'", "a number of calls or a share such as 5%")
        return None
    read.report.add(
        Code.BAD_VALUE,
        node.position,
        f"'tolerate' is {value}; that is no tolerance",
        "write a number of calls, 0 or more, or a share from 0% to 100%",
    )
    return None


def _retry_words(node: Node, what: str, read: Reader) -> RetryWords | None:
    mapping = read.mapping(node, what)
    if mapping is None:
        return None
    read.check_keys(mapping, RETRY_KEYS, frozenset(), what)
    values = {
        "max_attempts": read.optional(
            mapping, "max_attempts", lambda inner, name: read.integer(inner, name, 1, MAX_ATTEMPTS)
        ),
        "delay_seconds": read.optional(mapping, "delay", read.duration),
        "factor": read.optional(mapping, "factor", lambda inner, name: read.number(inner, name, 1, MAX_FACTOR)),
        "max_delay_seconds": read.optional(mapping, "max_delay", read.duration),
        "jitter": read.optional(mapping, "jitter", lambda inner, name: read.choice(inner, name, ("full", "none"))),
        "only_for": _error_names(mapping, "only_for", read),
        "never_for": _error_names(mapping, "never_for", read),
    }
    return RetryWords({name: value for name, value in values.items() if value is not None}, mapping.position)


def _error_names(node: MapNode, key: str, read: Reader) -> tuple[str, ...] | None:
    names = read.optional(node, key, read.names)
    if names is None:
        return None
    hint = "write the name of an exception class, as in TransientError"
    good = [named for named in names if read.check_name(named.name, named.position, "an exception", _ERROR_NAME, hint)]
    for named in good:
        if key == "only_for" and named.name in PERMANENT_ERRORS:
            read.report.add(
                Code.BAD_RETRY, named.position, f"'{named.name}' is never tried again", "remove it from only_for"
            )
    return tuple(dict.fromkeys(named.name for named in good))


def _policy(defaults: RetryWords | None, own: RetryWords | None, read: Reader) -> RetryPolicy:
    """The policy of a step: its own keys over those of `defaults`, the rest as documented."""
    nearest = own or defaults
    if nearest is None:
        return RetryPolicy()
    values = {**(defaults.values if defaults else {}), **(own.values if own else {})}
    policy = replace(GIVEN_RETRY, **values)
    if policy.delay_seconds > policy.max_delay_seconds:
        read.report.add(
            Code.BAD_RETRY,
            nearest.position,
            f"delay ({policy.delay_seconds:g} s) is longer than max_delay ({policy.max_delay_seconds:g} s)",
            "raise max_delay; left out, it is 15m",
        )
    both = sorted(set(policy.only_for) & set(policy.never_for))
    if both:
        read.report.add(
            Code.BAD_RETRY,
            nearest.position,
            f"'{both[0]}' stands in only_for and in never_for",
            "never_for wins; remove one",
        )
    return policy
