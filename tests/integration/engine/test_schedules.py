"""Times that have come become runs: once each, by the rules of their schedule, after pauses and with two schedulers."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from tests.support.hands import Hands, outage
from workflows.catalogue import Entry, read_entry
from workflows.db import schedules
from workflows.db.schedules import Schedule
from workflows.engine import control
from workflows.engine.runtime import Runtime
from workflows.model.cron import CronError, TimezoneError
from workflows.model.errors import ConflictError, DatabaseUnavailableError, NotFoundError, ParamError
from workflows.model.spec import Catchup, Overlap
from workflows.scheduling import firing, verbs
from workflows.scheduling.scheduler import Scheduler
from workflows.scheduling.sync import HAS_ERRORS, Synced, sync
from workflows.scheduling.verbs import ScheduleError, Wish
from workflows.steps.registry import schemas

HOUR = 3600
NOON = 1_774_000_800 // HOUR * HOUR

HOURLY = """
id: hourly
params: {node: {type: string, default: a}}
triggers:
  - schedule: {cron: "0 * * * *", RULES}
steps:
  a: {uses: ledger.nap, with: {node: "${{ params.node }}"}}
"""


def entry(hands: Hands, text: str) -> Entry:
    return read_entry(text.encode(), Path("x.yaml"), str(hash(text)), schemas(hands.runtime.steps))


def declare(hands: Hands, rules: str = "catchup: last", text: str = HOURLY) -> Schedule:
    """The only schedule of this text, whose next time is noon."""
    synced = sync(hands.runtime, [entry(hands, text.replace("RULES", rules))])
    assert len(synced.added) == 1, synced
    hands.change("UPDATE schedules SET next_fire_at = :noon", noon=NOON)
    return find(hands, synced.added[0])


def find(hands: Hands, name: str) -> Schedule:
    return hands.database.retrying(lambda tx: schedules.find(tx, name), autocommit=True)


def tick(hands: Hands, now: float, runtime: Runtime | None = None) -> None:
    """One round of a scheduler that leads."""
    hands.change("DELETE FROM leader_leases")
    Scheduler(runtime or hands.runtime, now=lambda: now).tick()


def history(hands: Hands, name: str) -> list[tuple[int, str]]:
    """`(hours after noon, status)` of the times that were decided about."""
    found = hands.database.retrying(lambda tx: schedules.fires(tx, schedules.find(tx, name)))
    return [((fire.fire_at - NOON) // HOUR, fire.status) for fire in reversed(found)]


def runs(hands: Hands) -> list[tuple[str, str | None]]:
    """`(schedule, fire time)` of the runs, in the order of their acceptance."""
    return [(row[0], row[1]) for row in hands.rows("SELECT schedule, fire_time FROM job_runs ORDER BY id")]


def end_runs(hands: Hands, run_ids: Iterable[str] = ()) -> None:
    for (task_id,) in hands.rows("SELECT task_id FROM job_runs WHERE finished_at IS NULL"):
        control.cancel(hands.runtime, task_id)


def test_a_time_that_has_come_is_a_run_that_nobody_asked_for(hands: Hands) -> None:
    declare(hands, "timezone: Europe/Berlin, params: {node: b}")
    tick(hands, NOON - 1)
    assert runs(hands) == []
    tick(hands, NOON + 0.5)
    tick(hands, NOON + 1)
    assert runs(hands) == [("hourly", "2026-03-20T11:00:00+01:00")]
    (row,) = hands.rows("SELECT manual_trigger, user_params, status FROM job_runs")
    assert (bool(row[0]), row[1], row[2]) == (False, '{"node": "b"}', "PENDING")
    assert find(hands, "hourly").next_fire_at == NOON + HOUR
    assert history(hands, "hourly") == [(0, "FIRED")]


def test_a_step_reads_the_time_that_had_come(hands: Hands) -> None:
    seen: list[object] = []
    hands.define(note=lambda given, _: seen.append(given.value))
    text = """
id: dated
triggers: [{schedule: {cron: "0 * * * *", timezone: Asia/Kolkata}}]
steps:
  a: {uses: note, with: {value: "${{ run.fire_time }}"}}
