"""Help, unknown verbs, and what becomes of errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from celeriac import cli, main
from celeriac.commands import schema
from tests.support.servers import PROJECT
from workflows.model.errors import ConflictError

VERBS = [name for verbs in cli.SECTIONS.values() for name in verbs]


def leaves(verb: str) -> list[click.Command]:
    command = cli.cli.get_command(click.Context(cli.cli), verb)
    assert command is not None
    return list(command.commands.values()) if isinstance(command, click.Group) else [command]


def test_help_loads_none_of_the_heavy_libraries() -> None:
    code = (
        "import sys; from celeriac.main import run; run(['--help']); "
        "print([m for m in ('celery', 'sqlalchemy', 'pydantic', 'rich', 'numpy', 'yaml') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines()[-1] == "[]"
    assert all(f"  {verb} " in answer.stdout for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_takes_json_and_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command in leaves(verb):
        assert any("--json" in option.opts for option in command.params), command.name
    assert main.run([verb, "--help"]) == 0
    assert "Usage: celeriac" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["plann"], "did you mean 'plan'?"),
        (["run"], "missing argument 'FILE|ID'"),
        (["plan", "x", "--nonsense"], "--nonsense"),
        (["run", "x", "--concurrency", "0"], "0"),
        (["run", "literature-review", "--param", "n"], "'n' is not KEY=VALUE"),
        (["run", "literature-review", "-p", "n=1", "-p", "n=2"], "'n' is given twice"),
    ],
)
def test_wrong_usage_is_told_on_standard_error_and_exits_2(
    arguments: list[str], says: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(arguments) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("error: ")
    assert says in told.err
    assert not home.exists()


def test_an_error_of_ours_prints_its_hint(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(_value: object) -> None:
        raise ConflictError("it is so", "do this")

    monkeypatch.setattr(schema, "print_json", fail)
    assert main.run(["schema"]) == 2
    assert capsys.readouterr().err == "error: it is so\nhint: do this\n"


def test_a_bug_is_one_line_and_a_file_with_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def fail(_value: object) -> None:
        raise LookupError("lost\nand gone")

    monkeypatch.setattr(schema, "print_json", fail)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert main.run(["schema"]) == 2
    told = capsys.readouterr().err
    assert "LookupError: lost\n" in told
    assert "Traceback" not in told
    (log,) = tmp_path.glob("celeriac-*.log")
    assert str(log) in told
    assert "raise LookupError" in log.read_text()

    monkeypatch.setenv("CELERIAC_DEBUG", "1")
    assert main.run(["schema"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_reader_that_has_had_enough_is_no_error() -> None:
    line = f"{sys.executable} -m celeriac schema | head -1"
    answer = subprocess.run(["bash", "-c", line], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert answer.stdout == "{\n"
    assert answer.stderr == ""


def test_output_that_cannot_hold_a_character_goes_without_it(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("id: a\nsteps: {x: {uses: 数据}}\n")
    env = {**os.environ, "PYTHONIOENCODING": "latin-1", "PYTHONPATH": str(PROJECT)}

    def call(*arguments: str) -> bytes:
        line = [sys.executable, "-m", "celeriac", *arguments]
        ended = subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, check=False)
        assert b"should not have happened" not in ended.stderr
        return ended.stdout

    assert b"? ok    home" in call("doctor")
    (found, *_) = json.loads(call("validate", "a.yaml", "--json"))["diagnostics"]
    assert "数据" in found["message"]
