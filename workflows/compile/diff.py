"""What two versions of a workflow have that the other has not: steps, keys, edges, canvas and messages."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from workflows.compile.plan import Plan, PlanStep
from workflows.model.spec import Json

_WORDS = {"with_": "with", "cache_seconds": "cache", "timeout_seconds": "timeout"}
"""Fields of a step that have another name in the definition."""

_COMPARED = (
    *("uses", "with_", "for_each", "retry", "timeout_seconds", "queue", "run_if", "when", "block"),
    *("rate_limit", "pool", "priority", "cache_seconds"),
)


@dataclass(frozen=True, slots=True)
class Change:
    """A key that is other than it was.

    Attributes:
        where: `steps.fetch.retry`, `params.query`, `outputs.count`, `timeout` ...
        old: None when it is new; `new` is None when it is gone.
    """

    where: str
    old: Json
    new: Json


@dataclass(frozen=True, slots=True)
class PlanDiff:
    """From one version to another; ids in the order of the graph they stand in."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changes: tuple[Change, ...]
    new_edges: tuple[tuple[str, str], ...]
    old_edges: tuple[tuple[str, str], ...]

    @property
    def is_empty(self) -> bool:
        """Whether runs of both do the same."""
        return not (self.added or self.removed or self.changes or self.new_edges or self.old_edges)

    def to_json(self) -> dict[str, Json]:
        """As `celeriac plan --diff --json` prints it."""
        return asdict(self)


def diff(old: Plan, new: Plan) -> PlanDiff:
    """What is other in `new`. A step is the same one when it has the same id."""
    before, after = ({step.id: step for step in plan.steps} for plan in (old, new))
    edges = [{(plan.steps[a].id, plan.steps[b].id) for a, b in plan.edges} for plan in (old, new)]
    return PlanDiff(
        added=tuple(step for step in after if step not in before),
        removed=tuple(step for step in before if step not in after),
        changes=(
            *_of_workflow(old, new),
            *(change for step in after if step in before for change in _of_step(before[step], after[step])),
        ),
        new_edges=tuple(sorted(edges[1] - edges[0])),
        old_edges=tuple(sorted(edges[0] - edges[1])),
    )


def _of_workflow(old: Plan, new: Plan) -> Iterator[Change]:
    params = [{spec.name: _param(spec) for spec in plan.params} for plan in (old, new)]
    yield from _between("params", *params)
    yield from _between("outputs", old.outputs, new.outputs)
    for name in ("rate_limits", "pools"):
        yield from _between(name, *(_plain(getattr(plan, name)) for plan in (old, new)))
    for word, field in (("concurrency", "concurrency"), ("timeout", "timeout_seconds")):
        a, b = (_plain(getattr(plan, field)) for plan in (old, new))
        if a != b:
            yield Change(word, a, b)


def _of_step(old: PlanStep, new: PlanStep) -> Iterator[Change]:
    for field in _COMPARED:
        a, b = _plain(getattr(old, field)), _plain(getattr(new, field))
        word = f"steps.{new.id}.{_WORDS.get(field, field)}"
        if isinstance(a, dict) and isinstance(b, dict):
            yield from _between(word, a, b)
        elif a != b:
            yield Change(word, a, b)


def _between(where: str, old: Mapping[str, Json], new: Mapping[str, Json]) -> Iterator[Change]:
    for key in {**old, **new}:
        if old.get(key) != new.get(key) or (key in old) != (key in new):
            yield Change(f"{where}.{key}", old.get(key), new.get(key))


def _param(spec: Any) -> dict[str, Json]:
    return {**spec.schema, **({} if spec.required else {"default": spec.default})}


def _plain(value: Any) -> Json:
    """As JSON has it, for comparing and showing."""
    if hasattr(value, "__dataclass_fields__"):
        return {key: _plain(inner) for key, inner in asdict(value).items()}
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value


def diff_text(found: PlanDiff) -> str:
    """What `diff` found, for people: `+` is new, `-` is gone, `~` is other than it was."""
    if found.is_empty:
        return "nothing is other: runs of both do the same"
    lines = [
        *(f"+ step {step}" for step in found.added),
        *(f"- step {step}" for step in found.removed),
        *(_change_text(change) for change in found.changes),
        *(f"+ {before} -> {after}" for before, after in found.new_edges),
        *(f"- {before} -> {after}" for before, after in found.old_edges),
    ]
    return "\n".join(lines)


def _change_text(change: Change) -> str:
    if change.old is None:
        return f"+ {change.where}: {_shown(change.new)}"
    if change.new is None:
        return f"- {change.where}: {_shown(change.old)}"
    return f"~ {change.where}: {_shown(change.old)} -> {_shown(change.new)}"


def _shown(value: Json) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."
