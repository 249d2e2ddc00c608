"""Pictures of a plan as text: pure functions, one module a format."""

from workflows.render.graph import FORMATS, LAYERS, RenderError, render

__all__ = ["FORMATS", "LAYERS", "RenderError", "render"]
