"""A rerun is a new run that does again only what is not right any more, and says why."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.hands import Given, Hands
from workflows.compile import compile_workflow
from workflows.db import queries, retention
from workflows.db.database import Database
from workflows.engine import control
from workflows.engine.launch import Submitted
from workflows.engine.rerun import Definition, Rerun, rerun
from workflows.model.errors import ConflictError, NotFoundError, ParamError
from workflows.model.parser import parse_workflow
from workflows.steps import StepContext, StepDefinition

LINE = """
id: line
params: {first: {type: integer, default: 1}, last: {type: integer, default: 1}, words: {type: array, default: []}}
steps:
  a: {uses: told, with: {value: "${{ params.first }}"}}
  b: {uses: told, with: {value: "${{ steps.a.output }}"}}
  c: {uses: told, with: {value: ["${{ steps.b.output }}", "${{ params.last }}"]}}
outputs: {end: "${{ steps.c.output }}"}
"""
MAP = """
id: mapped
params: {last: {type: integer, default: 1}}
steps:
  list: {uses: ledger.numbers, with: {num: 5}}
  map:
    uses: told
    for_each: {items: "${{ steps.list.output.values }}", tolerate: 1}
    with: {value: "${{ item }}"}
  sum: {uses: told, with: {value: ["${{ steps.map.outputs }}", "${{ params.last }}"]}}
outputs: {sum: "${{ steps.sum.output }}", failed: "${{ steps.map.failures }}"}
"""
DIAMOND = """
id: diamond
steps:
  a: {uses: told, with: {value: 1}}
  b1: {uses: told, with: {value: "${{ steps.a.output }}"}}
  b2: {uses: told, with: {value: "${{ steps.a.output }}"}}
  c: {uses: told, needs: [b1, b2], with: {value: 3}}
  d: {uses: told, needs: c, with: {value: 4}}
