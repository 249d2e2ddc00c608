"""A paused run: nothing of it starts, what runs goes on, and a resume finds everything where it was left."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.support.hands import READY, Given, Hands
from tests.support.waiting import wait_until
from workflows.db import pauses, units
from workflows.db.units import Unit
from workflows.engine import control, execution, launch, windows
from workflows.engine.canvas import publish_steps
from workflows.engine.outcomes import Outcome
from workflows.engine.recovery import take_back_expired, take_back_from_dead
from workflows.model.errors import ConflictError
from workflows.steps import StepContext

CHAIN = """
id: chain
steps:
  a: {uses: told, with: {value: 1}}
  b: {uses: told, with: {value: "${{ steps.a.output }}"}}
  c: {uses: told, with: {value: "${{ steps.b.output }}"}}
"""
RETRIED = "id: one\nsteps:\n  a: {uses: told, retry: {max_attempts: 3, delay: 10m, jitter: none}}\n"
MAP = """
id: map
steps:
  list: {uses: ledger.numbers, with: {num: 12}}
  map:
    uses: told
    for_each: {items: "${{ steps.list.output.values }}", max_parallel: 2}
    with: {value: "${{ item }}"}
outputs: {values: "${{ steps.map.outputs }}"}
"""
RULED = """
id: ruled
steps:
  a: {uses: told, with: {value: 1}}
  b: {uses: told, with: {value: 2}}
  first: {uses: told, needs: [a, b], run_if: one_success}
