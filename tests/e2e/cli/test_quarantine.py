"""`celeriac quarantine`: a PDF that could not be read, mended, and read once more by a worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from reportlab.pdfgen.canvas import Canvas

from tests.support.servers import PROJECT


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CELERY_", "DATABASE_"))}
    return {**kept, "CELERIAC_HOME": str(tmp_path / "home"), "PYTHONPATH": str(PROJECT)}


def celeriac(env: dict[str, str], folder: Path, *words: str, code: int = 0) -> Any:
    line = [sys.executable, "-m", "celeriac", *words, "--json"]
    ended = subprocess.run(line, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == code, ended.stderr
    return json.loads(ended.stdout) if ended.stdout.startswith(("{", "[")) else ended.stderr


def test_a_mended_pdf_is_read_once_more(tmp_path: Path, env: dict[str, str]) -> None:
    papers = tmp_path / "papers"
    papers.mkdir()
    (papers / "one.pdf").write_bytes(b"not a PDF")
    run = celeriac(env, tmp_path, "run", "literature-review", "--inline", "--param", "path=papers")
    assert run["outputs"]["quarantined"] == 1
    listed = celeriac(env, tmp_path, "quarantine", "ls")
    assert listed["counts"] == {"damaged": 1}
    paper = listed["papers"][0]["paper_id"]
    assert "code 'odd'" in celeriac(env, tmp_path, "quarantine", "ls", "--code", "odd", code=2)
    assert "not in quarantine" in celeriac(env, tmp_path, "quarantine", "redrive", "nobody", code=2)

    canvas = Canvas(str(papers / "one.pdf"), invariant=1)
    canvas.drawString(72, 700, "Giant planets orbit close to their stars.")
    canvas.save()
    again = celeriac(env, tmp_path, "quarantine", "redrive", "--code", "damaged")
    assert again["paper_ids"] == [paper]
    assert again["run"]["status"] == "SUCCESS"
    assert celeriac(env, tmp_path, "quarantine", "ls") == {"papers": [], "counts": {}}
    assert celeriac(env, tmp_path, "quarantine", "redrive")["run"] is None
    assert [hit["paper_id"] for hit in celeriac(env, tmp_path, "search", "planets")] == ["one"]
