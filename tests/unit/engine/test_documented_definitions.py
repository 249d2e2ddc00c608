"""Every whole definition in the documentation is one, with the steps that come with Celeriac."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.servers import PROJECT
from workflows.compile import compile_workflow
from workflows.model.checks import StepSchemas
from workflows.model.diagnostics import Code
from workflows.model.errors import DefinitionError, Diagnostic
from workflows.model.parser import parse_workflow
from workflows.steps.registry import load_steps, schemas

DOCUMENTS = sorted({*PROJECT.glob("docs/**/*.md"), PROJECT / "README.md"})
BLOCK = re.compile(r"^```yaml\n((?:#[^\n]*\n)*id: .*?)^```", re.MULTILINE | re.DOTALL)
BLOCKS = [(file, block) for file in DOCUMENTS for block in BLOCK.findall(file.read_text())]


@pytest.fixture(scope="module")
def known() -> StepSchemas:
    return schemas(load_steps())


@pytest.mark.parametrize(
    ("file", "text"), BLOCKS, ids=[f"{file.stem}-{number}" for number, (file, _) in enumerate(BLOCKS)]
)
def test_a_documented_definition_is_right(file: Path, text: str, known: StepSchemas) -> None:
    # Pages about steps of one's own name some that nobody has.
    wrong = [found for found in _findings(text, file.name, known) if found.code != Code.UNKNOWN_USES]
    assert not wrong, "\n".join(map(str, wrong))
    assert compile_workflow(parse_workflow(text, file.name)).steps


def _findings(text: str, name: str, known: StepSchemas) -> tuple[Diagnostic, ...]:
    try:
        parse_workflow(text, name, steps=known)
    except DefinitionError as error:
        return error.diagnostics
    return ()


def test_there_are_many() -> None:
    assert len(BLOCKS) >= 18
