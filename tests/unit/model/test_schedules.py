"""The `triggers` of a definition, and what is decided about times that have come."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflows.model.cron import Cron
from workflows.model.parser import parse_workflow
from workflows.model.schedules import MOST_CAUGHT_UP, ON_TIME_SECONDS, due
from workflows.model.spec import Catchup, Overlap, ScheduleSpec

HOURLY = Cron.parse("0 * * * *")
NOON = 1_774_000_800 // 3600 * 3600
HOUR = 3600


def schedules_of(triggers: str) -> tuple[ScheduleSpec, ...]:
    text = (
        "id: x\nparams: {query: {type: string, default: all}}\n"
        f"triggers:\n{triggers}\n"
        'steps: {a: {uses: s, with: {q: "${{ params.query }}"}}}'
    )
    return parse_workflow(text).schedules


def test_a_trigger_states_a_schedule_in_full() -> None:
    (found,) = schedules_of(
        '  - schedule: {id: nightly, cron: "0 3 * * *", timezone: Europe/Berlin, catchup: all, overlap: allow,'
        " params: {query: rag}}"
    )
    assert found == ScheduleSpec("nightly", "0 3 * * *", "Europe/Berlin", Catchup.ALL, Overlap.ALLOW, {"query": "rag"})
    assert found.name_in("x") == "x.nightly"
    assert found.position.line == 4


def test_what_is_left_out_is_utc_the_last_time_and_one_run_at_a_time() -> None:
    (found,) = schedules_of('  - schedule: {cron: "@daily"}')
    assert found == ScheduleSpec("", "@daily", "UTC", Catchup.LAST, Overlap.SKIP)
    assert found.name_in("x") == "x"


def test_times_that_are_all_made_up_for_wait_for_each_other() -> None:
    (found,) = schedules_of('  - schedule: {cron: "@daily", catchup: all}')
    assert found.overlap is Overlap.QUEUE


def test_a_schedule_is_no_part_of_the_version() -> None:
    bare = parse_workflow("id: x\nsteps: {a: {uses: s}}")
    timed = parse_workflow('id: x\ntriggers: [{schedule: {cron: "@daily"}}]\nsteps: {a: {uses: s}}')
    assert timed.schedules
    assert timed.fingerprint() == bare.fingerprint()


@pytest.mark.parametrize("rule", Catchup)
def test_a_time_that_has_just_come_fires_under_every_rule(rule: Catchup) -> None:
    found = due(HOURLY, rule, NOON, NOON + 2.5, 20)
    assert (found.fire, found.missed, found.next_fire_at) == ((NOON,), 0, NOON + HOUR)


def test_after_a_pause_skip_fires_nothing_last_fires_one_all_fires_each() -> None:
    now = NOON + 3 * HOUR + 600
    every = tuple(NOON + hour * HOUR for hour in range(4))
    skip, last, each = (due(HOURLY, rule, NOON, now, 20) for rule in Catchup)
    assert (skip.fire, skip.missed, skip.last_missed) == ((), 4, every[-1])
    assert (last.fire, last.missed, last.last_missed) == (every[-1:], 3, every[-2])
    assert (each.fire, each.missed, each.last_missed) == (every, 0, None)
    assert {skip.next_fire_at, last.next_fire_at, each.next_fire_at} == {NOON + 4 * HOUR}


def test_a_few_fire_in_one_go_and_the_others_stay_due() -> None:
    found = due(HOURLY, Catchup.ALL, NOON, NOON + 9 * HOUR, 4)
    assert found.fire == tuple(NOON + hour * HOUR for hour in range(4))
    assert found.next_fire_at == NOON + 4 * HOUR


def test_of_very_many_the_newest_are_made_up_for() -> None:
    minutely = Cron.parse("* * * * *")
    now = NOON + 30 * 86_400
    found = due(minutely, Catchup.ALL, NOON, now, 10_000)
    assert len(found.fire) == MOST_CAUGHT_UP
    assert found.fire[-1] == now
    assert found.last_missed == found.fire[0] - 60
    assert found.missed >= 1


def test_a_schedule_that_is_looked_at_too_early_fires_nothing() -> None:
    found = due(HOURLY, Catchup.ALL, NOON, NOON - 1, 20)
    assert (found.fire, found.next_fire_at) == ((), NOON)


@given(
    rule=st.sampled_from(Catchup),
    expression=st.sampled_from(["* * * * *", "*/7 * * * *", "0 */5 * * *", "30 2 * * mon"]),
    timezone=st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe"]),
    looks=st.lists(st.integers(1, 40_000), min_size=1, max_size=6),
    at_once=st.integers(1, 5),
)
@settings(max_examples=50)
def test_whenever_it_is_looked_at_no_time_fires_twice_and_all_makes_up_for_each(
    rule: Catchup, expression: str, timezone: str, looks: list[int], at_once: int
) -> None:
    times = Cron.parse(expression, timezone)
    first = times.next_after(NOON)
    assert first is not None
    fired: list[int] = []
    next_fire_at, now = first, float(NOON)
    is_behind = False
    for pause in looks:
        now += pause
        found = due(times, rule, next_fire_at, now, at_once)
        assert all(fire_at <= now for fire_at in found.fire)
        assert found.next_fire_at is not None
        fired.extend(found.fire)
        assert bool(found.fire) <= (next_fire_at <= now)
        next_fire_at = found.next_fire_at
        is_behind = next_fire_at <= now
    assert fired == sorted(set(fired))
    every = list(times.newest(first, now, 10_000)[0])
    match rule:
        case Catchup.ALL:
            left = [fire_at for fire_at in every if fire_at >= next_fire_at]
            assert bool(left) is is_behind
            if len(every) <= MOST_CAUGHT_UP:
                assert fired + left == every
        case Catchup.LAST:
            assert fired[-1:] == every[-1:]
        case Catchup.SKIP:
            assert all(fire_at in every for fire_at in fired)
            assert not every or every[-1] < now - ON_TIME_SECONDS or fired[-1] == every[-1]