"""


@pytest.fixture
def hands(hands: Hands) -> Hands:
    """An engine by hand with a step that gives what it is given."""
    hands.define(told=lambda inp, ctx: inp.value)
    return hands


def sent(hands: Hands, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """From now on: the arguments of the messages that are published."""
    found: list[tuple[Any, ...]] = []

    def note(app: Any, signatures: list[Any]) -> None:
        found.extend(tuple(signature.args) for signature in signatures)
        publish_steps(app, signatures)

    monkeypatch.setattr(hands.runtime, "publish", note)
    return found


def ready(hands: Hands) -> list[Any]:
    """What could be claimed now."""
    return hands.rows(f"SELECT ordinal, part FROM step_runs WHERE {READY} ORDER BY 1, 2")


def test_nothing_is_claimed_or_dispatched_while_a_run_is_paused_and_a_resume_goes_on(
    hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted = hands.start(CHAIN)
    first, second, third = (Unit(accepted.run_pk, ordinal) for ordinal in range(3))
    claim = hands.claim(first)
    answer = control.pause(hands.runtime, accepted.run_id)
    assert (answer.status, answer.running, answer.waiting) == ("PAUSED", 1, 2)
    messages = sent(hands, monkeypatch)
    assert execution.run_claimed(hands.job(claim)) is Outcome.RETURN
    assert hands.execute(second) is Outcome.IGNORE
    hands.change("UPDATE step_runs SET next_dispatch_at = 1 WHERE next_dispatch_at IS NOT NULL")
    hands.reconciler().tick()
    assert (messages, ready(hands)) == ([], [])
    assert hands.standing(first) == ("SUCCESS", 0, 0)
    assert control.resume(hands.runtime, accepted.run_id).ready == ("b",)
    assert messages == [tuple(second)[:2]]
    hands.drain()
    assert hands.engine.view(accepted).status == "SUCCESS"
    assert hands.standing(third, "status, pending") == ("SUCCESS", 0)


def test_pause_and_resume_are_lines_of_the_history_and_may_be_asked_twice(hands: Hands) -> None:
    accepted = hands.start(CHAIN)
    for _ in range(2):
        assert control.pause(hands.runtime, accepted.run_id).waiting == 3
    assert control.resume(hands.runtime, accepted.run_id).ready == ("a",)
    assert control.resume(hands.runtime, accepted.run_id).ready == ()
    hands.drain()
    found = hands.rows("SELECT status FROM run_events WHERE ordinal IS NULL ORDER BY seq")
    assert [row[0] for row in found] == ["PROGRESS", "PAUSED", "PROGRESS", "SUCCESS"]


def test_a_dry_run_says_what_would_be_and_changes_nothing(hands: Hands) -> None:
    accepted = hands.start(CHAIN)
    assert control.pause(hands.runtime, accepted.run_id, dry_run=True).waiting == 3
    assert ready(hands) == [(0, 0)]
    control.pause(hands.runtime, accepted.run_id)
    assert control.resume(hands.runtime, accepted.run_id, dry_run=True).ready == ("a",)
    assert hands.engine.view(accepted).status == "PAUSED"


def test_a_paused_run_whose_last_step_was_running_ends(hands: Hands) -> None:
    accepted = hands.start("id: one\nsteps:\n  a: {uses: told, with: {value: 1}}\n")
    claim = hands.claim(Unit(accepted.run_pk, 0))
    assert control.pause(hands.runtime, accepted.run_id).running == 1
    execution.run_claimed(hands.job(claim))
    assert hands.engine.view(accepted).status == "SUCCESS"
    for verb in (control.pause, control.resume):
        with pytest.raises(ConflictError):
            verb(hands.runtime, accepted.run_id)


def test_a_run_that_is_paused_before_it_starts_starts_when_it_is_resumed(
    hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted = hands.engine.submit(CHAIN)
    assert control.pause(hands.runtime, accepted.run_id).waiting == 3
    assert not launch.start_run(hands.runtime, accepted.run_pk)
    messages = sent(hands, monkeypatch)
    assert control.resume(hands.runtime, accepted.run_id).ready == ("a",)
    assert len(messages) == 1, "the whole fragment is one message"
    assert hands.standing(Unit(accepted.run_pk, 1), "arrives_by") == ("canvas",)
    hands.drain()
    assert hands.engine.view(accepted).status == "SUCCESS"


def test_a_step_that_fails_while_its_run_is_paused_keeps_its_delay_and_waits(hands: Hands) -> None:
    def told(inp: Given, ctx: StepContext) -> Any:
        raise ConnectionError("again")

    hands.define(told=told)
    accepted = hands.start(RETRIED)
    unit = Unit(accepted.run_pk, 0)
    claim = hands.claim(unit)
    control.pause(hands.runtime, accepted.run_id)
    execution.run_claimed(hands.job(claim))
    assert hands.standing(unit, "status, failures, next_dispatch_at") == ("RETRY", 1, None)
    hands.change("UPDATE step_runs SET not_before = 1")
    assert hands.execute(unit) is Outcome.IGNORE
    hands.change("UPDATE step_runs SET not_before = 9999999999")
    assert control.resume(hands.runtime, accepted.run_id).ready == ()
    assert hands.standing(unit, "pending, next_dispatch_at") == (0, 9999999999)


@pytest.mark.parametrize("how", ["dead", "expired"])
def test_a_step_whose_worker_dies_while_its_run_is_paused_waits_for_the_resume(hands: Hands, how: str) -> None:
    accepted = hands.start(CHAIN)
    unit = Unit(accepted.run_pk, 0)
    claim = hands.claim(unit)
    control.pause(hands.runtime, accepted.run_id)
    if how == "dead":
        assert take_back_from_dead(hands.runtime, unit, claim.worker.pid, "killed")
    else:
        hands.expire(unit)
        assert take_back_expired(hands.runtime, unit)
    assert ready(hands) == []
    assert hands.execute(unit) is Outcome.IGNORE
    assert control.resume(hands.runtime, accepted.run_id).ready == ("a",)
    hands.drain()
    assert hands.engine.view(accepted).status == "SUCCESS"


def test_a_step_that_a_rule_lets_start_early_waits_for_the_resume(hands: Hands) -> None:
    accepted = hands.start(RULED)
    claims = [hands.claim(Unit(accepted.run_pk, ordinal)) for ordinal in (0, 1)]
    control.pause(hands.runtime, accepted.run_id)
    for claim in claims:
        execution.run_claimed(hands.job(claim))
        assert hands.standing(Unit(accepted.run_pk, 2), "pending") == (units.HELD,)
    assert control.resume(hands.runtime, accepted.run_id).ready == ("first",)
    hands.drain()
    assert hands.engine.view(accepted).status == "SUCCESS"


def test_skips_spread_through_a_paused_run(hands: Hands) -> None:
    def told(inp: Given, ctx: StepContext) -> Any:
        raise ValueError("no")

    hands.define(told=told)
    accepted = hands.start(CHAIN)
    claim = hands.claim(Unit(accepted.run_pk, 0))
    control.pause(hands.runtime, accepted.run_id)
    execution.run_claimed(hands.job(claim))
    assert hands.engine.view(accepted).status == "FAILURE"
    assert hands.rows("SELECT status FROM step_runs ORDER BY ordinal") == [("FAILURE",), ("SKIPPED",), ("SKIPPED",)]
    hands.define(told=lambda inp, ctx: inp.value)
    control.retry(hands.runtime, accepted.run_id)
    hands.drain()
    assert hands.engine.view(accepted).status == "SUCCESS"


def test_a_cancel_of_a_paused_run_revokes_what_waits_and_lets_what_runs_stop(hands: Hands) -> None:
    accepted = hands.start(CHAIN)
    claim = hands.claim(Unit(accepted.run_pk, 0))
    control.pause(hands.runtime, accepted.run_id)
    answer = control.cancel(hands.runtime, accepted.run_id)
    assert (answer.status, answer.stopping, answer.never_started) == ("PROGRESS", 1, 2)
    for verb in (control.pause, control.resume):
        if verb is control.pause:
            with pytest.raises(ConflictError):
                verb(hands.runtime, accepted.run_id)
    execution.run_claimed(hands.job(claim))
    assert hands.engine.view(accepted).status == "REVOKED"


def test_a_run_that_was_paused_before_it_started_can_be_cancelled_and_retried(hands: Hands) -> None:
    accepted = hands.engine.submit(CHAIN)
    control.pause(hands.runtime, accepted.run_id)
    answer = control.cancel(hands.runtime, accepted.run_id)
    assert (answer.status, answer.never_started) == ("REVOKED", 3)
    control.retry(hands.runtime, accepted.run_id)
    hands.drain()
    assert hands.engine.view(accepted).status == "SUCCESS"


def test_a_paused_map_starts_no_call_and_goes_on_where_it_was(hands: Hands, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []

    def told(inp: Given, ctx: StepContext) -> Any:
        started.append(inp.value)
        return inp.value

    hands.define(told=told)
    accepted = hands.start(MAP)
    map_ = Unit(accepted.run_pk, 1)
    hands.execute(Unit(accepted.run_pk, 0))
    hands.execute(map_)
    claim = hands.claim(Unit(accepted.run_pk, 1, 1))
    answer = control.pause(hands.runtime, accepted.run_id)
    assert (answer.running, answer.waiting) == (1, 0)
    execution.run_claimed(hands.job(claim))
    begun = len(started)
    hands.change("UPDATE step_runs SET next_dispatch_at = 1 WHERE next_dispatch_at IS NOT NULL")
    hands.reconciler().tick()
    assert hands.execute(Unit(accepted.run_pk, 1, 2)) is Outcome.IGNORE
    assert ready(hands) == []
    assert len(started) == begun < 12
    assert control.resume(hands.runtime, accepted.run_id).ready == ("map",)
    hands.drain()
    report = hands.engine.report(accepted)
    assert (report.run.status, report.run.outputs) == ("SUCCESS", {"values": list(range(12))})
    assert sorted(started) == list(range(12))
    assert report.dispatches["reconciler"] == 0


def test_a_map_that_expands_while_its_run_is_paused_opens_and_starts_nothing(hands: Hands) -> None:
    accepted = hands.start(MAP)
    hands.execute(Unit(accepted.run_pk, 0))
    claim = hands.claim(Unit(accepted.run_pk, 1))
    control.pause(hands.runtime, accepted.run_id)
    execution.run_claimed(hands.job(claim))
    assert hands.standing(Unit(accepted.run_pk, 1), "status, pending") == ("PROGRESS", units.HELD)
    assert ready(hands) == []
    assert control.resume(hands.runtime, accepted.run_id).ready == ("map",)
    hands.drain()
    assert hands.engine.view(accepted).status == "SUCCESS"


def test_a_range_whose_worker_dies_while_its_run_is_paused_goes_on_after_the_resume(hands: Hands) -> None:
    accepted = hands.start(MAP)
    hands.execute(Unit(accepted.run_pk, 0))
    hands.execute(Unit(accepted.run_pk, 1))
    range_ = Unit(accepted.run_pk, 1, 1)
    claim = hands.claim(range_)
    control.pause(hands.runtime, accepted.run_id)
    assert take_back_from_dead(hands.runtime, range_, claim.worker.pid, "killed")
    assert ready(hands) == []
    assert hands.standing(Unit(accepted.run_pk, 1), "next_dispatch_at") == (None,)
    control.resume(hands.runtime, accepted.run_id)
    hands.drain()
    assert hands.engine.view(accepted).status == "SUCCESS"


def test_ranges_that_come_while_a_pause_waits_for_their_map_are_held_too(hands_on_postgres: Hands) -> None:
    """The pause's first look at the rows was before the ranges were there."""
    hands = hands_on_postgres
    hands.define(told=lambda inp, ctx: inp.value)
    accepted = hands.start(MAP)
    hands.execute(Unit(accepted.run_pk, 0))
    hands.execute(Unit(accepted.run_pk, 1))
    unit = Unit(accepted.run_pk, 1)
    hands.change("UPDATE step_runs SET parts_open = 0 WHERE ordinal = 1 AND part = 0")
    hands.change("DELETE FROM step_runs WHERE part > 0")
    hands.change("UPDATE step_runs SET items_cursor = 0 WHERE ordinal = 1")
    context = launch.context_of(hands.runtime, accepted.run_pk)
    plan = hands.runtime.plan(context.version_id)
    person = threading.Thread(target=lambda: control.pause(hands.runtime, accepted.run_id))
    blocked = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with hands.observer() as other, hands.database.transaction() as tx:
        windows.top_up(tx, plan, context, unit, 10.0)
        person.start()
        wait_until(lambda: other.execute(blocked).fetchall(), message="the pause to wait for the map")
    person.join(20)
    assert hands.rows("SELECT count(*) FROM step_runs WHERE part > 0")[0][0] > 0
    assert ready(hands) == []
    control.resume(hands.runtime, accepted.run_id)
    hands.drain()
    assert hands.engine.view(accepted).status == "SUCCESS"


