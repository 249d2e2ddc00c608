"""What a step costs the database, as counts: a change that makes the hot path dearer fails here, and noise never does.

The bounds are what was counted when they were written, and a little more. Times, as ratios to the raw canvas, are
measured by hand (`docs/performance.md`).
"""

from __future__ import annotations

import pytest

from tests.integration.engine.test_runs import chain_of, workflow
from tests.support.counting import counted
from tests.support.hands import READY, Hands
from workflows.db import maps
from workflows.db.database import Statement, Transaction
from workflows.db.maps import ItemResult
from workflows.db.units import Unit
from workflows.engine import launch

_READ_HERE = Statement("""
    SELECT coalesce(sum(idx_tup_fetch + seq_tup_read), 0) FROM pg_stat_xact_user_tables WHERE relname = 'item_runs'""")
_READ_BY_ALL = Statement("""
    SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname IN ('job_runs', 'step_runs')""")
_FLUSH = Statement("SELECT 0 FROM (SELECT pg_stat_force_next_flush()) AS flushed")
_ENDED = Statement("SELECT count(*) FROM item_runs WHERE run_pk = :run AND status = 'SUCCESS'")

WIDE: dict[str, list[str]] = {"a": [], **{f"p{n}": ["a"] for n in range(50)}, "z": [f"p{n}" for n in range(50)]}
LAYERS = {
    f"s{layer}x{n}": [f"s{layer - 1}x{(n + k) % 5}" for k in range(3)] if layer else []
    for layer in range(5)
    for n in range(5)
}
MAP = """
id: map
steps:
  list: {uses: ledger.numbers, with: {num: 400}}
  double:
    uses: ledger.double
    for_each: {items: "${{ steps.list.output.values }}"}
    with: {num: "${{ item }}"}
    needs: list
"""

SHAPES = {
    "chain": (chain_of(20, uses="guard.noop"), 20),
    "wide": (workflow(WIDE, uses="guard.noop"), 52),
    "layers": (workflow(LAYERS, uses="guard.noop"), 25),
    "map": (MAP, 400),
}
MOST = {
    ("chain", "sqlite"): (6.5, 8.5),
    ("wide", "sqlite"): (6.5, 8.5),
    ("layers", "sqlite"): (6.5, 8.5),
    ("map", "sqlite"): (1.5, 1.7),
    ("chain", "postgresql"): (2.4, 2.6),
    ("wide", "postgresql"): (2.3, 2.4),
    ("layers", "postgresql"): (2.4, 2.9),
    ("map", "postgresql"): (1.5, 1.7),
}
"""At most so many statements, and round trips, for each unit of work."""


@pytest.mark.parametrize("shape", SHAPES)
def test_a_unit_of_work_costs_no_more_than_it_did(hands: Hands, shape: str) -> None:
    definition, units = SHAPES[shape]
    hands.define(guard_noop=lambda _inp, _ctx: None)
    accepted = hands.start(definition)
    statements = round_trips = 0
    while ready := hands.rows(f"SELECT run_pk, ordinal, part FROM step_runs WHERE {READY} ORDER BY 1, 2, 3"):
        for row in ready:
            with counted() as asked:
                hands.execute(Unit(*row))
            statements += asked.statements
            round_trips += asked.round_trips
    assert hands.engine.view(accepted).status == "SUCCESS"
    most_statements, most_trips = MOST[shape, hands.database.dialect]
    assert statements / units <= most_statements
    assert round_trips / units <= most_trips


def test_starting_a_run_costs_the_same_for_few_steps_and_for_many(hands: Hands) -> None:
    hands.start(chain_of(2))  # what a process reads once
    found = []
    for length in (5, 200):
        with counted() as asked:
            hands.start(chain_of(length).replace("id: graph", f"id: graph-{length}"))
        found.append((asked.statements, asked.transactions))
    assert found[0] == found[1]


@pytest.mark.parametrize("planned_for_few", [False, True], ids=["no-statistics", "planned-for-few"])
def test_ending_calls_reads_them_and_not_the_whole_map(hands_on_postgres: Hands, planned_for_few: bool) -> None:
    """The planner scanned a table that it knew nothing of, and kept a scan that had been right for a small one."""
    hands, calls, ended = hands_on_postgres, 20_000, 100
    with hands.observer() as observer:
        observer.autocommit = True
        observer.execute("VACUUM item_runs")
        if planned_for_few:
            _end_small_maps(hands, 5)
            observer.execute("ANALYZE item_runs")
            _end_small_maps(hands, 10)
    unit = _make_map(hands, calls)
    results = [ItemResult(index, "SUCCESS", 0, 1.0, 2.0, output="1") for index in range(5_000, 5_000 + ended)]

    def work(tx: Transaction) -> tuple[int, int]:
        # The server's counts may still hold what this connection has read before.
        before = _number(tx, _READ_HERE)
        maps.end_items(tx, unit, results)
        return _number(tx, _READ_HERE) - before, _number(tx, _ENDED, run=unit.run_pk)

    read, done = hands.database.retrying(work)
    assert done == ended
    assert read <= 3 * ended


def test_a_step_reads_itself_and_not_all_that_are_ready(hands_on_postgres: Hands) -> None:
    """Lists that were empty when the server gathered statistics look cheaper than the key, for thousands of steps."""
    hands, ready, taken = hands_on_postgres, 1_500, 100
    hands.define(guard_noop=lambda _inp, _ctx: None)
    short = chain_of(2, uses="guard.noop")
    for _ in range(8):
        hands.start(short)
    hands.drain()
    with hands.observer() as observer:
        observer.autocommit = True
        observer.execute("VACUUM ANALYZE")
    for _ in range(8):  # The plans that are kept are made now.
        hands.start(short)
    hands.drain()
    run = hands.start(workflow({f"p{n}": [] for n in range(ready)}, uses="guard.noop")).run_pk
    waiting = [hands.engine.submit(short).run_pk for _ in range(taken)]
    before = _read_by_all(hands)
    for ordinal in range(taken):
        hands.execute(Unit(run, ordinal))
    assert (_read_by_all(hands) - before) / taken <= 12
    before = _read_by_all(hands)
    for run_pk in waiting:
        assert launch.start_run(hands.runtime, run_pk)
    assert (_read_by_all(hands) - before) / taken <= 12


def _read_by_all(hands: Hands) -> int:
    """Entries of indexes that all connections have read so far."""
    with hands.database.autocommit() as tx:
        _number(tx, _FLUSH)
        return _number(tx, _READ_BY_ALL)


def _make_map(hands: Hands, calls: int) -> Unit:
    run = hands.start(MAP.replace("num: 400", f"num: {calls}")).run_pk
    hands.execute(Unit(run, 0))
    hands.execute(Unit(run, 1))
    return Unit(run, 1)


def _end_small_maps(hands: Hands, number: int) -> None:
    results = [ItemResult(index, "SUCCESS", 0, 1.0, 2.0, output="1") for index in range(6)]
    for _ in range(number):
        unit = _make_map(hands, 6)
        with hands.database.transaction() as tx:
            maps.end_items(tx, unit, results)


def _number(tx: Transaction, statement: Statement, **params: int) -> int:
    row = tx.row(statement, params)
    assert row is not None
    return int(row[0])
