"""A plan as a PNG, drawn from its SVG with the font that ships with it: the same on every machine."""

from __future__ import annotations

from pathlib import Path

from workflows.render import svg
from workflows.render.layout import lay_out
from workflows.render.picture import Picture

FONT_FOLDER = Path(__file__).parent / "fonts"
MOST_PIXELS = 40_000_000
"""A larger picture is drawn smaller: nobody's viewer opens it otherwise."""


def render(picture: Picture, theme: str = "light", scale: float = 2.0) -> bytes:
    """The picture as a PNG.

    Args:
        theme: `light` or `dark`.
        scale: Pixels for each of the SVG's.
    """
    import resvg_py  # 3 MB of Rust that only pictures need

    layout = lay_out(picture)
    width, height = svg.size(layout)
    fitting = min(scale, (MOST_PIXELS / (width * height)) ** 0.5)
    return resvg_py.svg_to_bytes(
        svg_string=svg.draw(picture, layout, theme),
        width=max(1, round(width * fitting)),
        skip_system_fonts=True,
        font_dirs=[str(FONT_FOLDER)],
        font_family="Inter",
        sans_serif_family="Inter",
    )
