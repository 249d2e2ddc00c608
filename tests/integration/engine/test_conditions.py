"""`when`: decided by the worker that claims the step, on both databases."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.hands import Hands
from workflows.db.units import Unit
from workflows.engine import conditions, control
from workflows.engine.outcomes import Outcome
from workflows.engine.recovery import take_back_expired

FORK = """
id: fork
params:
  send: {type: boolean, default: false}
steps:
  a: {uses: told, with: {value: 3}}
  b: {uses: told, when: "${{ params.send and steps.a.output == 3 }}", with: {value: b}}
  c: {uses: told, needs: b, with: {value: c}}
  d: {uses: told, needs: c, run_if: none_failed, with: {value: d}}
  e: {uses: told, needs: b, run_if: all_skipped, with: {value: e}}
outputs: {sent: "${{ steps.b.status }}"}
"""


@pytest.fixture
def told(hands: Hands) -> list[Any]:
    """What the steps have been given, in order."""
    values: list[Any] = []

    def tell(inp: Any, ctx: Any) -> Any:
        values.append(inp.value)
        if inp.value == "fail" or (inp.value == "fail once" and values.count("fail once") == 1):
            raise RuntimeError("as told")
        return inp.value

    hands.define(told=tell)
    return values


def states(hands: Hands) -> dict[str, tuple[str, str | None]]:
    rows = hands.rows("SELECT step_id, status, reason FROM step_runs WHERE part = 0")
    return {row[0]: (row[1], row[2]) for row in rows}


def test_a_step_whose_condition_is_false_is_skipped_and_rules_see_why(hands: Hands, told: list[Any]) -> None:
    hands.start(FORK)
    hands.drain()
    assert told == [3, "e", "d"]
    assert states(hands) == {
        "a": ("SUCCESS", None),
        "b": ("SKIPPED", "condition"),
        "c": ("SKIPPED", "condition"),
        "d": ("SUCCESS", None),
        "e": ("SUCCESS", None),
    }
    assert hands.rows("SELECT status, progress_percentage, outputs FROM job_runs") == [
        ("SUCCESS", 100, '{"sent": "SKIPPED"}')
    ]
    history = hands.rows("SELECT ordinal, detail FROM run_events WHERE status = 'SKIPPED' ORDER BY seq")
    assert history[0] == (1, '{"reason": "condition"}')


def test_a_step_whose_condition_is_true_runs(hands: Hands, told: list[Any]) -> None:
    hands.start(FORK, send=True)
    hands.drain()
    assert told == [3, "b", "c", "d"]
    assert states(hands)["e"] == ("SKIPPED", "condition")


def test_a_condition_in_a_chain_lets_the_canvas_go_on_and_its_messages_find_nothing_to_do(
    hands: Hands, told: list[Any]
) -> None:
    accepted = hands.start(
        "id: chain\nsteps:\n  a: {uses: told, when: false}\n  b: {uses: told, needs: a}\n  c: {uses: told, needs: b}\n"
    )
    assert hands.execute(Unit(accepted.run_pk, 0)) is Outcome.RETURN
    assert hands.execute(Unit(accepted.run_pk, 1)) is Outcome.IGNORE
    assert told == []
    assert hands.rows("SELECT status, steps_open FROM job_runs") == [("SUCCESS", 0)]


def test_a_map_whose_condition_is_false_is_not_expanded(hands: Hands, told: list[Any]) -> None:
    hands.start(
        "id: map\nsteps:\n"
        '  m: {uses: told, for_each: {items: [1, 2]}, when: false, with: {value: "${{ item }}"}}\n'
        '  n: {uses: told, needs: m, run_if: all_done, with: {value: "${{ steps.m.outputs }}"}}\n'
    )
    hands.drain()
    assert told == [[]]
    assert hands.rows("SELECT count(*) FROM item_runs") == [(0,)]


def test_a_condition_that_fails_or_gives_no_boolean_is_a_failure_that_is_not_tried_again(
    hands: Hands, told: list[Any]
) -> None:
    hands.start(
        "id: wrong\nsteps:\n  a: {uses: told, with: {value: {n: 1}}}\n"
        '  b: {uses: told, retry: {}, when: "${{ steps.a.output.m == 1 }}"}\n'
        '  c: {uses: told, retry: {}, when: "${{ steps.a.output.n }}"}\n'
    )
    hands.drain()
    assert states(hands)["b"][0] == states(hands)["c"][0] == "FAILURE"
    errors = hands.rows("SELECT error FROM step_runs WHERE status = 'FAILURE' ORDER BY ordinal")
    assert "there is no 'm'" in errors[0][0]
    assert "neither true nor false" in errors[1][0]
    assert told == [{"n": 1}]


def test_a_worker_that_dies_before_its_decision_leaves_it_to_the_next_one(hands: Hands, told: list[Any]) -> None:
    accepted = hands.start("id: one\nsteps:\n  a: {uses: told, when: false}\n")
    unit = Unit(accepted.run_pk, 0)
    dead = hands.job(hands.claim(unit))
    hands.expire(unit)
    assert take_back_expired(hands.runtime, unit)
    assert conditions.decline(dead) is None
    hands.drain()
    assert states(hands) == {"a": ("SKIPPED", "condition")}


def test_a_step_that_has_begun_is_not_asked_again(hands: Hands, told: list[Any]) -> None:
    hands.start(
        "id: late\nsteps:\n"
        "  slow: {uses: told}\n"
        "  other: {uses: told}\n"
        "  b:\n    uses: told\n    needs: [slow, other]\n    run_if: one_done\n"
        "    retry: {max_attempts: 2, delay: 1ms}\n"
        "    when: \"${{ steps.slow.status == 'PENDING' or steps.other.status == 'PENDING' }}\"\n"
        "    with: {value: fail}\n"
    )
    run = hands.rows("SELECT id FROM job_runs")[0][0]
    hands.execute(Unit(run, 0))
    hands.execute(Unit(run, 2))
    hands.drain()
    assert told.count("fail") == 2
    assert states(hands)["b"] == ("FAILURE", None)


def test_a_retry_of_the_run_decides_anew(hands: Hands, told: list[Any]) -> None:
    accepted = hands.start(
        "id: again\nsteps:\n  a: {uses: told, with: {value: fail once}}\n"
        "  b: {uses: told, needs: a, run_if: all_done, when: \"${{ steps.a.status == 'SUCCESS' }}\"}\n"
    )
    hands.drain()
    assert states(hands)["b"] == ("SKIPPED", "condition")
    control.retry(hands.runtime, accepted.run_id)
    hands.drain()
    assert states(hands) == {"a": ("SUCCESS", None), "b": ("SUCCESS", None)}
