"""Every whole definition in the documentation is one, with the steps that come with Celeriac."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.servers import PROJECT
from workflows.compile import compile_workflow
from workflows.model.checks import StepSchemas
from workflows.model.diagnostics import Code
from workflows.model.errors import DefinitionError
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
    try:
        workflow = parse_workflow(text, file.name, steps=known)
    except DefinitionError as error:
        # Pages about steps of one's own name some that nobody has.
        assert {found.code for found in error.diagnostics} == {Code.UNKNOWN_USES}, str(error)
        workflow = parse_workflow(text, file.name)
    assert compile_workflow(workflow).steps


def test_there_are_many() -> None:
    assert len(BLOCKS) >= 18
