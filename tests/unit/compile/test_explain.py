from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace

import pytest

from tests.unit.compile.graphs import workflow
from workflows.compile import compile_workflow
from workflows.compile.budget import BudgetError, MessageSize, check_budget, weigh
from workflows.compile.explain import explain_text
from workflows.compile.plan import Plan
from workflows.engine.app import make_app
from workflows.engine.dry_run import dry_run
from workflows.model.spec import Json, Workflow
from workflows.settings import Config

# Nothing answers there: a dry-run that asked a broker would fail.
CONFIG = Config({"CELERY_BROKER_URL": "redis://127.0.0.1:1/0"})
APP = make_app(CONFIG)

DIAMOND = workflow(5, [(0, 1), (1, 2), (0, 3), (2, 4), (3, 4), (0, 4)])


def dry_run_of(definition: Workflow, durations: Mapping[str, float] | None = None) -> dict[str, Json]:
    return dry_run(APP, CONFIG, compile_workflow(definition), durations)


def test_the_dry_run_tells_the_canvas_the_gates_and_the_critical_path() -> None:
    told = dry_run_of(DIAMOND)
    assert told["workflow"] == "w"
    assert told["fingerprint"] == DIAMOND.fingerprint()
    assert set(told["steps"]) == {"s0", "s1", "s2", "s3", "s4"}
    assert sorted(told["edges"]) == [["s0", "s1"], ["s0", "s3"], ["s1", "s2"], ["s2", "s4"], ["s3", "s4"]]
    assert told["series_parallel"] is True
    assert told["canvas"] == "s0\nchord([chain(s1, s2), s3], s4)"
    assert [(f["kind"], f["chains"], f["body"]) for f in told["fragments"]] == [
        ("single", [["s0"]], None),
        ("chord", [["s1", "s2"], ["s3"]], "s4"),
    ]
    assert told["gates"] == [["s0", "s1"], ["s0", "s3"]]
    assert told["critical_path"] == ["s0", "s1", "s2", "s4"]
    assert json.loads(json.dumps(told)) == told


def test_the_dry_run_counts_the_messages_of_every_kind() -> None:
    messages = dry_run_of(DIAMOND)["messages"]
    assert [(kind["kind"], kind["count"]) for kind in messages["kinds"]] == [
        ("job", 1),
        ("step", 1),
        ("chord header", 3),
        ("chord body", 1),
    ]
    assert messages["count"] == 6
    assert messages["total_bytes"] == sum(kind["total_bytes"] for kind in messages["kinds"])
    assert messages["largest_bytes"] == max(kind["largest_bytes"] for kind in messages["kinds"])
    assert (messages["mean_bytes"] - 1) * 6 < messages["total_bytes"] <= messages["mean_bytes"] * 6


def test_without_chords_the_join_is_a_gate_and_a_note() -> None:
    plan = compile_workflow(DIAMOND, chords=False)
    told = dry_run(APP, CONFIG, plan)
    assert told["canvas"] == "s0\ngroup([chain(s1, s2), s3])\ns4"
    assert sorted(told["gates"]) == [["s0", "s1"], ["s0", "s3"], ["s2", "s4"], ["s3", "s4"]]
    assert told["steps"]["s4"]["arrives_by"] == "sql"
    assert "no chords" in told["notes"][0]
    assert "s4 waits in SQL" in told["notes"][0]
    assert plan.fingerprint == compile_workflow(DIAMOND).fingerprint
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    assert dry_run_of(DIAMOND)["notes"] == []


def test_known_durations_decide_the_critical_path() -> None:
    assert dry_run_of(DIAMOND, {"s3": 60})["critical_path"] == ["s0", "s3", "s4"]


def test_a_map_is_one_message_and_a_note() -> None:
    told = dry_run_of(workflow(2, [(0, 1)], maps=[1]))
    assert told["messages"]["count"] == 3
    assert "'s1' is a map" in told["notes"][0]


def test_the_text_for_people_shows_all_of_it_and_shortens_what_is_long() -> None:
    wide = workflow(102, [(0, n) for n in range(1, 101)] + [(n, 101) for n in range(1, 101)])
    text = explain_text(compile_workflow(wide), dry_run_of(wide))
    for words in ("102 steps, 200 edges, series-parallel", "s19, ... 88 more])", "gates (200)", "100 x group",
                  "messages (103)", "s0 -> s1 -> s101", "joins of more than 64 steps wait in SQL: s101"):  # fmt: skip
        assert words in text
    assert len(text.splitlines()) < 40


@pytest.mark.parametrize(
    "edges",
    [
        [],
        [(0, n) for n in range(1, 999)] + [(n, 999) for n in range(1, 999)],
        [(n, n + 1) for n in range(999)],
    ],
    ids=["side by side", "one to many to one", "a chain"],
)
def test_a_thousand_steps_are_told_in_under_two_seconds_and_within_the_budget(edges: list[tuple[int, int]]) -> None:
    definition = workflow(1000, edges)
    start = time.process_time()
    messages = dry_run_of(definition)["messages"]
    assert time.process_time() - start < 2
    assert messages["count"] == 1001
    assert messages["largest_bytes"] <= 8192
    assert messages["mean_bytes"] <= 2048


FOURS = [(n, n + 1) for n in range(400) if n % 4 != 3] + [(n, 400) for n in range(400) if n % 4 == 3]


@pytest.mark.parametrize(
    ("size", "edges"), [(600, [(n, n + 1) for n in range(599)]), (401, FOURS)], ids=["chains", "a chord of chains"]
)
def test_not_even_the_longest_names_of_queues_break_the_budget(size: int, edges: list[tuple[int, int]]) -> None:
    steps = (replace(step, queue="q" * 48) for step in workflow(size, edges).steps)
    assert dry_run_of(Workflow("w", tuple(steps)))["messages"]["mean_bytes"] <= 2048


@pytest.mark.parametrize(("sizes", "words"), [([100] * 99 + [8193], "8193 bytes"), ([2048, 2050], "2049 bytes on av")])
def test_messages_over_the_limits_break_the_budget_with_a_hint(sizes: list[int], words: str) -> None:
    within = [MessageSize("step", 0, "q", 2048)]
    assert check_budget(within) == weigh(within)
    with pytest.raises(BudgetError, match=words) as caught:
        check_budget([MessageSize("step", n, "q", size) for n, size in enumerate(sizes)])
    assert "queues" in caught.value.hint