"""


@pytest.fixture
def hands(hands: Hands) -> Hands:
    """An engine by hand with a step that gives what it is given."""
    hands.define(told=lambda inp, ctx: inp.value)
    return hands


def ended(hands: Hands, text: str, **params: Any) -> Submitted:
    """A run that has come to its end."""
    accepted = hands.start(text, **params)
    hands.drain()
    return accepted


def edited(text: str) -> Definition:
    """A definition as the command line gives it."""
    return Definition(compile_workflow(parse_workflow(text)), text)


def again(found: Rerun) -> dict[str, str]:
    """Why steps run again."""
    return {verdict.step: verdict.why for verdict in found.verdicts if not verdict.is_reused}


def finish(hands: Hands, found: Rerun) -> Any:
    """The new run at its end."""
    hands.drain()
    run = control.find(hands.runtime, found.run_id or "")
    assert run.is_ended
    assert run.rerun_of == found.of
    return run


def tries(hands: Hands, found: Rerun) -> dict[str, int]:
    """How often each step of the new run was claimed."""
    run = control.find(hands.runtime, found.run_id or "")
    return dict(hands.rows("SELECT step_id, token FROM step_runs WHERE run_pk = :run AND part = 0", run=run.run_pk))


def test_a_run_that_changed_nothing_is_taken_over_whole_and_ends_at_once(hands: Hands) -> None:
    found = rerun(hands.runtime, ended(hands, LINE).run_id)
    assert again(found) == {}
    run = control.find(hands.runtime, found.run_id or "")
    assert (run.status, run.progress, run.outputs) == ("SUCCESS", 100, {"end": [1, 1]})


def test_from_a_step_it_and_all_after_it_run_again(hands: Hands) -> None:
    found = rerun(hands.runtime, ended(hands, LINE).run_id, start="b")
    assert again(found) == {"b": "it is where the rerun begins", "c": "it comes after 'b'"}
    assert finish(hands, found).outputs == {"end": [1, 1]}
    assert tries(hands, found) == {"a": 0, "b": 1, "c": 1}


def test_what_reads_another_param_runs_again(hands: Hands) -> None:
    found = rerun(hands.runtime, ended(hands, LINE, first=7).run_id, params={"last": "9"}, from_text=True)
    assert again(found) == {"c": "param 'last' is other than it was"}
    run = finish(hands, found)
    assert (run.outputs, run.params["first"]) == ({"end": [7, 9]}, 7)


def test_an_edited_definition_takes_over_what_it_left_alone(hands: Hands) -> None:
    accepted = ended(hands, LINE)
    text = LINE.replace('with: {value: "${{ steps.a.output }}"}', "retry: {max_attempts: 9}, with: {value: 5}")
    text = text.replace("outputs:", "  d: {uses: told, needs: a, with: {value: 1}}\noutputs:")
    found = rerun(hands.runtime, accepted.run_id, definition=edited(text))
    assert again(found) == {
        "b": "'with' is other than it was",
        "c": "'b' runs again before it",
        "d": "it is new",
    }
    assert finish(hands, found).outputs == {"end": [5, 1]}


def test_how_a_step_is_run_may_change(hands: Hands) -> None:
    text = LINE.replace("b: {uses: told,", "b: {uses: told, timeout: 5m, retry: {max_attempts: 9},")
    found = rerun(hands.runtime, ended(hands, LINE).run_id, definition=edited(text))
    assert again(found) == {}


def test_a_new_version_of_a_step_runs_again(hands: Hands) -> None:
    accepted = ended(hands, LINE)
    definition = hands.runtime.steps.get("told")
    assert definition is not None
    hands.define()
    hands.runtime.steps._steps["told"] = StepDefinition("told", definition.function, Given, Any, "2")
    found = rerun(hands.runtime, accepted.run_id, dry_run=True)
    assert again(found)["a"] == "'told' has version 2, not 1"
    del hands.runtime.steps._steps["told"]
    assert again(rerun(hands.runtime, accepted.run_id, dry_run=True))["a"] == "the version of 'told' is not known"


def test_what_failed_runs_again_and_what_waited_for_it(hands: Hands) -> None:
    def told(inp: Given, ctx: StepContext) -> Any:
        if ctx.step_id == "b":
            raise ValueError("no")
        return inp.value

    hands.define(told=told)
    accepted = ended(hands, LINE)
    hands.define(told=lambda inp, ctx: inp.value)
    found = rerun(hands.runtime, accepted.run_id)
    assert again(found) == {"b": "it was FAILURE", "c": "it was SKIPPED"}
    assert finish(hands, found).status == "SUCCESS"


def test_what_reads_its_run_runs_again(hands: Hands) -> None:
    text = LINE.replace('"${{ params.first }}"', '"${{ run.id }}"')
    assert again(rerun(hands.runtime, ended(hands, text).run_id))["a"] == "it reads 'run', which is another one"


def test_a_map_is_taken_over_whole_with_its_calls_and_failures(hands: Hands) -> None:
    def told(inp: Given, ctx: StepContext) -> Any:
        if inp.value == 3:
            raise ValueError("three")
        return inp.value

    hands.define(told=told)
    accepted = ended(hands, MAP)
    found = rerun(hands.runtime, accepted.run_id, params={"last": 2})
    assert again(found) == {"sum": "param 'last' is other than it was"}
    # The copies are the new run's own: the old one may go.
    hands.change("UPDATE job_runs SET created_at = 1, finished_at = 1 WHERE id = :run", run=accepted.run_pk)
    assert hands.database.retrying(lambda tx: retention.delete_old_runs(tx, 86_400, 20)) == 1
    run = finish(hands, found)
    assert run.outputs["sum"] == [[0, 1, 2, 4], 2]
    assert [failure["key"] for failure in run.outputs["failed"]] == ["3"]
    report = hands.engine.report(run)
    steps = {step.step_id: step for step in report.steps}
    assert (steps["map"].items_success, steps["map"].items_failure, steps["map"].reason) == (4, 1, "reused")


def test_a_fragment_of_which_nothing_was_taken_over_stays_a_canvas(hands: Hands) -> None:
    found = rerun(hands.runtime, ended(hands, DIAMOND).run_id, start="b1")
    assert again(found).keys() == {"b1", "c", "d"}
    run = control.find(hands.runtime, found.run_id or "")
    rows = hands.rows("SELECT step_id, pending, arrives_by FROM step_runs WHERE run_pk = :run", run=run.run_pk)
    assert {row[0]: row[1] for row in rows} == {"a": 0, "b1": 0, "b2": 0, "c": 1, "d": 1}
    assert {row[0]: row[2] for row in rows}["c"] == "sql"
    assert finish(hands, found).status == "SUCCESS"


def test_rules_are_applied_to_what_was_taken_over(hands: Hands) -> None:
    text = """
id: ruled
steps:
  a: {uses: told, with: {value: 1}}
  b: {uses: told, with: {value: 2}}
  rescue: {uses: told, needs: [a], run_if: one_failed}
  early: {uses: told, needs: [a, b], run_if: one_success, with: {value: 3}}
