"""What a step gives is kept as it is, by reference when it is large, or refused with what is wrong with it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from tests.support.hands import Given, Hands
from workflows.db import payloads, queries
from workflows.db.units import Unit
from workflows.engine import control
from workflows.engine.context import LOG_LINE_LENGTH, LOG_LINES_PER_TRY
from workflows.steps import StepContext

ONE = "id: one\nsteps:\n  a: {uses: told}\noutputs: {a: '${{ steps.a.output }}'}\n"
LINE = """
id: line
steps:
  a: {uses: big}
  b: {uses: told, with: {value: "${{ steps.a.output }}"}}
"""
MAP = """
id: map
steps:
  map:
    uses: big
    for_each: {items: [1, 2, 3]}
    with: {value: "${{ item }}"}
  b: {uses: told, with: {value: "${{ steps.map.outputs }}"}}
"""
LARGE = "x" * (payloads.INLINE_BYTES + 1)
ODD = "NUL \x00, the escape \\u0000, a lone \ud800, a pair \U0001f600, \xff, \u2028"
SAFE = ODD.replace("\ud800", "\ufffd")


def finished(hands: Hands, text: str) -> Any:
    """A report of the run at its end."""
    accepted = hands.start(text)
    hands.drain()
    return hands.engine.report(accepted)


def failure_of(hands: Hands, gives: Any, text: str = ONE) -> str:
    """The message with which a step that gives this fails."""
    hands.define(told=lambda inp, ctx: gives)
    report = finished(hands, text)
    assert report.run.status == "FAILURE"
    assert report.steps[0].failures == 1
    assert report.steps[0].error is not None
    return str(report.steps[0].error["message"])


def test_an_output_above_the_limit_of_a_row_goes_by_reference_and_comes_back_whole(hands: Hands) -> None:
    hands.define(big=lambda inp, ctx: {"text": LARGE}, told=lambda inp, ctx: len(inp.value["text"]))
    report = finished(hands, LINE)
    assert report.run.status == "SUCCESS"
    assert hands.rows("SELECT output FROM step_runs ORDER BY ordinal") == [(payloads.REFERENCE,), (str(len(LARGE)),)]
    found = hands.database.retrying(lambda tx: queries.step_output(tx, report.run.run_pk, 0))
    assert found == {"text": LARGE}


def test_large_outputs_of_calls_go_by_reference_too(hands: Hands) -> None:
    hands.define(
        big=lambda inp, ctx: LARGE if inp.value == 2 else inp.value,
        told=lambda inp, ctx: [len(str(value)) for value in inp.value],
    )
    report = finished(hands, MAP)
    assert hands.database.retrying(lambda tx: queries.step_output(tx, report.run.run_pk, 1)) == [1, len(LARGE), 1]
    assert hands.rows("SELECT ordinal, item_index FROM payloads") == [(0, 1)]


def test_a_late_large_result_is_refused_and_leaves_nothing(hands: Hands) -> None:
    hands.define(big=lambda inp, ctx: LARGE, told=lambda inp, ctx: None)
    accepted = hands.start(LINE)
    unit = Unit(accepted.run_pk, 0)

    def lose(inp: Given, ctx: StepContext) -> Any:
        hands.change("UPDATE step_runs SET token = token + 1 WHERE ordinal = 0")
        return LARGE

    hands.define(big=lose)
    hands.execute(unit)
    assert hands.standing(unit, "status, output") == ("PROGRESS", None)
    assert hands.rows("SELECT * FROM payloads") == []


def test_an_output_above_the_hard_limit_is_refused_and_the_limit_named(hands: Hands) -> None:
    env = {**hands.runtime.config.env, "CELERIAC_MAX_OUTPUT_BYTES": "1000"}
    hands.runtime.config = replace(hands.runtime.config, env=env)
    told = failure_of(hands, "x" * 999)
    assert "takes 1001 bytes, the limit is 1000 (CELERIAC_MAX_OUTPUT_BYTES)" in told


def test_outputs_of_a_run_above_the_limit_are_refused_and_the_limit_named(hands: Hands) -> None:
    hands.define(told=lambda inp, ctx: LARGE)
    run = finished(hands, ONE).run
    assert run.status == "FAILURE"
    assert "the outputs of the run take" in (run.error or "")
    assert str(payloads.INLINE_BYTES) in (run.error or "")


class Model(BaseModel):
    """An output with a field that JSON has no word for, beside one that pydantic has."""

    where: Path = Path("/tmp")
    inner: dict[str, Any]


@pytest.mark.parametrize(
    ("gives", "told"),
    [
        ({"a": [1, {"b": {1, 2}}]}, "output.a[1].b is of type set"),
        ({"a": b"\xff"}, "output.a is of type bytes"),
        ({(1, 2): 3}, "output has a key of type tuple"),
        ([1.0, float("nan")], "output[1] is nan"),
        (Model(inner={"deep": object()}), "output.inner.deep is of type object"),
        (Model(inner={"deep": b"\xff\xfe"}), "output.inner.deep is of type bytes"),
        (object(), "output is of type object"),
    ],
)
def test_what_is_no_json_is_refused_with_its_path_and_type(hands: Hands, gives: Any, told: str) -> None:
    assert told in failure_of(hands, gives)


def test_an_output_that_contains_itself_is_refused(hands: Hands) -> None:
    ring: list[Any] = []
    ring.append(ring)
    assert "nested too deeply" in failure_of(hands, ring)


def test_odd_text_is_kept_safely_in_outputs_calls_errors_and_logs(hands: Hands) -> None:
    def told(inp: Given, ctx: StepContext) -> Any:
        ctx.log.info("%s", ODD)
        if inp.value == "fail":
            raise ValueError(ODD)
        return {ODD: [ODD]}

    text = """
