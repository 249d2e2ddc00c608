"""The compiler: from a checked `Workflow` to the `Plan` that the engine executes and the dry-run prints."""

from workflows.compile.compiler import compile_workflow

__all__ = ["compile_workflow"]
