"""What a person sees of a run while it lasts."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from celeriac.output import count_text, seconds_text
from celeriac.progress import Bars, Lines, chosen, make_display
from workflows.db.queries import RunReport, RunView, StepView


def step(ordinal: int, status: str, **values: Any) -> StepView:
    known: dict[str, Any] = {
        "ordinal": ordinal, "step_id": f"s{ordinal}", "queue": "processing", "status": status, "reason": None,
        "attempts": 1, "failures": 0, "crashes": 0, "started_at": None, "finished_at": None, "ready_at": None,
        "items_total": None, "items_success": 0, "items_failure": 0, "share": 0.0, "error": None, "not_before": None,
    }  # fmt: skip
    return StepView(**{**known, **values})


def report(*steps: StepView, status: str = "PROGRESS", now: float = 10.0, progress: int = 50) -> RunReport:
    ended = sum(step.status in ("SUCCESS", "FAILURE", "SKIPPED") for step in steps)
    run = RunView(
        run_pk=1, run_id="0123456789", workflow="flow", version_id=1, status=status, progress=progress,
        current_step=None, steps_total=len(steps), steps_open=len(steps) - ended, steps_failed=0, redispatches=0,
        cancel_requested=False, created_at=0.0, started_at=0.0, finished_at=None, params={}, outputs=None, error=None,
        generation=1, schedule=None, fire_time=None, now=now,
    )  # fmt: skip
    return RunReport(run, steps)


def test_of_many_steps_those_that_matter_now_are_shown_in_their_order() -> None:
    steps = [step(n, "SUCCESS", finished_at=float(n)) for n in range(50)]
    steps += [step(50, "PENDING"), step(51, "FAILURE"), step(52, "PROGRESS"), step(53, "PENDING")]
    assert [found.step_id for found in chosen(steps, 4)] == ["s48", "s49", "s51", "s52"]
    assert chosen(steps, 100) == steps


def test_lines_tell_each_change_once(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines()
    lines.show(report(step(0, "PENDING"), step(1, "PENDING")))
    for _ in range(2):
        lines.show(report(step(0, "PROGRESS", started_at=1.0, items_total=20, items_success=3), step(1, "PENDING")))
    failed = step(
        0, "FAILURE", started_at=1.0, finished_at=3.5, error={"type": "ValueError", "message": "bad\nvery bad"}
    )
    lines.show(report(failed, step(1, "SKIPPED", reason="upstream_failed")))
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines() == [
        "▸ PROGRESS  s0  3/20",
        "✗ FAILURE   s0  2.50 s  ValueError: bad",
        "↷ SKIPPED   s1  upstream failed",
    ]


def test_lines_say_why_a_step_starts_again(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines()
    lines.show(report(step(0, "PROGRESS", started_at=1.0)))
    lines.show(report(step(0, "PENDING", started_at=1.0, crashes=2)))
    assert (
        capsys.readouterr().err.splitlines()[-1] == "· PENDING   s0  its worker process ended 2 times; it starts again"
    )


def test_lines_tell_the_whole_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines()
    running = step(1, "PROGRESS", started_at=1.0, items_total=20, items_success=3)
    lines.show(report(step(0, "SUCCESS"), running, now=10.0))
    lines.show(report(step(0, "SUCCESS"), running, now=12.0))
    lines.show(report(step(0, "SUCCESS"), running, now=16.0))
    assert capsys.readouterr().err.splitlines()[2:] == [" 50 %  1 of 2 steps: s1 3/20"]


def test_bars_hold_every_state(capsys: pytest.CaptureFixture[str]) -> None:
    states = ("PENDING", "PROGRESS", "RETRY", "WAITING", "SUCCESS", "FAILURE", "REVOKED", "SKIPPED")
    with Bars() as bars:
        bars.show(report(*(step(number, state, started_at=1.0) for number, state in enumerate(states)), progress=40))
        bars.say("a word [beside] it")
    told = capsys.readouterr().err
    assert "a word [beside] it" in told
    assert all(f"s{number}" in told for number in range(len(states)))
    assert "about 15 s left" in told


@pytest.mark.parametrize("width", [60, 80, 120])
def test_on_a_narrow_terminal_the_bars_give_way_and_no_figure_is_cut(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("celeriac.progress.console", lambda *, err: Console(stderr=err, width=width))
    why = {"type": "ValueError", "message": "a long story of what went wrong " * 5}
    with Bars() as bars:
        bars.show(
            report(
                step(0, "SUCCESS", step_id="process_papers", items_total=1050, items_success=1050, started_at=1.0),
                step(1, "PROGRESS", step_id="embed", started_at=1.0),
                step(2, "FAILURE", started_at=1.0, error=why),
            )
        )
    lines = capsys.readouterr().err.splitlines()[-4:]
    assert [line[0] for line in lines if line[0] in "✓✗ "] == ["✓", "✗", " "]  # and a spinner at any of its places
    assert "process_papers" in lines[0]
    assert "1,050/1,050" in lines[0]
    assert "ValueError:" in lines[2]
    assert "about 10 s left" in lines[3]
    assert max(map(len, lines)) <= width


def test_away_from_a_terminal_there_are_no_bars() -> None:
    assert type(make_display(quiet=False)) is Lines
    assert not isinstance(make_display(quiet=True), Lines | Bars)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.056, "0.06 s"),
        (12.34, "12.3 s"),
        (99.96, "1 min 40 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
    ],
)
def test_durations_are_said_as_people_do(seconds: float | None, text: str) -> None:
    assert seconds_text(seconds) == text


def test_counts_have_their_plural() -> None:
    assert (count_text(1, "step"), count_text(1024, "step")) == ("1 step", "1,024 steps")
