"""What a run may cost, told before it starts."""

from __future__ import annotations

from collections.abc import Mapping

from workflows.compile import compile_workflow
from workflows.compile.charges import Charge, charges, charges_text
from workflows.compile.forecast import Work
from workflows.model.parser import parse_workflow
from workflows.model.spec import Json

TEXT = """
id: w
params:
  depth: {type: integer, default: 3}
steps:
  free: {uses: free}
  one: {uses: asks, with: {depth: "${{ params.depth }}", of: "${{ steps.free.output.x }}"}, needs: free}
  many:
    uses: asks
    needs: one
    for_each: {items: "${{ steps.free.output.list }}", batch: 10}
    with: {batch: "${{ batch }}", depth: 2}
"""
PLAN = compile_workflow(parse_workflow(TEXT))


def test_steps_that_charge_are_told_what_is_known_and_how_many_items_there_may_be() -> None:
    seen: list[tuple[Mapping[str, Json], int]] = []

    def asking(given: Mapping[str, Json], items: int) -> Charge:
        seen.append((given, items))
        return Charge(items * 100, "questions", "the oracle", items * 0.5, limit=20.0)

    found = charges(PLAN, {"asks": asking}, {"depth": 3}, {"many": Work(0.1, 7)})
    assert seen == [({"depth": 3}, 1), ({"depth": 2}, 70)]
    assert [(one.step, one.calls, one.is_known, one.charge.cost) for one in found] == [
        ("one", 1, True, 0.5),
        ("many", 7, True, 35.0),
    ]
    assert list(charges_text(found)) == [
        "one  at most 100 questions of the oracle in 1 call: costs 0.5; the budget is 20",
        "many  at most 7,000 questions of the oracle in 7 calls: costs 35; the budget is 20, which is less",
    ]


def test_a_number_of_calls_that_nobody_knows_is_called_a_guess() -> None:
    found = charges(PLAN, {"asks": lambda _, items: Charge(items, "words", "x", 0.0)}, {}, {})
    assert [one.is_known for one in found] == [True, False]
    assert list(charges_text(found))[1] == (
        "many  at most 80 words of x in 8 calls, a guess (--assume many=SECONDSxCALLS): costs nothing"
    )
    assert found[1].to_json()["cost"] == 0.0
