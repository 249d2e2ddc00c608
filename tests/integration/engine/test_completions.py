"""A step ends in one statement on PostgreSQL and in several elsewhere: what is left in the tables is the same."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from tests.support.hands import Hands
from tests.support.waiting import wait_until
from workflows.db import completion
from workflows.db.database import Transaction
from workflows.db.tables import attempts, job_runs, run_events, step_runs
from workflows.db.units import Claim, Unit
from workflows.engine import execution
from workflows.engine.outcomes import Outcome
from workflows.model.states import State

GRAPH = """
id: graph
steps:
  a: {uses: ledger.nap, with: {node: a}}
  b: {uses: ledger.echo, with: {value: [1, "two"]}}
  c: {uses: ledger.nap, needs: [a, b], with: {node: c}}
  d: {uses: ledger.nap, needs: a, with: {node: d}}
  flaky: {uses: ledger.fail, needs: b, with: {node: flaky, times: 1}, retry: {delay: 1ms, jitter: none}}
  map: {uses: ledger.echo, needs: c, for_each: {items: [1, 2]}, with: {value: "${{ item }}"}}
  last: {uses: ledger.echo, needs: [d, flaky, map], with: {value: "${{ steps.b.output }}"}}
outputs: {last: "${{ steps.last.output }}"}
"""
JOIN = """
id: join
steps:
  a: {uses: ledger.nap, with: {node: a}}
  b: {uses: ledger.nap, with: {node: b}}
  c: {uses: ledger.nap, needs: [a, b], with: {node: c}}
"""
OWN = {"id", "task_id", "run_pk", "version_id"}


def _told(column: str, value: Any) -> Any:
    """A value as it is in every run: of a time only whether there is one."""
    if column == "detail" and value is not None:
        return {key: found for key, found in json.loads(value).items() if key != "started_at"}
    is_time = column.endswith(("_at", "_until")) or column in ("at", "not_before", "items_seconds")
    return value is not None if is_time else value


def story(hands: Hands, run_pk: int) -> dict[str, list[dict[str, Any]]]:
    """All that the tables keep of a run."""
    found = {}
    for table, key in ((step_runs, "run_pk"), (attempts, "run_pk"), (run_events, "run_pk"), (job_runs, "id")):
        columns = [column.name for column in table.columns]
        order = ", ".join(column.name for column in table.primary_key.columns)
        query = f"SELECT {', '.join(columns)} FROM {table.name} WHERE {key} = :run ORDER BY {order}"
        found[table.name] = [
            {name: _told(name, value) for name, value in zip(columns, row, strict=True) if name not in OWN}
            for row in hands.rows(query, run=run_pk)
        ]
    return found


def test_both_ways_to_end_a_step_leave_the_same_rows(hands_on_postgres: Hands, monkeypatch: pytest.MonkeyPatch) -> None:
    hands = hands_on_postgres
    calls: list[Claim] = []
    at_once = completion.complete

    def counted(tx: Transaction, claim: Claim, **rest: Any) -> completion.Completed | None:
        calls.append(claim)
        return at_once(tx, claim, **rest)

    monkeypatch.setattr(completion, "complete", counted)

    def run() -> dict[str, list[dict[str, Any]]]:
        hands.engine.ledger_file.write_text("")
        accepted = hands.start(GRAPH)
        hands.drain()
        return story(hands, accepted.run_pk)

    in_one_statement = run()
    assert len(calls) == 6, "the way in one statement was not taken"
    monkeypatch.setattr(execution, "_is_plain", lambda _job: False)
    in_several = run()
    assert len(calls) == 6
    for table, rows in in_several.items():
        assert in_one_statement[table] == rows, table
    assert in_several["job_runs"][0]["status"] == "SUCCESS"


def test_of_two_completions_at_the_same_moment_one_brings_the_join_to_zero(hands_on_postgres: Hands) -> None:
    hands = hands_on_postgres
    run_pk = hands.start(JOIN).run_pk
    claims = [hands.claim(Unit(run_pk, ordinal)) for ordinal in (0, 1)]

    def complete(tx: Transaction, claim: Claim) -> completion.Completed | None:
        return completion.complete(
            tx, claim, step_id="s", output="1", detail={}, successors=(2,), redispatch_seconds=2.0
        )

    late: list[completion.Completed | None] = []
    second = threading.Thread(
        target=lambda: late.append(hands.database.retrying(lambda tx: complete(tx, claims[1]), autocommit=True))
    )
    with hands.observer() as other, hands.database.transaction() as tx:
        first = complete(tx, claims[0])
        second.start()
        waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        wait_until(lambda: other.execute(waiting).fetchall(), message="the second to wait for the first")
    second.join(10)
    assert first is not None
    assert late[0] is not None
    assert [first.successors[0][:2], late[0].successors[0][:2]] == [(2, 1), (2, 0)]
    assert hands.rows("SELECT steps_open, event_seq FROM job_runs") == [(1, 3)]
    assert hands.standing(Unit(run_pk, 2), "status, pending") == ("PENDING", 0)


def test_a_completion_whose_step_was_taken_over_changes_nothing(hands: Hands) -> None:
    run_pk = hands.start(JOIN).run_pk
    unit = Unit(run_pk, 0)
    late = hands.claim(unit)
    hands.expire(unit)
    hands.reconciler().tick()
    hands.claim(unit)
    before = story(hands, run_pk)
    assert execution._end(hands.job(late), State.SUCCESS, output="1") is Outcome.REFUSED
    assert story(hands, run_pk) == before
