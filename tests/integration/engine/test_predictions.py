"""Forecasts from runs that were, and `celeriac plan` with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from celeriac import main
from tests.support.hands import Given, Hands
from workflows.compile import compile_workflow
from workflows.compile.forecast import Work
from workflows.db.units import Unit
from workflows.engine.predict import predict
from workflows.model.parser import parse_workflow
from workflows.steps import StepContext

TEXT = """
id: past
steps:
  a: {uses: quick}
  w: {uses: wait, with: {for: 30s}}
  m: {uses: quick, needs: a, for_each: {items: [1, 2, 3, 4]}}
  z: {uses: quick, needs: [m, w]}
"""


def _cost(hands: Hands, step: str, seconds: float) -> None:
    """The last try of a step took so long."""
    hands.change(
        "UPDATE step_runs SET started_at = finished_at - :seconds WHERE step_id = :step", seconds=seconds, step=step
    )


def _past(hands: Hands, count: int) -> None:
    def quick(inp: Given, ctx: StepContext) -> int:
        return 1

    hands.define(quick=quick)
    for _ in range(count):
        accepted = hands.start(TEXT)
        hands.execute(Unit(accepted.run_pk, 1))
        hands.change(
            "UPDATE step_runs SET not_before = NULL, parked_since = parked_since - 30 WHERE status = 'WAITING'"
        )
        hands.drain()
        assert hands.engine.report(accepted).run.status == "SUCCESS"
    for step in "az":
        _cost(hands, step, 2.0)
    hands.change("UPDATE step_runs SET items_seconds = 8.0 WHERE step_id = 'm'")
    hands.change("UPDATE job_runs SET started_at = finished_at - 30.0")


def test_what_steps_cost_before_is_what_they_are_said_to_cost(hands: Hands) -> None:
    plan = compile_workflow(parse_workflow(TEXT))
    nothing = predict(hands.database, plan, 2)
    assert (nothing.runs, nothing.error, nothing.unknown) == (0, None, ("a", "w", "m", "z"))
    _past(hands, 3)
    hands.change("DELETE FROM attempts WHERE ordinal IN (0, 3)")  # as if they had been claimed once, at once
    found = predict(hands.database, plan, 2)
    assert (found.runs, found.unknown) == (3, ())
    bars = {bar.step: (bar.start, bar.end) for bar in found.forecast.bars}
    assert bars["m"][1] - bars["m"][0] == pytest.approx(4.0)  # four calls of 2 s on two slots
    assert bars["w"][1] == pytest.approx(30, abs=1)
    assert found.forecast.seconds == pytest.approx(32, abs=1)
    assert found.error == pytest.approx(2 / 30, abs=0.05)
    assert predict(hands.database, plan, 2, {"w": Work(0.0)}).forecast.seconds == pytest.approx(8, abs=0.1)


def test_failed_and_repeated_runs_tell_nothing(hands: Hands) -> None:
    _past(hands, 2)
    plan = compile_workflow(parse_workflow(TEXT))
    hands.change("UPDATE job_runs SET status = 'FAILURE' WHERE id = (SELECT min(id) FROM job_runs)")
    found = predict(hands.database, plan, 2)
    assert (found.runs, found.error) == (1, None)
    hands.change("UPDATE job_runs SET rerun_of = 'x'")
    assert predict(hands.database, plan, 2).runs == 0


def _plan(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main.run(["plan", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_command_line_tells_it_all(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text(
        "id: told\nsteps:\n  a: {uses: value, with: {n: 1}}\n  b: {uses: value, with: {n: '${{ steps.a.output.n }}'}}"
    )
    new.write_text(old.read_text() + "\n  c: {uses: value, needs: b, with: {n: 2}}\n")
    assert "forecast" not in _plan(capsys, str(old))
    assert not (home / "celeriac.db").exists()
    assumed = _plan(capsys, str(old), "--slots", "3", "--assume", "a=2.5")["forecast"]
    assert (assumed["slots"], assumed["seconds"], assumed["unknown"]) == (3, 3.5, ["b"])
    assert main.run(["run", str(old), "--inline"]) == 0
    capsys.readouterr()
    assert _plan(capsys, str(old), "--slots", "1")["forecast"]["runs"] == 1
    assert main.run(["plan", str(old), "--simulate", "--slots", "1"]) == 0
    shown = capsys.readouterr().out
    assert "forecast" in shown
    assert "█" in shown
    fingerprint = _plan(capsys, str(old))["fingerprint"]
    for before in (str(old), f"told@{fingerprint[:8]}"):
        told = _plan(capsys, str(new), "--diff", before)
        assert (told["added"], told["new_edges"], told["changes"]) == (["c"], [["b", "c"]], [])
    reused = _plan(capsys, str(new), "--reuse", "latest")["steps"]
    assert [(step["step"], step["is_reused"]) for step in reused] == [("a", True), ("b", True), ("c", False)]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--assume", "nobody=1"], "there is no step 'nobody'"),
        (["--assume", "a=soon"], "'soon' is no cost"),
        (["--slots", "0"], "0 is not in the range"),
        (["--diff", "told@abcdef"], "there are no runs"),
        (["--diff", "nowhere.yaml"], "there is no file 'nowhere.yaml'"),
        (["--reuse", "latest"], "there are no runs"),
    ],
)
def test_what_cannot_be_told_is_a_clear_error(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    file = tmp_path / "one.yaml"
    file.write_text("id: told\nsteps:\n  a: {uses: value, with: {n: 1}}\n")
    assert main.run(["plan", str(file), *arguments]) == 2
    assert told in capsys.readouterr().err
