"""The stable codes of everything that can be wrong with a definition, and the collector that gathers findings.

A code is never given a second meaning and never disappears; `docs/reference/diagnostics.md` lists them all.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

from workflows.model.errors import Diagnostic, Severity
from workflows.model.spec import Position

MAX_DIAGNOSTICS = 200
"""Findings kept of one file; a file with more is broken in the same way everywhere."""

_MAX_KEPT = 10 * MAX_DIAGNOSTICS
_SUGGESTION_BUDGET = 8_000
"""Names compared in search of 'did you mean' for one file: a wrong file of 5,000 steps must stay quick to refuse."""


class Code(StrEnum):
    """One kind of finding; the value is what the user sees, `explanation` what the reference says about it."""

    explanation: str

    def __new__(cls, value: str, explanation: str) -> Self:
        """Attach the explanation to the member."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.explanation = explanation
        return member

    # The text itself
    TEXT = "CEL001", "The file is no readable text: wrong encoding, or a control character. Save it as UTF-8."
    SYNTAX = "CEL002", "The YAML is malformed: tabs as indentation, an open quote or bracket, an undefined alias."
    LIMIT = "CEL003", "The file is larger, deeper or more expanded by aliases than a definition may be."
    DUPLICATE_KEY = "CEL004", "A mapping has the same key twice. YAML readers would silently keep one of them."
    KEY_NOT_TEXT = "CEL005", "A key is a number, null, or a word that YAML takes for a boolean (`on`, `no`). Quote it."
    YAML_FEATURE = "CEL006", "A tag, a second document, a recursive alias or a number that JSON does not have."
    AMBIGUOUS_WORD = "CEL007", "A bare word that YAML 1.1 takes for something else (`yes`, `1_000`, `1:30`). Quote it."

    # Shape and words
    WRONG_TYPE = "CEL010", "A mapping, list, text or number stands where another is expected."
    MISSING_KEY = "CEL011", "A required key is missing."
    UNKNOWN_STEP = "CEL012", "`needs` or an expression names a step that the definition does not have."
    UNKNOWN_KEY = "CEL013", "A key that the language does not have."
    BAD_NAME = "CEL015", "An id, param, queue or step name with characters that names may not have."
    NO_STEPS = "CEL016", "The definition, or a block of it, has no steps."
    BAD_VALUE = "CEL017", "A value outside of what its key allows."
    BAD_DURATION = "CEL018", "A duration is not like `30s`, `10m`, `6h`, `1d` or a number of seconds, or out of range."
    TOO_MANY_STEPS = "CEL019", "More steps than a workflow may have."
    BAD_RETRY = "CEL020", "A retry policy that contradicts itself."

    # Params
    BAD_PARAM = (
        "CEL021",
        "A param's schema has a word that does not exist, does not fit its type, or contradicts another.",
    )
    BAD_DEFAULT = "CEL022", "A param's default does not fit the param's own schema."
    UNUSED_PARAM = "CEL023", "A param that no expression reads."
    UNKNOWN_PARAM = "CEL024", "An expression reads a param that is not declared."
    UNKNOWN_LIMIT = "CEL025", "`rate_limit` or `pool` names a limit that the definition does not declare."

    # Expressions
    BAD_EXPRESSION = "CEL030", "An expression is malformed, or names something that does not exist in the language."
    OUT_OF_SCOPE = "CEL031", "`item`, `batch`, `secret` or a part of `run` is used where there is none."
    EXPRESSION_NOT_ALLOWED = "CEL032", "An expression stands where only fixed text is read."
    NOT_AN_EXPRESSION = "CEL033", "`for_each.items` is neither one expression nor a list."
    SAME_KEY = "CEL034", "`for_each.key` does not depend on the item, so all calls would have the same key."
    MAP_OUTPUT = "CEL035", "`.output` of a step with `for_each`, or `.outputs`/`.failures` of one without."

    CONDITION = "CEL036", "`when` is not one expression that gives true or false."

    # Graph
    CYCLE = "CEL040", "Steps wait for each other in a circle."
    SELF_DEPENDENCY = "CEL041", "A step needs itself."
    REPEATED_NEED = "CEL042", "`needs` names the same step twice."
    RULE_NEVER_HOLDS = "CEL043", "`run_if` waits for dependencies, but the step has none."
    NEVER_TRUE = "CEL044", "`when` is false in every run, so the step is always skipped."
    SAME_STEP = "CEL045", "Two steps of different blocks (`steps`, `on_failure`, `finally`) have the same id."
    OTHER_BLOCK = "CEL046", "A step needs one of another block, or reads one of a block that runs later."

    # Types, checked when the registered steps are known
    UNKNOWN_USES = "CEL050", "`uses` names a step that is not registered."
    UNKNOWN_INPUT = "CEL051", "`with` has a key that the step does not take."
    MISSING_INPUT = "CEL052", "`with` lacks a key that the step requires."
    INPUT_TYPE = "CEL053", "A value under `with` does not fit the type that the step takes."
    UNKNOWN_OUTPUT = (
        "CEL054",
        "An expression reads a field that does not exist there, or hands a function what it never takes.",
    )

    # Triggers
    BAD_CRON = "CEL070", "A cron expression that cannot be read, or that no day ever fits."
    BAD_TIMEZONE = "CEL071", "A time zone that does not exist. Use an IANA name such as `Europe/Berlin`."
    BAD_SCHEDULE = "CEL072", "Schedules of one name, or rules of a schedule that contradict each other."
    SCHEDULE_PARAMS = "CEL073", "A schedule's params do not fit, or lack a value that has no default."