"""
    declare(hands, text=text)
    hands.change("UPDATE schedules SET next_fire_at = :at", at=NOON + 1_800)
    tick(hands, NOON + 1_800)
    (run_pk,) = hands.rows("SELECT id FROM job_runs")[0]
    from workflows.engine import launch

    launch.start_run(hands.runtime, run_pk)
    hands.drain()
    assert seen == ["2026-03-20T16:00:00+05:30"]


@pytest.mark.parametrize(
    ("rules", "fired", "decided"),
    [
        ("catchup: skip", [], [(5, "MISSED")]),
        ("catchup: last", [5], [(4, "MISSED"), (5, "FIRED")]),
        ("catchup: all, overlap: allow", [0, 1, 2, 3, 4, 5], [(hour, "FIRED") for hour in range(6)]),
    ],
)
def test_after_a_pause_the_rule_of_the_schedule_says_what_is_made_up_for(
    hands: Hands, rules: str, fired: list[int], decided: list[tuple[int, str]]
) -> None:
    declare(hands, rules)
    for seconds in (0, 1, 2):
        tick(hands, NOON + 5 * HOUR + 900 + seconds)
    assert len(runs(hands)) == len(fired)
    assert history(hands, "hourly") == decided
    assert find(hands, "hourly").next_fire_at == NOON + 6 * HOUR


def test_many_times_are_made_up_for_a_few_at_a_time(hands: Hands) -> None:
    declare(hands, "catchup: all, overlap: allow")
    counts = []
    for _ in range(4):
        tick(hands, NOON + 50 * HOUR)
        counts.append(len(runs(hands)))
    assert counts == [20, 40, 51, 51]


def test_a_run_that_goes_on_lets_the_next_time_be_skipped(hands: Hands) -> None:
    declare(hands)
    tick(hands, NOON)
    tick(hands, NOON + HOUR)
    assert history(hands, "hourly") == [(0, "FIRED"), (1, "SKIPPED")]
    end_runs(hands)
    tick(hands, NOON + 2 * HOUR)
    assert history(hands, "hourly")[2:] == [(2, "FIRED")]


def test_times_that_queue_start_one_after_another(hands: Hands) -> None:
    declare(hands, "overlap: queue")
    for hour in range(3):
        tick(hands, NOON + hour * HOUR)
    assert history(hands, "hourly") == [(0, "FIRED"), (1, "WAITING"), (2, "WAITING")]
    end_runs(hands)
    tick(hands, NOON + 2 * HOUR + 60)
    assert history(hands, "hourly") == [(0, "FIRED"), (1, "FIRED"), (2, "WAITING")]
    end_runs(hands)
    tick(hands, NOON + 2 * HOUR + 61)
    assert len(runs(hands)) == 3


def test_cancel_running_leaves_the_newest_run_alone(hands: Hands) -> None:
    declare(hands, "overlap: cancel_running")
    for hour in range(3):
        tick(hands, NOON + hour * HOUR)
    assert hands.rows("SELECT status FROM job_runs ORDER BY id") == [("REVOKED",), ("REVOKED",), ("PENDING",)]


def test_two_that_believe_they_lead_fire_a_time_once(hands_on_postgres: Hands) -> None:
    hands = hands_on_postgres
    declare(hands, "catchup: all, overlap: allow")
    barrier = Barrier(4)

    def race(_: int) -> int:
        schedule = find(hands, "hourly")
        barrier.wait()
        started = firing.fire_due(hands.runtime, schedule, NOON + 9 * HOUR)
        hands.database.close()
        return len(started)

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(race, range(4))) == [0, 0, 0, 10]
    assert len(runs(hands)) == 10


def test_one_scheduler_leads_and_hands_over_when_it_stops(hands: Hands) -> None:
    declare(hands)
    first, second = (Scheduler(hands.runtime, now=lambda: float(NOON)) for _ in range(2))
    first.tick()
    second.tick()
    assert (first.is_leading, second.is_leading) == (True, False)
    assert len(runs(hands)) == 1
    hands.change("UPDATE leader_leases SET lease_until = lease_until - 100")
    second.tick()
    assert second.is_leading


def test_without_a_database_nothing_is_fired_and_nothing_lost(hands: Hands) -> None:
    declare(hands)
    with outage(hands), pytest.raises(DatabaseUnavailableError):
        Scheduler(hands.runtime, now=lambda: float(NOON)).tick()
    tick(hands, NOON + 40)
    assert history(hands, "hourly") == [(0, "FIRED")]


def test_without_a_broker_runs_are_accepted_all_the_same(hands: Hands) -> None:
    from dataclasses import replace

    from workflows.model.errors import BrokerUnavailableError

    def refuse(*_: object) -> None:
        raise BrokerUnavailableError("away")

    declare(hands, "catchup: all, overlap: allow")
    tick(hands, NOON + 3 * HOUR, replace(hands.runtime, publish=refuse))
    assert len(runs(hands)) == 4


def test_a_schedule_that_cannot_be_read_does_not_hold_up_the_others(hands: Hands) -> None:
    declare(hands)
    declare(hands, text=HOURLY.replace("id: hourly", "id: other"))
    hands.change("UPDATE schedules SET timezone = 'Mars/Crater' WHERE name = 'hourly'")
    tick(hands, NOON)
    assert runs(hands) == [("other", "2026-03-20T10:00:00+00:00")]


def synced(hands: Hands, *texts: str, prune: bool = False) -> Synced:
    return sync(hands.runtime, [entry(hands, text) for text in texts], prune=prune)


def test_schedules_follow_their_definition(hands: Hands) -> None:
    declare(hands)
    assert synced(hands, HOURLY.replace("RULES", "catchup: last")).lines() == []
    first = find(hands, "hourly")
    changed = HOURLY.replace("RULES", "params: {node: z}").replace("0 *", "30 *")
    assert synced(hands, changed).changed == ["hourly"]
    found = find(hands, "hourly")
    assert (found.cron, found.params, found.id) == ("30 * * * *", {"node": "z"}, first.id)
    without = "".join(line for line in changed.splitlines(True) if "schedule" not in line and "triggers" not in line)
    assert synced(hands, without).removed == ["hourly"]


def test_a_time_that_was_due_when_its_definition_was_read_again_is_still_due(hands: Hands) -> None:
    declare(hands)
    synced(hands, HOURLY.replace("RULES", "catchup: last, params: {node: q}"))
    tick(hands, NOON)
    assert history(hands, "hourly") == [(0, "FIRED")]
    assert hands.rows("SELECT user_params FROM job_runs") == [('{"node": "q"}',)]


def test_a_definition_with_errors_leaves_the_version_before_it_at_work(hands: Hands) -> None:
    declare(hands)
    broken = synced(hands, HOURLY.replace("RULES", "catchup: last").replace("ledger.nap", "ledger.nip"))
    assert broken.problems == {"hourly": HAS_ERRORS}
    assert find(hands, "hourly").problem == HAS_ERRORS
    tick(hands, NOON)
    assert len(runs(hands)) == 1
    synced(hands, HOURLY.replace("RULES", "catchup: last"))
    assert find(hands, "hourly").problem is None


def test_a_definition_that_is_not_there_keeps_its_schedules_until_they_are_pruned(hands: Hands) -> None:
    declare(hands)
    assert synced(hands).missing == ["hourly"]
    assert synced(hands, prune=True).removed == ["hourly"]
    with pytest.raises(NotFoundError):
        find(hands, "hourly")


def test_a_run_has_the_version_that_its_definition_has_when_the_time_comes(hands: Hands) -> None:
    declare(hands)
    synced(hands, HOURLY.replace("RULES", "catchup: last").replace("  a: {", "  b: {"))
    tick(hands, NOON)
    (row,) = hands.rows("SELECT plan FROM workflow_versions v JOIN job_runs j ON j.version_id = v.id")
    assert '"b"' in row[0]


def test_a_person_makes_changes_and_removes_a_schedule(hands: Hands) -> None:
    plain = entry(hands, HOURLY.replace('triggers:\n  - schedule: {cron: "0 * * * *", RULES}\n', ""))
    made = verbs.add(hands.runtime, plain, "mine", Wish(cron="@daily", timezone="Asia/Tokyo", params={"node": "m"}))
    assert (made.catchup, made.overlap, made.origin) == (Catchup.LAST, Overlap.SKIP, "person")
    assert made.next_fire_at is not None
    assert made.next_fire_at % 86_400 == 15 * HOUR
    with pytest.raises(ConflictError):
        verbs.add(hands.runtime, plain, "mine", Wish(cron="@daily"))
    changed = verbs.change(hands.runtime, "mine", Wish(catchup=Catchup.ALL))
    assert (changed.overlap, changed.next_fire_at) == (Overlap.QUEUE, made.next_fire_at)
    disabled = verbs.change(hands.runtime, "mine", Wish(is_enabled=False))
    assert disabled.next_fire_at is None
    assert len(verbs.upcoming(disabled, NOON, 3)) == 3
    tick(hands, NOON + 10**8)
    assert runs(hands) == []
    assert verbs.change(hands.runtime, "mine", Wish(is_enabled=True)).next_fire_at == made.next_fire_at
    verbs.remove(hands.runtime, "mine", is_declared=False)
    with pytest.raises(NotFoundError, match="no schedule 'mine'"):
        verbs.change(hands.runtime, "mine", Wish(is_enabled=True))


def test_a_schedule_that_cannot_be_is_refused(hands: Hands) -> None:
    plain = entry(hands, HOURLY.replace("RULES", "catchup: last"))
    for name, wish, error in (
        ("a b", Wish(cron="@daily"), ScheduleError),
        ("x", Wish(), ScheduleError),
        ("x", Wish(cron="never"), CronError),
        ("x", Wish(cron="@daily", timezone="Mars"), TimezoneError),
        ("x", Wish(cron="@daily", params={"nodes": 1}), ParamError),
        ("x", Wish(cron="@daily", catchup=Catchup.ALL, overlap=Overlap.SKIP), ScheduleError),
    ):
        with pytest.raises(error):
            verbs.add(hands.runtime, plain, name, wish)
    assert hands.rows("SELECT name FROM schedules") == []


def test_what_a_definition_declares_can_only_be_switched(hands: Hands) -> None:
    declare(hands)
    assert not verbs.change(hands.runtime, "hourly", Wish(is_enabled=False)).is_enabled
    synced(hands, HOURLY.replace("RULES", "catchup: skip"))
    assert not find(hands, "hourly").is_enabled
    with pytest.raises(ConflictError):
        verbs.change(hands.runtime, "hourly", Wish(cron="@daily"))
    with pytest.raises(ConflictError):
        verbs.remove(hands.runtime, "hourly", is_declared=True)


def test_run_now_is_a_run_with_the_params_of_the_schedule(hands: Hands) -> None:
    declare(hands, "params: {node: now}")
    firing.run_now(hands.runtime, "hourly", patience_seconds=5)
    (row,) = hands.rows("SELECT schedule, fire_time, user_params, manual_trigger FROM job_runs")
    assert (*row[:3], bool(row[3])) == ("hourly", None, '{"node": "now"}', True)


def test_a_backfill_fires_the_times_that_have_not(hands: Hands) -> None:
    declare(hands)
    tick(hands, NOON + 2 * HOUR)
    assert history(hands, "hourly") == [(1, "MISSED"), (2, "FIRED")]
    wanted = verbs.backfill(hands.runtime, "hourly", NOON, NOON + 3 * HOUR, dry_run=True)
    assert wanted.queued == (NOON, NOON + HOUR)
    assert wanted.decided == (NOON + 2 * HOUR,)
    assert len(history(hands, "hourly")) == 2
    verbs.backfill(hands.runtime, "hourly", NOON, NOON + 3 * HOUR)
    assert verbs.backfill(hands.runtime, "hourly", NOON, NOON + 3 * HOUR).queued == ()
    for _ in range(3):
        end_runs(hands)
        tick(hands, NOON + 2 * HOUR + 60)
    assert history(hands, "hourly") == [(0, "FIRED"), (1, "FIRED"), (2, "FIRED")]
    assert [bool(row[0]) for row in hands.rows("SELECT manual_trigger FROM job_runs ORDER BY id")] == [
        False,
        True,
        True,
    ]


@pytest.mark.parametrize(("begin", "end"), [(NOON, NOON), (NOON, 2**33), (0, NOON)])
def test_a_backfill_has_a_span_that_can_be_filled(hands: Hands, begin: int, end: int) -> None:
    declare(hands)
    with pytest.raises(ScheduleError):
        verbs.backfill(hands.runtime, "hourly", begin, end)


def test_a_time_that_was_filled_before_it_was_made_up_for_does_not_fire_again(hands: Hands) -> None:
    declare(hands, "catchup: all, overlap: allow")
    verbs.backfill(hands.runtime, "hourly", NOON, NOON + HOUR)
    tick(hands, NOON + HOUR)
    tick(hands, NOON + HOUR)
    assert sorted(time or "" for _, time in runs(hands)) == ["2026-03-20T10:00:00+00:00", "2026-03-20T11:00:00+00:00"]
