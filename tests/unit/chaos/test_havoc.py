"""The parts of the chaos harness that decide what is right: a checker that is wrong proves nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from benchmarks.havoc import borders
from benchmarks.havoc.faults import Fault
from benchmarks.havoc.goal import at_goal, holds, judge, judge_recovery
from benchmarks.havoc.ledger import Reader
from benchmarks.havoc.raw_canvas import canvas, levels, units
from benchmarks.havoc.recoveries import Recovery
from benchmarks.havoc.trial import Trial, Verdict
from benchmarks.havoc.violations import Violation
from benchmarks.havoc.works import make_work
from tests.support.servers import PROJECT

KILLS = [Fault("child killed", 0.0)] * 300
SERVERS = [*[Fault("broker flushed", 0.0)] * 20, *[Fault("database restarted", 0.0)] * 10]


def verdict(
    *violations: str, faults: list[Fault] | None = None, runs: int = 2_000, seconds: float = 1_400.0
) -> Verdict:
    return Verdict(
        at_goal(Trial(1, 1, "postgresql")),
        runs=Counter(SUCCESS=runs),
        steps=Counter(SUCCESS=20_000),
        tries=Counter(),
        faults=[*KILLS, *SERVERS] if faults is None else faults,
        recovery={},
        storm_seconds=seconds,
        end_seconds=5.0,
        looks=0,
        violations=[Violation(law, 1, "r", "") for law in violations],
    )


def failed(found: Verdict) -> list[str]:
    return [line.what for line in judge(found) if not line.holds]


def test_a_storm_that_reached_the_goal_and_broke_nothing_passes() -> None:
    assert holds(judge(verdict()))


def test_a_storm_that_was_too_small_too_slow_or_too_tame_does_not_pass() -> None:
    assert failed(verdict(runs=1_999)) == ["runs"]
    assert failed(verdict(seconds=1_500.0)) == ["minutes"]
    assert failed(verdict(faults=KILLS)) == ["restarts and flushes of the broker", "restarts of the database"]


def test_every_broken_law_shows_in_one_line_of_the_judgement() -> None:
    assert failed(verdict("every run ends")) == ["lost"]
    assert failed(verdict("a transaction's effect is made once")) == ["doubled"]
    assert failed(verdict("nothing starts before its parents' end")) == ["early"]
    assert failed(verdict("no false success")) == ["false success"]
    assert failed(verdict("nothing is left behind")) == ["any other law broken"]


def test_a_recovery_that_was_not_seen_is_no_quick_recovery() -> None:
    assert holds(judge_recovery(Recovery("child killed", 2, (1.0, 4.9), unseen=0)))
    assert not holds(judge_recovery(Recovery("child killed", 2, (1.0, 5.1), unseen=0)))
    assert not holds(judge_recovery(Recovery("child killed", 2, (1.0,), unseen=1)))
    assert not holds(judge_recovery(Recovery("child killed", 0, (), unseen=0)))


def test_the_ledger_is_read_line_by_line_while_it_is_written(tmp_path: Path) -> None:
    file = tmp_path / "effects.jsonl"
    reader = Reader(tmp_path / "effects")
    assert reader.entries() == []
    line = json.dumps({"event": "start", "who": ["r", "s", None], "attempt": 1, "pid": 7, "at": 1.0}) + "\n"
    file.write_text(line + line[:10])
    assert [entry.pid for entry in reader.entries()] == [7]
    file.write_text(line + line)
    assert [entry.pid for entry in reader.entries()] == [7, 7]


def test_the_raw_canvas_of_a_work_has_every_step_after_those_that_it_needs() -> None:
    for number in range(50):
        work = make_work(3, number)
        placed: set[str] = set()
        for level in levels(work):
            assert all(set(work.nodes[name].needs) <= placed for name in level)
            placed |= set(level)
        assert placed == set(work.nodes)


def test_the_raw_canvas_of_a_work_makes_every_effect() -> None:
    work = make_work(3, 4)
    text = json.dumps(canvas("r", work))
    assert text.count('"raw.work"') == len(units(work)) > len(work.nodes)
    assert text.count('"raw.end"') == 1


def test_every_border_and_every_bug_can_still_be_put_into_a_process(tmp_path: Path) -> None:
    code = "from benchmarks.havoc.sabotage import BUGS, plant\nfor bug in BUGS: plant(bug)"
    env = {**os.environ, borders.VARIABLE: str(tmp_path), borders.ROLE: "worker", "PYTHONPATH": str(PROJECT)}
    for line in ("import benchmarks.havoc.steps", code):
        subprocess.run([sys.executable, "-c", line], check=True, cwd=tmp_path, env=env)
