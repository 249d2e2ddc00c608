"""The chaos harness in small, with a fixed seed; `python -m benchmarks.chaos` is its full size."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.havoc.trial import Trial, carry_out
from benchmarks.havoc.works import make_work
from workflows.compile import compile_workflow
from workflows.model.parser import parse_workflow


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """An empty folder that PostgreSQL's own user may enter."""
    with tempfile.TemporaryDirectory(prefix="celeriac-chaos-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.timeout(300)
def test_random_runs_under_random_faults_keep_every_promise(open_folder: Path) -> None:
    verdict = carry_out(Trial(runs=8, seed=5, database="postgresql", workers=2, at_once=8), open_folder)
    assert [str(violation) for violation in verdict.violations] == []
    assert verdict.runs.total() == 8
    assert len(verdict.faults) > 5


def test_every_random_work_is_a_workflow_whose_end_is_foretold() -> None:
    for number in range(200):
        work = make_work(7, number)
        plan = compile_workflow(parse_workflow(work.definition()))
        assert {step.id for step in plan.steps} == set(work.expected()) == set(work.nodes)
        assert work == make_work(7, number)


@pytest.mark.timeout(300)
def test_steps_that_do_not_wait_for_all_their_parents_are_noticed(open_folder: Path) -> None:
    trial = Trial(runs=6, seed=5, database="sqlite", bug="deps", workers=1, intensity=0.001, end_seconds=3.0)
    verdict = carry_out(trial, open_folder)
    assert "nothing starts before its parents' end" in {violation.law for violation in verdict.violations}
