"""One door to all formats."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from workflows.compile.plan import Plan
from workflows.model.errors import CeleriacError
from workflows.render import dot, json_graph, mermaid, svg
from workflows.render.picture import Mark, Picture

FORMATS: Mapping[str, Callable[[Picture], str]] = {
    "mermaid": mermaid.render,
    "dot": dot.render,
    "json": json_graph.render,
    "layout": json_graph.render_layout,
    "svg": svg.render,
}
"""Format -> renderer, of those that are text; `workflows.render.png` makes a PNG."""

LAYERS = ("dag", "canvas")
"""`dag` shows steps and edges; `canvas` boxes the fragments and dashes the gates between them."""


class RenderError(CeleriacError):
    """A picture was asked for in a format or a layer that does not exist."""


def render(plan: Plan, format: str, layer: str = "dag", marks: Mapping[str, Mark] | None = None) -> str:  # noqa: A002 - the word of the CLI's and the API's option
    """Draw a plan.

    Args:
        plan: The compiled workflow.
        format: One of FORMATS.
        layer: One of LAYERS.
        marks: By step id how a run stands. Steps that it does not name stay plain.

    Raises:
        RenderError: no such format or layer.
    """
    if format not in FORMATS:
        raise RenderError(f"'{format}' is no format of a graph", f"use one of {', '.join(FORMATS)}")
    return FORMATS[format](picture(plan, layer, marks))


def picture(plan: Plan, layer: str = "dag", marks: Mapping[str, Mark] | None = None) -> Picture:
    """What is to be drawn.

    Raises:
        RenderError: no such layer.
    """
    if layer not in LAYERS:
        raise RenderError(f"'{layer}' is no layer of a graph", f"use one of {', '.join(LAYERS)}")
    return Picture(plan, layer == "canvas", marks or {})
