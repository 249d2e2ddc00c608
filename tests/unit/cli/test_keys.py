from __future__ import annotations

import json
from pathlib import Path

import pytest

from celeriac.main import run


def _call(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(["keys", *arguments]) == 0
    return capsys.readouterr().out


def test_a_key_is_shown_once_then_listed_and_revoked(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "there are no keys" in _call(capsys, "ls")
    key = _call(capsys, "create", "--scope", "trigger", "--name", "ci", "--expires", "90d").strip()
    assert key.startswith("cel_")
    (listed,) = json.loads(_call(capsys, "ls", "--json"))
    assert (listed["name"], listed["scope"], listed["status"]) == ("ci", "trigger", "active")
    assert listed["expires_at"] - listed["created_at"] == pytest.approx(90 * 86_400, abs=1)
    assert key not in json.dumps(listed)
    assert _call(capsys, "revoke", listed["id"]) == f"revoked {listed['id']}\n"
    assert "was revoked before" in _call(capsys, "revoke", listed["id"])
    assert "revoked" in _call(capsys, "ls")


@pytest.mark.parametrize(
    "arguments", [["create", "--scope", "god"], ["create", "--expires", "soon"], ["revoke", "nothere"]]
)
def test_wrong_arguments_are_told(home: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert run(["keys", *arguments]) == 2
    assert "error:" in capsys.readouterr().err
