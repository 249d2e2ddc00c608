"""A step on its way from nodes to a `StepSpec`: read key by key, not yet checked with the others."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from workflows.model.diagnostics import Code
from workflows.model.expressions import holds_expression
from workflows.model.language import (
    BATCH_KEYS,
    CACHE_KEYS,
    DEFAULT_PRIORITY,
    FOR_EACH_KEYS,
    MAX_ATTEMPTS,
    MAX_BATCH,
    MAX_BATCH_BYTES,
    MAX_FACTOR,
    MAX_PARALLEL,
    MAX_PRIORITY,
    RETRY_KEYS,
    STEP_KEYS,
)
from workflows.model.names import STEP_NAME
from workflows.model.nodes import Entry, MapNode, Node, Scalar, describe
from workflows.model.policies import PERMANENT_ERRORS, RetryPolicy, Tolerance
from workflows.model.reader import Named, Reader
from workflows.model.spec import Block, Json, Position, TriggerRule

DEFAULT_QUEUE = "processing"
GIVEN_RETRY = RetryPolicy(max_attempts=4)
"""What the keys left out of a `retry` are; a step without any `retry` is tried once."""
_PERCENT = re.compile(r"(\d{1,3}(?:\.\d+)?)\s*%")
_ERROR_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)


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
    batch_bytes: int | None
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
    cache_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Defaults:
    """What steps take over when they do not say it themselves."""

    queue: str = DEFAULT_QUEUE
    timeout_seconds: float | None = None
    retry: RetryWords | None = None
    rate_limit: Named | None = None
    pool: Named | None = None
    priority: int = DEFAULT_PRIORITY


def read_step(entry: Entry, defaults: Defaults, read: Reader) -> StepDraft:
    """A step; `entry` is its key under `steps` or another block."""
    what = f"step '{entry.key}'"
    read.check_name(entry.key, entry.position, "a step")
    draft = StepDraft(entry.key, entry.position)
    node = read.mapping(entry.node, what, "write at least {uses: NAME}")
    if node is None:
        return draft
    read.check_keys(node, STEP_KEYS, "a step")
    words = read.optional(node, "retry", lambda inner, what: retry_words(inner, what, read))
    timeout = read.optional(node, "timeout", lambda inner, what: read.duration(inner, what, positive=True))
    rule = read.optional(node, "run_if", lambda inner, what: read.choice(inner, what, tuple(TriggerRule)))
    run_if = node.entry("run_if")
    return replace(
        draft,
        uses=_uses(node, entry, read),
        needs=read.optional(node, "needs", read.names) or (),
        with_=read.optional(node, "with", read.mapping),
        for_each=read.optional(node, "for_each", lambda inner, what: _for_each(inner, what, read)),
        retry=retry_policy(defaults.retry, words, read),
        timeout_seconds=defaults.timeout_seconds if timeout is None else timeout,
        queue=read.optional(node, "queue", read.queue) or defaults.queue,
        run_if=TriggerRule(rule) if rule else TriggerRule.ALL_SUCCESS,
        run_if_position=entry.position if run_if is None else run_if.node.position,
        rate_limit=name_of(node, "rate_limit", read) or defaults.rate_limit,
        pool=name_of(node, "pool", read) or defaults.pool,
        priority=defaults.priority if (priority := priority_of(node, read)) is None else priority,
        when=read.optional(node, "when", lambda inner, _: _when(inner, read)),
        cache_seconds=read.optional(node, "cache", lambda inner, what: _cache(inner, what, read)),
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


def _cache(node: Node, what: str, read: Reader) -> float | None:
    if not isinstance(node, MapNode):
        read.wrong_type(node, what, "a mapping", "write {ttl: 7d}")
        return None
    read.check_keys(node, CACHE_KEYS, what)
    if node.entry("ttl") is None:
        read.report.add(Code.MISSING_KEY, node.position, "'cache' has no 'ttl'", "write {ttl: 7d}")
    return read.optional(node, "ttl", lambda inner, name: read.duration(inner, name, positive=True))


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
    read.check_keys(mapping, FOR_EACH_KEYS, what)
    items, key = mapping.entry("items"), mapping.entry("key")
    if items is None:
        read.report.add(
            Code.MISSING_KEY, mapping.position, "'for_each' has no 'items'", "items: ${{ steps.ID.output.NAME }}"
        )
    if key is not None and not (isinstance(key.node, Scalar) and isinstance(key.node.value, str)):
        read.wrong_type(key.node, "'key'", "a text", 'write an expression, as in "${{ item }}"')
    batch = read.optional(mapping, "batch", lambda inner, name: _batch(inner, name, read)) or (None, None)
    return ForEachDraft(
        items=None if items is None else items.node,
        key=key.node if key is not None and isinstance(key.node, Scalar) and isinstance(key.node.value, str) else None,
        batch=batch[0],
        batch_bytes=batch[1],
        max_parallel=read.optional(
            mapping, "max_parallel", lambda inner, name: read.integer(inner, name, 1, MAX_PARALLEL)
        ),
        tolerate=read.optional(mapping, "tolerate", lambda inner, _: _tolerance(inner, read)) or Tolerance(),
        is_batched=mapping.entry("batch") is not None,
    )


def _batch(node: Node, what: str, read: Reader) -> tuple[int | None, int | None]:
    """Items and bytes of a batch: `64`, or `{size: 64, bytes: 100kB}`."""
    if not isinstance(node, MapNode):
        return read.integer(node, what, 1, MAX_BATCH), None
    read.check_keys(node, BATCH_KEYS, what)
    if not node.entries:
        read.report.add(Code.MISSING_KEY, node.position, f"{what} is empty", "write {size: 64, bytes: 100kB}")
    size = read.optional(node, "size", lambda inner, name: read.integer(inner, name, 1, MAX_BATCH))
    most = read.optional(node, "bytes", lambda inner, name: read.byte_count(inner, name, MAX_BATCH_BYTES))
    return (MAX_BATCH if node.entry("size") is None else size), most


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


def retry_words(node: Node, what: str, read: Reader) -> RetryWords | None:
    """The keys of a `retry` that are written."""
    mapping = read.mapping(node, what)
    if mapping is None:
        return None
    read.check_keys(mapping, RETRY_KEYS, what)
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


def retry_policy(defaults: RetryWords | None, own: RetryWords | None, read: Reader) -> RetryPolicy:
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


def name_of(node: MapNode, key: str, read: Reader) -> Named | None:
    """A name under a key; None when the key is not there."""
    entry = node.entry(key)
    name = None if entry is None else read.identifier(entry.node, f"'{key}'")
    return None if name is None or entry is None else Named(name, entry.node.position)


def priority_of(node: MapNode, read: Reader) -> int | None:
    """The `priority` of a step or of the defaults."""
    return read.optional(node, "priority", lambda inner, name: read.integer(inner, name, 0, MAX_PRIORITY))
