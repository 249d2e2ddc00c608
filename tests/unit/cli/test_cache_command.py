"""`celeriac cache clear`: what a step has kept is forgotten, and only then done again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from celeriac import main

TEXT = "id: kept\nsteps:\n  a: {uses: value, cache: {ttl: 1h}, with: {n: 1}}\n"


def _run(capsys: pytest.CaptureFixture[str], file: Path) -> Any:
    assert main.run(["run", str(file), "--inline", "--json"]) == 0
    return json.loads(capsys.readouterr().out)["steps"]["a"]["reason"]


def test_what_is_kept_serves_until_it_is_cleared(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "kept.yaml"
    file.write_text(TEXT)
    assert [_run(capsys, file) for _ in range(2)] == [None, "cached"]
    assert main.run(["show"]) == 0
    assert "taken from the cache" in capsys.readouterr().out
    assert main.run(["cache", "clear", "http", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"forgotten": 0}
    assert main.run(["cache", "clear"]) == 0
    assert capsys.readouterr().out == "forgot 1 output\n"
    assert _run(capsys, file) is None


def test_without_a_database_there_is_nothing_to_forget(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["cache", "clear"]) == 2
    assert "there are no runs" in capsys.readouterr().err
