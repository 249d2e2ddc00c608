"""Every command that the documentation or a hint tells people to type is one that the programs take."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest

from celeriac.cli import SECTIONS
from tests.support.servers import PROJECT

DOCUMENTS = ("README.md", "CONTRIBUTING.md", "pipeline/corpus/README.md", "docs/**/*.md", "newsfragments/*.md")
PROGRAM_SOURCES = ("celeriac", "workflows", "pipeline", "api")

CLICK_PROGRAMS = {
    "celeriac": ("celeriac.cli", "cli"),
    "python -m celeriac": ("celeriac.cli", "cli"),
    "python -m benchmarks": ("benchmarks.__main__", "main"),
    "python -m benchmarks.chaos": ("benchmarks.chaos", "main"),
    "python -m benchmarks.crash_matrix": ("benchmarks.crash_matrix", "main"),
    "python -m benchmarks.simulate": ("benchmarks.simulate", "main"),
    "manage_celery.py": ("manage_celery", "cli"),
    "celery": ("celery.bin.celery", "celery"),
}
SCRIPTS = ("./start_dev.sh", "./run_tests.sh")

PLACEHOLDERS = {"N": "1", "K": "1", "STATE": "SUCCESS", "LEVEL": "INFO", "SCOPE": "read", "DURATION": "90d"}
"""What stands for a word that an option would refuse. Others, like FILE, are taken as they are."""

FENCE = re.compile(r"^ *```(\w*)[^\n]*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
HINT = re.compile(r"`((?:celeriac|manage_celery\.py|celery) [^`\n]*)`")
VERB_ROW = re.compile(r"^\| `([a-z][^`]*)`", re.MULTILINE)


class Documented(NamedTuple):
    """A command line as written, and the file in which it stands; a mention in a sentence may leave arguments out."""

    file: Path
    text: str
    is_mention: bool

    def __str__(self) -> str:
        return f"{self.file.relative_to(PROJECT)}: {self.text}"


def documented() -> Iterator[Documented]:
    for file in sorted(file for pattern in DOCUMENTS for file in PROJECT.glob(pattern)):
        text = file.read_text()
        for language, block in FENCE.findall(text):
            if language in {"", "bash", "sh", "shell", "console"}:
                lines = block.replace("\\\n", " ").splitlines()
                yield from (Documented(file, part.strip(), False) for line in lines for part in line.split("&&"))
        yield from (Documented(file, span.replace("\\|", "|"), True) for span in SPAN.findall(FENCE.sub("", text)))
    for file in sorted(file for folder in PROGRAM_SOURCES for file in (PROJECT / folder).rglob("*.py")):
        hints = (hint for hint in HINT.findall(file.read_text()) if hint.count("{") == hint.count("}"))
        yield from (
            Documented(file, re.sub(r"\{[^}]*\}", "X", re.sub(r"\{[^}]*generation\}", "1", hint)), True)
            for hint in hints
        )
    reference = PROJECT / "docs/reference/cli.md"
    table = reference.read_text().partition("## Answers")[0]
    yield from (Documented(reference, "celeriac " + row.replace("\\|", "|"), False) for row in VERB_ROW.findall(table))


def program_and_arguments(text: str) -> tuple[str, list[str]] | None:
    """Of a line that calls one of our programs; `VAR=value` before it and the interpreter are left out."""
    try:
        words = shlex.split(text.removeprefix("$ "), comments=True)
    except ValueError:  # not a line for the shell: a quote in a sentence
        return None
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words.pop(0)
    if not words:
        return None
    if Path(words[0]).name in {"python", "python3"}:
        words = ["python -m " + words[2], *words[3:]] if words[1:2] == ["-m"] and words[2:] else words[1:]
    if words and words[0] in {*CLICK_PROGRAMS, *SCRIPTS}:
        return words[0], words[1:]
    return None


def variants(arguments: list[str]) -> Iterator[list[str]]:
    """A synopsis, as commands: brackets and dots fall away, each of `a|b` is tried, placeholders get a value."""
    words = [word.strip("[]").removesuffix("...").rstrip("]") for word in arguments]
    for choice in product(*(word.split("|") for word in words if word)):
        yield [PLACEHOLDERS.get(word, word) for word in choice]


COMMANDS = {
    (program, *arguments): line
    for line in documented()
    if (call := program_and_arguments(line.text))
    for program, given in [call]
    for arguments in variants(given)
    if "VERB" not in arguments
}


@pytest.fixture
def _nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arguments are parsed as ever; then no command is carried out."""
    carry_out = click.Command.invoke

    def invoke(command: click.Command, context: click.Context) -> Any:
        is_way_to_another = isinstance(command, click.Group) and context.invoked_subcommand is not None
        return carry_out(command, context) if is_way_to_another else None

    monkeypatch.setattr(click.Command, "invoke", invoke)


@pytest.mark.usefixtures("_nothing_runs")
def test_every_documented_command_is_taken_by_its_program(home: Path) -> None:
    refused = []
    for (program, *arguments), line in COMMANDS.items():
        if program in SCRIPTS:
            continue
        module, name = CLICK_PROGRAMS[program]
        try:
            getattr(import_module(module), name).main(list(arguments), prog_name=program, standalone_mode=False)
        except (click.MissingParameter, click.exceptions.NoArgsIsHelpError) as error:
            if not line.is_mention:
                refused.append(f"{line}\n    {error.format_message()}")
        except click.ClickException as error:
            refused.append(f"{line}\n    {error.format_message()}")
    assert not refused, "\n".join(refused)
    assert not home.exists()


def test_every_documented_word_of_the_scripts_is_one_that_they_know() -> None:
    told = [
        (line, program, arguments[0])
        for (program, *arguments), line in COMMANDS.items()
        if program in SCRIPTS and arguments
    ]
    assert {program for _, program, _ in told} == set(SCRIPTS)
    for line, program, word in told:
        known = re.findall(r"^  ([\w |-]+)\)", (PROJECT / program).read_text(), re.MULTILINE)
        is_for_pytest = program == "./run_tests.sh" and (PROJECT / word).exists()
        assert is_for_pytest or word in {name.strip() for names in known for name in names.split("|")}, str(line)


def test_every_verb_is_documented() -> None:
    verbs = {verb for section in SECTIONS.values() for verb in section}
    assert verbs == {
        arguments[0]
        for (program, *arguments), line in COMMANDS.items()
        if program == "celeriac" and arguments and line.file.name == "cli.md"
    }
