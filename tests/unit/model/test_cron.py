"""Cron times in all zones, against an oracle that walks through every real minute with a clock on the wall."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflows.model.cron import MACROS, Cron, CronError, TimezoneError

MINUTE = timedelta(minutes=1)
DAY = 86_400
ZONES = sorted(available_timezones())
BOUNDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))

ODD = {
    "half an hour": ("Australia/Lord_Howe", "2026-04-05"),
    "half an hour, spring": ("Australia/Lord_Howe", "2026-10-04"),
    "two hours": ("Antarctica/Troll", "2026-03-29"),
    "at midnight": ("America/Havana", "2026-03-08"),
    "back at midnight": ("America/Havana", "2026-11-01"),
    "at midnight of a Friday": ("Africa/Cairo", "2026-04-24"),
    "winter is the change": ("Europe/Dublin", "2026-10-25"),
    "for a month of fasting": ("Africa/Casablanca", "2026-02-15"),
    "a day left out": ("Pacific/Apia", "2011-12-30"),
    "a quarter of an hour": ("Asia/Kathmandu", "1986-01-01"),
    "in the other half of the world": ("Pacific/Chatham", "2026-04-05"),
}


@st.composite
def terms(draw: st.DrawFn, least: int, most: int) -> str:
    """A field of a cron expression, without names."""
    number = st.integers(least, most)
    match draw(st.sampled_from(["star", "step", "list", "range", "range with step"])):
        case "star":
            return "*"
        case "step":
            return f"*/{draw(st.integers(1, most))}"
        case "list":
            return ",".join(map(str, draw(st.lists(number, min_size=1, max_size=4))))
        case shape:
            # A range of one value with a step is read as `begin/step`, which nobody means.
            begin, end = sorted(draw(st.lists(number, min_size=2, max_size=2, unique=True)))
            return f"{begin}-{end}" + (f"/{draw(st.integers(1, 9))}" if shape == "range with step" else "")


@st.composite
def expressions(draw: st.DrawFn) -> str:
    """Mostly such as fire within days, often in the small hours, when clocks are changed."""
    fields = [draw(terms(*bounds)) for bounds in BOUNDS]
    if draw(st.booleans()):
        fields[1] = draw(terms(0, 4))
    for index in (2, 3, 4):
        if draw(st.integers(0, 3)):
            fields[index] = "*"
    return " ".join(fields)


def values(term: str, least: int, most: int) -> set[int]:
    """What a field lets through."""
    found: set[int] = set()
    for part in term.split(","):
        base, _, step = part.partition("/")
        begin, _, end = (f"{least}-{most}" if base == "*" else base).partition("-")
        found.update(range(int(begin), int(end or begin) + 1, int(step or 1)))
    return found


def walk(expression: str, zone: ZoneInfo, begin: int, end: int) -> list[int]:
    """Every minute after `begin` up to `end` at which Debian's cron would start the job."""
    minute, hour, day, _, weekday = fields = expression.split()
    minutes, hours, days, months, weekdays = (values(f, *b) for f, b in zip(fields, BOUNDS, strict=True))
    both = day.startswith("*") or weekday.startswith("*")

    def fits(face: datetime) -> bool:
        on = (face.day in days, face.isoweekday() in weekdays or face.isoweekday() % 7 in weekdays)
        return face.minute in minutes and face.hour in hours and face.month in months and (all if both else any)(on)

    follows = minute.startswith("*") or hour.startswith("*")
    found, seen, last = [], set(), None
    for at in range(begin - 2 * DAY, end + 1, 60):
        face = datetime.fromtimestamp(at, zone).replace(tzinfo=None, fold=0)
        fires = fits(face) and (follows or face not in seen)
        while not follows and last is not None and last + MINUTE < face:
            last += MINUTE  # a minute that no clock has shown
            fires = fires or fits(last)
        seen.add(face)
        last = face
        if fires and at > begin:
            found.append(at)
    return found


def times(cron: Cron, begin: int, end: int) -> list[int]:
    return list(takewhile(lambda at: at <= end, cron.after(begin)))


def changes(zone: ZoneInfo, year: int) -> list[int]:
    """Days of a year in which clocks are changed."""
    first = int(datetime(year, 1, 1, tzinfo=UTC).timestamp())
    days = range(first, first + 366 * DAY, DAY)
    offsets = [datetime.fromtimestamp(day, zone).utcoffset() for day in (*days, days[-1] + DAY)]
    return [day for day, before, after in zip(days, offsets, offsets[1:], strict=False) if before != after]