WARNINGS = frozenset({Code.AMBIGUOUS_WORD, Code.UNUSED_PARAM, Code.REPEATED_NEED, Code.NEVER_TRUE})
"""Codes that do not refuse the definition."""


def severity_of(code: Code) -> Severity:
    """Whether a finding of this code refuses the definition."""
    return "warning" if code in WARNINGS else "error"


@dataclass(slots=True)
class Report:
    """Gathers the findings about one file."""

    file: str
    _found: list[Diagnostic] = field(default_factory=list)
    _counts: Counter[Severity] = field(default_factory=Counter)
    _budget: int = _SUGGESTION_BUDGET

    def add(self, code: Code, position: Position, message: str, hint: str = "") -> None:
        """Note a finding; whether it is an error or a warning follows from its code."""
        severity = severity_of(code)
        self._counts[severity] += 1
        if self._counts[severity] <= _MAX_KEPT:
            self._found.append(
                Diagnostic(self.file, position.line, position.column, code.value, message, hint, severity)
            )

    @property
    def has_errors(self) -> bool:
        """Whether anything found so far refuses the definition."""
        return self._counts["error"] > 0

    @property
    def full(self) -> bool:
        """Whether so much was found that looking further helps nobody."""
        return self._counts["error"] >= _MAX_KEPT

    def sorted(self) -> tuple[Diagnostic, ...]:
        """What was found, by place, without doubles; of very many `MAX_DIAGNOSTICS`, errors first."""
        found = sorted(set(self._found), key=_by_place)
        if len(found) <= MAX_DIAGNOSTICS:
            return tuple(found)
        kept = sorted(found, key=lambda d: d.severity == "warning")[:MAX_DIAGNOSTICS]
        last = max(kept, key=_by_place)
        more = Diagnostic(
            self.file,
            last.line,
            last.column,
            Code.LIMIT.value,
            f"at least {self._counts.total() - len(kept)} further findings are not shown",
            "mend these first",
        )
        return (*sorted(kept, key=_by_place), more)

    def did_you_mean(self, name: str, candidates: Iterable[str]) -> str:
        """`did you mean 'x'?` for the nearest of `candidates`, empty when none is near."""
        if self._budget <= 0:
            return ""
        known = list(candidates)
        self._budget -= len(known)
        return did_you_mean(name, known[:_SUGGESTION_BUDGET])


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """`did you mean 'x'?` for the nearest of `candidates`, empty when none is near."""
    near = difflib.get_close_matches(name, candidates, n=1, cutoff=0.6)
    return f"did you mean '{near[0]}'?" if near else ""


def listed(names: Iterable[str], limit: int = 12) -> str:
    """Names for a hint: sorted, quoted, at most `limit`."""
    ordered = sorted(names)
    shown = ", ".join(f"'{name}'" for name in ordered[:limit])
    return f"{shown} and {len(ordered) - limit} more" if len(ordered) > limit else shown


def _by_place(diagnostic: Diagnostic) -> tuple[int, int, str, str]:
    return diagnostic.line, diagnostic.column, diagnostic.code, diagnostic.message
