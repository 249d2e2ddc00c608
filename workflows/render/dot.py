"""Graphviz: https://graphviz.org/doc/info/lang.html."""

from __future__ import annotations

from collections.abc import Iterator

from workflows.compile.plan import PlanStep
from workflows.render.picture import PLAIN, STATE_COLOURS, Picture, fragment_title, subtitle


def render(picture: Picture) -> str:
    """The picture as a DOT digraph from left to right; it ends in a newline."""
    return "\n".join([*_header(picture), *_nodes(picture), *_edges(picture), "}", ""])


def _header(picture: Picture) -> Iterator[str]:
    yield f"digraph {_quote(picture.plan.workflow)} {{"
    yield "  rankdir=LR;"
    yield f'  node [shape=box, style="rounded,filled", fontname="sans-serif", {_colours(None)}];'
    yield f'  edge [color="{PLAIN.stroke}"];'


def _nodes(picture: Picture) -> Iterator[str]:
    if not picture.shows_canvas:
        yield from (f"  {_node(picture, step)}" for step in picture.plan.steps)
        return
    for fragment in picture.plan.fragments:
        yield f"  subgraph cluster_{fragment.index} {{"
        yield f'    label={_quote(fragment_title(fragment))}; color="{PLAIN.stroke}"; fontname="sans-serif";'
        yield from (f"    {_node(picture, step)}" for step in picture.members(fragment))
        yield "  }"


def _node(picture: Picture, step: PlanStep) -> str:
    state = picture.state(step)
    attributes = [f"label={_quote(step.id, subtitle(step))}"]
    if step.for_each is not None:
        attributes.append("peripheries=2")
    if state is not None:
        attributes.append(_colours(state))
    return f"{_quote(step.id)} [{', '.join(attributes)}];"


def _colours(state: str | None) -> str:
    colours = PLAIN if state is None else STATE_COLOURS[state]
    return f'fillcolor="{colours.fill}", color="{colours.stroke}", fontcolor="{colours.text}"'


def _edges(picture: Picture) -> Iterator[str]:
    for edge in picture.edges:
        source, target = picture.plan.steps[edge.source], picture.plan.steps[edge.target]
        style = " [style=dashed]" if picture.shows_canvas and edge.is_gate else ""
        yield f"  {_quote(source.id)} -> {_quote(target.id)}{style};"


def _quote(*lines: str) -> str:
    text = r"\n".join(line.replace("\\", r"\\").replace('"', r"\"").replace("\n", " ") for line in lines)
    return f'"{text}"'
