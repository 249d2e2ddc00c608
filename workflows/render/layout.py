"""Where the steps of a plan lie: one layout for SVG, PNG and the page.

From left to right by dependencies. Steps that nothing tells apart (same neighbours, same `uses`) lie in a grid, a
*bundle*, with one edge in and one out: a thousand parallel steps are one thing to look at.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from workflows.compile.plan import Fragment, FragmentKind, PlanStep
from workflows.model.spec import Block
from workflows.render.picture import Picture, fragment_title, subtitle
from workflows.render.text_width import text_width

NODE_HEIGHT = 48.0
LEAST_WIDTH, MOST_WIDTH = 156.0, 240.0
TITLE_SIZE, NOTE_SIZE = 13.0, 11.0
TEXT_LEFT, TEXT_RIGHT = 34.0, 14.0
"""Room beside the text of a node; the state's sign stands in the left part."""

GRID_GAP = 12.0
BOX_HEADER, BOX_PADDING = 24.0, 14.0
LAYER_GAP, NODE_GAP = 72.0, 22.0

BUNDLE_FROM = 8
"""So many like steps become a bundle."""

MOST_PLACES, MOST_EDGES = 300, 800
"""Beyond this graphlay needs seconds; a plain placement by depth takes over."""


_Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle; `x` and `y` are those of its upper left corner, in pixels, y downwards."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Frame:
    """A box around steps: a fragment of the canvas, a bundle, or what comes after the steps.

    Attributes:
        kind: `fragment`, `bundle` or `block`.
        steps: Ordinals.
    """

    name: str
    kind: str
    title: str
    box: Box
    steps: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Route:
    """How an edge runs.

    Attributes:
        source: Name of a step (`s4`) or of a bundle (`b0`).
        points: From the source's border to the target's.
        is_gate: Counted in SQL and delivered by no canvas.
        edges: How many edges of the graph it stands for.
    """

    source: str
    target: str
    points: tuple[tuple[float, float], ...]
    is_gate: bool
    edges: int


