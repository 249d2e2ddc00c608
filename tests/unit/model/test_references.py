"""What is generated or listed elsewhere says the same as the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.unit.model.catalogue import LITERATURE_REVIEW
from workflows.model.diagnostics import Code, severity_of
from workflows.model.expression_syntax import ARITY
from workflows.model.json_schema import definition_schema
from workflows.model.json_types import Problem, Schema, problems
from workflows.model.language import (
    DEFAULTS_KEYS,
    FOR_EACH_KEYS,
    RETRY_KEYS,
    SCHEDULE_KEYS,
    STEP_KEYS,
    TRIGGER_KEYS,
    WORKFLOW_KEYS,
)
from workflows.model.params import COMMON_WORDS, WORDS_OF_TYPE
from workflows.model.parser import parse_workflow
from workflows.model.spec import TriggerRule

REFERENCE = Path(__file__).parents[3] / "docs" / "reference"


def test_the_reference_lists_every_code_with_its_severity_and_meaning() -> None:
    listed = re.findall(r"^\| (CEL\d+) \| (\w+) \| (.+) \|$", (REFERENCE / "diagnostics.md").read_text(), re.MULTILINE)
    assert listed == [(code.value, severity_of(code), code.explanation) for code in Code]


def test_the_schema_for_editors_has_the_keys_of_the_parser() -> None:
    schema = definition_schema()
    parts = schema["$defs"]
    assert set(schema["properties"]) == WORKFLOW_KEYS
    assert set(parts["defaults"]["properties"]) == DEFAULTS_KEYS
    assert set(parts["step"]["properties"]) == STEP_KEYS
    assert set(parts["trigger"]["properties"]) == TRIGGER_KEYS
    assert set(parts["trigger"]["properties"]["schedule"]["properties"]) == SCHEDULE_KEYS
    assert set(parts["for_each"]["properties"]) == FOR_EACH_KEYS
    assert set(parts["retry"]["properties"]) == RETRY_KEYS
    assert set(parts["param"]["properties"]) == COMMON_WORDS.union(*WORDS_OF_TYPE.values())


def complaints(text: str) -> list[Problem]:
    return problems(yaml.safe_load(text), Schema.of(definition_schema()))


def test_the_schema_for_editors_accepts_what_the_parser_accepts() -> None:
    assert complaints(LITERATURE_REVIEW) == []


@pytest.mark.parametrize(
    "name",
    ["no-id", "steps-as-a-list", "unknown-key", "wrong-run-if", "for-each-numbers", "retry-out-of-bounds"],
)
def test_the_schema_for_editors_refuses_wrong_shapes(name: str) -> None:
    assert complaints((Path(__file__).parent / "bad" / f"{name}.yaml").read_text())


@pytest.mark.parametrize("page", ["definitions.md", "expressions.md"])
def test_the_examples_of_the_reference_are_valid(page: str) -> None:
    examples = re.findall(r"^```yaml\n(id: .*?)^```", (REFERENCE / page).read_text(), re.MULTILINE | re.DOTALL)
    assert examples
    for example in examples:
        parse_workflow(example, page)


def test_the_reference_names_every_key_rule_and_function() -> None:
    definitions = (REFERENCE / "definitions.md").read_text()
    words = WORKFLOW_KEYS | DEFAULTS_KEYS | STEP_KEYS | FOR_EACH_KEYS | RETRY_KEYS | set(TriggerRule)
    assert [word for word in sorted(words) if f"`{word}`" not in definitions] == []
    expressions = (REFERENCE / "expressions.md").read_text()
    assert [name for name in ARITY if f"`{name}(" not in expressions] == []
