"""The graph as JSON, for programs that draw it themselves."""

from __future__ import annotations

import json

from workflows.model.spec import Json
from workflows.render.layout import Box, lay_out
from workflows.render.picture import Mark, Picture


def as_value(picture: Picture) -> dict[str, Json]:
    """Nodes, edges and (on the canvas layer) fragments; ids are those of the steps."""
    plan = picture.plan
    value: dict[str, Json] = {
        "workflow": plan.workflow,
        "fingerprint": plan.fingerprint,
        "nodes": [
            {
                "id": step.id,
                "ordinal": step.ordinal,
                "uses": step.uses,
                "queue": step.queue,
                "map": step.for_each is not None,
                "fragment": step.fragment,
                **_mark(picture.marks.get(step.id)),
            }
            for step in plan.steps
        ],
        "edges": [
            {
                "from": plan.steps[edge.source].id,
                "to": plan.steps[edge.target].id,
                "via": "gate" if edge.is_gate else "canvas",
            }
            for edge in picture.edges
        ],
    }
    if picture.shows_canvas:
        value["fragments"] = [
            {
                "index": fragment.index,
                "kind": fragment.kind.value,
                "chains": [[plan.steps[ordinal].id for ordinal in chain] for chain in fragment.chains],
                "body": None if fragment.body is None else plan.steps[fragment.body].id,
            }
            for fragment in plan.fragments
        ]
    return value


def _mark(mark: Mark | None) -> dict[str, Json]:
    if mark is None:
        return {"state": None}
    items = None if mark.items_total is None else {"done": mark.items_done or 0, "total": mark.items_total}
    return {"state": mark.state, "share": mark.share, "seconds": mark.seconds, "items": items}


def render(picture: Picture) -> str:
    """The graph as indented JSON; it ends in a newline."""
    return json.dumps(as_value(picture), indent=2, ensure_ascii=False) + "\n"


def render_layout(picture: Picture) -> str:
    """The same with places in pixels, as SVG and PNG draw it; it ends in a newline."""
    value, layout = as_value(picture), lay_out(picture)
    for node, box in zip(value["nodes"], layout.boxes, strict=True):
        node["box"] = _box(box)
    value["size"] = [layout.width, layout.height]
    value["frames"] = [
        {"name": f.name, "kind": f.kind, "title": f.title, "steps": list(f.steps), "box": _box(f.box)}
        for f in layout.frames
    ]
    value["routes"] = [
        {
            "from": route.source,
            "to": route.target,
            "via": "gate" if route.is_gate else "canvas",
            "edges": route.edges,
            "points": route.points,
        }
        for route in layout.routes
    ]
    return json.dumps(value, ensure_ascii=False) + "\n"


def _box(box: Box) -> dict[str, Json]:
    return {"x": box.x, "y": box.y, "width": box.width, "height": box.height}
