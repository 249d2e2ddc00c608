"""`TaskRetryPolicy` and `TaskProgressManager`: the first system's names, with the engine's arithmetic."""

from __future__ import annotations

import logging
from typing import Any

import pydantic
import pytest

from workflows.model.errors import AuthenticationError, PermanentError, StepCancelledError, TransientError
from workflows.model.estimates import remaining_seconds
from workflows.model.policies import RetryPolicy
from workflows.steps import TaskProgressManager, TaskRetryPolicy


class Recorder:
    """Takes the part of a step's context."""

    def __init__(self, *, is_cancelled: bool = False) -> None:
        self.told: list[tuple[int, int]] = []
        self.is_cancelled = is_cancelled
        self.log = logging.LoggerAdapter(logging.getLogger("test"), {})

    def progress(self, done: int, total: int) -> None:
        self.told.append((done, total))

    def check_cancelled(self) -> None:
        if self.is_cancelled:
            raise StepCancelledError("cancelled")


def failing(*errors: Exception) -> Any:
    """A call that raises these, one after the other, and then gives 'done'."""
    left = list(errors)

    def call() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return call


def test_delays_grow_by_the_factor_up_to_the_longest() -> None:
    policy = TaskRetryPolicy(max_retries=5, base_delay=60, factor=2, max_delay=300)
    assert [policy.delay(n) for n in range(5)] == [60, 120, 240, 300, 300]
    assert policy.delay(1, 0.25) == 30
    same = RetryPolicy(max_attempts=6, delay_seconds=60, factor=2, max_delay_seconds=300, jitter="none")
    assert [policy.delay(n) for n in range(5)] == [same.delay_before_next(n + 1, 0.0) for n in range(5)]


def test_as_many_retries_as_allowed_and_none_for_what_cannot_help() -> None:
    policy = TaskRetryPolicy(max_retries=3)
    assert [policy.should_retry(ConnectionError(), n) for n in range(5)] == [True, True, True, False, False]
    assert not policy.should_retry(AuthenticationError("key"), 0)
    assert not policy.should_retry(PermanentError("no"), 0)
    with pytest.raises(pydantic.ValidationError) as caught:
        pydantic.TypeAdapter(int).validate_python("x")
    assert not policy.should_retry(caught.value, 0)
    assert not TaskRetryPolicy(only_for=["TransientError"]).should_retry(ConnectionError(), 0)
    assert TaskRetryPolicy(only_for=["OSError"]).should_retry(ConnectionError(), 0), "a base counts"


def test_a_call_is_tried_again_until_it_succeeds_with_the_waits_of_the_policy() -> None:
    naps: list[float] = []
    policy = TaskRetryPolicy(max_retries=2, base_delay=2.5, jitter=False)
    assert policy.run(failing(TransientError("1"), TransientError("2")), sleep=naps.append) == "done"
    assert naps == [1.0, 1.0, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0]
    with pytest.raises(TransientError, match="3"):
        policy.run(failing(*(TransientError(str(n)) for n in range(1, 5))), sleep=naps.append)


def test_a_cancelled_run_does_not_wait_for_the_next_try() -> None:
    naps: list[float] = []
    with pytest.raises(StepCancelledError):
        TaskRetryPolicy().run(failing(TransientError("1")), Recorder(is_cancelled=True), sleep=naps.append)  # type: ignore[arg-type]
    assert naps == []


def test_progress_is_told_to_the_run_and_the_rest_is_estimated_from_the_pace() -> None:
    now = [100.0]
    ctx = Recorder()
    manager = TaskProgressManager(ctx, 4, clock=lambda: now[0])  # type: ignore[arg-type]
    assert manager.to_json() == {
        "progress": 0, "description": "", "current": 0, "total": 4, "elapsed_time": 0.0, "estimated_remaining": None,
    }  # fmt: skip
    seen = []
    for thing in manager.each("abcd"):
        seen.append(thing)
        now[0] += 10
        if thing == "c":
            break
    manager.advance(description="three of four")
    assert seen == ["a", "b", "c"]
    assert ctx.told == [(1, 4), (2, 4), (3, 4)]
    assert manager.to_json() == {
        "progress": 75, "description": "three of four", "current": 3, "total": 4, "elapsed_time": 30.0,
        "estimated_remaining": 10.0,
    }  # fmt: skip
    assert TaskProgressManager(ctx, 0).progress == 100  # type: ignore[arg-type]


def test_an_estimate_trusts_the_pace_as_far_as_there_is_one_and_the_past_for_the_rest() -> None:
    assert remaining_seconds(0.0, 0.0) is None
    assert remaining_seconds(0.0, 0.0, 80.0) == 80.0
    assert remaining_seconds(10.0, 0.5) == 10.0
    assert remaining_seconds(10.0, 0.5, 40.0) == 0.5 * 10.0 + 0.5 * 20.0
    assert remaining_seconds(99.0, 1.0, 40.0) == 0.0
