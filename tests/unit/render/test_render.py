from __future__ import annotations

import json
import re

import pytest

from tests.unit.compile.graphs import workflow
from workflows.compile import compile_workflow
from workflows.model.spec import ForEach, StepSpec, Workflow
from workflows.model.states import State
from workflows.render import FORMATS, LAYERS, Mark, RenderError, render
from workflows.render.picture import PLAIN, STATE_COLOURS, Colours

PLAN = compile_workflow(workflow(5, [(0, 1), (0, 2), (1, 3), (2, 3), (3, 4)], maps=[4]))
HOSTILE = compile_workflow(Workflow("end", (StepSpec("end", 'x"]; <script>`#\\\n', for_each=ForEach([1])),)))


def test_mermaid_draws_steps_and_edges() -> None:
    lines = render(PLAN, "mermaid").splitlines()
    assert lines[0] == "flowchart LR"
    assert '  n0["s0<br/><small>x</small>"]' in lines
    assert '  n4[["s4<br/><small>x × items</small>"]]' in lines
    assert [line for line in lines if "-->" in line] == [
        "  n0 --> n1", "  n0 --> n2", "  n1 --> n3", "  n2 --> n3", "  n3 --> n4",
    ]  # fmt: skip


def test_mermaid_boxes_the_fragments_of_the_canvas_and_dashes_the_gates() -> None:
    text = render(PLAN, "mermaid", "canvas")
    assert re.findall(r'subgraph f\d\["(.*)"\]', text) == ["single 0", "chord 1", "single 2"]
    assert text.count("  end\n") == 3
    assert [line.strip() for line in text.splitlines() if "-.->" in line] == [
        "n0 -.-> n1", "n0 -.-> n2", "n3 -.-> n4",
    ]  # fmt: skip
    assert "n1 --> n3" in text


def test_mermaid_colours_the_nodes_by_state() -> None:
    states = {"s0": "SUCCESS", "s1": State.SUCCESS, "s2": "PROGRESS", "s3": "unheard of"}
    text = render(PLAN, "mermaid", marks={step: Mark(state) for step, state in states.items()})
    assert "  class n0,n1 success\n" in text
    assert "  class n2 progress\n" in text
    assert "n3" not in "".join(re.findall(r"class n.*", text))
    assert f"classDef success fill:{STATE_COLOURS[State.SUCCESS].fill}" in text


def test_dot_draws_steps_fragments_gates_and_states() -> None:
    dag = render(PLAN, "dot")
    assert dag.startswith('digraph "w" {')
    assert r'  "s0" [label="s0\nx"];' in dag
    assert r'  "s4" [label="s4\nx × items", peripheries=2];' in dag
    assert "dashed" not in dag
    canvas = render(PLAN, "dot", "canvas", {"s0": Mark("FAILURE")})
    assert canvas.count("subgraph cluster_") == 3
    assert '  "s0" -> "s1" [style=dashed];' in canvas
    assert '  "s1" -> "s3";' in canvas
    assert f'fillcolor="{STATE_COLOURS[State.FAILURE].fill}"' in canvas


def test_json_tells_nodes_edges_fragments_and_states() -> None:
    value = json.loads(render(PLAN, "json", "canvas", {"s0": Mark("SUCCESS")}))
    assert [(node["id"], node["state"], node["map"]) for node in value["nodes"]][::4] == [
        ("s0", "SUCCESS", False),
        ("s4", None, True),
    ]
    assert {"from": "s0", "to": "s1", "via": "gate"} in value["edges"]
    assert {"from": "s1", "to": "s3", "via": "canvas"} in value["edges"]
    assert value["fragments"][1] == {"index": 1, "kind": "chord", "chains": [["s1"], ["s2"]], "body": "s3"}
    assert "fragments" not in json.loads(render(PLAN, "json"))


def test_no_text_leaves_its_label_in_mermaid() -> None:
    node = render(HOSTILE, "mermaid").splitlines()[1]
    assert node.startswith('  n0[["end<br/><small>')
    assert node.endswith('</small>"]]')
    assert not set(node.removeprefix('  n0[["end<br/><small>').removesuffix('</small>"]]')) & set('"<>`[]\\\n')


def test_no_text_leaves_its_label_in_dot() -> None:
    text = render(HOSTILE, "dot")
    assert text.count("\n") == 6
    (label,) = re.findall(r'label=("(?:[^"\\]|\\.)*")', text)
    assert label == r'"end\nx\"]; <script>`#\\  × items"'


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("layer", LAYERS)
def test_equal_plans_give_equal_pictures(format_: str, layer: str) -> None:
    again = compile_workflow(workflow(5, [(3, 4), (2, 3), (1, 3), (0, 2), (0, 1)], maps=[4]))
    assert render(PLAN, format_, layer) == render(again, format_, layer)


@pytest.mark.parametrize(("format_", "layer"), [("svgz", "dag"), ("dot", "cloud")])
def test_an_unknown_format_or_layer_is_refused_with_a_hint(format_: str, layer: str) -> None:
    with pytest.raises(RenderError) as caught:
        render(PLAN, format_, layer)
    assert "use one of" in caught.value.hint


def luminance(colour: str) -> float:
    parts = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("colours", [PLAIN, *STATE_COLOURS.values()])
def test_text_can_be_read_on_every_state(colours: Colours) -> None:
    assert (luminance(colours.fill) + 0.05) / (luminance(colours.text) + 0.05) >= 4.5


def test_every_state_has_colours() -> None:
    assert set(STATE_COLOURS) == set(State)
