"""How good a search is, by judgements in BEIR's files."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from celeriac import main
from pipeline.evaluation import EvaluationError, ndcg, read_judged, recall, reciprocal_rank
from tests.integration.pipeline.test_search_quality import PARAPHRASES


def test_only_what_has_a_paper_that_fits_is_asked(tmp_path: Path) -> None:
    _write(tmp_path)
    judged = read_judged(tmp_path)
    assert [one.text for one in judged] == list(PARAPHRASES)
    assert judged[0].grades == {"astro-ph/0601001": 1.0, "1908.03707": 0.0}


def _write(folder: Path, judgements: str = "qrels/test.tsv") -> None:
    queries = [json.dumps({"_id": f"q{n}", "text": text}) for n, text in enumerate(PARAPHRASES)]
    (folder / "queries.jsonl").write_text("\n".join([*queries, json.dumps({"_id": "unjudged", "text": "x"})]))
    rows = [f"q{n}\t{paper}\t1" for n, paper in enumerate(PARAPHRASES.values())]
    (folder / judgements).parent.mkdir(exist_ok=True)
    (folder / judgements).write_text("\n".join(["query-id\tcorpus-id\tscore", *rows, "q0\t1908.03707\t0"]) + "\n")


def test_the_measures_are_those_of_the_books() -> None:
    grades = {"a": 3.0, "b": 2.0, "c": 0.0}
    assert ndcg(["a", "b"], grades) == 1.0
    assert ndcg(["b", "a"], grades) == pytest.approx((2 + 3 / math.log2(3)) / (3 + 2 / math.log2(3)))
    assert ndcg(["c", "x"], grades) == 0.0
    assert ndcg(["x"] * 10 + ["a"], grades) == 0.0
    assert (recall(["a", "x"], grades), recall([], grades), recall(["a"], {})) == (0.5, 0.0, 0.0)
    assert (reciprocal_rank(["x", "b"], grades), reciprocal_rank(["x"], grades)) == (0.5, 0.0)


def test_the_command_line_prints_what_it_measures(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _write(tmp_path, "qrels.tsv")
    assert main.run(["eval", str(tmp_path)]) == 2
    assert main.run(["run", "literature-review", "--inline", "--param", "max_papers=20"]) == 0
    capsys.readouterr()
    assert main.run(["eval", str(tmp_path), "--json"]) == 0
    modes = [quality["mode"] for quality in json.loads(capsys.readouterr().out)]
    assert modes == ["hybrid", "dense", "lexical"]
    assert main.run(["eval", str(tmp_path)]) == 0
    assert "nDCG@10" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("queries", "judgements", "told"),
    [
        (None, "", "cannot be read"),
        ('{"_id": 1}', "", "line 1 of"),
        ('{"_id": "1", "text": "x"}', None, "has no judgements"),
        ('{"_id": "1", "text": "x"}', "q\tp\tscore\n1\tp\n", "line 2 of"),
        ('{"_id": "1", "text": "x"}', "q\tp\tscore\n1\tp\t0\n", "no query of"),
    ],
)
def test_files_that_are_wrong_are_told(tmp_path: Path, queries: str | None, judgements: str | None, told: str) -> None:
    if queries is not None:
        (tmp_path / "queries.jsonl").write_text(queries)
    if judgements is not None:
        (tmp_path / "qrels.tsv").write_text(judgements)
    with pytest.raises(EvaluationError, match=told):
        read_judged(tmp_path)
