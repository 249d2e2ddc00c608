"""Steps that took next to nothing before: most of them get no message, and none of them is forgotten."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.integration.engine.test_relay import messages
from tests.support.cluster import Cluster
from workflows.compile import compile_workflow
from workflows.db.database import Statement, Transaction
from workflows.engine.order import BRIEF_SECONDS, expected, ranks
from workflows.model.errors import DatabaseUnavailableError
from workflows.model.parser import parse_workflow

WIDTH, LAYERS = 4, 10
LATTICE = {
    f"l{layer}n{place}": [f"l{layer - 1}n{(place + shift) % WIDTH}" for shift in range(3)] if layer else []
    for layer in range(LAYERS)
    for place in range(WIDTH)
}
"""Layers that are not series-parallel: SQL delivers each of these steps."""

ALL = len(LATTICE)


def definition(first: str = "uses: ledger.nap\n    with: {node: l0n0, ms: '${{ params.ms }}'}") -> str:
    """The lattice, with another first step."""
    lines = [
        "id: lattice",
        "params:",
        "  ms: {type: integer, default: 0}",
        "  times: {type: integer, default: 0}",
        "steps:",
    ]
    for name, needs in LATTICE.items():
        uses = first if name == "l0n0" else f"uses: ledger.nap\n    with: {{node: {name}, ms: 0}}"
        lines += [f"  {name}:", f"    {uses}", f"    needs: [{', '.join(needs)}]"]
    return "\n".join(lines) + "\n"


def learn(engine: Cluster, text: str) -> None:
    """One run, of whose steps the first took two milliseconds and each other one next to nothing."""
    teacher = engine.start_worker(slots=1)
    assert engine.run(text, timeout=60).run.status == "SUCCESS"
    teacher.stop()
    took = Statement(
        "UPDATE step_runs SET finished_at = started_at + CASE WHEN step_id = 'l0n0' THEN 0.002 ELSE 0.0001 END"
    )
    engine.runtime.database.retrying(lambda tx: tx.run(took, {}))


def starts(engine: Cluster) -> dict[str, int]:
    """How often each node was begun since the ledger was emptied."""
    return {node: len(engine.ledger("start", node)) for node in LATTICE}


@pytest.mark.parametrize("slots", [1, 2])
def test_brief_steps_are_run_by_who_made_them_ready(engine: Cluster, slots: int) -> None:
    learn(engine, definition())
    engine.ledger_file.write_text("")
    engine.start_worker(slots=slots)
    second = engine.submit(definition())
    assert engine.wait(second, 60).run.status == "SUCCESS"
    for node, needs in LATTICE.items():
        (start,) = engine.ledger("start", node)
        assert all(engine.ledger("end", before)[0].at <= start.at for before in needs)
    assert engine.rows("SELECT sum(redispatches) FROM step_runs") == [(0,)]
    # 17 steps a message are four messages, where it would be twenty; a step that takes long on a busy machine has what
    # was kept back sent.
    assert messages(engine) <= ALL // 3


def test_when_one_takes_long_others_do_not_wait_for_it(engine: Cluster) -> None:
    learn(engine, definition())
    engine.ledger_file.write_text("")
    engine.start_worker(slots=2, CELERIAC_REDISPATCH_SECONDS="1")
    assert engine.run(definition(), ms=6000).run.status == "SUCCESS"
    (slow,) = engine.ledger("end", "l0n0")
    for place in range(1, WIDTH):
        (end,) = engine.ledger("end", f"l0n{place}")
        assert end.at < slow.at - 1
    assert set(starts(engine).values()) == {1}


def test_a_process_that_dies_takes_none_of_them_with_it(engine: Cluster) -> None:
    text = definition("uses: ledger.die\n    with: {node: l0n0, times: '${{ params.times }}'}")
    learn(engine, text)
    engine.ledger_file.write_text("")
    engine.start_worker(slots=1, CELERIAC_REDISPATCH_SECONDS="1")
    assert engine.run(text, timeout=60, times=1).run.status == "SUCCESS"
    assert starts(engine) == {node: 2 if node == "l0n0" else 1 for node in LATTICE}


def test_what_cannot_be_learned_holds_nothing_up(engine: Cluster) -> None:
    def away(_tx: Transaction, _version_id: int) -> dict[int, float]:
        raise DatabaseUnavailableError("gone", "start it")

    engine.submit(definition())
    ((version_id,),) = engine.rows("SELECT version_id FROM job_runs")
    runtime = replace(engine.runtime, learn=away)
    assert runtime.learned_order(version_id) == ranks(runtime.plan(version_id))


def test_steps_that_become_ready_one_by_one_are_never_brief() -> None:
    """Nobody has to look for what cannot have been kept back."""
    chain = compile_workflow(parse_workflow("id: c\nsteps:\n  a: {uses: x}\n  b: {uses: x, needs: a}\n"))
    assert not expected(chain, {0: 0.0, 1: 0.0}).brief
    plan = compile_workflow(parse_workflow(definition()))
    order = expected(plan, {0: BRIEF_SECONDS, 1: 2 * BRIEF_SECONDS, 2: 0.0})
    assert order.brief == {0, 2}
