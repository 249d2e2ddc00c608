"""Whose decision it is to change tables."""

from __future__ import annotations

import json
from pathlib import Path

import psycopg
import pytest

from celeriac import main


def test_an_empty_postgresql_gets_its_tables_and_one_in_use_is_left_alone(
    postgres_url: str, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", postgres_url)
    assert main.run(["ps"]) == 2
    assert "celeriac db upgrade" in capsys.readouterr().err

    assert main.run(["run", "literature-review", "--no-wait"]) == 0
    assert main.run(["run", "literature-review", "--no-wait"]) == 0
    capsys.readouterr()
    assert main.run(["ps", "--json"]) == 0
    assert [run["status"] for run in json.loads(capsys.readouterr().out)] == ["PENDING"] * 2

    with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("DELETE FROM pipeline_schema_version")
    assert main.run(["run", "literature-review", "--no-wait"]) == 2
    assert "celeriac db upgrade" in capsys.readouterr().err
    assert main.run(["doctor", "--json"]) == 2
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    assert checks["database"]["verdict"] == "fail"
    assert "pipeline.migrations" in checks["database"]["message"]
