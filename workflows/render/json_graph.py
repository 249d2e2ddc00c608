"""The graph as JSON, for programs that draw it themselves."""

from __future__ import annotations

import json

from workflows.model.spec import Json
from workflows.render.picture import Picture


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
                "state": picture.states.get(step.id),
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


def render(picture: Picture) -> str:
    """The graph as indented JSON; it ends in a newline."""
    return json.dumps(as_value(picture), indent=2, ensure_ascii=False) + "\n"
