"""The protocol keeps its laws in every order of events, and the check would notice if it did not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from tests.model import laws
from tests.model.explore import Result, Violation, explore
from tests.model.model import Bug
from tests.model.scenarios import SCENARIOS
from workflows.model.states import CLAIMABLE, RUN_TRANSITIONS, STEP_TRANSITIONS, TERMINAL, Event, State

Entry = tuple[State, Event]
Table = Mapping[Entry, State]


@cache
def clean(name: str) -> Result:
    """The whole protocol, explored once for all tests."""
    return explore(SCENARIOS[name])


def nearest_violation(bug: Bug, model: str) -> Violation:
    """The violation that takes the fewest moves."""
    result = explore(SCENARIOS[model], [bug], stop_at_first=True)
    assert result.violations, f"{bug} goes unnoticed in {model}"
    return result.violations[0]


def first_noticed(which: str, entry: Entry, **changes: Any) -> str | None:
    """The law that some scenario breaks once the model is changed; only scenarios that use the entry are asked."""
    users = [clean(name) for name in SCENARIOS if (which, *entry) in clean(name).used]
    for user in sorted(users, key=lambda result: result.states):
        result = explore(replace(SCENARIOS[user.model], **changes), stop_at_first=True)
        if result.violations:
            return result.violations[0].law
    return None


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_order_of_events_keeps_every_law(name: str) -> None:
    result = clean(name)
    assert not result.violations, str(result)
    assert result.stuck == 0


def test_together_the_scenarios_use_every_legal_transition_and_no_other() -> None:
    used = frozenset[tuple[str, State, Event]]().union(*(clean(name).used for name in SCENARIOS))
    legal = {("step", *entry) for entry in STEP_TRANSITIONS} | {("run", *entry) for entry in RUN_TRANSITIONS}
    assert used == legal


def test_each_fault_allowed_leads_to_worlds_not_seen_before() -> None:
    sizes = [explore(replace(SCENARIOS["chord"], faults=faults)).states for faults in range(3)]
    assert sizes[0] < sizes[1] < sizes[2]


def test_without_the_fence_a_frozen_worker_commits_over_its_successor() -> None:
    violation = nearest_violation(Bug.NO_FENCE, "step")
    assert violation.law == "illegal transition: a step in PENDING cannot succeed"
    assert violation.moves == (
        "<execute_research_job> is delivered",
        "execute_research_job publishes <a> and returns",
        "<a> is delivered",
        "a#1 makes its effect",
        "FAULT: a#1 is frozen, its lease runs out",
        "a reconciler takes a#1 back",
        "a#1 commits its result",
    )


def test_without_the_reconciler_one_lost_message_stops_the_run_for_ever() -> None:
    violation = nearest_violation(Bug.NO_RECONCILER, "chord")
    assert violation.law == laws.RUNS_END
    assert violation.moves == ("FAULT: <execute_research_job> is lost",)


def test_without_the_reconciler_a_retry_never_comes_due() -> None:
    violation = explore(replace(SCENARIOS["chain-retried"], faults=0), [Bug.NO_RECONCILER]).violations[0]
    assert violation.law == laws.RUNS_END
    assert violation.moves[-1] == "a#1 fails"


def test_without_the_dependency_check_a_join_that_fires_early_starts_early() -> None:
    violation = nearest_violation(Bug.NO_DEPENDENCY_CHECK, "chord")
    assert violation.law == "no step starts before its dependencies have committed"
    assert violation.moves == (
        "<execute_research_job> is delivered",
        "FAULT: the canvas fires c early",
        "<c> is delivered",
    )


def test_without_the_cancel_check_a_retried_step_is_claimed_in_a_cancelled_run() -> None:
    violation = nearest_violation(Bug.NO_CANCEL_CHECK, "chord-cancelled")
    assert violation.law == "no step is claimed after its run was cancelled"
    assert "a person cancels the run" in violation.moves


def test_a_cancel_that_revoked_the_finally_would_leave_nothing_tidied() -> None:
    violation = nearest_violation(Bug.CANCEL_REVOKES_FINALLY, "finally")
    assert violation.law == "a step is REVOKED for the reason that the word gives"
    assert violation.moves[-1] == "a person cancels the run"


def test_without_the_idempotency_key_a_crash_before_the_commit_doubles_the_effect() -> None:
    violation = nearest_violation(Bug.NO_IDEMPOTENCY_KEY, "step")
    assert violation.law == "an effect with a key is made at most once at its target"
    assert [move for move in violation.moves if "effect" in move] == ["a#1 makes its effect", "a#2 makes its effect"]


def test_without_the_hand_over_the_successor_of_a_retried_step_waits_for_a_rescue() -> None:
    violation = nearest_violation(Bug.NO_HAND_OVER, "chain-retried")
    assert violation.law == "in an undisturbed run the reconciler has nothing to rescue"
    assert violation.moves == (
        "<execute_research_job> is delivered",
        "execute_research_job publishes <a canvas> and returns",
        "<a canvas> is delivered",
        "a#1 fails",
        "a is due and dispatched",
        "<a> is delivered",
        "a#2 makes its effect",
        "a#2 commits its result",
    )


def test_a_duplicate_that_returns_while_the_owner_lives_makes_the_canvas_go_on_early() -> None:
    violation = nearest_violation(Bug.DUPLICATE_RETURNS_NORMALLY, "chord")
    assert violation.law == "the canvas goes on to c, but a has not ended"
    assert violation.moves[-1] == "<a canvas redelivered> is delivered"


def test_a_message_published_before_the_commit_comes_too_early_and_never_again() -> None:
    violation = nearest_violation(Bug.PUBLISH_BEFORE_COMMIT, "gate")
    assert violation.law == "in an undisturbed run the reconciler has nothing to rescue"
    assert violation.moves[-2:] == ("<b canvas> is delivered", "a#1 commits its result")


def test_a_death_that_parent_and_reconciler_both_see_would_be_counted_twice_without_the_guard() -> None:
    violation = nearest_violation(Bug.EXPIRE_AND_CRASH_BOTH_COUNTED, "step")
    assert violation.law == "the loss of an owner is counted once"
    assert set(violation.moves[-2:]) == {"the parent takes a#1 back", "a reconciler takes a#1 back"}


def test_a_retry_that_forgets_the_pause_is_claimed_in_a_paused_run() -> None:
    violation = nearest_violation(Bug.RETRY_FORGETS_PAUSE, "chain-paused")
    assert violation.law == "no step is claimed while its run is paused"
    assert violation.moves[-4:] == (
        "a person pauses the run",
        "a#1 fails",
        "a is due and dispatched",
        "<a> is delivered",
    )


def test_a_resume_that_leaves_steps_to_a_canvas_whose_message_came_during_the_pause_waits_for_a_rescue() -> None:
    violation = nearest_violation(Bug.RESUME_TRUSTS_CANVAS, "chain-paused")
    assert violation.law == "in an undisturbed run the reconciler has nothing to rescue"
    assert violation.moves[-1] == "a person resumes the paused run"


def test_a_violation_prints_its_law_and_then_its_moves_in_order() -> None:
    violation = nearest_violation(Bug.NO_RECONCILER, "step")
    assert str(violation) == f"BROKEN: {laws.RUNS_END}\n   1. FAULT: <execute_research_job> is lost"


@pytest.mark.parametrize("bug", [None, *Bug])
def test_to_forget_what_no_longer_matters_changes_no_finding(bug: Bug | None) -> None:
    model = replace(SCENARIOS["chord"], faults=1)
    bugs = [] if bug is None else [bug]
    forgetful, thorough = explore(model, bugs), explore(model, bugs, forgetful=False)
    assert {found.law for found in forgetful.violations} == {found.law for found in thorough.violations}


@pytest.mark.parametrize("entry", STEP_TRANSITIONS, ids=" ".join)
def test_no_transition_of_a_step_can_be_removed_or_lead_elsewhere_unnoticed(entry: Entry) -> None:
    for table in broken_tables(STEP_TRANSITIONS, entry):
        assert first_noticed("step", entry, steps=table), f"{entry} -> {table.get(entry)} goes unnoticed"


@pytest.mark.parametrize("entry", RUN_TRANSITIONS, ids=" ".join)
def test_no_transition_of_a_run_can_be_removed_or_lead_elsewhere_unnoticed(entry: Entry) -> None:
    for table in broken_tables(RUN_TRANSITIONS, entry):
        assert first_noticed("run", entry, runs=table), f"{entry} -> {table.get(entry)} goes unnoticed"


@pytest.mark.parametrize("state", sorted(CLAIMABLE))
def test_no_state_can_stop_being_claimable_unnoticed(state: State) -> None:
    assert first_noticed("step", (state, Event.CLAIM), claimable=CLAIMABLE - {state})


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_no_state_can_stop_being_terminal_unnoticed(state: State) -> None:
    reaching = next(entry for entry, to in STEP_TRANSITIONS.items() if to is state)
    assert first_noticed("step", reaching, terminal=TERMINAL - {state})


def broken_tables(table: Table, entry: Entry) -> list[Table]:
    """The table without the entry, and with the entry leading to each other state."""
    removed = {key: to for key, to in table.items() if key != entry}
    return [removed, *({**table, entry: to} for to in State if to is not table[entry])]
