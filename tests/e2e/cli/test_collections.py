"""`celeriac collections` and the run that embeds one anew, as somebody at a terminal uses them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pybtex.database import parse_string

from pipeline.embedders.onnx import BUNDLED_MODEL, BUNDLED_TOKENIZER, installed
from tests.support.servers import PROJECT


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """With a model of a folder beside the bundled one."""
    folder = tmp_path / "models" / "minilm"
    folder.mkdir(parents=True)
    (folder / "model.onnx").symlink_to(installed(*BUNDLED_MODEL))
    (folder / "tokenizer.json").symlink_to(installed(*BUNDLED_TOKENIZER))
    file = tmp_path / "models" / "models.yaml"
    file.write_text(
        "models:\n  minilm-128: {backend: onnx, path: minilm, dimension: 384, max_tokens: 256, chunk_tokens: 128}\n",
        encoding="utf-8",
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CELERY_", "DATABASE_"))}
    more = {"CELERIAC_HOME": str(tmp_path / "home"), "CELERIAC_MODELS": str(file), "PYTHONPATH": str(PROJECT)}
    return {**kept, **more}


def called(env: dict[str, str], folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "celeriac", *words]
    return subprocess.run(line, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False)


def celeriac(env: dict[str, str], folder: Path, *words: str) -> Any:
    ended = called(env, folder, *words, "--json")
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def test_a_collection_gets_another_model_and_can_go_back(tmp_path: Path, env: dict[str, str]) -> None:
    first = celeriac(env, tmp_path, "run", "literature-review", "--inline", "--param", "max_papers=12")
    assert (first["outputs"]["cost"], first["outputs"]["tokens"] > 100) == (0.0, True)
    refused = called(env, tmp_path, "run", "literature-review", "--inline", "--param", "model=minilm-128")
    assert refused.returncode == 1
    wanted = "celeriac run re-embed --param collection=papers --param model=minilm-128"
    assert wanted in " ".join((refused.stdout + refused.stderr).split())

    again = celeriac(
        env, tmp_path, "run", "re-embed", "--inline", "--param", "model=minilm-128", "--param", "keep_old=true"
    )  # fmt: skip
    outputs = again["outputs"]
    assert (outputs["model"], outputs["generation"], outputs["papers"]) == ("minilm-128", 2, 12)
    assert outputs["embedded"] > 0
    (live,) = celeriac(env, tmp_path, "collections", "ls")["collections"]
    assert (live["name"], live["generation"], live["model"], live["papers"]) == ("papers", 2, "minilm-128", 12)
    assert live["entries"] == outputs["vectors"]
    table = called(env, tmp_path, "collections", "show", "papers").stdout
    assert "all-MiniLM-L6-v2" in table
    assert "minilm-128" in table
    hits = celeriac(env, tmp_path, "search", "planets close to their stars")
    assert len(hits) == 5

    printed = called(env, tmp_path, "search", "planets close to their stars", "--format", "bibtex").stdout
    assert len(parse_string(printed, "bibtex").entries) == 5
    assert len(json.loads(called(env, tmp_path, "search", "planets", "--format", "csl-json").stdout)) == 5

    # A run that names no model takes the one that the collection has.
    third = celeriac(env, tmp_path, "run", "literature-review", "--inline", "--param", "max_papers=12")
    assert (third["outputs"]["embedded"], third["outputs"]["vectors_new"]) == (0, 0)

    assert celeriac(env, tmp_path, "collections", "switch", "papers", "1")["switched"] is True
    refused = called(env, tmp_path, "collections", "drop", "papers", "--generation", "1", "--yes")
    assert (refused.returncode, "searches see generation 1" in refused.stderr) == (2, True)
    asked = called(env, tmp_path, "collections", "drop", "papers")
    assert asked.returncode != 0  # nobody there to say yes
    assert celeriac(env, tmp_path, "collections", "drop", "papers", "--generation", "2", "--yes")["dropped"] == [2]
    assert celeriac(env, tmp_path, "collections", "drop", "papers", "--yes")["dropped"] == [1]
    assert celeriac(env, tmp_path, "collections", "ls") == {"collections": []}
    missing = called(env, tmp_path, "collections", "show", "papers")
    assert (missing.returncode, "no collection 'papers'" in missing.stderr) == (2, True)