def test_a_pause_and_many_completions_at_once_hold_all_that_has_not_started(hands: Hands) -> None:
    width = 16
    names = [f"p{i:02}" for i in range(width)]
    text = "id: wide\nsteps:\n" + "".join(f"  {n}: {{uses: told, with: {{value: 1}}}}\n" for n in names)
    text += "".join(f"  q{n}: {{uses: told, needs: [{n}], with: {{value: 1}}}}\n" for n in names)
    text += f"  z: {{uses: told, needs: [{', '.join('q' + n for n in names)}]}}\n"
    accepted = hands.start(text)
    claims = [
        hands.claim(Unit(accepted.run_pk, row[0]))
        for row in hands.rows(f"SELECT ordinal FROM step_runs WHERE {READY} ORDER BY 1")
    ]
    barrier = threading.Barrier(5)

    def complete(share: list[Any]) -> None:
        barrier.wait()
        for claim in share:
            execution.run_claimed(hands.job(claim))

    def pause() -> None:
        barrier.wait()
        control.pause(hands.runtime, accepted.run_id)

    threads = [threading.Thread(target=complete, args=(claims[n::4],)) for n in range(4)]
    threads.append(threading.Thread(target=pause))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert hands.engine.view(accepted).status == "PAUSED"
    assert ready(hands) == []
    answer = hands.database.retrying(lambda tx: pauses.pause(tx, accepted.run_pk))
    assert (answer.running, answer.waiting) == (0, width + 1)
    assert len(control.resume(hands.runtime, accepted.run_id).ready) == width
    hands.drain()
    assert hands.engine.view(accepted).status == "SUCCESS"
