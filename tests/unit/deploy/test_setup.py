"""The set-up of what tests need beside wheels, with stand-ins for the system's own programs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.servers import PROJECT


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """A folder of programs that comes first on the path."""
    folder = tmp_path / "bin"
    folder.mkdir()
    return folder


def program(system: Path, name: str, text: str) -> None:
    file = system / name
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)


def ensure(system: Path, programs: str) -> str:
    """What `ensure_test_programs` says."""
    lines = f"""
        set -euo pipefail
        . {PROJECT}/scripts/setup.sh
        TEST_PROGRAMS="{programs}" POLICY={system}/policy
        ensure_test_programs
    """
    env = {"PATH": f"{system}:/usr/bin:/bin"}
    told = subprocess.run(["bash", "-c", lines], env=env, capture_output=True, text=True, check=True)
    return told.stdout + told.stderr


def test_what_is_missing_is_installed_by_root_and_its_service_is_not_started(system: Path) -> None:
    program(system, "id", "echo 0")
    program(system, "apt-get", f'echo "$@" >>{system}/asked; sh {system}/policy; echo $? >>{system}/policed')
    assert "Installing a-server for the tests" in ensure(system, "sh=dash no-such-program=a-server")
    asked = (system / "asked").read_text().splitlines()
    assert asked == ["update -qq", "install -qq -y --no-install-recommends a-server"]
    assert (system / "policed").read_text().split() == ["101", "101"]
    assert not (system / "policy").exists()


def test_what_is_missing_is_named_to_others(system: Path) -> None:
    program(system, "id", "echo 1000")
    told = ensure(system, "no-such-program=a-server")
    assert "sudo apt-get install --no-install-recommends a-server" in told


def test_nothing_is_said_when_nothing_is_missing(system: Path) -> None:
    assert ensure(system, "sh=dash") == ""
