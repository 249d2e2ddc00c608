"""SVG, PNG and the layout that both share with the page."""

from __future__ import annotations

import json
import random
import struct
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests.unit.compile.graphs import workflow
from workflows.compile import compile_workflow
from workflows.compile.plan import Plan
from workflows.model.parser import parse_workflow
from workflows.model.spec import StepSpec, Workflow
from workflows.model.states import State
from workflows.render import Mark, picture, png, render, svg
from workflows.render.layout import Box, Layout, lay_out
from workflows.render.text_width import shortened, text_width

SVG = "{http://www.w3.org/2000/svg}"
PLAN = compile_workflow(workflow(6, [(0, 1), (0, 2), (1, 3), (2, 3), (3, 4), (4, 5)], maps=[4]))
FAN = compile_workflow(workflow(302, [*((0, i) for i in range(1, 301)), *((i, 301) for i in range(1, 301))]))


def layered(layers: int, width: int) -> Plan:
    chance = random.Random(7)
    edges = [
        ((layer - 1) * width + before, layer * width + at)
        for layer in range(1, layers)
        for at in range(width)
        for before in chance.sample(range(width), 2)
    ]
    return compile_workflow(workflow(layers * width, edges))


def overlap(one: Box, other: Box) -> bool:
    return (
        one.x < other.x + other.width
        and other.x < one.x + one.width
        and one.y < other.y + other.height
        and other.y < one.y + one.height
    )


def inside(inner: Box, outer: Box) -> bool:
    return (
        inner.x >= outer.x
        and inner.y >= outer.y
        and inner.x + inner.width <= outer.x + outer.width + 0.1
        and inner.y + inner.height <= outer.y + outer.height + 0.1
    )


@pytest.mark.parametrize("layer", ["dag", "canvas"])
@pytest.mark.parametrize("plan", [PLAN, FAN, layered(6, 6), layered(25, 20)], ids=["small", "fan", "6x6", "25x20"])
def test_no_two_steps_overlap_and_all_lie_within_the_picture(plan: Plan, layer: str) -> None:
    layout = lay_out(picture(plan, layer))
    assert len(layout.boxes) == len(plan.steps)
    paper = Box(0, 0, layout.width, layout.height)
    assert all(inside(box, paper) for box in (*layout.boxes, *(frame.box for frame in layout.frames)))
    by_column = sorted(layout.boxes, key=lambda box: (box.x, box.y))
    assert not any(
        overlap(one, other) for index, one in enumerate(by_column) for other in by_column[index + 1 : index + 60]
    )


@pytest.mark.parametrize("plan", [PLAN, FAN, layered(6, 6), layered(25, 20)], ids=["small", "fan", "6x6", "25x20"])
def test_every_step_lies_to_the_right_of_what_it_waits_for(plan: Plan) -> None:
    boxes = lay_out(picture(plan)).boxes
    assert all(boxes[a].x + boxes[a].width <= boxes[b].x for a, b in plan.edges)


def test_edges_begin_and_end_at_the_borders_of_their_steps() -> None:
    layout = lay_out(picture(PLAN))
    for route in layout.routes:
        source, target = (layout.boxes[int(name[1:])] for name in (route.source, route.target))
        assert route.points[0][0] == pytest.approx(source.x + source.width, abs=0.2)
        assert source.y <= route.points[0][1] <= source.y + source.height
        assert route.points[-1][0] == pytest.approx(target.x, abs=0.2)
        assert target.y <= route.points[-1][1] <= target.y + target.height


def test_steps_that_nothing_tells_apart_lie_in_a_grid_with_one_edge_in_and_one_out() -> None:
    layout = lay_out(picture(FAN))
    (bundle,) = layout.frames
    assert (bundle.kind, bundle.title, len(bundle.steps)) == ("bundle", "300 × x", 300)
    assert [(route.edges, route.source, route.target) for route in layout.routes] == [
        (300, "s0", "b1"),
        (300, "b1", "s301"),
    ]
    assert all(inside(layout.boxes[ordinal], bundle.box) for ordinal in bundle.steps)


def test_the_canvas_layer_frames_what_is_more_than_one_step() -> None:
    layout = lay_out(picture(PLAN, "canvas"))
    assert [(frame.title, frame.steps) for frame in layout.frames] == [("chord 1", (1, 2, 3))]
    assert all(inside(layout.boxes[ordinal], layout.frames[0].box) for ordinal in (1, 2, 3))
    assert not any(overlap(layout.boxes[ordinal], layout.frames[0].box) for ordinal in (0, 4, 5))


def test_two_thousand_steps_are_laid_out_without_a_long_wait() -> None:
    plan = layered(50, 40)
    began = time.process_time()
    assert len(lay_out(picture(plan)).boxes) == 2000
    assert time.process_time() - began < 5


