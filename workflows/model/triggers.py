"""Trigger rules: whether a step may start, given how its dependencies stand. Pure; the words are Airflow's.

A step that was skipped because something before it failed counts as failed (Airflow's `upstream_failed`); "skipped"
means a step that its own condition, or that of a step before it, has kept from running.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from workflows.model.spec import TriggerRule
from workflows.model.states import SkipReason, State, is_terminal


class Decision(StrEnum):
    """What becomes of a step that waits for its dependencies."""

    WAIT = "wait"
    START = "start"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Dependency:
    """How one direct dependency stands."""

    status: State
    reason: SkipReason | None = None

    @property
    def is_open(self) -> bool:
        """Whether it has not ended yet."""
        return not is_terminal(self.status)

    @property
    def has_failed(self) -> bool:
        """Whether it failed, was revoked, or was skipped because something before it failed."""
        return self.status in (State.FAILURE, State.REVOKED) or (
            self.status is State.SKIPPED and self.reason is SkipReason.UPSTREAM_FAILED
        )

    @property
    def is_skipped_by_condition(self) -> bool:
        """Whether its own condition kept it from running."""
        return self.status is State.SKIPPED and self.reason is SkipReason.CONDITION


def decide(rule: TriggerRule, dependencies: Iterable[Dependency]) -> tuple[Decision, SkipReason | None]:
    """Apply a rule; a skip carries its reason.

    >>> decide(TriggerRule.ALL_SUCCESS, [Dependency(State.SUCCESS), Dependency(State.PROGRESS)])
    (<Decision.WAIT: 'wait'>, None)
    >>> decide(TriggerRule.ALL_SUCCESS, [Dependency(State.FAILURE), Dependency(State.PROGRESS)])
    (<Decision.SKIP: 'skip'>, <SkipReason.UPSTREAM_FAILED: 'upstream_failed'>)
    """
    found = list(dependencies)
    still_open = sum(d.is_open for d in found)
    failed = sum(d.has_failed for d in found)
    conditional = sum(d.is_skipped_by_condition for d in found)
    success = sum(d.status is State.SUCCESS for d in found)
    wait, start = (Decision.WAIT, None), (Decision.START, None)
    blocked = (Decision.SKIP, SkipReason.UPSTREAM_FAILED)
    passed_by = (Decision.SKIP, SkipReason.CONDITION)
    match rule:
        case TriggerRule.ALL_SUCCESS:
            if failed:
                return blocked
            if conditional:
                return passed_by
            return wait if still_open else start
        case TriggerRule.ALL_DONE:
            return wait if still_open else start
        case TriggerRule.ALL_FAILED:
            if success or conditional:
                return passed_by
            return wait if still_open else start
        case TriggerRule.ALL_SKIPPED:
            if len(found) > still_open + conditional:
                return passed_by
            return wait if still_open else start
        case TriggerRule.ALL_DONE_MIN_ONE_SUCCESS:
            if still_open:
                return wait
            if success:
                return start
            return blocked if failed else passed_by
        case TriggerRule.ONE_SUCCESS:
            if success:
                return start
            if still_open:
                return wait
            return blocked if failed else passed_by
        case TriggerRule.ONE_FAILED:
            if failed:
                return start
            return wait if still_open else passed_by
        case TriggerRule.ONE_DONE:
            if success or failed:
                return start
            return wait if still_open else passed_by
        case TriggerRule.NONE_FAILED:
            if failed:
                return blocked
            return wait if still_open else start
        case TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS:
            if failed:
                return blocked
            if still_open:
                return wait
            return start if success else passed_by
        case TriggerRule.NONE_SKIPPED:
            if conditional:
                return passed_by
            return wait if still_open else start
    assert_never(rule)
