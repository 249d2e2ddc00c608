"""The states of runs, steps and items, and the one table of legal transitions.

Production code guards its SQL with this table, the model checker explores it, the documentation prints it.
Ready is a time (`ready_at`), not a state. Within a generation terminal states are final.
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """The vocabulary of the first system and of Celery, plus SKIPPED, WAITING and PAUSED."""

    PENDING = "PENDING"
    PROGRESS = "PROGRESS"
    RETRY = "RETRY"
    WAITING = "WAITING"
    PAUSED = "PAUSED"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    REVOKED = "REVOKED"
    SKIPPED = "SKIPPED"


class SkipReason(StrEnum):
    """Why a step was skipped; `none_failed` counts UPSTREAM_FAILED as failed."""

    CONDITION = "condition"
    UPSTREAM_FAILED = "upstream_failed"


class Event(StrEnum):
    """What can happen to a step or a run; the name of the guarded update that carries it out.

    RESUME is what the verb `retry` does to a run that has ended, UNPAUSE what the verb `resume` does to one that was
    paused.
    """

    CLAIM = "claim"
    SUCCEED = "succeed"
    EXPAND = "expand"
    FAIL = "fail"
    RETRY = "retry"
    PARK = "park"
    CRASH = "crash"
    EXPIRE = "expire"
    RELEASE = "release"
    SKIP = "skip"
    DECLINE = "decline"
    CANCEL = "cancel"
    RESUME = "resume"
    PAUSE = "pause"
    UNPAUSE = "unpause"


TERMINAL = frozenset({State.SUCCESS, State.FAILURE, State.REVOKED, State.SKIPPED})
CLAIMABLE = frozenset({State.PENDING, State.RETRY, State.WAITING})

STEP_TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.PENDING, Event.CLAIM): State.PROGRESS,
    (State.RETRY, Event.CLAIM): State.PROGRESS,
    (State.WAITING, Event.CLAIM): State.PROGRESS,
    (State.PROGRESS, Event.SUCCEED): State.SUCCESS,
    (State.PROGRESS, Event.EXPAND): State.PROGRESS,
    (State.PROGRESS, Event.FAIL): State.FAILURE,
    (State.PROGRESS, Event.RETRY): State.RETRY,
    (State.PROGRESS, Event.PARK): State.WAITING,
    (State.PROGRESS, Event.CRASH): State.PENDING,
    (State.PROGRESS, Event.EXPIRE): State.PENDING,
    (State.PROGRESS, Event.RELEASE): State.PENDING,
    (State.PROGRESS, Event.CANCEL): State.REVOKED,
    (State.PENDING, Event.SKIP): State.SKIPPED,
    (State.PROGRESS, Event.DECLINE): State.SKIPPED,
    (State.PENDING, Event.CANCEL): State.REVOKED,
    (State.RETRY, Event.CANCEL): State.REVOKED,
    (State.WAITING, Event.CANCEL): State.REVOKED,
    (State.SUCCESS, Event.RESUME): State.PENDING,
    (State.FAILURE, Event.RESUME): State.PENDING,
    (State.REVOKED, Event.RESUME): State.PENDING,
    (State.SKIPPED, Event.RESUME): State.PENDING,
}
"""`(from, event) -> to` for a step run and for a range of a map. RESUME starts a new generation.

A success is done again only in the blocks `on_failure` and `finally`, which belong to an end that did not last.
SKIP comes from what ended before the step, DECLINE from its own condition, which the worker that claimed it evaluates.
"""

RUN_TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.PENDING, Event.CLAIM): State.PROGRESS,
    (State.PENDING, Event.CANCEL): State.REVOKED,
    (State.PENDING, Event.FAIL): State.FAILURE,
    (State.PENDING, Event.SKIP): State.SKIPPED,
    (State.PROGRESS, Event.SUCCEED): State.SUCCESS,
    (State.PROGRESS, Event.FAIL): State.FAILURE,
    (State.PROGRESS, Event.CANCEL): State.REVOKED,
    (State.PENDING, Event.PAUSE): State.PAUSED,
    (State.PROGRESS, Event.PAUSE): State.PAUSED,
    (State.PAUSED, Event.UNPAUSE): State.PROGRESS,
    (State.PAUSED, Event.SUCCEED): State.SUCCESS,
    (State.PAUSED, Event.FAIL): State.FAILURE,
    (State.PAUSED, Event.CANCEL): State.REVOKED,
    (State.FAILURE, Event.RESUME): State.PROGRESS,
    (State.REVOKED, Event.RESUME): State.PROGRESS,
}
"""`(from, event) -> to` for a run. CLAIM is the materialisation of its steps by `execute_research_job`.

SKIP is what `behavior: skip` does to a run whose concurrency group is full.
Pausing changes the states of no step: it is one more thing that each unstarted one waits for. What runs goes on, so a
paused run may end.
"""


def sources(event: Event, to: State | None = None) -> frozenset[State]:
    """The states in which `event` is legal for a step (leading to `to`, when given)."""
    return frozenset(
        source for (source, name), target in STEP_TRANSITIONS.items() if name is event and (to is None or target is to)
    )


def is_terminal(state: str) -> bool:
    """Whether nothing but a resume leaves this state."""
    return state in TERMINAL
