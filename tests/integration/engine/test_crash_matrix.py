"""The crash matrix in small; `python -m benchmarks.crash_matrix` is the whole of it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.havoc import borders
from benchmarks.havoc.borders import BORDERS, Strike
from benchmarks.havoc.matrix import Case, cases, matrix
from benchmarks.havoc.systems import Database, open_folder

STRIKES: dict[Database, tuple[Strike, ...]] = {
    "postgresql": (
        Strike("claim: committed", "STOP"),
        Strike("publish: before", "KILL", 2),
        Strike("ack: before", "KILL"),
        Strike("submit: committed", "KILL"),
    ),
    "sqlite": (
        Strike("step's transaction: open", "STOP"),
        Strike("expand: batch written", "KILL"),
        Strike("range: ended", "KILL"),
    ),
}


@pytest.fixture
def folder() -> Iterator[Path]:
    with open_folder(None) as made:
        yield made


@pytest.mark.timeout(400)
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_whoever_is_struck_at_a_border_the_run_ends_right(database: Database, folder: Path) -> None:
    with matrix(database, folder) as system:
        results = [system.try_case(Case(database, strike)) for strike in STRIKES[database]]
    assert [f"{result.case}: {violation}" for result in results for violation in result.violations] == []


@pytest.mark.timeout(400)
def test_a_late_result_that_is_taken_is_noticed(folder: Path) -> None:
    with matrix("sqlite", folder, bug="fence") as system:
        result = system.try_case(Case("sqlite", Strike("body: before", "STOP")))
    assert "a transaction's effect is made once" in {violation.law for violation in result.violations}


def test_the_matrix_strikes_at_every_border_that_the_engine_has() -> None:
    placed = re.findall(r'(?:before|after)="([^"]+)"|reach\("([^"]+)"\)', inspect.getsource(borders._watch))
    names = {name for found in placed for text in found for name in text.split("|") if name}
    assert names == set(BORDERS)
    assert {case.strike.border for case in cases(["sqlite"])} == set(BORDERS)
