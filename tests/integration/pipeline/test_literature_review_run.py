"""The shipped definition, run by real workers."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.search import search
from tests.support.cluster import Cluster, cluster

DEFINITION = (Path(__file__).parents[3] / "definitions" / "literature-review.yaml").read_text(encoding="utf-8")


@pytest.fixture
def engine(tmp_path: Path, migrated_url: str, broker_url: str) -> Iterator[Cluster]:
    with cluster(tmp_path, migrated_url, broker_url) as made:
        yield made


@pytest.fixture
def papers(tmp_path: Path) -> str:
    folder = tmp_path / "papers"
    folder.mkdir()
    records: list[dict[str, Any]] = [
        {
            "_id": str(n),
            "title": f"Paper {n} on {topic}",
            "text": f"{topic.capitalize()} were measured {n} times. " * 40,
        }
        for n, topic in enumerate(["giant planets", "flaky tests", "planar graphs", "neutrino masses"] * 5)
    ]
    lines = [json.dumps(record) for record in records]
    (folder / "corpus.jsonl").write_text("\n".join([*lines, "{broken"]), encoding="utf-8")
    return str(folder)


def test_workers_make_a_folder_searchable_and_the_second_run_finds_nothing_to_do(engine: Cluster, papers: str) -> None:
    engine.start_worker(slots=2)
    first = engine.run(DEFINITION, timeout=120, path=papers).to_json()
    assert first["status"] == "SUCCESS", first
    outputs = first["outputs"]
    assert {
        name: outputs[name] for name in ("fetched", "new", "unchanged", "quarantined", "chunks_without_vector")
    } == {
        "fetched": 21,
        "new": 21,
        "unchanged": 0,
        "quarantined": 1,
        "chunks_without_vector": 0,
    }
    assert outputs["vectors"] == outputs["chunks"] == outputs["embedded"] > 20
    assert search(engine.runtime.database, "worlds around other stars")[0].title.endswith("giant planets")

    second = engine.run(DEFINITION, timeout=60, path=papers).to_json()
    assert second["status"] == "SUCCESS", second
    outputs = second["outputs"]
    counts = {name: outputs[name] for name in ("new", "updated", "unchanged", "processed", "embedded", "vectors_new")}
    assert counts == {"new": 0, "updated": 0, "unchanged": 21, "processed": 0, "embedded": 0, "vectors_new": 0}
    assert outputs["vectors"] == first["outputs"]["vectors"]


def test_a_folder_that_is_not_there_fails_the_run_at_once_and_says_what_to_give(engine: Cluster) -> None:
    engine.start_worker(slots=1)
    report = engine.run(DEFINITION, timeout=30, path="no/such/folder").to_json()
    assert report["status"] == "FAILURE"
    assert report["steps"]["fetch"]["attempts"] == 1
    assert "--param path=FOLDER" in report["steps"]["fetch"]["error"]
