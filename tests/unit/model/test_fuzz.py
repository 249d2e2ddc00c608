"""Whatever stands in a file: a `Workflow` or a `DefinitionError`, never anything else."""

from __future__ import annotations

from typing import Any

import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.unit.model.catalogue import LITERATURE_REVIEW, STEPS
from workflows.model.checks import StepSchemas
from workflows.model.diagnostics import Code
from workflows.model.errors import DefinitionError, Diagnostic
from workflows.model.expressions import references
from workflows.model.language import FOR_EACH_KEYS, RETRY_KEYS, STEP_KEYS, WORKFLOW_KEYS
from workflows.model.parser import parse_with_warnings
from workflows.model.spec import ForEach, Workflow

_CODES = {code.value for code in Code}


def read(text: str | bytes) -> None:
    """Parse with and without a registry, and hold the findings to what every finding must have."""
    for steps in (None, STEPS):
        workflow, found = _outcome(text, steps)
        if workflow is None:
            assert any(d.severity == "error" for d in found)
        else:
            _holds(workflow)
        places = [(d.line, d.column) for d in found]
        assert places == sorted(places)
        assert all(d.code in _CODES and d.line >= 1 and d.column >= 1 and d.message for d in found)


def _outcome(text: str | bytes, steps: StepSchemas | None) -> tuple[Workflow | None, tuple[Diagnostic, ...]]:
    try:
        return parse_with_warnings(text, "f.yaml", steps=steps)
    except DefinitionError as error:
        return None, error.diagnostics


def _holds(workflow: Workflow) -> None:
    ids = {step.id for step in workflow.steps}
    assert ids
    for step in workflow.steps:
        assert set(step.needs) <= ids - {step.id}
        loop = step.for_each or ForEach(items=None)
        assert set(references([dict(step.with_), loop.items, loop.key]).steps) <= set(step.needs)
    assert len(workflow.fingerprint()) == 64


_SNIPPETS = st.sampled_from(
    [
        *(
            "\t",
            "\n",
            "  ",
            ": ",
            "- ",
            "#",
            "'",
            '"',
            "{",
            "}",
            "[",
            "]",
            ",",
            "|",
            ">",
            "? ",
            "&a ",
            "*a",
            "<<: *a",
            "!!int ",
        ),
        *(
            "---\n",
            "...",
            "%YAML 1.1\n",
            "\x00",
            "\ufeff",
            "é",
            "~",
            "null",
            "yes",
            "on",
            "0x1F",
            "1e400",
            "-.inf",
            "1_0",
        ),
        *("${{ ", " }}", "${{ item }}", "${{ batch }}", "${{ steps.fetch.output }}", "${{ steps.store.status }}"),
        *("${{ params.query }}", "needs: store\n", "steps:\n", "for_each: ", "retry: ", "5%", "10m"),
    ]
)


@given(st.text())
@example("a: !<tag:yaml.org,2002:map> x")
@example("? |-\n")
@example("&a <<: *a")
def test_any_text(text: str) -> None:
    read(text)


@given(st.binary())
def test_any_bytes(data: bytes) -> None:
    read(data)


@given(st.lists(_SNIPPETS, max_size=30).map("".join))
def test_any_heap_of_yaml_signs(text: str) -> None:
    read(text)


@st.composite
def _mutated(draw: st.DrawFn) -> str:
    text = LITERATURE_REVIEW
    for _ in range(draw(st.integers(1, 4))):
        begin = draw(st.integers(0, len(text)))
        end = min(len(text), begin + draw(st.integers(0, 12)))
        source = draw(st.integers(0, len(text)))
        replacement = draw(_SNIPPETS | st.text(max_size=3) | st.just(text[source : source + 20]))
        text = text[:begin] + replacement + text[end:]
    return text


@settings(max_examples=300)
@given(_mutated())
def test_a_valid_file_with_a_few_changes(text: str) -> None:
    read(text)


_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-5, 10**20)
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from(
        ["fetch", "nap", "a", "b", "10m", "5%", "full", "all_done", "${{ item }}", "${{ steps.a.output.paper_ids }}"]
    )
)


def _keyed(keys: frozenset[str], values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(sorted(keys)), values, max_size=6)


_ANY = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)
_STEP = _keyed(STEP_KEYS, _ANY | _keyed(FOR_EACH_KEYS, _ANY) | _keyed(RETRY_KEYS, _LEAVES)) | _ANY
_WORDS = frozenset(
    {"type", "default", "enum", "pattern", "items", "minimum", "maximum", "minLength", "required", "properties"}
)
_PARAM = _keyed(_WORDS, _ANY | st.sampled_from(["string", "integer", "array", "object"]))
_SHAPED = st.fixed_dictionaries(
    {
        "id": st.just("w") | _LEAVES,
        "steps": st.dictionaries(st.sampled_from(["a", "b", "c"]), _STEP, max_size=3) | _ANY,
    },
    optional={"params": st.dictionaries(st.sampled_from(["p", "q"]), _PARAM) | _ANY, "outputs": _ANY, "defaults": _ANY},
) | _keyed(WORKFLOW_KEYS, _ANY)


@settings(max_examples=300)
@given(_SHAPED)
def test_any_values_under_the_keys_of_the_language(value: dict[str, Any]) -> None:
    read(yaml.safe_dump(value, allow_unicode=True))
