"""What the rules of a schedule mean: which times fire now, which are made up for, which are let go.

Pure: `due` decides, `workflows.scheduling` carries it out.
"""

from __future__ import annotations

from dataclasses import dataclass

from workflows.model.cron import Cron
from workflows.model.spec import Catchup, Overlap

DEFAULT_TIMEZONE = "UTC"

ON_TIME_SECONDS = 60.0
"""A time that fires later than this was missed: longer than the scheduler needs to change hands."""

MOST_CAUGHT_UP = 1_000
"""Times that `catchup: all` makes up for; of more, the newest."""

ONE_AT_A_TIME = frozenset({Overlap.SKIP, Overlap.CANCEL_RUNNING})
"""Rules under which times that are caught up together would do away with each other."""


@dataclass(frozen=True, slots=True)
class Due:
    """What is to be done about the times of a schedule that have come.

    Attributes:
        fire: Times to fire now, the oldest first.
        missed: How many were let go; all those that could be counted.
        last_missed: The latest of them.
        next_fire_at: When to look again; None when the schedule never fires again.
    """

    fire: tuple[int, ...] = ()
    missed: int = 0
    last_missed: int | None = None
    next_fire_at: int | None = None


def due(times: Cron, catchup: Catchup, next_fire_at: int, now: float, at_once: int) -> Due:
    """Decide about the times from `next_fire_at` to `now`.

    Args:
        at_once: How many may fire in one go; the others stay due.
    """
    found, has_more = times.newest(next_fire_at, now, MOST_CAUGHT_UP)
    if not found:
        return Due(next_fire_at=times.next_after(now))
    fire: tuple[int, ...]
    match catchup:
        case Catchup.ALL:
            fire = found
        case Catchup.LAST:
            fire = found[-1:]
        case Catchup.SKIP:
            fire = tuple(fire_at for fire_at in found[-1:] if fire_at >= now - ON_TIME_SECONDS)
    missed = found[: len(found) - len(fire)]
    last_missed = missed[-1] if missed else None
    if has_more and not missed:
        # More than are made up for: the one before the first that is.
        last_missed = times.newest(next_fire_at, found[0] - 1, 1)[0][0]
    later = fire[at_once:]
    return Due(
        fire[:at_once],
        len(missed) + has_more,
        last_missed,
        later[0] if later else times.next_after(now),
    )


def default_overlap(catchup: Catchup) -> Overlap:
    """The rule of a schedule that names none: times that are all caught up wait for each other."""
    return Overlap.QUEUE if catchup is Catchup.ALL else Overlap.SKIP


def contradiction(catchup: Catchup, overlap: Overlap) -> str:
    """Why two rules do not go together; empty when they do."""
    if catchup is Catchup.ALL and overlap in ONE_AT_A_TIME:
        return f"with overlap: {overlap.value} the times that catchup: all makes up for would do away with each other"
    return ""
