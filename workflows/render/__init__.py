"""Pictures of a plan: pure functions, one module a format."""

from workflows.render.graph import FORMATS, LAYERS, RenderError, picture, render
from workflows.render.picture import Mark, Picture

__all__ = ["FORMATS", "LAYERS", "Mark", "Picture", "RenderError", "picture", "render"]
