"""Hundreds of files that are no definitions: each is refused at a line and column, and none breaks the parser."""

from __future__ import annotations

from tests.support.broken_definitions import broken_definitions
from workflows.model.errors import DefinitionError
from workflows.model.parser import parse_workflow
from workflows.steps.registry import load_steps, schemas


def test_every_broken_file_is_refused_at_a_place() -> None:
    known = schemas(load_steps())
    count = 0
    accepted = []
    for broken in broken_definitions():
        try:
            parse_workflow(broken.data, "broken.yaml", steps=known)
            accepted.append(broken.name)
        except DefinitionError as refused:
            count += 1
            for found in refused.diagnostics:
                assert (found.line >= 1, found.column >= 1, bool(found.code and found.message)) == (True, True, True)
    assert accepted == []
    assert count >= 300
