from pathlib import Path

import pytest

from workflows.model.parser import parse_with_warnings
from workflows.model.spec import Workflow
from workflows.steps.registry import load_steps, schemas

DEFINITION = Path(__file__).parents[3] / "definitions" / "literature-review.yaml"


@pytest.fixture(scope="module")
def workflow() -> Workflow:
    text = DEFINITION.read_text(encoding="utf-8")
    workflow, warnings = parse_with_warnings(text, DEFINITION.name, steps=schemas(load_steps()))
    assert warnings == ()
    return workflow


def test_the_definition_fits_the_steps_that_it_uses(workflow: Workflow) -> None:
    assert [(step.id, step.uses, step.needs) for step in workflow.steps] == [
        ("fetch", "fetch", ()),
        ("process_papers", "process_papers", ("fetch",)),
        ("embed", "embed", ("process_papers",)),
        ("store", "store", ("embed", "fetch")),
    ]


def test_a_run_needs_no_params(workflow: Workflow) -> None:
    defaults = {param.name: param.default for param in workflow.params}
    assert not any(param.required for param in workflow.params)
    assert defaults["path"] == "corpus://shipped"
    assert defaults["source"] == "local"
    assert defaults["force_reprocess"] is False


def test_the_outputs_hold_what_a_summary_shows(workflow: Workflow) -> None:
    assert {"fetched", "new", "updated", "unchanged", "quarantined", "chunks", "vectors"} <= set(workflow.outputs)
