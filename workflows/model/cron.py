"""Times of a clock face: when a cron expression fires in a time zone.

What a field means is cronsim's affair, on a clock face without a zone. How the face maps to real time is ours, and is
what Debian's cron does: an expression whose minute or hour begins with `*` fires at every real minute that the face
shows so, twice in the hour that an autumn repeats and never in the one that a spring leaves out; one that names its
minute and hour fires once a day, at the first of two equal times, or at the end of the gap that its time falls into.

Instants are whole seconds since 1970.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from cronsim import CronSim, CronSimError

from workflows.model.diagnostics import did_you_mean
from workflows.model.errors import CeleriacError

MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
"""Words for expressions that everybody writes."""

_DAY = 86_400
_WINDOWS = (3_600, _DAY, 32 * _DAY, 366 * _DAY)
_LONGEST = 100
_SOME_DAY = datetime(2000, 1, 1)  # noqa: DTZ001 - a clock face without a zone
_LAST_YEAR = 2200


class CronError(CeleriacError):
    """A cron expression that cannot be read, or that never fires."""


class TimezoneError(CeleriacError):
    """A time zone that does not exist."""


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression in a time zone; `Cron.parse` makes one."""

    expression: str
    timezone: str
    zone: ZoneInfo
    follows_real_time: bool

    @classmethod
    def parse(cls, expression: str, timezone: str = "UTC") -> Cron:
        """Read an expression of five fields, or one of `MACROS`, and the IANA name of a zone.

        Raises:
            CronError: the expression is malformed, or no day ever fits it.
            TimezoneError: there is no such zone.
        """
        fields = MACROS.get(expression.strip().lower(), expression).split()
        if len(expression) > _LONGEST or len(fields) != 5:
            raise CronError(
                f"'{expression[:_LONGEST]}' is no cron expression",
                'write minute, hour, day of month, month and day of week, as in "0 3 * * *"',
            )
        text = " ".join(fields)
        try:
            next(CronSim(text, _SOME_DAY))
        except CronSimError as error:
            raise CronError(
                f"'{text}' is no cron expression: {str(error).lower()}",
                'minute 0-59, hour 0-23, day of month 1-31, month 1-12, day of week 0-7, as in "30 3 * * mon-fri"',
            ) from None
        except StopIteration:
            raise CronError(f"'{text}' never fires: no day fits it") from None
        follows = fields[0].startswith("*") or fields[1].startswith("*")
        return cls(text, timezone, _zone(timezone), follows)

    def after(self, instant: float) -> Iterator[int]:
        """Every time it fires after `instant`, in order."""
        return self._every_match(instant) if self.follows_real_time else self._once_a_face(instant)

    def next_after(self, instant: float) -> int | None:
        """The first time it fires after `instant`; None when the calendar ends before."""
        return next(self.after(instant), None)

    def newest(self, begin: float, end: float, limit: int) -> tuple[tuple[int, ...], bool]:
        """The last `limit` times from `begin` to `end`, both included, and whether there are earlier ones."""
        for window in (*_WINDOWS, None):
            start = begin if window is None else max(begin, end - window)
            found: deque[int] = deque(maxlen=limit + 1)
            for fire_at in self.after(start - 1):
                if fire_at > end:
                    break
                if fire_at >= start:
                    found.append(fire_at)
            if len(found) > limit:
                return tuple(found)[1:], True
            if start <= begin:
                return tuple(found), False
        raise AssertionError("the last window begins at `begin`")

    def text_of(self, instant: float) -> str:
        """An instant as this zone's clocks show it, ISO 8601 with the offset."""
        return datetime.fromtimestamp(instant, self.zone).isoformat()

    def _every_match(self, instant: float) -> Iterator[int]:
        at = int(instant // 1)
        while True:
            candidate = self._match_at_offset_of(at)
            if candidate is None:
                return
            change = self._first_change(at, candidate)
            if change is None:
                yield candidate
                at = candidate
                continue
            at = change
            if self._shows(change):
                yield change

    def _match_at_offset_of(self, at: int) -> int | None:
        """The next match if clocks were never changed again."""
        offset = _offset(self.zone, at)
        face = _SOME_DAY.replace(year=1970) + timedelta(seconds=at + offset)
        found = _next_face(self.expression, face)
        return None if found is None else _seconds(found) - offset

    def _shows(self, at: int) -> bool:
        face = _SOME_DAY.replace(year=1970) + timedelta(seconds=at + _offset(self.zone, at))
        return _next_face(self.expression, face - timedelta(seconds=1)) == face

    def _first_change(self, begin: int, end: int) -> int | None:
        """The first instant in (begin, end] at which clocks are changed. No zone changes twice within a day."""
        before = _offset(self.zone, begin)
        at = begin
        while at < end:
            step = min(at + _DAY, end)
            if _offset(self.zone, step) != before:
                return _bisect(self.zone, at, step)
            at = step
        return None

    def _once_a_face(self, instant: float) -> Iterator[int]:
        at = int(instant // 1)
        face = _SOME_DAY.replace(year=1970) + timedelta(seconds=at + _offset(self.zone, at))
        faces = CronSim(self.expression, face)
        last = at
        for found in faces:
            if found.year > _LAST_YEAR:
                return
            fire_at = self._first_instant_of(found)
            if fire_at > last:
                yield fire_at
                last = fire_at

    def _first_instant_of(self, face: datetime) -> int:
        """When clocks first show this; the end of the gap when they never do."""
        early, late = (
            _seconds(face) - round(face.replace(tzinfo=self.zone, fold=fold).utcoffset().total_seconds())  # type: ignore[union-attr]  # a zone has an offset
            for fold in (1, 0)
        )
        if early < late and _offset(self.zone, late) + late != _seconds(face):
            return _bisect(self.zone, early, late)
        return min(early, late)


def _next_face(expression: str, face: datetime) -> datetime | None:
    found = next(CronSim(expression, face), None)
    return None if found is None or found.year > _LAST_YEAR else found


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: the name of a folder of zones
        hint = did_you_mean(name[:60], available_timezones()) or "use an IANA name, such as Europe/Berlin or UTC"
        raise TimezoneError(f"there is no time zone '{name[:60]}'", hint) from None


def _offset(zone: ZoneInfo, instant: int) -> int:
    """Seconds that clocks of the zone are ahead of UTC."""
    offset = datetime.fromtimestamp(instant, zone).utcoffset()
    assert offset is not None
    return round(offset.total_seconds())


def _seconds(face: datetime) -> int:
    """A clock face read as if it were UTC."""
    return round(face.replace(tzinfo=UTC).timestamp())


def _bisect(zone: ZoneInfo, begin: int, end: int) -> int:
    """The instant in (begin, end] from which clocks show the offset that they show at `end`."""
    offset = _offset(zone, begin)
    while end - begin > 1:
        middle = (begin + end) // 2
        if _offset(zone, middle) == offset:
            begin = middle
        else:
            end = middle
    return end
