"""The dry-run's answer: what a plan would do, for programs (`explain`) and for people (`explain_text`)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from workflows.compile.budget import MessageSize, check_budget
from workflows.compile.passes import MAX_HEADER
from workflows.compile.plan import Fragment, FragmentKind, Plan
from workflows.model.spec import Block, Json

SHOWN = 12
"""Members of a group, chord or list that `explain_text` prints before it says how many more there are."""


def explain(
    plan: Plan,
    messages: Sequence[MessageSize],
    durations: Mapping[str, float] | None = None,
    notes: Sequence[str] = (),
) -> dict[str, Json]:
    """The JSON of the dry-run.

    Args:
        plan: The compiled workflow.
        messages: Every message of an undisturbed run as the broker would get it, ranges of maps left out.
        durations: Seconds by step id, for the critical path; without them every step counts 1.
        notes: What the settings have to say about it, as sentences.

    Raises:
        BudgetError: the messages are over their limits.
    """
    budget = check_budget(messages)
    return {
        "workflow": plan.workflow,
        "fingerprint": plan.fingerprint,
        "steps": {step.id: _step(plan, step.ordinal) for step in plan.steps},
        "edges": _pairs(plan, plan.edges),
        "series_parallel": plan.series_parallel,
        "canvas": "\n".join(canvas_text(plan, fragment) for fragment in plan.fragments),
        "fragments": [_fragment(plan, fragment) for fragment in plan.fragments],
        "gates": _pairs(plan, plan.gates),
        "messages": {
            "count": budget.count,
            "largest_bytes": budget.largest_bytes,
            "mean_bytes": budget.mean_bytes,
            "total_bytes": budget.total_bytes,
            "kinds": _kinds(messages),
        },
        "critical_path": [plan.steps[ordinal].id for ordinal in critical_path(plan, durations)],
        "notes": [*_notes(plan), *notes],
    }


def canvas_text(plan: Plan, fragment: Fragment, shown: int | None = None) -> str:
    """A fragment's canvas with the ids of its steps, such as `chord([chain(a, b), c], join)`.

    Args:
        plan: The plan that the fragment belongs to.
        fragment: One of its fragments.
        shown: How many chains of a group or chord to write out; None means all.
    """
    chains = [_chain_text(plan, chain) for chain in fragment.chains[:shown]]
    if len(chains) < len(fragment.chains):
        chains.append(f"... {len(fragment.chains) - len(chains)} more")
    listed = f"[{', '.join(chains)}]"
    match fragment.kind:
        case FragmentKind.SINGLE | FragmentKind.CHAIN:
            return chains[0]
        case FragmentKind.GROUP:
            return f"group({listed})"
        case FragmentKind.CHORD:
            return f"chord({listed}, {_ids(plan, [fragment.members[-1]])[0]})"


def critical_path(plan: Plan, durations: Mapping[str, float] | None = None) -> tuple[int, ...]:
    """The longest path through the graph of the block `steps`, as ordinals; of equal ones the first.

    A step that `durations` does not name counts 1 second.
    """
    known = durations or {}
    finish: list[float] = []
    before: list[int | None] = []
    for step in plan.steps:
        previous = max(step.predecessors, key=lambda ordinal: (finish[ordinal], -ordinal), default=None)
        before.append(previous)
        finish.append(known.get(step.id, 1.0) + (0.0 if previous is None else finish[previous]))
    path: list[int] = []
    at = max(plan.ordinals(Block.STEPS), key=lambda ordinal: (finish[ordinal], -ordinal), default=None)
    while at is not None:
        path.append(at)
        at = before[at]
    return tuple(reversed(path))


def explain_text(plan: Plan, explained: Mapping[str, Json]) -> str:
    """What `explain` gave, as text for people."""
    return "\n".join(_lines(plan, explained))


def _lines(plan: Plan, explained: Mapping[str, Json]) -> Iterator[str]:
    shape = "series-parallel" if plan.series_parallel else "not series-parallel"
    yield f"workflow  {plan.workflow}  {plan.fingerprint[:12]}"
    yield f"graph     {_count(len(plan.steps), 'step')}, {_count(len(plan.edges), 'edge')}, {shape}"
    yield ""
    yield f"canvas ({_count(len(plan.fragments), 'fragment')})"
    for fragment in plan.fragments:
        block = plan.steps[fragment.heads[0]].block
        label = "" if block is Block.STEPS else f"{block}: "
        yield f"  {fragment.index:>3}  {label}{canvas_text(plan, fragment, SHOWN)}"
    yield ""
    yield f"gates ({len(plan.gates)}), counted in SQL" if plan.gates else "gates (none)"
    yield from _listed([f"  {before} -> {after}" for before, after in explained["gates"]])
    yield ""
    budget = explained["messages"]
    yield (
        f"messages ({budget['count']}): largest {budget['largest_bytes']:,} B, "
        f"mean {budget['mean_bytes']:,} B, total {budget['total_bytes']:,} B"
    )
    for kind in budget["kinds"]:
        yield f"  {kind['count']:>5} x {kind['kind']:<12} {_range(kind)}  to {kind['queue']}"
    yield ""
    path = explained["critical_path"]
    yield f"critical path ({_count(len(path), 'step')})"
    yield f"  {_shortened(path)}"
    for note in explained["notes"]:
        yield ""
        yield f"note: {note}"


def _step(plan: Plan, ordinal: int) -> dict[str, Json]:
    step = plan.steps[ordinal]
    return {
        "ordinal": ordinal,
        "uses": step.uses,
        "queue": step.queue,
        "block": step.block.value,
        "run_if": step.run_if.value,
        "map": step.for_each is not None,
        "fragment": step.fragment,
        "arrives_by": step.arrives_by.value,
        "needs": _ids(plan, step.predecessors),
    }


def _fragment(plan: Plan, fragment: Fragment) -> dict[str, Json]:
    return {
        "index": fragment.index,
        "kind": fragment.kind.value,
        "chains": [_ids(plan, chain) for chain in fragment.chains],
        "body": None if fragment.body is None else plan.steps[fragment.body].id,
        "canvas": canvas_text(plan, fragment),
    }


def _kinds(messages: Sequence[MessageSize]) -> list[dict[str, Json]]:
    """The messages by kind and queue, in the order in which the kinds first appear."""
    alike: dict[tuple[str, str], list[int]] = defaultdict(list)
    for message in messages:
        alike[message.kind, message.queue].append(message.bytes)
    return [
        {
            "kind": kind,
            "queue": queue,
            "count": len(sizes),
            "smallest_bytes": min(sizes),
            "largest_bytes": max(sizes),
            "total_bytes": sum(sizes),
        }
        for (kind, queue), sizes in alike.items()
    ]


def _notes(plan: Plan) -> list[str]:
    joins = [step.id for step in plan.steps if len(step.predecessors) > 1]
    no_chords = (
        f"no chords, because the result backend cannot count their members: {_shortened(joins, ', ')} "
        f"{'waits' if len(joins) == 1 else 'wait'} in SQL"
    )
    wide = [step.id for step in plan.steps if plan.chords and len(step.predecessors) > MAX_HEADER]
    return [
        *([no_chords] if joins and not plan.chords else []),
        *([f"joins of more than {MAX_HEADER} steps wait in SQL: {_shortened(wide, ', ')}"] if wide else []),
        *(
            f"step '{step.id}' is a map: one message expands it; how many messages carry its calls depends on its items"
            for step in plan.steps
            if step.for_each is not None
        ),
    ]


def _ids(plan: Plan, ordinals: Sequence[int]) -> list[str]:
    return [plan.steps[ordinal].id for ordinal in ordinals]


def _pairs(plan: Plan, edges: Sequence[tuple[int, int]]) -> list[list[str]]:
    return [_ids(plan, edge) for edge in edges]


def _chain_text(plan: Plan, chain: Sequence[int]) -> str:
    ids = _ids(plan, chain)
    return ids[0] if len(ids) == 1 else f"chain({', '.join(ids)})"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _listed(lines: list[str]) -> Iterator[str]:
    yield from lines[:SHOWN]
    if len(lines) > SHOWN:
        yield f"  ... {len(lines) - SHOWN:,} more"


def _shortened(path: Sequence[str], separator: str = " -> ") -> str:
    if len(path) <= SHOWN:
        return separator.join(path)
    half = SHOWN // 2
    return separator.join([*path[:half], f"... {len(path) - SHOWN:,} more ...", *path[-half:]])


def _range(kind: Mapping[str, Any]) -> str:
    smallest, largest = kind["smallest_bytes"], kind["largest_bytes"]
    return f"{largest:,} B" if smallest == largest else f"{smallest:,} to {largest:,} B"
