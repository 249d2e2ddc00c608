"""A step that is a run of its own: waited for, failed, retried, cancelled with its parent, nested, looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import Cluster
from tests.support.hands import Given, Hands
from workflows.db import sub_runs
from workflows.db.units import Unit
from workflows.engine import control, launch
from workflows.engine.outcomes import Outcome
from workflows.model.errors import ConflictError
from workflows.steps import StepContext

INNER = """
id: inner
params: {size: {type: integer, default: 1}}
steps:
  one: {uses: value, with: {size: "${{ params.size }}"}}
  two: {needs: one, uses: shaky, with: {value: "${{ steps.one.output.size }}"}}
outputs: {double: "${{ steps.two.output }}"}
"""
OUTER = """
id: outer
params: {size: {type: integer, default: 4}, then: {type: string, default: fail}}
steps:
  part: {uses: workflow, with: {id: inner, params: {size: "${{ params.size }}"}, on_failure: "${{ params.then }}"}}
  after: {needs: part, uses: value, with: {seen: "${{ steps.part.output.status }}"}}
outputs: {part: "${{ steps.part.output }}"}
"""
SELF = "id: self\nsteps:\n  again: {uses: workflow, with: {id: self}}"
GROUPED = """
id: NAME
concurrency: {group: only-one, limit: 1, behavior: BEHAVIOR}
steps:
  a: {uses: USES}
