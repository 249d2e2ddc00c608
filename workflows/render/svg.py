"""A plan as an SVG that stands by itself: no script, no font or style from elsewhere, light and dark."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from xml.sax.saxutils import escape

from workflows.compile.plan import PlanStep
from workflows.model.states import State
from workflows.render.layout import (
    NODE_HEIGHT,
    NOTE_SIZE,
    TEXT_LEFT,
    TEXT_RIGHT,
    TITLE_SIZE,
    Box,
    Frame,
    Layout,
    Route,
    lay_out,
)
from workflows.render.picture import Colours, Picture, note, subtitle
from workflows.render.text_width import shortened

MARGIN = 24.0
CORNER = 10.0
THEMES = ("auto", "light", "dark")
"""`auto` follows the reader's system; a PNG cannot."""

FONTS = "Inter, system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

_PAPER = {"light": "#ffffff", "dark": "#0f1420"}
_EDGE = {"light": "#94a3b8", "dark": "#64748b"}
_FRAME = {"light": Colours("#f8fafc", "#cbd5e1", "#475569"), "dark": Colours("#151b2a", "#334155", "#94a3b8")}
_PLAIN = {"light": Colours("#ffffff", "#94a3b8", "#0f172a"), "dark": Colours("#1c2436", "#64748b", "#e2e8f0")}
_NOTE = {"light": "#475569", "dark": "#a3b1c6"}

_STATES: Mapping[str, Mapping[str, Colours]] = {
    "light": {
        State.PENDING: Colours("#f8fafc", "#94a3b8", "#334155"),
        State.PROGRESS: Colours("#eff6ff", "#2563eb", "#1e3a8a"),
        State.RETRY: Colours("#fffbeb", "#b45309", "#78350f"),
        State.WAITING: Colours("#f5f3ff", "#7c3aed", "#4c1d95"),
        State.PAUSED: Colours("#f1f5f9", "#475569", "#1e293b"),
        State.SUCCESS: Colours("#f0fdf4", "#15803d", "#14532d"),
        State.FAILURE: Colours("#fef2f2", "#dc2626", "#7f1d1d"),
        State.REVOKED: Colours("#f5f5f4", "#57534e", "#292524"),
        State.SKIPPED: Colours("#ffffff", "#94a3b8", "#475569"),
    },
    "dark": {
        State.PENDING: Colours("#1a2233", "#64748b", "#cbd5e1"),
        State.PROGRESS: Colours("#14264a", "#60a5fa", "#dbeafe"),
        State.RETRY: Colours("#35260c", "#fbbf24", "#fef3c7"),
        State.WAITING: Colours("#281c47", "#a78bfa", "#ede9fe"),
        State.PAUSED: Colours("#232c3d", "#94a3b8", "#e2e8f0"),
        State.SUCCESS: Colours("#0f2d1e", "#4ade80", "#dcfce7"),
        State.FAILURE: Colours("#3b1518", "#f87171", "#fee2e2"),
        State.REVOKED: Colours("#292524", "#a8a29e", "#f5f5f4"),
        State.SKIPPED: Colours("#141a28", "#64748b", "#94a3b8"),
    },
}

_SIGNS = {
    State.PENDING: "M-1.5 0h3",
    State.PROGRESS: "M-2 -3.5l5.5 3.5l-5.5 3.5z",
    State.RETRY: "M3 -1.5a3.4 3.4 0 1 0 .3 2.6M3.4 -4v2.8h-2.8",
    State.WAITING: "M0 -3v3l2 1.6",
    State.PAUSED: "M-1.6 -2.8v5.6M1.6 -2.8v5.6",
    State.SUCCESS: "M-3.2 .2l2.3 2.4l4.3 -5",
    State.FAILURE: "M-2.6 -2.6l5.2 5.2M2.6 -2.6l-5.2 5.2",
    State.REVOKED: "M-3 0h6",
    State.SKIPPED: "M-3.2 -2.6l3 2.6l-3 2.6M.6 -2.6l3 2.6l-3 2.6",
}
"""A sign a state, drawn around its middle: states are told apart without colours, too."""


def render(picture: Picture, theme: str = "auto") -> str:
    """The picture as an SVG document.

    Args:
        theme: One of THEMES.
    """
    return draw(picture, lay_out(picture), theme)


def draw(picture: Picture, layout: Layout, theme: str = "auto") -> str:
    """The same for a layout that is known already."""
    return "\n".join(_document(picture, layout, theme)) + "\n"


def size(layout: Layout) -> tuple[float, float]:
    """Width and height of the document in pixels."""
    return layout.width + 2 * MARGIN, layout.height + 2 * MARGIN


def _document(picture: Picture, layout: Layout, theme: str) -> Iterator[str]:
    width, height = size(layout)
    title = f"{picture.plan.workflow}: {len(picture.plan.steps)} steps"
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}"'
        f' viewBox="0 0 {width:g} {height:g}" role="img" font-family="{FONTS}">'
    )
    yield f"<title>{_text(title)}</title>"
    yield f"<style>{_style(theme)}</style>"
    yield '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    yield '<path class="tip" d="M0 .5L7.5 4L0 7.5z"/></marker></defs>'
    yield f'<rect class="paper" width="{width:g}" height="{height:g}"/>'
    yield f'<g transform="translate({MARGIN:g} {MARGIN:g})">'
    yield from (_frame(frame) for frame in layout.frames)
    yield from (_route(route, shows_canvas=picture.shows_canvas) for route in layout.routes)
    for step, box in zip(picture.plan.steps, layout.boxes, strict=True):
        yield from _step(picture, step, box)
    yield "</g>"
    yield "</svg>"


