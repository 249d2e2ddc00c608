"""`when`: what is refused, what is warned of, and the static judgement behind it."""

from __future__ import annotations

import pytest

from tests.unit.model.catalogue import STEPS
from workflows.model.conditions import truth
from workflows.model.expressions import parse
from workflows.model.parser import parse_with_warnings

KNOWN = {
    ("params", ("flag",)): (True, False),
    ("params", ("source",)): ("local", "arxiv"),
    ("params", ("one",)): (1,),
    ("steps", ("a", "status")): ("SUCCESS",),
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("true", True),
        ("not true", False),
        ("params.flag", None),
        ("params.flag and false", False),
        ("params.flag or true", True),
        ("params.flag and params.unknown == 3", None),
        ("params.source == 'pubmed'", False),
        ("params.source != 'pubmed'", True),
        ("params.source == 'local'", None),
        ("params.one == 1 and not (params.one > 2)", True),
        ("params.one < 'a'", None),
        ("steps.a.status == 'FAILURE' or params.source == 'x'", False),
        ("size(params.list) > 0", None),
        ("default(params.flag, true)", None),
    ],
)
def test_a_condition_is_judged_over_all_values_that_its_paths_can_have(text: str, expected: bool | None) -> None:
    assert truth(parse(text), lambda root, names: KNOWN.get((root, names))) is expected


def warnings(when: str, more: str = "") -> list[str]:
    text = f"""
id: w
params:
  source: {{type: string, enum: [local, arxiv], default: local}}
  send: {{type: boolean, default: null}}
steps:
  a: {{uses: nap, with: {{ms: 1}}, when: "${{{{ params.source == 'arxiv' or params.send }}}}"}}
  b: {{uses: nap, with: {{ms: 1}}, needs: a, when: "${{{{ {when} }}}}"{more}}}
"""
    return [f"{d.line}:{d.column} {d.code}" for d in parse_with_warnings(text, steps=STEPS)[1]]


def test_a_condition_that_is_false_in_every_run_is_warned_of() -> None:
    assert warnings("params.source == 'pubmed'") == ["8:49 CEL044"]
    assert warnings("steps.a.status == 'FAILURE'") == ["8:49 CEL044"]
    assert warnings("steps.a.status == 'FALSE'", ", run_if: all_done") == ["8:49 CEL044"]


def test_a_condition_that_may_hold_is_not_warned_of() -> None:
    assert warnings("params.source == 'local'") == []
    assert warnings("params.send == null") == []
    assert warnings("steps.a.status == 'FAILURE'", ", run_if: all_done") == []
    assert warnings("steps.a.status == 'PROGRESS'", ", run_if: one_done") == []
