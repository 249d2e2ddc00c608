"""Mermaid flowcharts: https://mermaid.js.org/syntax/flowchart.html."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from workflows.compile.plan import PlanStep
from workflows.render.picture import STATE_COLOURS, Picture, fragment_title, subtitle

_ESCAPED = {ord(char): f"#{ord(char)};" for char in '#"&<>`\\[]{}()|'} | {ord("\n"): " ", ord("\r"): " "}
"""Numeric entities for every character that Mermaid or HTML gives a meaning."""


def render(picture: Picture) -> str:
    """The picture as a Mermaid flowchart from left to right; it ends in a newline."""
    return "\n".join([*_header(), *_nodes(picture), *_edges(picture), *_classes(picture), ""])


def _header() -> Iterator[str]:
    yield "flowchart LR"


def _nodes(picture: Picture) -> Iterator[str]:
    if not picture.shows_canvas:
        yield from (f"  {_node(step)}" for step in picture.plan.steps)
        return
    for fragment in picture.plan.fragments:
        yield f'  subgraph f{fragment.index}["{fragment_title(fragment)}"]'
        yield from (f"    {_node(step)}" for step in picture.members(fragment))
        yield "  end"


def _node(step: PlanStep) -> str:
    # Named by ordinal, because an id such as `end` is a word of Mermaid's own.
    label = f'"{_escape(step.id)}<br/><small>{_escape(subtitle(step))}</small>"'
    return f"n{step.ordinal}[[{label}]]" if step.for_each is not None else f"n{step.ordinal}[{label}]"


def _edges(picture: Picture) -> Iterator[str]:
    for edge in picture.edges:
        arrow = "-.->" if picture.shows_canvas and edge.is_gate else "-->"
        yield f"  n{edge.source} {arrow} n{edge.target}"


def _classes(picture: Picture) -> Iterator[str]:
    nodes: dict[str, list[str]] = defaultdict(list)
    for step in picture.plan.steps:
        if (state := picture.state(step)) is not None:
            nodes[state].append(f"n{step.ordinal}")
    for state, names in nodes.items():
        colours = STATE_COLOURS[state]
        yield f"  classDef {state.lower()} fill:{colours.fill},stroke:{colours.stroke},color:{colours.text}"
        yield f"  class {','.join(names)} {state.lower()}"


def _escape(text: str) -> str:
    return text.translate(_ESCAPED)
