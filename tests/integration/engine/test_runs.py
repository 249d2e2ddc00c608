"""Runs that nobody disturbs: they end right, and the canvas carries them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest

from tests.support.cluster import Cluster
from tests.support.waiting import wait_until
from workflows.compile import compile_workflow
from workflows.engine import launch
from workflows.model.errors import ConflictError
from workflows.model.parser import parse_workflow


def chain_of(length: int, uses: str = "ledger.nap", ms: int = 0) -> str:
    """A chain of steps s0, s1 ..."""
    return workflow({f"s{i}": [f"s{i - 1}"] if i else [] for i in range(length)}, uses=uses, ms=ms)


def workflow(graph: Mapping[str, Iterable[str]], uses: str = "ledger.nap", ms: int = 0) -> str:
    """A definition with a step for each key, which needs those of its value."""
    lines = ["id: graph", "steps:"]
    for name, needs in graph.items():
        lines += [
            f"  {name}:",
            f"    uses: {uses}",
            f"    with: {{node: {name}, ms: {ms}}}",
            f"    needs: [{', '.join(needs)}]",
        ]
    return "\n".join(lines) + "\n"


def starts_and_ends(engine: Cluster) -> dict[str, tuple[float, float]]:
    """When each node started and ended; fails when one did so twice."""
    found: dict[str, tuple[float, float]] = {}
    for line in engine.ledger("start"):
        assert line.node not in found, f"{line.node} started twice"
        (end,) = engine.ledger("end", line.node)
        found[line.node] = (line.at, end.at)
    return found


def assert_order(engine: Cluster, graph: dict[str, list[str]]) -> None:
    """Each node ran once, and after all it needs."""
    times = starts_and_ends(engine)
    assert times.keys() == graph.keys()
    for node, needs in graph.items():
        for before in needs:
            assert times[before][1] <= times[node][0], f"{node} started before {before} had ended"


DIAMOND: dict[str, list[str]] = {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]}
N_GRAPH: dict[str, list[str]] = {"a": [], "b": [], "c": ["a"], "d": ["a", "b"]}
WIDE: dict[str, list[str]] = {"a": [], **{f"p{i}": ["a"] for i in range(40)}, "z": [f"p{i}" for i in range(40)]}
TWO_JOINS: dict[str, list[str]] = {"a": [], "b": [], "c": ["a", "b"], "d": ["a", "b"], "e": ["c", "d"]}


def test_graphs_of_every_shape_end_in_order_and_the_reconciler_dispatches_nothing(calm: Cluster) -> None:
    for graph in (DIAMOND, N_GRAPH, WIDE, TWO_JOINS):
        calm.ledger_file.write_text("")
        report = calm.run(workflow(graph))
        assert report.run.status == "SUCCESS", report
        assert report.run.progress == 100
        assert {step.status for step in report.steps} == {"SUCCESS"}
        assert {step.attempts for step in report.steps} == {1}
        assert_order(calm, graph)
        assert report.dispatches["reconciler"] == 0


def test_within_a_chain_the_canvas_delivers(calm: Cluster) -> None:
    report = calm.run(chain_of(12))
    assert report.run.status == "SUCCESS"
    assert report.dispatches == {"canvas": 10, "sql": 2, "reconciler": 0}


def test_a_chord_delivers_its_body(calm: Cluster) -> None:
    report = calm.run(workflow(DIAMOND))
    assert report.dispatches == {"canvas": 1, "sql": 3, "reconciler": 0}


def test_a_failed_step_skips_what_needs_it_and_nothing_else(calm: Cluster) -> None:
    report = calm.run(
        """
        id: half
        steps:
          bad: {uses: ledger.fail, with: {node: bad}}
          after: {uses: ledger.nap, needs: bad, with: {node: after}}
          last: {uses: ledger.nap, needs: [after, good], with: {node: last}}
          good: {uses: ledger.nap, with: {node: good}}
          fine: {uses: ledger.nap, needs: good, with: {node: fine}}
        """
    )
    assert report.run.status == "FAILURE"
    assert report.run.error == "failed: bad"
    states = {step.step_id: (step.status, step.reason) for step in report.steps}
    assert states == {
        "bad": ("FAILURE", None),
        "after": ("SKIPPED", "upstream_failed"),
        "last": ("SKIPPED", "upstream_failed"),
        "good": ("SUCCESS", None),
        "fine": ("SUCCESS", None),
    }
    assert not calm.ledger("start", "after")


def test_a_step_is_retried_by_its_policy_and_sql_keeps_the_time(calm: Cluster) -> None:
    report = calm.run(
        """
        id: again
        defaults: {retry: {max_attempts: 4, delay: 1s, factor: 1, jitter: none}}
        steps:
          a: {uses: ledger.fail, with: {node: a, times: 2}}
          b: {uses: ledger.nap, needs: a, with: {node: b}}
        """
    )
    assert report.run.status == "SUCCESS"
    first, second, third = (line.at for line in calm.ledger("start", "a"))
    assert 1.0 <= second - first < 2.5
    assert 1.0 <= third - second < 2.5
    assert report.steps[0].attempts == 3
    assert calm.rows(
        "SELECT count(*) FROM attempts WHERE status = 'FAILURE' AND run_pk = :run", run=report.run.run_pk
    ) == [(2,)]


def test_errors_that_the_policy_excludes_are_final(calm: Cluster) -> None:
    report = calm.run(
        """
        id: final
        defaults: {retry: {max_attempts: 4, delay: 1s, jitter: none}}
        steps:
          permanent: {uses: ledger.fail, with: {node: permanent, permanent: true}}
          never: {uses: ledger.fail, with: {node: never}, retry: {never_for: [StepError]}}
          other: {uses: ledger.fail, with: {node: other}, retry: {only_for: [OSError]}}
          input: {uses: ledger.nap, with: {nodes: 1}}
        """
    )
    assert {step.step_id: step.attempts for step in report.steps} == dict.fromkeys(
        ("permanent", "never", "other", "input"), 1
    )
    assert report.to_json()["steps"]["permanent"]["error"] == "PermanentError: as asked"
    assert report.to_json()["steps"]["input"]["error"].startswith("ValidationError: the input of 'ledger.nap'")


def test_a_step_over_its_time_fails_with_a_name(calm: Cluster) -> None:
    report = calm.run(
        """
        id: slow
        steps:
          sleeper: {uses: ledger.nap, with: {node: sleeper, ms: 60000}, timeout: 1s}
          spinner: {uses: ledger.spin, with: {node: spinner, ms: 60000}, timeout: 500ms}
        """
    )
    for step in report.steps:
        assert step.status == "FAILURE"
        assert step.error is not None
        assert step.error["type"] == "StepTimeoutError"
    assert report.run.seconds is not None
    assert report.run.seconds < 10


def test_outputs_flow_through_expressions(calm: Cluster) -> None:
    report = calm.run(
        """
        id: flow
        params: {word: {type: string, default: hello}}
        steps:
          a: {uses: ledger.echo, with: {value: {words: ["${{ params.word }}", "there"]}}}
          b: {uses: ledger.echo, with: {value: "${{ steps.a.output.words[0] }} ${{ size(steps.a.output.words) }}"}}
        outputs: {said: "${{ steps.b.output }}", run: "${{ run.id }}"}
        """,
        word="goodbye",
    )
    assert report.run.outputs == {"said": "goodbye 2", "run": report.run.run_id}


def test_an_output_that_cannot_be_evaluated_fails_the_run(calm: Cluster) -> None:
    report = calm.run(
        """
        id: flow
        steps:
          a: {uses: ledger.echo, with: {value: {words: []}}}
        outputs: {said: "${{ steps.a.output.words[3] }}"}
        """
    )
    assert report.run.status == "FAILURE"
    assert report.run.error is not None
    assert report.run.error.startswith("output 'said': ")


def test_the_same_idempotency_key_is_the_same_run(engine: Cluster) -> None:
    text = """
        id: once
        params: {word: {type: string, default: a}}
        steps: {a: {uses: ledger.echo, with: {value: "${{ params.word }}"}}}
        """
    plan = compile_workflow(parse_workflow(text))
    first = launch.submit(engine.runtime, plan, text, {}, idempotency_key="k")
    again = launch.submit(engine.runtime, plan, text, {}, idempotency_key="k")
    assert (again.run_id, again.is_new) == (first.run_id, False)
    with pytest.raises(ConflictError, match=first.run_id):
        launch.submit(engine.runtime, plan, text, {"word": "b"}, idempotency_key="k")


def test_log_lines_are_kept_with_the_run(calm: Cluster) -> None:
    report = calm.run(chain_of(2))
    assert (
        calm.rows("SELECT level, message FROM log_lines WHERE run_pk = :run ORDER BY id", run=report.run.run_pk)
        == [("INFO", "slept 0 ms")] * 2
    )
    assert report.run.status == "SUCCESS"


def test_a_step_that_calls_exit_fails_and_takes_no_process_along(calm: Cluster) -> None:
    report = calm.run("id: leave\nsteps:\n  a: {uses: ledger.leave, with: {node: a}}\n")
    assert report.to_json()["steps"]["a"]["error"] == "StepError: the step called sys.exit(3)"
    assert report.steps[0].crashes == 0


def test_the_progress_of_a_running_step_is_the_progress_of_its_run(calm: Cluster) -> None:
    accepted = calm.submit("id: half\nsteps:\n  a: {uses: ledger.half, with: {node: a}}\n")
    wait_until(lambda: calm.view(accepted).progress == 50, message="50 %")
    calm.ledger_file.write_text("go a 0 0\n")
    report = calm.wait(accepted)
    assert (report.run.status, report.run.progress) == ("SUCCESS", 100)