id: odd
steps:
  a: {uses: told}
  b: {uses: told, with: {value: "${{ steps.a.output }}"}}
  map: {uses: told, for_each: {items: [1], key: "${{ item }}"}, with: {value: "${{ steps.a.output }}"}}
  z: {uses: told, with: {value: fail}}
outputs: {a: "${{ steps.a.output }}", map: "${{ steps.map.outputs }}"}
"""
    hands.define(told=told)
    report = finished(hands, text)
    whole = {SAFE: [SAFE]}
    assert report.run.outputs == {"a": whole, "map": [whole]}
    json.dumps(report.to_json(), ensure_ascii=False).encode()
    (failed,) = [step for step in report.steps if step.step_id == "z"]
    kept = SAFE.replace("\x00", "\ufffd").replace("\ufffd", "?")
    assert failed.error is not None
    assert failed.error["message"].replace("\ufffd", "?") == kept
    lines = hands.database.retrying(lambda tx: queries.logs(tx, report.run))
    assert sum(line.message.replace("\ufffd", "?") == kept for line in lines) == 4


def test_logs_are_capped_in_number_and_length_and_say_so(hands: Hands) -> None:
    def told(inp: Given, ctx: StepContext) -> Any:
        for _ in range(LOG_LINES_PER_TRY + 10):
            ctx.log.info("y" * (LOG_LINE_LENGTH + 10))
        raise ValueError("the traceback is kept beyond the cap")

    hands.define(told=told)
    report = finished(hands, ONE)
    lines = hands.database.retrying(lambda tx: queries.logs(tx, report.run, limit=10_000))
    assert len(lines) == LOG_LINES_PER_TRY + 1
    assert max(len(line.message) for line in lines) == LOG_LINE_LENGTH
    assert "log ends here" in lines[-2].message
    assert "the traceback is kept" in lines[-1].message


def test_a_large_output_is_taken_over_by_a_rerun_and_gone_with_its_run(hands: Hands) -> None:
    from workflows.db import retention
    from workflows.engine.rerun import rerun

    hands.define(big=lambda inp, ctx: LARGE, told=lambda inp, ctx: len(inp.value))
    run = finished(hands, LINE).run
    again = rerun(hands.runtime, run.run_id, start="b")
    hands.change("UPDATE job_runs SET created_at = 1, finished_at = 1 WHERE id = :run", run=run.run_pk)
    assert hands.database.retrying(lambda tx: retention.delete_old_runs(tx, 86_400, 20)) == 1
    hands.drain()
    new = control.find(hands.runtime, again.run_id or "")
    assert new.status == "SUCCESS"
    assert hands.rows("SELECT run_pk FROM payloads") == [(new.run_pk,)]