def _style(theme: str) -> str:
    rules = "".join(_rules("dark" if theme == "dark" else "light"))
    rules += (
        f"text{{font-size:{NOTE_SIZE:g}px}}.title{{font-size:{TITLE_SIZE:g}px;font-weight:600}}"
        ".edge{fill:none;stroke-width:1.5}.gate{stroke-dasharray:5 4}.sign{fill:none;stroke-width:1.6;"
        "stroke-linecap:round;stroke-linejoin:round}.frame rect{stroke-width:1.2;stroke-dasharray:4 3}"
        ".step rect{stroke-width:1.4}.skipped .body{stroke-dasharray:3 3}.bar{stroke:none}"
    )
    if theme == "auto":
        rules += f"@media (prefers-color-scheme: dark){{{''.join(_rules('dark'))}}}"
    return rules


def _rules(theme: str) -> Iterator[str]:
    yield f".paper{{fill:{_PAPER[theme]}}}.edge{{stroke:{_EDGE[theme]}}}.tip{{fill:{_EDGE[theme]}}}"
    frame = _FRAME[theme]
    yield f".frame rect{{fill:{frame.fill};stroke:{frame.stroke}}}.frame text{{fill:{frame.text}}}"
    for name, colours in {"plain": _PLAIN[theme], **_STATES[theme]}.items():
        kind = f".{name.lower()}"
        yield f"{kind} rect{{fill:{colours.fill};stroke:{colours.stroke}}}{kind} .title{{fill:{colours.text}}}"
        yield f"{kind} .sign{{stroke:{colours.stroke}}}{kind} .ring{{fill:none;stroke:{colours.stroke}}}"
        yield f"{kind} .bar{{fill:{colours.stroke}}}"
    yield f".note{{fill:{_NOTE[theme]}}}"


def _frame(frame: Frame) -> str:
    box = frame.box
    return (
        f'<g class="frame"><rect x="{box.x:g}" y="{box.y:g}" width="{box.width:g}" height="{box.height:g}" rx="10"/>'
        f'<text x="{box.x + 12:g}" y="{box.y + 16:g}">{_text(frame.title)}</text></g>'
    )


def _route(route: Route, *, shows_canvas: bool) -> str:
    kind = "edge gate" if shows_canvas and route.is_gate else "edge"
    return f'<path class="{kind}" d="{rounded(route.points)}" marker-end="url(#tip)"/>'


def rounded(points: tuple[tuple[float, float], ...]) -> str:
    """Path data of a line with round corners; a line of two points bends softly from the one to the other."""
    (x, y), *rest = points
    if len(points) == 2:
        (bx, by) = rest[0]
        bend = max(24.0, (bx - x) / 2)
        return f"M{x:g} {y:g}C{x + bend:g} {y:g} {bx - bend:g} {by:g} {bx:g} {by:g}"
    path = [f"M{x:g} {y:g}"]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        enter, leave = _towards(corner, before), _towards(corner, after)
        path.append(f"L{enter[0]:g} {enter[1]:g}Q{corner[0]:g} {corner[1]:g} {leave[0]:g} {leave[1]:g}")
    path.append(f"L{points[-1][0]:g} {points[-1][1]:g}")
    return "".join(path)


def _towards(corner: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    dx, dy = other[0] - corner[0], other[1] - corner[1]
    length = (dx * dx + dy * dy) ** 0.5
    reach = min(CORNER, length / 2)
    return (corner[0], corner[1]) if not length else (corner[0] + dx * reach / length, corner[1] + dy * reach / length)


def _step(picture: Picture, step: PlanStep, box: Box) -> Iterator[str]:
    state = picture.state(step)
    mark = picture.marks.get(step.id) if state is not None else None
    said = f"{step.id}: {subtitle(step)}" + (f", {state}" if state else "")
    yield f'<g class="step {state.lower() if state else "plain"}" transform="translate({box.x:g} {box.y:g})">'
    yield f"<title>{_text(said)}</title>"
    if step.for_each is not None:
        yield f'<rect class="body" x="5" y="5" width="{box.width:g}" height="{NODE_HEIGHT:g}" rx="9"/>'
    yield f'<rect class="body" width="{box.width:g}" height="{NODE_HEIGHT:g}" rx="9"/>'
    if mark is not None and state == State.PROGRESS and mark.share is not None:
        done = (box.width - 18) * mark.share
        yield f'<rect class="bar" x="9" y="{NODE_HEIGHT - 5:g}" width="{done:.1f}" height="3" rx="1.5"/>'
    yield f'<g transform="translate(18 {NODE_HEIGHT / 2:g})"><circle class="ring" r="7.5"/>'
    if state is not None:
        yield f'<path class="sign" d="{_SIGNS[State(state)]}"/>'
    yield "</g>"
    room = box.width - TEXT_LEFT - TEXT_RIGHT
    line = (note(mark) if mark is not None else "") or subtitle(step)
    title = shortened(step.id, room, TITLE_SIZE, is_bold=True)
    yield f'<text class="title" x="{TEXT_LEFT:g}" y="21">{_text(title)}</text>'
    yield f'<text class="note" x="{TEXT_LEFT:g}" y="37">{_text(shortened(line, room, NOTE_SIZE))}</text></g>'


def _text(text: str) -> str:
    """Text that may come from anybody, as character data; what XML has no character for becomes a question mark."""
    return escape("".join(c if c >= " " and not "\ud800" <= c <= "\udfff" and c not in "￾￿" else "?" for c in text))
