"""The engine simulated in small, with fixed seeds; `python -m benchmarks.simulate` is its full size."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.simulation.bugs import BUGS, planted
from benchmarks.simulation.episode import Setting, make_template, simulate
from benchmarks.simulation.works import make_work
from workflows.compile import compile_workflow
from workflows.model.parser import parse_workflow

PROJECT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_template(tmp_path_factory.mktemp("simulation"))


def test_in_histories_full_of_faults_every_law_holds(template: Path) -> None:
    played = [simulate(Setting(11, number), template) for number in (0, 3, 4)]
    assert [violation for found in played for violation in found.violations] == []
    assert sum((found.runs for found in played), Counter[str]()).total() == 15
    faults = sum((found.faults for found in played), Counter[str]())
    assert faults.total() > 80
    assert {"child killed", "child frozen", "message dropped", "message doubled", "broker away"} <= set(faults)


def test_undisturbed_the_canvas_delivers_and_the_reconciler_sends_nothing(template: Path) -> None:
    found = simulate(Setting(12, intensity=0.0, harm=0.0), template)
    assert found.violations == []
    assert not found.faults


def test_a_seed_gives_the_same_history_in_every_process() -> None:
    code = (
        "import sys, tempfile, pathlib\n"
        "from benchmarks.simulation.episode import Setting, make_template, simulate\n"
        "with tempfile.TemporaryDirectory() as folder:\n"
        "    print(simulate(Setting(13, runs=2), make_template(pathlib.Path(folder))).digest)\n"
    )
    digests = [
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=PROJECT,
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(PROJECT)},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout.strip()
        for hash_seed in ("1", "2")
    ]
    assert len(digests[0]) == 32
    assert digests[0] == digests[1]


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_caught(template: Path, bug: str) -> None:
    with planted(bug):
        assert any(simulate(Setting(1, number), template).violations for number in range(100))


def test_every_simulated_work_is_a_workflow_whose_end_is_foretold() -> None:
    for number in range(100):
        work = make_work("7", number)
        plan = compile_workflow(parse_workflow(work.definition()))
        assert {step.id for step in plan.steps} == set(work.expected()) == set(work.nodes)
        assert work == make_work("7", number)


def test_the_command_prints_what_plays_a_broken_history_again(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    command = [sys.executable, "-m", "benchmarks.simulate", "--seed", "1", "--steps", "400", "--break", "deps"]
    done = subprocess.run(
        [*command, "--json", str(figures)], cwd=PROJECT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 1
    assert "--seed 1 --episode 0" in done.stdout
    assert json.loads(figures.read_text())["violations"]
