"""Values that pass between the parts of the engine: how a message ended, and how a step failed."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any

from workflows.model.errors import CeleriacError, StepCancelledError

_ENGINE = str(Path(__file__).parent) + os.sep
_TRACEBACK_LIMIT = 8_000
_MESSAGE_LIMIT = 2_000


class Outcome(StrEnum):
    """What the Celery task does with its message."""

    RETURN = "return"
    """The canvas goes on: its next task is sent, its chord counts."""

    IGNORE = "ignore"
    """The canvas stops here: someone else carries the step on."""

    REFUSED = "refused"
    """The same, and nothing was changed: the claim no longer held."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a try failed.

    Attributes:
        names: Names of the error's class and its bases, the most special first; retry policies match them.
    """

    type: str
    message: str
    names: tuple[str, ...]
    traceback: str = ""

    def to_json(self) -> str:
        """As the database keeps it."""
        value: dict[str, Any] = {"type": self.type, "message": self.message, "traceback": self.traceback}
        return json.dumps(value)

    @property
    def is_cancellation(self) -> bool:
        """Whether the step ended because its run was cancelled."""
        return StepCancelledError.__name__ in self.names


def _told(error: BaseException) -> str:
    hint = error.hint if isinstance(error, CeleriacError) else ""
    return f"{error} ({hint})" if hint else str(error)


def failure_of(error: BaseException, redact: Callable[[str], str] = str) -> Failure:
    """Describe an exception; `redact` hides secrets in its texts."""
    names = tuple(cls.__name__ for cls in type(error).__mro__ if cls is not object)
    text = "".join(traceback.format_exception(type(error), error, _from_the_step_on(error.__traceback__)))
    text = redact(text)
    if len(text) > _TRACEBACK_LIMIT:
        half = _TRACEBACK_LIMIT // 2
        text = f"{text[:half]}\n... {len(text) - _TRACEBACK_LIMIT} characters left out ...\n{text[-half:]}"
    return Failure(names[0], safe_text(redact(_told(error)))[:_MESSAGE_LIMIT], names, safe_text(text))


def _from_the_step_on(frames: TracebackType | None) -> TracebackType | None:
    """A traceback without the engine's own frames, which come first and tell the step's author nothing."""
    inner = frames
    while inner is not None and inner.tb_frame.f_code.co_filename.startswith(_ENGINE):
        inner = inner.tb_next
    return inner or frames


def engine_failure(name: str, message: str, *, retryable: bool = False) -> Failure:
    """A failure that the engine itself states, such as `worker lost`."""
    return Failure(name, message, (name,) if retryable else (name, "PermanentError"))


def safe_text(text: str) -> str:
    """Without lone surrogates and NUL, which PostgreSQL does not take as text."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\x00", "\ufffd")