"""


def _prepare(hands: Hands, folder: Path, monkeypatch: pytest.MonkeyPatch, **texts: str) -> list[str]:
    """Definitions in a folder, and the step `shaky`, which fails while the list that is returned has words in it."""
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)
    monkeypatch.setitem(hands.engine.env, "CELERIAC_DEFINITIONS", str(folder))
    hands.__init__(hands.engine)  # type: ignore[misc]
    failures: list[str] = []

    def shaky(inp: Given, ctx: StepContext) -> int:
        if failures:
            raise ValueError(failures.pop())
        return 2 * int(inp.value)

    hands.define(shaky=shaky)
    return failures


def _children(hands: Hands, run_pk: int) -> list[tuple[int, str]]:
    rows = hands.rows(f"SELECT id, status FROM job_runs WHERE parent_pk = {run_pk} ORDER BY id")
    return [(row[0], row[1]) for row in rows]


def _begin(hands: Hands, **params: Any) -> tuple[launch.Submitted, int]:
    """A run whose step has started its sub-run."""
    accepted = hands.start(OUTER, **params)
    assert hands.execute(Unit(accepted.run_pk, 0)) is Outcome.IGNORE
    ((child, status),) = _children(hands, accepted.run_pk)
    assert status == "PENDING"
    assert hands.standing(Unit(accepted.run_pk, 0), "status, lease_until, failures") == ("WAITING", None, 0)
    assert launch.start_run(hands.runtime, child)
    return accepted, child


def test_a_run_within_a_step_gives_its_outputs_and_wakes_it(
    hands: Hands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _prepare(hands, tmp_path, monkeypatch, inner=INNER)
    accepted, child = _begin(hands)
    hands.execute(Unit(child, 0))
    hands.execute(Unit(child, 1))
    assert hands.standing(Unit(accepted.run_pk, 0), "status, not_before") == ("WAITING", None)
    hands.execute(Unit(accepted.run_pk, 0))
    hands.execute(Unit(accepted.run_pk, 1))
    run = control.find(hands.runtime, accepted.run_id)
    assert run.status == "SUCCESS"
    assert run.outputs is not None
    part = run.outputs["part"]
    assert (part["status"], part["outputs"], part["error"]) == ("SUCCESS", {"double": 8}, None)
    inner = control.find(hands.runtime, part["run_id"])
    assert (inner.workflow, inner.parent_run, inner.parent_step) == ("inner", accepted.run_id, "part")
    assert hands.engine.report(accepted).steps[0].sub_run == inner.run_id


def test_a_step_that_dies_after_starting_its_run_finds_it_again(
    hands: Hands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _prepare(hands, tmp_path, monkeypatch, inner=INNER)
    accepted, child = _begin(hands)
    hands.change(
        "UPDATE step_runs SET not_before = NULL, parked_since = NULL, status = 'PENDING'"
        " WHERE ordinal = 0 AND run_pk = :run",
        run=accepted.run_pk,
    )
    hands.execute(Unit(accepted.run_pk, 0))
    assert [pk for pk, _ in _children(hands, accepted.run_pk)] == [child]
    assert hands.standing(Unit(accepted.run_pk, 0), "status") == ("WAITING",)


@pytest.mark.parametrize(("then", "status"), [("fail", "FAILURE"), ("continue", "SUCCESS")])
def test_a_failed_part_fails_its_step_unless_it_may_go_on(
    hands: Hands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: str, status: str
) -> None:
    _prepare(hands, tmp_path, monkeypatch, inner=INNER).append("no")
    accepted, _ = _begin(hands, then=then)
    hands.drain()
    run = control.find(hands.runtime, accepted.run_id)
    assert run.status == status
    if then == "continue":
        assert run.outputs is not None
        assert (run.outputs["part"]["status"], run.outputs["part"]["error"]) == ("FAILURE", "failed: two")
    else:
        error = hands.engine.report(accepted).steps[0].error
        assert error is not None
        assert "of workflow 'inner' ended as FAILURE: failed: two" in error["message"]


def test_a_retry_by_hand_goes_on_with_what_has_failed_within(
    hands: Hands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _prepare(hands, tmp_path, monkeypatch, inner=INNER).append("no")
    accepted, child = _begin(hands)
    hands.drain()
    control.retry(hands.runtime, accepted.run_id)
    hands.drain()
    assert control.find(hands.runtime, accepted.run_id).status == "SUCCESS"
    assert _children(hands, accepted.run_pk) == [(child, "SUCCESS")]
    assert hands.standing(Unit(child, 0), "token") == (1,)  # What was done is not done again.


def test_a_cancel_goes_down_and_what_nobody_waits_for_is_stopped(
    hands: Hands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _prepare(hands, tmp_path, monkeypatch, inner=INNER)
    accepted, child = _begin(hands)
    control.cancel(hands.runtime, accepted.run_id)
    hands.reconciler().tick()
    assert _children(hands, accepted.run_pk) == [(child, "REVOKED")]
    assert control.find(hands.runtime, accepted.run_id).status == "REVOKED"
    hands.reconciler().tick()  # Nothing is left to be stopped.
    control.retry(hands.runtime, accepted.run_id)
    hands.drain()
    assert control.find(hands.runtime, accepted.run_id).status == "SUCCESS"
    assert _children(hands, accepted.run_pk) == [(child, "SUCCESS")]


def test_a_pause_goes_down_and_so_does_the_resume(
    hands: Hands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nested = "id: outermost\nsteps:\n  whole: {uses: workflow, with: {id: outer}}\n"
    _prepare(hands, tmp_path, monkeypatch, inner=INNER, outer=OUTER)
    accepted = hands.start(nested)
    hands.execute(Unit(accepted.run_pk, 0))
    ((outer, _),) = _children(hands, accepted.run_pk)
    assert launch.start_run(hands.runtime, outer)
    hands.execute(Unit(outer, 0))
    ((inner, _),) = _children(hands, outer)  # It has not begun: its message is on its way.
    control.pause(hands.runtime, accepted.run_id)
    reconciler = hands.reconciler()
    for _ in range(3):  # A level each.
        reconciler.tick()
    assert [_children(hands, above) for above in (accepted.run_pk, outer)] == [[(outer, "PAUSED")], [(inner, "PAUSED")]]
    assert not launch.start_run(hands.runtime, inner)
    hands.drain()
    assert hands.rows(f"SELECT count(*) FROM step_runs WHERE run_pk = {inner}") == [(0,)]
    control.resume(hands.runtime, accepted.run_id)
    for _ in range(3):
        reconciler.tick()
    hands.drain()
    assert control.find(hands.runtime, accepted.run_id).status == "SUCCESS"
    assert [_children(hands, above) for above in (accepted.run_pk, outer)] == [
        [(outer, "SUCCESS")],
        [(inner, "SUCCESS")],
    ]


@pytest.mark.parametrize("order", ["part-first", "part-later"])
def test_a_part_that_was_paused_by_itself_stays_paused(
    hands: Hands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    _prepare(hands, tmp_path, monkeypatch, inner=INNER)
    accepted, child = _begin(hands)
    part = launch.context_of(hands.runtime, child).run_id
    reconciler = hands.reconciler()
    for name in (part, accepted.run_id) if order == "part-first" else (accepted.run_id, part):
        control.pause(hands.runtime, name)
        reconciler.tick()
    control.resume(hands.runtime, accepted.run_id)
    reconciler.tick()
    assert _children(hands, accepted.run_pk) == [(child, "PAUSED")]
    control.resume(hands.runtime, part)
    hands.drain()
    assert control.find(hands.runtime, accepted.run_id).status == "SUCCESS"


def test_a_part_that_somebody_pauses_while_its_parent_goes_on_stays_paused(
    hands: Hands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _prepare(hands, tmp_path, monkeypatch, inner=INNER)
    accepted, child = _begin(hands)
    reconciler = hands.reconciler()
    control.pause(hands.runtime, accepted.run_id)
    reconciler.tick()
    control.resume(hands.runtime, accepted.run_id)
    assert hands.database.retrying(sub_runs.to_resume) == [child]
    control.pause(hands.runtime, launch.context_of(hands.runtime, child).run_id)
    monkeypatch.setattr(sub_runs, "to_resume", lambda _tx: [child])  # It was read before.
    reconciler.tick()
    assert _children(hands, accepted.run_pk) == [(child, "PAUSED")]


def test_a_part_of_a_paused_run_is_resumed_with_it_alone(
    hands: Hands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _prepare(hands, tmp_path, monkeypatch, inner=INNER)
    accepted, child = _begin(hands)
    part = launch.context_of(hands.runtime, child).run_id
    control.pause(hands.runtime, accepted.run_id)
    hands.reconciler().tick()
    with pytest.raises(ConflictError, match=f"is a part of run {accepted.run_id}, which is paused"):
        control.resume(hands.runtime, part)
    assert _children(hands, accepted.run_pk) == [(child, "PAUSED")]
    control.cancel(hands.runtime, accepted.run_id)
    hands.reconciler().tick()
    assert _children(hands, accepted.run_pk) == [(child, "REVOKED")]


def test_a_cancelled_part_fails_its_step(hands: Hands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _prepare(hands, tmp_path, monkeypatch, inner=INNER)
    accepted = hands.start(OUTER)
    hands.execute(Unit(accepted.run_pk, 0))  # Its run has not begun: it ends at once.
    ((child, _),) = _children(hands, accepted.run_pk)
    control.cancel(hands.runtime, launch.context_of(hands.runtime, child).run_id)
    hands.execute(Unit(accepted.run_pk, 0))
    error = hands.engine.report(accepted).steps[0].error
    assert error is not None
    assert "ended as REVOKED" in error["message"]


def test_a_workflow_that_calls_itself_ends(hands: Hands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _prepare(hands, tmp_path, monkeypatch, self=SELF)
    accepted = hands.start(SELF)
    newest = accepted.run_pk
    while hands.execute(Unit(newest, 0)) is Outcome.IGNORE:
        ((newest, _),) = _children(hands, newest)
        launch.start_run(hands.runtime, newest)
    hands.drain()
    assert control.find(hands.runtime, accepted.run_id).status == "FAILURE"
    assert hands.rows("SELECT count(*) FROM job_runs") == [(8,)]
    deepest = hands.rows("SELECT error FROM step_runs ORDER BY run_pk DESC LIMIT 1")[0][0]
    assert "does a workflow call itself?" in deepest


def test_a_part_that_would_wait_for_its_own_parent_is_refused(
    hands: Hands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = GROUPED.replace("NAME", "inner").replace("BEHAVIOR", "queue").replace("USES", "value")
    outer = GROUPED.replace("NAME", "outer").replace("BEHAVIOR", "queue")
    outer = outer.replace("{uses: USES}", "{uses: workflow, with: {id: inner}}")
    _prepare(hands, tmp_path, monkeypatch, inner=inner)
    accepted = hands.start(outer)
    hands.drain()
    error = hands.engine.report(accepted).steps[0].error
    assert error is not None
    assert "would wait for the run that it is a part of" in error["message"]


def test_a_part_that_its_group_skips_fails_its_step_and_is_tried_anew(
    hands: Hands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = (
        GROUPED.replace("NAME", "inner")
        .replace("BEHAVIOR", "skip")
        .replace("{uses: USES}", "{uses: shaky, with: {value: 1}}")
    )
    _prepare(hands, tmp_path, monkeypatch, inner=inner)
    other = hands.start(inner)
    accepted = hands.start("id: outer\nsteps:\n  part: {uses: workflow, with: {id: inner}}")
    hands.execute(Unit(accepted.run_pk, 0))
    assert hands.engine.report(accepted).steps[0].status == "FAILURE"
    hands.execute(Unit(other.run_pk, 0))
    control.retry(hands.runtime, accepted.run_id)
    hands.execute(Unit(accepted.run_pk, 0))
    ((child, status),) = _children(hands, accepted.run_pk)
    assert status == "PENDING"
    launch.start_run(hands.runtime, child)
    hands.drain()
    assert control.find(hands.runtime, accepted.run_id).status == "SUCCESS"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{id: inne, params: {}}", "there is no workflow 'inne' (did you mean 'inner'?)"),
        ("{id: inner, params: {size: much}}", "size"),
        ("{id: inner, params: {colour: red}}", "colour"),
    ],
)
def test_what_cannot_be_started_is_a_failure_that_says_why(
    hands: Hands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, told: str
) -> None:
    _prepare(hands, tmp_path, monkeypatch, inner=INNER)
    accepted = hands.start(f"id: outer\nsteps:\n  part: {{uses: workflow, with: {text}, retry: {{max_attempts: 3}}}}")
    hands.execute(Unit(accepted.run_pk, 0))
    (step,) = hands.engine.report(accepted).steps
    assert (step.status, step.attempts) == ("FAILURE", 1)
    assert step.error is not None
    assert told in step.error["message"]


def test_a_call_of_a_map_has_no_run_of_its_own(hands: Hands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _prepare(hands, tmp_path, monkeypatch, inner=INNER)
    accepted = hands.start(
        "id: outer\nsteps:\n  many: {uses: workflow, for_each: {items: [1], key: 'k${{ item }}'}, with: {id: inner}}"
    )
    hands.drain()
    assert "without for_each" in hands.rows("SELECT error FROM item_runs")[0][0]
    assert _children(hands, accepted.run_pk) == []


def test_workers_carry_out_both(engine: Cluster, tmp_path: Path) -> None:
    (tmp_path / "part.yaml").write_text(
        "id: part\nsteps:\n  a: {uses: value, with: {n: 1}}\noutputs: {n: '${{ steps.a.output.n }}'}"
    )
    engine.env["CELERIAC_DEFINITIONS"] = str(tmp_path)
    engine.start_worker()
    accepted = engine.submit(
        "id: whole\nsteps:\n  p: {uses: workflow, with: {id: part}}\noutputs: {n: '${{ steps.p.output.outputs.n }}'}"
    )
    report = engine.wait(accepted)
    assert (report.run.status, report.run.outputs) == ("SUCCESS", {"n": 1})
    # The part's end wakes the step. By itself it looks after a second, and no sooner after each look.
    assert report.run.seconds is not None
    assert report.dispatches["reconciler"] <= report.run.seconds
