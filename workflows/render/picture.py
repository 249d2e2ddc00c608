"""What is drawn, before any format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from workflows.compile.plan import Fragment, Plan, PlanStep
from workflows.model.states import State


@dataclass(frozen=True, slots=True)
class Colours:
    """How a state looks: CSS colours that keep a contrast of 4.5 between text and fill."""

    fill: str
    stroke: str
    text: str


PLAIN = Colours("#ffffff", "#64748b", "#0f172a")

STATE_COLOURS: Mapping[str, Colours] = {
    State.PENDING: Colours("#f1f5f9", "#94a3b8", "#334155"),
    State.PROGRESS: Colours("#dbeafe", "#2563eb", "#1e3a8a"),
    State.RETRY: Colours("#fef3c7", "#d97706", "#78350f"),
    State.WAITING: Colours("#ede9fe", "#7c3aed", "#4c1d95"),
    State.PAUSED: Colours("#e2e8f0", "#475569", "#1e293b"),
    State.SUCCESS: Colours("#dcfce7", "#16a34a", "#14532d"),
    State.FAILURE: Colours("#fee2e2", "#dc2626", "#7f1d1d"),
    State.REVOKED: Colours("#e7e5e4", "#57534e", "#292524"),
    State.SKIPPED: Colours("#f8fafc", "#cbd5e1", "#475569"),
}


@dataclass(frozen=True, slots=True)
class Edge:
    """An edge of the graph; `is_gate` when SQL counts it and no canvas delivers it."""

    source: int
    target: int
    is_gate: bool


@dataclass(frozen=True, slots=True)
class Mark:
    """How a step of a run stands.

    Attributes:
        state: One of `workflows.model.states.State`; another leaves the step plain.
        share: How far it is, 0 to 1; None when that is not known.
        seconds: How long it has taken; None before its start.
        items_done: Of a map: calls that have ended, of `items_total`.
    """

    state: str
    share: float | None = None
    seconds: float | None = None
    items_done: int | None = None
    items_total: int | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """A plan, the layer of it that is to be seen, and by step id how a run stands."""

    plan: Plan
    shows_canvas: bool = False
    marks: Mapping[str, Mark] = field(default_factory=dict)

    @property
    def edges(self) -> Iterator[Edge]:
        """All edges, sorted."""
        gates = set(self.plan.gates)
        return (Edge(*edge, is_gate=edge in gates) for edge in self.plan.edges)

    def state(self, step: PlanStep) -> str | None:
        """The state of a step when it is one that has colours."""
        mark = self.marks.get(step.id)
        return str(mark.state) if mark is not None and mark.state in STATE_COLOURS else None

    def members(self, fragment: Fragment) -> Iterator[PlanStep]:
        """The steps of a fragment."""
        return (self.plan.steps[ordinal] for ordinal in fragment.members)


def subtitle(step: PlanStep) -> str:
    """The second line of a node: what it uses, and whether it is a map."""
    return f"{step.uses} × items" if step.for_each is not None else step.uses


def fragment_title(fragment: Fragment) -> str:
    """Such as `chord 2`."""
    return f"{fragment.kind.value} {fragment.index}"


def note(mark: Mark) -> str:
    """What a mark says in a few words: `12 of 50 · 1.4 s`."""
    parts = []
    if mark.items_total is not None:
        parts.append(f"{mark.items_done or 0:,} of {mark.items_total:,}")
    elif mark.share is not None and 0 < mark.share < 1:
        parts.append(f"{mark.share:.0%}")
    if mark.seconds is not None:
        parts.append(duration(mark.seconds))
    return " · ".join(parts)


def duration(seconds: float) -> str:
    """A time as a person would say it.

    >>> [duration(s) for s in (0.0421, 1.44, 75, 7380)]
    ['42 ms', '1.4 s', '1 min 15 s', '2 h 3 min']
    """
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
