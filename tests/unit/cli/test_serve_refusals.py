"""`celeriac serve` refuses what would not be served well."""

from __future__ import annotations

from pathlib import Path

import pytest
import uvicorn

from celeriac import main
from tests.support.servers import free_port


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Addresses on which a server would have listened."""
    found: list[str] = []
    monkeypatch.setattr(uvicorn, "run", lambda _app, host, **_: found.append(host))
    return found


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_other_machines_are_not_listened_for_without_a_key(
    host: str, home: Path, served: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["serve", "--host", host, "--port", str(free_port())]
    assert main.run(line) == 2
    assert "celeriac keys create" in capsys.readouterr().err
    assert served == []
    assert main.run(["keys", "create", "--scope", "read"]) == 0
    assert main.run(line) == 0
    assert served == [host]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_loopback_needs_no_key(host: str, home: Path, served: list[str]) -> None:
    assert main.run(["serve", "--host", host, "--port", str(free_port())]) == 0
    assert served == [host]


def test_an_address_of_another_machine_is_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["serve", "--host", "192.0.2.1", "--port", str(free_port())]) == 2
    assert "192.0.2.1" in capsys.readouterr().err


def test_slots_are_for_a_worker(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["serve", "--concurrency", "2"]) == 2
    assert "--with-worker" in capsys.readouterr().err