@given(data=st.data(), name=st.sampled_from(ZONES), year=st.integers(1973, 2037), expression=expressions())
@settings(max_examples=60)
def test_in_every_zone_a_job_fires_when_the_clock_on_the_wall_says_so(
    data: st.DataObject, name: str, year: int, expression: str
) -> None:
    zone = ZoneInfo(name)
    around = data.draw(st.sampled_from(changes(zone, year) or [int(datetime(year, 3, 29, tzinfo=UTC).timestamp())]))
    begin = around - 60 * data.draw(st.integers(0, 1_440))
    try:
        cron = Cron.parse(expression, name)
    except CronError:
        return  # the 31st of June
    assert times(cron, begin, begin + 2 * DAY) == walk(expression, zone, begin, begin + 2 * DAY)


@pytest.mark.parametrize(("name", "day"), ODD.values(), ids=ODD)
@pytest.mark.parametrize(
    "expression",
    ["*/15 * * * *", "*/10 0-3 * * *", "0 0 * * *", "30 2 * * *", "45 1,2 * * *", "0 */2 * * *", "15,45 3 * * *"],
)
def test_odd_changes_of_clocks(name: str, day: str, expression: str) -> None:
    begin = int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) - DAY
    assert times(Cron.parse(expression, name), begin, begin + 3 * DAY) == walk(
        expression, ZoneInfo(name), begin, begin + 3 * DAY
    )


def faces(expression: str, timezone: str, begin: str, count: int) -> list[str]:
    cron = Cron.parse(expression, timezone)
    return [cron.text_of(at) for at in islice(cron.after(datetime.fromisoformat(begin).timestamp()), count)]


def test_a_time_that_a_spring_leaves_out_fires_at_the_end_of_the_gap() -> None:
    assert faces("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00+01:00", 2) == [
        "2026-03-29T03:00:00+02:00",
        "2026-03-30T02:30:00+02:00",
    ]


def test_a_time_that_an_autumn_repeats_fires_once() -> None:
    assert faces("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00+02:00", 2) == [
        "2026-10-25T02:30:00+02:00",
        "2026-10-26T02:30:00+01:00",
    ]


def test_a_job_of_every_half_hour_goes_by_real_time_in_an_hour_that_is_repeated() -> None:
    assert faces("*/30 * * * *", "Europe/Berlin", "2026-10-25T01:45+02:00", 5) == [
        "2026-10-25T02:00:00+02:00",
        "2026-10-25T02:30:00+02:00",
        "2026-10-25T02:00:00+01:00",
        "2026-10-25T02:30:00+01:00",
        "2026-10-25T03:00:00+01:00",
    ]


@pytest.mark.parametrize("word", MACROS)
def test_words_mean_their_expressions(word: str) -> None:
    assert Cron.parse(word).expression == MACROS[word]


def test_a_leap_day_is_found_years_ahead() -> None:
    assert faces("0 3 29 2 *", "Europe/Berlin", "2028-03-01T00:00+01:00", 1) == ["2032-02-29T03:00:00+01:00"]


@given(expression=expressions(), name=st.sampled_from(ZONES), limit=st.integers(1, 30), days=st.integers(0, 12))
@settings(max_examples=40)
def test_the_newest_times_are_the_last_of_all(expression: str, name: str, limit: int, days: int) -> None:
    try:
        cron = Cron.parse(expression, name)
    except CronError:
        return
    begin = 1_774_000_000
    end = begin + days * DAY
    found = times(cron, begin - 1, end)
    assert cron.newest(begin, end, limit) == (tuple(found[-limit:]), len(found) > limit)


@pytest.mark.parametrize(
    "expression",
    ["", "* * * *", "* * * * * *", "60 * * * *", "0 24 * * *", "0 0 32 * *", "0 0 31 2 *", "5-1 * * * *", "@never",
     "0 0 * * funday", "*/0 * * * *", "1" * 500],
)  # fmt: skip
def test_what_is_no_expression_is_refused(expression: str) -> None:
    with pytest.raises(CronError):
        Cron.parse(expression)


@pytest.mark.parametrize("name", ["Europe/Berln", "Europe", "", "../etc/passwd", "/etc/localtime", "a\0b", "+02:00"])
def test_what_is_no_zone_is_refused(name: str) -> None:
    with pytest.raises(TimezoneError):
        Cron.parse("@daily", name)
