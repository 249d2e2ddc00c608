"""`concurrency`: how many runs of a group may be at work, on both databases."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import redis

from tests.support.hands import Hands
from workflows.compile import compile_workflow
from workflows.db import upkeep
from workflows.db.units import Unit
from workflows.engine import control, launch
from workflows.engine.launch import Submitted
from workflows.engine.rerun import rerun
from workflows.model.errors import ConflictError, ParamError
from workflows.model.parser import parse_workflow


def definition(options: str = "limit: 1", name: str = "w", more: str = "") -> str:
    return f"""
id: {name}
params: {{topic: {{type: string, default: cells}}}}
concurrency: {{group: "review-${{{{ params.topic }}}}", {options}}}
steps:
  a: {{uses: told}}
  b: {{uses: told, needs: a}}
{more}"""


@pytest.fixture
def told(hands: Hands) -> list[Any]:
    """The ids of the runs whose steps have run, in order."""
    runs: list[Any] = []

    def tell(inp: Any, ctx: Any) -> Any:
        runs.append(ctx.run_id)
        ctx.check_cancelled()

    hands.define(told=tell)
    return runs


def submit(hands: Hands, text: str, **params: Any) -> Submitted:
    """A trigger, in the process of an API."""
    return launch.submit(hands.runtime, compile_workflow(parse_workflow(text)), text, params)


def begin(hands: Hands, run: Submitted) -> bool:
    """What the message of a run does."""
    return launch.start_run(hands.runtime, run.run_pk)


def finish(hands: Hands, run: Submitted) -> None:
    for ordinal in (0, 1):
        hands.execute(Unit(run.run_pk, ordinal))


def statuses(hands: Hands) -> list[str]:
    return [row[0] for row in hands.rows("SELECT status FROM job_runs ORDER BY id")]


def messages(client: redis.Redis) -> int:
    """Messages that start runs, in the broker."""
    return int(str(client.llen("research")))


def test_a_run_waits_for_the_one_before_it_and_is_sent_when_that_ends(
    hands: Hands, told: list[Any], broker_client: redis.Redis
) -> None:
    first, second, third = (submit(hands, definition()) for _ in range(3))
    assert (first.waits, second.waits, third.waits) == (False, True, True)
    assert (second.status, second.is_published) == ("PENDING", True)
    assert messages(broker_client) == 1
    assert begin(hands, first)
    assert not begin(hands, second)
    assert control.find(hands.runtime, second.run_id).is_waiting
    finish(hands, first)
    assert messages(broker_client) == 2
    assert not begin(hands, third)
    assert begin(hands, second)
    finish(hands, second)
    assert begin(hands, third)
    finish(hands, third)
    assert told == [run.run_id for run in (first, second, third) for _ in "ab"]
    assert statuses(hands) == ["SUCCESS"] * 3


def test_groups_are_told_apart_by_params_and_shared_by_workflows(hands: Hands, told: list[Any]) -> None:
    assert not submit(hands, definition()).waits
    assert not submit(hands, definition(), topic="stars").waits
    assert submit(hands, definition(name="other")).waits
    assert not submit(hands, definition(name="other"), topic="ants").waits


def test_a_limit_lets_so_many_run(hands: Hands, told: list[Any]) -> None:
    runs = [submit(hands, definition("limit: 2")) for _ in range(4)]
    assert [run.waits for run in runs] == [False, False, True, True]
    begin(hands, runs[0])
    finish(hands, runs[0])
    assert [control.find(hands.runtime, run.run_id).is_waiting for run in runs] == [False, False, False, True]


def test_a_run_of_a_full_group_is_skipped_when_that_is_asked_for(hands: Hands, told: list[Any]) -> None:
    first, second = (submit(hands, definition("behavior: skip")) for _ in range(2))
    assert (second.is_skipped, second.status, second.is_published) == (True, "SKIPPED", True)
    assert not begin(hands, second)
    run = control.find(hands.runtime, second.run_id)
    assert (run.status, run.is_ended, run.error) == (
        "SKIPPED", True, "skipped: 1 of 1 runs of group 'review-cells' are at work",
    )  # fmt: skip
    begin(hands, first)
    finish(hands, first)
    assert not submit(hands, definition("behavior: skip")).is_skipped


def test_a_newer_run_takes_the_place_of_the_one_at_work_when_that_has_stopped(hands: Hands, told: list[Any]) -> None:
    options = "behavior: cancel_running"
    first = submit(hands, definition(options))
    begin(hands, first)
    claim = hands.claim(Unit(first.run_pk, 0))
    second = submit(hands, definition(options))
    third = submit(hands, definition(options))
    assert statuses(hands) == ["PROGRESS", "REVOKED", "PENDING"]
    assert control.find(hands.runtime, first.run_id).cancel_requested
    assert not begin(hands, third)
    hands.expire(claim.unit)
    hands.reconciler().tick()
    assert statuses(hands) == ["REVOKED", "REVOKED", "PENDING"]
    assert begin(hands, third)
    assert not begin(hands, second)


def test_a_run_at_work_of_which_nothing_runs_makes_room_at_once(hands: Hands, told: list[Any]) -> None:
    options = "behavior: cancel_running"
    first = submit(hands, definition(options, more="finally: {z: {uses: told}}\n"))
    begin(hands, first)
    second = submit(hands, definition(options))
    assert statuses(hands) == ["PROGRESS", "PENDING"]
    assert not begin(hands, second)
    hands.execute(Unit(first.run_pk, 2))
    assert statuses(hands) == ["REVOKED", "PENDING"]
    assert begin(hands, second)
    assert told == [first.run_id]


@pytest.mark.parametrize("how", ["failure", "cancelled", "cancelled before it began", "timeout"])
def test_however_a_run_ends_its_slot_is_given_on(hands: Hands, told: list[Any], how: str) -> None:
    first, second = (submit(hands, definition(more="timeout: 5m\n")) for _ in range(2))
    if how != "cancelled before it began":
        begin(hands, first)
    if how.startswith("cancelled"):
        control.cancel(hands.runtime, first.run_id)
    elif how == "timeout":
        hands.change("UPDATE job_runs SET deadline_at = deadline_at - 301")
        hands.reconciler().tick()
    else:
        hands.change("UPDATE step_runs SET crashes = 99")
        hands.execute(Unit(first.run_pk, 0))
    assert control.find(hands.runtime, first.run_id).is_ended
    assert begin(hands, second)


def test_a_waiting_run_can_be_cancelled_and_leaves_the_row_to_the_others(hands: Hands, told: list[Any]) -> None:
    first, second, third = (submit(hands, definition()) for _ in range(3))
    assert control.cancel(hands.runtime, second.run_id).status == "REVOKED"
    begin(hands, first)
    finish(hands, first)
    assert begin(hands, third)


def test_a_flushed_broker_does_not_let_waiting_runs_go(hands: Hands, told: list[Any]) -> None:
    submit(hands, definition())
    second = submit(hands, definition())
    hands.database.retrying(upkeep.make_all_due)
    assert control.find(hands.runtime, second.run_id).is_waiting


def test_a_run_that_was_let_go_and_never_sent_is_sent_by_the_reconciler(
    hands: Hands, told: list[Any], broker_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (submit(hands, definition()) for _ in range(2))
    begin(hands, first)
    monkeypatch.setattr("workflows.engine.dispatch.publish_runs", lambda *args: True)
    finish(hands, first)
    broker_client.delete("research")
    hands.change("UPDATE job_runs SET next_dispatch_at = next_dispatch_at - 100 WHERE status = 'PENDING'")
    hands.reconciler().tick()
    assert messages(broker_client) == 1
    assert begin(hands, second)


def test_a_retry_needs_a_slot_too(hands: Hands, told: list[Any]) -> None:
    first, second = (submit(hands, definition()) for _ in range(2))
    begin(hands, first)
    control.cancel(hands.runtime, first.run_id)
    with pytest.raises(ConflictError, match="its concurrency group is full"):
        control.retry(hands.runtime, first.run_id)
    begin(hands, second)
    finish(hands, second)
    assert control.retry(hands.runtime, first.run_id).status == "PROGRESS"


def test_a_waiting_run_cannot_be_paused(hands: Hands, told: list[Any]) -> None:
    submit(hands, definition())
    second = submit(hands, definition())
    with pytest.raises(ConflictError, match="waits for its concurrency group"):
        control.pause(hands.runtime, second.run_id)


def test_a_group_that_these_params_do_not_give_is_refused_before_anything_is_recorded(hands: Hands) -> None:
    text = definition().replace("type: string, default: cells", "type: string, default: null")
    with pytest.raises(ParamError, match="the concurrency group of 'w': null cannot be put into text"):
        submit(hands, text)
    assert statuses(hands) == []


def test_runs_submitted_and_ended_at_the_same_time_never_exceed_the_limit(hands: Hands, told: list[Any]) -> None:
    limit, together = 2, []
    runs: list[Submitted] = []
    lock = threading.Lock()

    def trigger() -> None:
        for _ in range(5):
            run = submit(hands, definition(f"limit: {limit}"))
            with lock:
                runs.append(run)
            if begin(hands, run):
                held = hands.rows("SELECT count(*) FROM job_runs WHERE status = 'PROGRESS'")[0][0]
                together.append(held)
                finish(hands, run)

    threads = [threading.Thread(target=trigger) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    for run in sorted(runs, key=lambda made: made.run_pk):
        if begin(hands, run):
            finish(hands, run)
    assert max(together) <= limit
    assert statuses(hands) == ["SUCCESS"] * 15


def test_a_rerun_needs_a_slot_too(hands: Hands, told: list[Any]) -> None:
    first = submit(hands, definition())
    begin(hands, first)
    control.cancel(hands.runtime, first.run_id)
    second = submit(hands, definition())
    with pytest.raises(ConflictError, match="concurrency group 'review-cells' is full"):
        rerun(hands.runtime, first.run_id)
    begin(hands, second)
    finish(hands, second)
    assert rerun(hands.runtime, first.run_id).run_id
    assert submit(hands, definition()).waits