@dataclass(frozen=True, slots=True)
class Layout:
    """A picture's places; `boxes` are those of the steps, by ordinal. All lie within `width` and `height`."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    frames: tuple[Frame, ...]
    routes: tuple[Route, ...]


@dataclass(frozen=True, slots=True)
class _Place:
    """What is placed as one: a step, or a bundle of them."""

    name: str
    steps: tuple[int, ...]
    columns: int
    width: float
    height: float
    fragment: int

    @property
    def is_bundle(self) -> bool:
        return len(self.steps) > 1


@dataclass(frozen=True, slots=True)
class _Edge:
    source: int
    target: int
    is_gate: bool
    count: int


def lay_out(picture: Picture) -> Layout:
    """The places of all steps, edges and frames; the same for equal pictures."""
    node_width = _node_width(picture.plan.steps)
    places = _places(picture, node_width)
    edges = _edges(picture, places)
    corners, points = _placed_by_blocks(picture, places, edges)
    return _assembled(picture, places, edges, corners, points, node_width)


def _placed_by_blocks(
    picture: Picture, places: Sequence[_Place], edges: Sequence[_Edge]
) -> tuple[list[_Point], list[list[_Point]]]:
    """The steps, and below them in a row the blocks that come after; no edge leads from one to another."""
    corners: list[_Point] = [(0.0, 0.0)] * len(places)
    points: list[list[_Point]] = [[] for _ in edges]
    x, y = 0.0, 0.0
    for block in Block:
        indexes = [i for i, place in enumerate(places) if picture.plan.steps[place.steps[0]].block is block]
        if not indexes:
            continue
        inner = {index: number for number, index in enumerate(indexes)}
        own = [(i, edge) for i, edge in enumerate(edges) if edge.source in inner]
        renamed = [replace(edge, source=inner[edge.source], target=inner[edge.target]) for _, edge in own]
        found, routes = _placed(picture, [places[index] for index in indexes], renamed)
        top = min(fy for _, fy in found) - (BOX_HEADER if picture.shows_canvas else 0.0)
        begin = min(fx for fx, _ in found)
        for index, (fx, fy) in zip(indexes, found, strict=True):
            corners[index] = (fx - begin + x, fy - top + y)
        for (i, _), route in zip(own, routes, strict=True):
            points[i] = [(px - begin + x, py - top + y) for px, py in route]
        ends = [(corners[i][0] + places[i].width, corners[i][1] + places[i].height) for i in indexes]
        if block is Block.STEPS:
            low = max([end for _, end in ends] + [py for route in points for _, py in route])
            x, y = BOX_PADDING, low + NODE_GAP + BOX_HEADER
        else:
            x = max(end for end, _ in ends) + LAYER_GAP
    return corners, points


def _placed(
    picture: Picture, places: Sequence[_Place], edges: Sequence[_Edge]
) -> tuple[list[_Point], list[list[_Point]]]:
    if len(places) <= MOST_PLACES and len(edges) <= MOST_EDGES:
        return _placed_by_graphlay(picture, places, edges)
    return _placed_by_depth(places, edges)


def _node_width(steps: Sequence[PlanStep]) -> float:
    """One width for all: columns of equal boxes are easier to read."""
    texts = [
        max(text_width(step.id, TITLE_SIZE, is_bold=True), text_width(subtitle(step), NOTE_SIZE)) for step in steps
    ]
    return min(MOST_WIDTH, max([LEAST_WIDTH, *(TEXT_LEFT + text + TEXT_RIGHT for text in texts)]))


def _places(picture: Picture, node_width: float) -> list[_Place]:
    alike: dict[Hashable, list[int]] = defaultdict(list)
    for step in picture.plan.steps:
        fragment = step.fragment if picture.shows_canvas else 0
        alike[step.predecessors, step.successors, step.uses, step.for_each is None, fragment].append(step.ordinal)
    groups: list[tuple[int, ...]] = []
    for ordinals in alike.values():
        groups.extend([tuple(ordinals)] if len(ordinals) >= BUNDLE_FROM else ((ordinal,) for ordinal in ordinals))
    return [_place(picture, ordinals, node_width) for ordinals in sorted(groups)]


def _place(picture: Picture, ordinals: tuple[int, ...], node_width: float) -> _Place:
    fragment = picture.plan.steps[ordinals[0]].fragment
    if len(ordinals) == 1:
        return _Place(f"s{ordinals[0]}", ordinals, 1, node_width, NODE_HEIGHT, fragment)
    # About three times as many rows as columns makes a block of even sides.
    columns = max(1, round((len(ordinals) / 3) ** 0.5))
    rows = -(-len(ordinals) // columns)
    width = columns * (node_width + GRID_GAP) - GRID_GAP + 2 * BOX_PADDING
    height = rows * (NODE_HEIGHT + GRID_GAP) - GRID_GAP + BOX_PADDING + BOX_HEADER
    return _Place(f"b{ordinals[0]}", ordinals, columns, width, height, fragment)


def _edges(picture: Picture, places: Sequence[_Place]) -> list[_Edge]:
    home = {ordinal: index for index, place in enumerate(places) for ordinal in place.steps}
    found: dict[tuple[int, int], tuple[bool, int]] = {}
    for edge in picture.edges:
        key = (home[edge.source], home[edge.target])
        found[key] = (edge.is_gate, found.get(key, (False, 0))[1] + 1)
    return [_Edge(*key, *value) for key, value in sorted(found.items())]


def _placed_by_graphlay(
    picture: Picture, places: Sequence[_Place], edges: Sequence[_Edge]
) -> tuple[list[_Point], list[list[_Point]]]:
    import graphlay  # a library of 4 MB that only pictures need

    nodes: list[dict[str, Any]] = [_node(place.width, place.height) for place in places]
    parents: dict[int, int] = {}
    for index, place in enumerate(places):
        if not picture.shows_canvas or not _has_frame(picture.plan.fragments[place.fragment]):
            continue
        if place.fragment not in parents:
            parents[place.fragment] = len(nodes)
            nodes.append(_node(1.0, 1.0))
        nodes[index]["parent"] = parents[place.fragment]
    drawn = graphlay.layout(
        {"nodes": nodes, "edges": [{"source": e.source, "target": e.target, "weight": 1.0} for e in edges]},
        options={
            "direction": "leftright",
            "effort": "fast" if len(places) > 60 else "balanced",
            "spacing": {
                "layer_gap": LAYER_GAP,
                "node_gap": NODE_GAP,
                "compound_padding": BOX_PADDING,
                "compound_header": BOX_HEADER - BOX_PADDING,
            },
        },
    )
    corners = [
        (node["center"]["x"] - place.width / 2, node["center"]["y"] - place.height / 2)
        for node, place in zip(drawn.nodes, places, strict=False)
    ]
    return corners, [[(point["x"], point["y"]) for point in edge["points"]] for edge in drawn.edges]


def _node(width: float, height: float) -> dict[str, Any]:
    return {"size": {"width": width, "height": height}, "shape": "box", "key": ""}


def _placed_by_depth(places: Sequence[_Place], edges: Sequence[_Edge]) -> tuple[list[_Point], list[list[_Point]]]:
    """Columns by the longest path to a place; within one, places stand near the middle of what they wait for."""
    before: list[list[int]] = [[] for _ in places]
    for edge in edges:
        before[edge.target].append(edge.source)
    depth: list[int] = []
    for index in range(len(places)):  # places are in topological order
        depth.append(1 + max((depth[b] for b in before[index]), default=-1))
    columns: list[list[int]] = [[] for _ in range(max(depth, default=-1) + 1)]
    for index, layer in enumerate(depth):
        columns[layer].append(index)
    middles = [0.0] * len(places)
    corners = [(0.0, 0.0)] * len(places)
    x = 0.0
    for column in columns:
        column.sort(key=lambda index: (_mean(middles[b] for b in before[index]), index))
        y = -sum(places[index].height + NODE_GAP for index in column) / 2
        for index in column:
            corners[index], middles[index] = (x, y), y + places[index].height / 2
            y += places[index].height + NODE_GAP
        x += max(places[index].width for index in column) + LAYER_GAP
    points = []
    for edge in edges:
        left, right = places[edge.source], places[edge.target]
        (ax, ay), (bx, by) = corners[edge.source], corners[edge.target]
        points.append([(ax + left.width, ay + left.height / 2), (bx, by + right.height / 2)])
    return corners, points


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found) if found else 0.0


def _assembled(
    picture: Picture,
    places: Sequence[_Place],
    edges: Sequence[_Edge],
    corners: Sequence[tuple[float, float]],
    points: Sequence[Sequence[tuple[float, float]]],
    node_width: float,
) -> Layout:
    boxes: dict[int, Box] = {}
    frames: list[Frame] = []
    for place, (x, y) in zip(places, corners, strict=True):
        if not place.is_bundle:
            boxes[place.steps[0]] = Box(x, y, node_width, NODE_HEIGHT)
            continue
        for number, ordinal in enumerate(place.steps):
            row, column = divmod(number, place.columns)
            left = x + BOX_PADDING + column * (node_width + GRID_GAP)
            boxes[ordinal] = Box(left, y + BOX_HEADER + row * (NODE_HEIGHT + GRID_GAP), node_width, NODE_HEIGHT)
        title = f"{len(place.steps):,} × {picture.plan.steps[place.steps[0]].uses}"
        frames.append(Frame(place.name, "bundle", title, Box(x, y, place.width, place.height), place.steps))
    if picture.shows_canvas:
        frames = [*_fragment_frames(picture, boxes, frames), *frames]
    frames = [*_block_frames(picture, boxes, frames), *frames]
    corner_points = [point for route in points for point in route]
    outer = [*boxes.values(), *(frame.box for frame in frames)]
    left = min([box.x for box in outer] + [px for px, _ in corner_points], default=0.0)
    top = min([box.y for box in outer] + [py for _, py in corner_points], default=0.0)
    width = max([box.x + box.width for box in outer] + [px for px, _ in corner_points], default=0.0) - left
    height = max([box.y + box.height for box in outer] + [py for _, py in corner_points], default=0.0) - top

    def moved(box: Box) -> Box:
        return Box(round(box.x - left, 1), round(box.y - top, 1), round(box.width, 1), round(box.height, 1))

    routes = [
        Route(
            places[edge.source].name,
            places[edge.target].name,
            tuple((round(px - left, 1), round(py - top, 1)) for px, py in route),
            edge.is_gate,
            edge.count,
        )
        for edge, route in zip(edges, points, strict=True)
    ]
    return Layout(
        round(width, 1),
        round(height, 1),
        tuple(moved(boxes[ordinal]) for ordinal in range(len(boxes))),
        tuple(Frame(f.name, f.kind, f.title, moved(f.box), f.steps) for f in frames),
        tuple(routes),
    )


def _block_frames(picture: Picture, boxes: dict[int, Box], inner: Sequence[Frame]) -> list[Frame]:
    """Around what comes after the steps: nothing leads to it, so its place has to say when it runs."""
    found = []
    for block in (Block.ON_FAILURE, Block.FINALLY):
        members = tuple(picture.plan.ordinals(block))
        if members:
            within = [boxes[ordinal] for ordinal in members]
            within.extend(frame.box for frame in inner if frame.steps[0] in members)
            found.append(Frame(block.value, "block", block.value.replace("_", " "), _around(within), members))
    return found


def _around(inner: Sequence[Box]) -> Box:
    left, top = min(box.x for box in inner) - BOX_PADDING, min(box.y for box in inner) - BOX_HEADER
    width = max(box.x + box.width for box in inner) + BOX_PADDING - left
    return Box(left, top, width, max(box.y + box.height for box in inner) + BOX_PADDING - top)


def _has_frame(fragment: Fragment) -> bool:
    """A frame around a single step would say nothing."""
    return fragment.kind is not FragmentKind.SINGLE


def _fragment_frames(picture: Picture, boxes: dict[int, Box], bundles: Sequence[Frame]) -> list[Frame]:
    """Around everything that a fragment delivers, its bundles included."""
    found = []
    for fragment in filter(_has_frame, picture.plan.fragments):
        inner = [boxes[ordinal] for ordinal in fragment.members]
        inner.extend(bundle.box for bundle in bundles if bundle.steps[0] in fragment.members)
        title, members = fragment_title(fragment), fragment.members
        found.append(Frame(f"f{fragment.index}", "fragment", title, _around(inner), members))
    return found