"""
    found = rerun(hands.runtime, ended(hands, text).run_id, start="b")
    assert again(found) == {
        "b": "it is where the rerun begins",
        "early": "it comes after 'b'",
        "rescue": "it was SKIPPED",
    }
    run = control.find(hands.runtime, found.run_id or "")
    early = "SELECT pending FROM step_runs WHERE run_pk = :run AND step_id = 'early'"
    assert hands.rows(early, run=run.run_pk) == [(0,)], "a success is there already"
    assert finish(hands, found).status == "SUCCESS"
    status = "SELECT status FROM step_runs WHERE run_pk = :run AND step_id = 'rescue'"
    assert hands.rows(status, run=run.run_pk) == [("SKIPPED",)]


def test_a_dry_run_starts_nothing(hands: Hands) -> None:
    accepted = ended(hands, LINE)
    found = rerun(hands.runtime, accepted.run_id, start="c", dry_run=True)
    assert (found.run_id, list(again(found))) == (None, ["c"])
    assert hands.rows("SELECT count(*) FROM job_runs") == [(1,)]


def test_the_history_of_a_rerun_tells_what_was_taken_over_and_why_the_rest_was_not(hands: Hands) -> None:
    accepted = ended(hands, LINE)
    found = rerun(hands.runtime, accepted.run_id, start="c")
    run = control.find(hands.runtime, found.run_id or "")
    events = hands.database.retrying(lambda tx: queries.events(tx, run.run_pk))
    assert events[0]["detail"] == {
        "rerun_of": accepted.run_id,
        "from": "c",
        "runs_again": {"c": "it is where the rerun begins"},
    }
    assert [(e["ordinal"], e["detail"]) for e in events[1:]] == [
        (0, {"reused_from": accepted.run_id}),
        (1, {"reused_from": accepted.run_id}),
    ]


def test_a_rerun_can_be_retried_and_run_again(hands: Hands) -> None:
    accepted = ended(hands, LINE)

    def refuse(inp: Given, ctx: StepContext) -> Any:
        raise ValueError("no")

    hands.define(told=refuse)
    found = rerun(hands.runtime, accepted.run_id, start="c")
    assert finish(hands, found).status == "FAILURE"
    hands.define(told=lambda inp, ctx: inp.value)
    third = rerun(hands.runtime, found.run_id or "")
    assert again(third) == {"c": "it was FAILURE"}
    assert finish(hands, third).status == "SUCCESS"
    control.retry(hands.runtime, found.run_id or "")
    assert finish(hands, found).outputs == {"end": [1, 1]}


def test_what_cannot_be_run_again_is_refused(hands: Hands) -> None:
    accepted = hands.start(LINE)
    with pytest.raises(ConflictError, match="has not ended"):
        rerun(hands.runtime, accepted.run_id)
    hands.drain()
    with pytest.raises(NotFoundError, match="no step 'z'"):
        rerun(hands.runtime, accepted.run_id, start="z")
    with pytest.raises(ParamError, match="lost"):
        rerun(hands.runtime, accepted.run_id, params={"lost": 1})
    with pytest.raises(ConflictError, match="is of workflow 'line'"):
        rerun(hands.runtime, accepted.run_id, definition=edited(MAP))


def test_a_param_that_the_edited_definition_dropped_is_left_out(hands: Hands) -> None:
    accepted = ended(hands, LINE, last=5, words=["x"])
    text = LINE.replace(", words: {type: array, default: []}", "")
    run = finish(hands, rerun(hands.runtime, accepted.run_id, definition=edited(text)))
    assert run.params == {"first": 1, "last": 5}


def test_a_run_that_is_retried_meanwhile_lends_nothing(hands: Hands, monkeypatch: pytest.MonkeyPatch) -> None:
    accepted = ended(hands, LINE)
    begin = Database.transaction

    def meanwhile(self: Database) -> Any:
        monkeypatch.undo()
        hands.change("UPDATE step_runs SET status = 'PENDING' WHERE ordinal = 1")
        return begin(self)

    monkeypatch.setattr(Database, "transaction", meanwhile)
    with pytest.raises(ConflictError, match="changed or deleted meanwhile"):
        rerun(hands.runtime, accepted.run_id)
    assert hands.rows("SELECT count(*) FROM job_runs") == [(1,)]
