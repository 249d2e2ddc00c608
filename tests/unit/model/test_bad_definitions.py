"""Every file under `bad/` says in its first line all that must be found in it: `# expect: LINE:COLUMN CODE, ...`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.model.catalogue import STEPS
from workflows.model.diagnostics import Code, severity_of
from workflows.model.errors import DefinitionError
from workflows.model.parser import parse_workflow

FILES = sorted((Path(__file__).parent / "bad").glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_mistake_is_found_at_its_place_and_nothing_else_is(path: Path) -> None:
    text = path.read_text()
    expected = text.splitlines()[0].removeprefix("# expect: ").split(", ")
    with pytest.raises(DefinitionError) as refused:
        parse_workflow(text, path.name, steps=STEPS)
    assert [f"{d.line}:{d.column} {d.code}" for d in refused.value.diagnostics] == expected
    assert all(d.file == path.name and d.message for d in refused.value.diagnostics)


def test_the_corpus_has_every_code_that_a_short_text_file_can_show() -> None:
    shown = {word for path in FILES for word in path.read_text().splitlines()[0].split() if word.startswith("CEL")}
    elsewhere = {Code.TEXT, Code.TOO_MANY_STEPS, *(code for code in Code if severity_of(code) == "warning")}
    assert {code.value for code in Code} - {code.value for code in elsewhere} <= {word.rstrip(",") for word in shown}
