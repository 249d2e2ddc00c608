"""One exception tree for the whole project, and the diagnostic that a reader of a definition sees.

Every error that a user can cause is a `CeleriacError`: its text says what is wrong and how to mend it,
and `exit_code` says what the command line answers. Anything else that escapes is a bug of ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]


class CeleriacError(Exception):
    """The root of every error that is meant to be read by a user.

    Attributes:
        hint: How to mend it, one sentence; empty when the message already says so.
        exit_code: What the command line exits with: 1 the run failed, 2 usage or bad input.
    """

    exit_code = 2

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding about a definition: `file:line:column code message; hint`.

    Lines and columns count from 1; 0 means that the place is not known.
    Codes (`CEL001` ...) are stable and listed in `docs/reference/diagnostics.md`.
    """

    file: str
    line: int
    column: int
    code: str
    message: str
    hint: str = ""
    severity: Severity = "error"

    def __str__(self) -> str:
        hint = f"; {self.hint}" if self.hint else ""
        return f"{self.file}:{self.line}:{self.column} {self.code} {self.message}{hint}"


class DefinitionError(CeleriacError):
    """A definition has errors; all of them are in `diagnostics`, in the order of the file."""

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        super().__init__("\n".join(str(d) for d in diagnostics))
        self.diagnostics = tuple(diagnostics)


class ExpressionError(CeleriacError):
    """An expression `${{ ... }}` is malformed, or fails on the values of this run.

    Attributes:
        offset: Index of the character at which it went wrong, from 0, within the expression's own text.
    """

    def __init__(self, message: str, hint: str = "", offset: int = 0) -> None:
        super().__init__(message, hint)
        self.offset = offset


class ParamError(CeleriacError):
    """The params of a run do not fit what the definition declares.

    Attributes:
        problems: Name of the param and what is wrong with it; the name is empty where it is no single param.
    """

    def __init__(self, message: str, hint: str = "", problems: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message, hint)
        self.problems = tuple(problems) or (("", message),)


class NotFoundError(CeleriacError):
    """A run, workflow or step of that name does not exist."""


class ConflictError(CeleriacError):
    """The thing exists, but not in a state that allows what was asked."""


class BrokerUnavailableError(CeleriacError):
    """The message broker does not answer."""


class BrokerUnsafeError(CeleriacError):
    """The message broker is set up to throw messages away."""


class DatabaseUnavailableError(CeleriacError):
    """The database does not answer, or its tables are not those of this version."""


class StepError(Exception):
    """Base of the errors that step code raises on purpose; their names are what `only_for` and `never_for` match."""


class TransientError(StepError):
    """The step may succeed when tried again: a timeout, a 5xx answer, a lock."""


class PermanentError(StepError):
    """Trying again cannot help. Never retried, whatever the policy says."""


class ValidationError(PermanentError):
    """The step was given, or gave, data that does not fit its declared types."""


class AuthenticationError(PermanentError):
    """A remote side refused the credentials."""


class StepTimeoutError(StepError):
    """The step ran longer than its `timeout`."""


class StepParked(BaseException):
    """Raised by `ctx.park()`; a step must let it pass, and `except Exception` does.

    Attributes:
        seconds: After which the step is due again.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"parked for {seconds:g} s")
        self.seconds = seconds


class StepCancelledError(StepError):
    """The run was cancelled while the step ran; raised by `ctx.check_cancelled()`."""
