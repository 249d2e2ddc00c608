"""Airflow's trigger rules: what each says of dependencies that have all ended."""

from __future__ import annotations

import pytest

from workflows.model.language import RULES_THAT_NEED_UPSTREAM
from workflows.model.spec import TriggerRule
from workflows.model.states import SkipReason, State
from workflows.model.triggers import Decision, Dependency, decide

ENDS = {
    "s": Dependency(State.SUCCESS),
    "f": Dependency(State.FAILURE),
    "u": Dependency(State.SKIPPED, SkipReason.UPSTREAM_FAILED),
    "k": Dependency(State.SKIPPED, SkipReason.CONDITION),
    "w": Dependency(State.PENDING),
}
CASES = ("ss", "sf", "ff", "sk", "kk", "fk", "su", "sw", "fw")


def decided(rule: str, ends: str) -> str:
    decision, reason = decide(TriggerRule(rule), [ENDS[end] for end in ends])
    return reason.value if decision is Decision.SKIP and reason is not None else decision.value


TABLE = [
    ("all_success",
     "start upstream_failed upstream_failed condition condition upstream_failed upstream_failed wait upstream_failed"),
    ("all_done",
     "start start start start start start start wait wait"),
    ("all_failed",
     "condition condition start condition condition condition condition condition wait"),
    ("all_skipped",
     "condition condition condition condition start condition condition condition condition"),
    ("all_done_min_one_success",
     "start start upstream_failed start condition upstream_failed start wait wait"),
    ("one_success",
     "start start upstream_failed start condition upstream_failed start start wait"),
    ("one_failed",
     "condition start start condition condition start start wait start"),
    ("one_done",
     "start start start start condition start start start start"),
    ("none_failed",
     "start upstream_failed upstream_failed start start upstream_failed upstream_failed wait upstream_failed"),
    ("none_failed_min_one_success",
     "start upstream_failed upstream_failed start condition upstream_failed upstream_failed wait upstream_failed"),
    ("none_skipped",
     "start start start condition condition condition start wait wait"),
]  # fmt: skip
"""Rule -> its decisions for each of CASES."""


@pytest.mark.parametrize(("rule", "expected"), TABLE)
def test_each_rule_decides_as_the_table_says(rule: str, expected: str) -> None:
    assert [decided(rule, ends) for ends in CASES] == expected.split()


def test_every_rule_is_in_the_table() -> None:
    assert {rule for rule, _ in TABLE} == {rule.value for rule in TriggerRule}


@pytest.mark.parametrize("rule", TriggerRule)
def test_a_step_without_dependencies_starts_where_no_rule_needs_one(rule: TriggerRule) -> None:
    decision, _ = decide(rule, [])
    if rule in RULES_THAT_NEED_UPSTREAM:
        assert decision is Decision.SKIP or rule in {"all_failed", "all_skipped"}
    else:
        assert decision is Decision.START
