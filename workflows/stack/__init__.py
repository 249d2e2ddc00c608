"""The embedded stack of a home: a broker and a worker, supervised, shared by all who use the home."""

from workflows.stack.embedded import EmbeddedStack, StackStatus, find
from workflows.stack.places import StackError

__all__ = ["EmbeddedStack", "StackError", "StackStatus", "find"]
