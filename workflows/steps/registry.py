"""Where `uses:` finds its step: by decorator, entry point, or the setting `CELERIAC_STEP_MODULES`."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, NoReturn, TypeVar, get_type_hints

from pydantic import BaseModel, TypeAdapter

from workflows.compile.charges import Charging
from workflows.model.errors import CeleriacError
from workflows.model.names import STEP_NAME

ENTRY_POINT_GROUP = "celeriac.steps"

F = TypeVar("F", bound=Callable[..., Any])


class StepRegistrationError(CeleriacError):
    """A step module cannot be imported, or registers something that is no step."""


@dataclass(frozen=True, slots=True)
class StepDefinition:
    """A registered step.

    Attributes:
        name: What `uses:` says.
        function: `function(input, context) -> output`.
        input_model: Pydantic model of the input.
        output_type: Declared return type; a pydantic model, or None when the step gives nothing.
        version: Raised by the author when the step's results change; part of the cache key.
        charging: What its calls may cost, told by the dry-run; None when they cost nothing but time.
    """

    name: str
    function: Callable[..., Any]
    input_model: type[BaseModel]
    output_type: Any
    version: str
    charging: Charging | None = None

    def input_schema(self) -> dict[str, Any]:
        """JSON Schema of the input."""
        return self.input_model.model_json_schema()

    def output_schema(self) -> dict[str, Any] | None:
        """JSON Schema of the output, None when the step gives nothing."""
        if self.output_type in (None, type(None), NoReturn):
            return None
        return TypeAdapter(self.output_type).json_schema()


class StepRegistry:
    """Steps by name. One process has one, `registry`; tests make their own."""

    def __init__(self) -> None:
        self._steps: dict[str, StepDefinition] = {}

    def __contains__(self, name: object) -> bool:
        return name in self._steps

    def __len__(self) -> int:
        return len(self._steps)

    def names(self) -> tuple[str, ...]:
        """All names, sorted."""
        return tuple(sorted(self._steps))

    def get(self, name: str) -> StepDefinition | None:
        """The step of that name, None when this process does not know it."""
        return self._steps.get(name)

    def items(self) -> Iterable[tuple[str, StepDefinition]]:
        """Names and definitions, sorted by name."""
        return sorted(self._steps.items())

    def add(self, definition: StepDefinition) -> None:
        """Register a step; the same function may be registered twice, two functions under one name may not."""
        known = self._steps.get(definition.name)
        if known is not None and _place(known.function) != _place(definition.function):
            raise StepRegistrationError(
                f"two steps are named '{definition.name}': {_place(known.function)} and {_place(definition.function)}",
                "give one of them another name in its @step(...)",
            )
        self._steps[definition.name] = definition


registry = StepRegistry()


def step(
    name: str, *, version: str = "1", charging: Charging | None = None, into: StepRegistry | None = None
) -> Callable[[F], F]:
    """Register a function as the step that `uses: name` names.

    The function takes `(inp: Model, ctx: StepContext)` and returns a pydantic model, another JSON-able value or None.
    """
    if not STEP_NAME.fullmatch(name):
        raise StepRegistrationError(
            f"'{name}' is no name for a step", "use lower-case letters, digits, '.', '_' and '-', a letter first"
        )

    def register(function: F) -> F:
        (into or registry).add(_definition(name, function, version, charging))
        return function

    return register


def load_steps(modules: Iterable[str] = ()) -> StepRegistry:
    """Import every step module: installed entry points first, then the modules named. Returns the process's registry.

    Raises:
        StepRegistrationError: a module cannot be imported; the message names it and the cause.
    """
    for entry in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda entry: entry.name):
        _import(entry.value.partition(":")[0], f"entry point '{entry.name}' of group {ENTRY_POINT_GROUP}")
    for module in modules:
        _import(module, "CELERIAC_STEP_MODULES")
    return registry


def schemas(steps: StepRegistry) -> Mapping[str, tuple[dict[str, Any], dict[str, Any] | None]]:
    """`(input schema, output schema)` of every step by name: all that the pure compiler needs to know of them."""
    return {name: (found.input_schema(), found.output_schema()) for name, found in steps.items()}


def charging(steps: StepRegistry) -> Mapping[str, Charging]:
    """How the steps that charge something tell what, by name."""
    return {name: found.charging for name, found in steps.items() if found.charging is not None}


def _import(module: str, origin: str) -> None:
    if module in sys.modules:
        return
    try:
        importlib.import_module(module)
    except StepRegistrationError:
        raise
    except Exception as error:
        raise StepRegistrationError(
            f"cannot import step module '{module}' ({origin}): {type(error).__name__}: {error}",
            "put its folder on PYTHONPATH or install it, and import it by hand once to see the whole error",
        ) from error


def _definition(name: str, function: Callable[..., Any], version: str, charging: Charging | None) -> StepDefinition:
    parameters = list(inspect.signature(function).parameters.values())
    try:
        hints = get_type_hints(function)
    except NameError as error:
        raise StepRegistrationError(
            f"step '{name}' ({_place(function)}): {error}",
            "define its input and output models at the top level of the module",
        ) from error
    model = hints.get(parameters[0].name) if parameters else None
    if len(parameters) != 2 or not (isinstance(model, type) and issubclass(model, BaseModel)):
        raise StepRegistrationError(
            f"step '{name}' ({_place(function)}) must take (inp: <a pydantic model>, ctx: StepContext)",
            "annotate its first argument with a class derived from pydantic.BaseModel",
        )
    return StepDefinition(name, function, model, hints.get("return"), version, charging)


def _place(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{function.__qualname__}"