def test_equal_plans_have_equal_layouts() -> None:
    def again() -> Layout:
        return lay_out(picture(layered(6, 6), "canvas"))

    assert again() == again()


def test_the_layout_format_carries_every_place() -> None:
    value = json.loads(render(PLAN, "layout", "canvas", {"s0": Mark("PROGRESS", 0.25, 1.5)}))
    assert value["nodes"][0]["box"].keys() == {"x", "y", "width", "height"}
    assert (value["nodes"][0]["state"], value["nodes"][0]["share"]) == ("PROGRESS", 0.25)
    assert [frame["title"] for frame in value["frames"]] == ["chord 1"]
    assert {(route["from"], route["to"], route["via"]) for route in value["routes"]} >= {("s0", "s1", "gate")}
    assert value["size"][0] > 300


def test_an_svg_shows_states_progress_and_times() -> None:
    marks = {
        "s0": Mark("SUCCESS", 1.0, 75.0),
        "s1": Mark("PROGRESS", 0.5, 2.0),
        "s4": Mark("PROGRESS", 0.24, 1.44, 12, 50),
    }
    root = ET.fromstring(svg.render(picture(PLAN, "dag", marks)))
    texts = [element.text for element in root.iter(f"{SVG}text")]
    assert {"1 min 15 s", "50% · 2.0 s", "12 of 50 · 1.4 s"} <= set(texts)
    steps = [group.get("class") for group in root.iter(f"{SVG}g") if (group.get("class") or "").startswith("step")]
    assert steps == ["step success", "step progress", "step plain", "step plain", "step progress", "step plain"]
    bars = [float(rect.get("width", "")) for rect in root.iter(f"{SVG}rect") if rect.get("class") == "bar"]
    assert bars[0] == pytest.approx(2 * bars[1], rel=0.05)


def test_an_svg_needs_nothing_from_elsewhere_and_runs_nothing() -> None:
    hostile = compile_workflow(Workflow("a", (StepSpec("s", "x\"'></text><script>alert(1)</script>\x00\ud800"),)))
    root = ET.fromstring(svg.render(picture(hostile)))
    elements = {element.tag.removeprefix(SVG) for element in root.iter()}
    assert not elements & {"script", "image", "a", "use", "foreignObject"}
    assert "url(" not in (root.findtext(f"{SVG}style") or "")
    assert any("<script>" in (element.text or "") for element in root.iter(f"{SVG}title"))


@pytest.mark.parametrize("theme", svg.THEMES)
def test_every_state_has_a_look_in_every_theme(theme: str) -> None:
    style = ET.fromstring(svg.render(picture(PLAN), theme)).findtext(f"{SVG}style") or ""
    assert all(f".{state.lower()} rect{{" in style for state in State)
    assert ("prefers-color-scheme: dark" in style) == (theme == "auto")


def png_size(content: bytes) -> tuple[int, int]:
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", content[16:24])
    return width, height


def test_a_png_has_its_text_from_the_font_that_ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = png.render(picture(PLAN), scale=1.0)
    assert png_size(drawn) == pytest.approx(svg.size(lay_out(picture(PLAN))), abs=1)
    monkeypatch.setattr(png, "FONT_FOLDER", tmp_path)
    assert len(png.render(picture(PLAN), scale=1.0)) < len(drawn) - 1000


def test_a_png_of_a_large_graph_stays_within_its_limit() -> None:
    width, height = png_size(png.render(picture(layered(25, 20)), scale=9.0))
    assert width * height <= png.MOST_PIXELS * 1.01


def test_a_text_that_does_not_fit_is_shortened() -> None:
    assert shortened("short", 100, 13) == "short"
    cut = shortened("a_very_long_name_of_a_step", 80, 13)
    assert cut.endswith("…")
    assert text_width(cut[:-1], 13) <= 80


BLOCKS = """
id: x
steps: {a: {uses: y}, b: {uses: y, needs: a}}
on_failure: {tell: {uses: y}, cry: {uses: y, needs: tell}}
finally: {tidy: {uses: y}}
"""


@pytest.mark.parametrize("layer", ["dag", "canvas"])
def test_what_comes_after_the_steps_stands_below_them_in_frames_that_say_when(layer: Any) -> None:
    layout = lay_out(picture(compile_workflow(parse_workflow(BLOCKS)), layer))
    frames = {frame.title: frame for frame in layout.frames if frame.kind == "block"}
    assert {title: len(frame.steps) for title, frame in frames.items()} == {"on failure": 2, "finally": 1}
    lowest = max(layout.boxes[ordinal].y + layout.boxes[ordinal].height for ordinal in (0, 1))
    for frame in frames.values():
        assert frame.box.y > lowest
        assert all(inside(layout.boxes[ordinal], frame.box) for ordinal in frame.steps)
    assert not overlap(frames["on failure"].box, frames["finally"].box)
    assert all(inside(frame.box, Box(0, 0, layout.width, layout.height)) for frame in layout.frames)
