"""What is kept of an error, and of an output that is none."""

from __future__ import annotations

import json
from datetime import date

import pytest

from workflows.engine.calls import to_json
from workflows.engine.outcomes import engine_failure, failure_of
from workflows.model.errors import TransientError, ValidationError
from workflows.model.policies import RetryPolicy


def test_a_failure_knows_the_names_of_all_its_classes() -> None:
    failure = failure_of(TransientError("later"))
    assert failure.names[:2] == ("TransientError", "StepError")
    assert RetryPolicy(only_for=("StepError",)).is_retryable(failure.names)
    assert not RetryPolicy(never_for=("Exception",)).is_retryable(failure.names)


def test_an_engine_failure_is_final_unless_it_says_otherwise() -> None:
    anything_goes = RetryPolicy(max_attempts=9)
    assert not anything_goes.is_retryable(engine_failure("WorkerLostError", "gone").names)
    assert anything_goes.is_retryable(engine_failure("StepTimeoutError", "slow", retryable=True).names)


def test_text_that_no_database_takes_is_made_safe() -> None:
    failure = failure_of(ValueError("a\x00b\ud800c"))
    kept = json.loads(failure.to_json())
    assert "\x00" not in kept["message"]
    kept["message"].encode("utf-8")
    output = to_json("x", {"text": "a\x00b\ud800c \\u0000 \U0001f600"}, 100)
    assert output.isascii()
    assert json.loads(output) == {"text": "a\x00b\ufffdc \\u0000 \U0001f600"}


def test_a_long_traceback_keeps_both_ends() -> None:
    def deep(level: int) -> None:
        if level:
            deep(level - 1)
        raise ValueError("x" * 20_000)

    with pytest.raises(ValueError, match="xxx") as caught:
        deep(50)
    kept = failure_of(caught.value).traceback
    assert len(kept) < 9_000
    assert kept.startswith("Traceback")
    assert "characters left out" in kept


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"a": [1, {"b": date(2026, 1, 1)}]}, "output.a[1].b is of type date"),
        ({"a": float("nan")}, "output.a is nan"),
        ({(1, 2): 3}, "output has a key of type tuple"),
        ([b"x"], "output[0] is of type bytes"),
    ],
)
def test_an_output_that_is_no_json_is_refused_with_its_place(value: object, place: str) -> None:
    with pytest.raises(ValidationError) as caught:
        to_json("my.step", value, 100)
    assert str(caught.value) == f"the output of 'my.step' is no JSON value: {place}"
