"""Every edge whose data cannot fit is found before anything runs: each type into each other, by every way data goes."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from workflows.model.checks import StepSchemas
from workflows.model.diagnostics import Code
from workflows.model.errors import DefinitionError
from workflows.model.parser import parse_workflow

SIMPLE: dict[str, dict[str, Any]] = {
    "text": {"type": "string"},
    "whole": {"type": "integer"},
    "real": {"type": "number"},
    "truth": {"type": "boolean"},
    "thing": {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]},
    "other": {"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]},
    "texts": {"type": "array", "items": {"type": "string"}},
    "wholes": {"type": "array", "items": {"type": "integer"}},
}
NESTED = {name: {"type": "array", "items": schema} for name, schema in SIMPLE.items()}
FITS = {(name, name) for name in SIMPLE} | {("whole", "real")}
# A number may be a whole one: whether it is only the run can tell.
PAIRS = [(a, b, (a, b) in FITS) for a, b in product(SIMPLE, SIMPLE) if (a, b) != ("real", "whole")]


def _object(fields: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "required": required, "additionalProperties": False}


STEPS: StepSchemas = {
    "give": (
        _object({"v": {}}, []),
        _object({**SIMPLE, **{f"many_{k}": v for k, v in NESTED.items()}}, [*SIMPLE, *(f"many_{k}" for k in NESTED)]),
    ),
    "take": (_object({**SIMPLE, **{f"many_{k}": v for k, v in NESTED.items()}}, []), None),
}

FLAT = "${{ flatten(steps.a.outputs.many_GIVEN) }}"
WAYS = {
    "a field": ("  b: {uses: take, with: {TAKEN: '${{ steps.a.output.GIVEN }}'}}", "a: {uses: give}"),
    "an item of a list": (
        "  b: {uses: take, for_each: {items: '${{ steps.a.output.many_GIVEN }}'}, with: {TAKEN: '${{ item }}'}}",
        "a: {uses: give}",
    ),
    "the list": ("  b: {uses: take, with: {many_TAKEN: '${{ steps.a.output.many_GIVEN }}'}}", "a: {uses: give}"),
    "what calls gave": (
        "  b: {uses: take, with: {many_TAKEN: '${{ steps.a.outputs.GIVEN }}'}}",
        "a: {uses: give, for_each: {items: [1]}, with: {v: '${{ item }}'}}",
    ),
    "one after the other of what calls gave": (
        "  b: {uses: take, for_each: {items: '${{ steps.a.outputs.GIVEN }}'}, with: {TAKEN: '${{ item }}'}}",
        "a: {uses: give, for_each: {items: [1]}, with: {v: '${{ item }}'}}",
    ),
    "lists of calls, flattened": (
        f"  b: {{uses: take, for_each: {{items: '{FLAT}'}}, with: {{TAKEN: '${{{{ item }}}}'}}}}",
        "a: {uses: give, for_each: {items: [1]}, with: {v: '${{ item }}'}}",
    ),
    "a batch": (
        f"  b: {{uses: take, for_each: {{items: '{FLAT}', batch: 8}}, with: {{many_TAKEN: '${{{{ batch }}}}'}}}}",
        "a: {uses: give, for_each: {items: [1]}, with: {v: '${{ item }}'}}",
    ),
    "the first": ("  b: {uses: take, with: {TAKEN: '${{ first(steps.a.output.many_GIVEN) }}'}}", "a: {uses: give}"),
    "a default": (
        "  b: {uses: take, with: {TAKEN: '${{ default(steps.a.output.GIVEN, steps.a.output.GIVEN) }}'}}",
        "a: {uses: give}",
    ),
}


def _errors(text: str) -> list[tuple[int, str]]:
    try:
        parse_workflow(text, steps=STEPS)
    except DefinitionError as error:
        return [(found.line, found.code) for found in error.diagnostics if found.severity == "error"]
    return []


@pytest.mark.parametrize("way", WAYS)
def test_each_wrong_type_is_found_at_its_edge_and_no_right_one_is_refused(way: str) -> None:
    consumer, producer = WAYS[way]
    missed, refused = [], []
    for given, taken, fits in PAIRS:
        edge = consumer.replace("GIVEN", given).replace("TAKEN", taken)
        found = _errors(f"id: planted\nsteps:\n  {producer}\n{edge}\n")
        if fits and found:
            refused.append((given, taken, found))
        if not fits and found != [(4, Code.INPUT_TYPE)]:
            missed.append((given, taken, found))
    assert (missed, refused) == ([], [])


def test_fields_that_do_not_exist_and_inputs_that_are_missing_are_found() -> None:
    assert _errors("id: x\nsteps:\n  a: {uses: give}\n  b: {uses: take, with: {text: '${{ steps.a.output.txt }}'}}")
    assert _errors("id: x\nsteps:\n  a: {uses: give}\n  b: {uses: take, with: {txt: '${{ steps.a.output.text }}'}}")
    needed = {**STEPS, "need": (_object({"text": {"type": "string"}}, ["text"]), None)}
    with pytest.raises(DefinitionError):
        parse_workflow("id: x\nsteps:\n  b: {uses: need}", steps=needed)
