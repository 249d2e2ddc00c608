"""One call of a step's function: input in, JSON text out, within its time."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import pydantic
from billiard.common import terminate_handler_fired
from pydantic import BaseModel

from workflows.engine.context import EngineContext
from workflows.engine.machine import Machine
from workflows.model.errors import StepError, ValidationError
from workflows.steps.registry import StepDefinition


def call(
    definition: StepDefinition,
    values: Mapping[str, Any],
    context: EngineContext,
    machine: Machine,
    timeout: float | None,
    max_bytes: int,
) -> str:
    """Run the step; its output as JSON text.

    Args:
        timeout: Seconds after which `StepTimeoutError` is raised within the step; None means no limit.
        max_bytes: Largest output that is kept.

    Raises:
        ValidationError: input or output does not fit, or the output is too large.
        StepTimeoutError: the time is over.
        Exception: whatever the step raises.
    """
    try:
        given = definition.input_model.model_validate(values)
    except pydantic.ValidationError as error:
        raise ValidationError(f"the input of '{definition.name}' does not fit: {_problems(error)}") from None
    try:
        with machine.time_limit(timeout):
            result = definition.function(given, context)
    except SystemExit as error:
        if terminate_handler_fired():
            raise  # the worker is being stopped: this process is on its way out, whatever the step is doing
        # Libraries made for the command line do this; it must not take the worker's process along.
        raise StepError(f"the step called sys.exit({error.code!r})") from error
    return context.redact_values(to_json(definition.name, result, max_bytes))


def to_json(name: str, result: object, max_bytes: int) -> str:
    """The output of step `name` as JSON text in ASCII; refused with the path and type of what is no JSON.

    Lone surrogates, which are no text, become U+FFFD: neither a database nor a browser takes them.
    """
    try:
        text = _dumps(result)
    except (TypeError, ValueError, RecursionError):
        raise ValidationError(f"the output of '{name}' is no JSON value: {_unserialisable(result, 'output')}") from None
    if "\\ud" in text:
        text = _dumps(json.loads(json.dumps(json.loads(text), ensure_ascii=False).translate(_LONE_SURROGATES)))
    if len(text) > max_bytes:
        raise ValidationError(
            f"the output of '{name}' takes {len(text)} bytes, the limit is {max_bytes} (CELERIAC_MAX_OUTPUT_BYTES): "
            "store the data in a table or a file of your own and return its ids"
        )
    return text


_LONE_SURROGATES = dict.fromkeys(range(0xD800, 0xE000), "\ufffd")
"""A Python text has pairs of surrogates as one character: those that are left are alone."""


def _dumps(value: object) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"), default=_dump)


def _dump(value: object) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError


def _problems(error: pydantic.ValidationError) -> str:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'value'}: {e['msg']}" for e in found[:5])


def _unserialisable(value: object, path: str, depth: int = 0) -> str:
    if depth > 50:
        return f"{path} is nested too deeply"
    if isinstance(value, BaseModel):
        # A model makes JSON of more than JSON has (dates, paths): ask it for one field after the other.
        for name, inner in value:
            try:
                json.dumps(value.model_dump(mode="json", include={name}), allow_nan=False)
            except (TypeError, ValueError, RecursionError):
                at = f"{path}.{name}"
                return _unserialisable(inner, at, depth + 1) or f"{at} is of type {type(inner).__name__}"
        return ""
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str | int | float | bool | None):
                return f"{path} has a key of type {type(key).__name__}"
            found = _unserialisable(inner, f"{path}.{key}", depth + 1)
            if found:
                return found
        return ""
    if isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            found = _unserialisable(inner, f"{path}[{index}]", depth + 1)
            if found:
                return found
        return ""
    if isinstance(value, float) and not math.isfinite(value):
        return f"{path} is {value}"
    if value is None or isinstance(value, str | int | float | bool):
        return ""
    return f"{path} is of type {type(value).__name__}"
