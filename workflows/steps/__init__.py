"""The step SDK: what a module of steps imports.

from workflows.steps import StepContext, step

@step("ledger.nap")
def nap(inp: Nap, ctx: StepContext) -> Done: ...
"""

from workflows.model.errors import (
    AuthenticationError,
    PermanentError,
    StepCancelledError,
    StepError,
    StepTimeoutError,
    TransientError,
    ValidationError,
)
from workflows.steps.context import StepContext
from workflows.steps.registry import StepDefinition, StepRegistry, load_steps, registry, step
from workflows.steps.utilities import TaskProgressManager, TaskRetryPolicy

__all__ = [
    "AuthenticationError",
    "PermanentError",
    "StepCancelledError",
    "StepContext",
    "StepDefinition",
    "StepError",
    "StepRegistry",
    "StepTimeoutError",
    "TaskProgressManager",
    "TaskRetryPolicy",
    "TransientError",
    "ValidationError",
    "load_steps",
    "registry",
    "step",
]
