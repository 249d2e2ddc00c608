"""How good a search is, by judgements: which papers people hold to fit which queries.

The files are those of BEIR (https://github.com/beir-cellar/beir): `queries.jsonl` with `_id` and `text`, and
`qrels/test.tsv` (or `qrels.tsv`) with query, paper and grade in columns, under a line of headings.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from pipeline.search import MODES, Mode, Readable, search
from workflows.model.errors import CeleriacError

QUERIES = "queries.jsonl"
JUDGEMENTS = ("qrels/test.tsv", "qrels.tsv")
DEPTH = 10
RECALL_DEPTH = 100

Grades = Mapping[str, float]
"""Papers by id, with how well they fit a query: 0 is not at all."""


class EvaluationError(CeleriacError):
    """The files of an evaluation are missing, or cannot be read."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A query and the papers that fit it."""

    id: str
    text: str
    grades: Grades


@dataclass(frozen=True, slots=True)
class Quality:
    """Means over all queries, from 0 to 1.

    Attributes:
        ndcg: Normalised discounted cumulative gain of the first 10.
        recall: Share of the fitting papers among the first 100.
        reciprocal_rank: 1 over the place of the first that fits, of the first 10; 0 where none does.
    """

    mode: Mode
    queries: int
    ndcg: float
    recall: float
    reciprocal_rank: float


def read_judged(folder: Path) -> list[Judged]:
    """The queries of a folder that have judgements.

    Raises:
        EvaluationError: a file is missing or malformed; the message names it and the line.
    """
    texts = dict(_queries(folder / QUERIES))
    found = next((folder / name for name in JUDGEMENTS if (folder / name).is_file()), None)
    if found is None:
        raise EvaluationError(
            f"{folder} has no judgements", f"put {JUDGEMENTS[0]} there: query, paper and grade, parted by tabs"
        )
    grades: dict[str, dict[str, float]] = {}
    for query, paper, grade in _judgements(found):
        grades.setdefault(query, {})[paper] = grade
    judged = [Judged(query, texts[query], graded) for query, graded in grades.items() if query in texts]
    judged = [one for one in judged if any(grade > 0 for grade in one.grades.values())]
    if not judged:
        raise EvaluationError(f"no query of {folder} has a paper that fits it", "do the ids of both files agree?")
    return judged


def evaluate(
    database: Readable, judged: Sequence[Judged], collection: str, modes: Sequence[Mode] = MODES
) -> list[Quality]:
    """Search for each query in each mode, and compare with the judgements."""
    return [_quality(database, judged, collection, mode) for mode in modes]


def ndcg(ranked: Sequence[str], grades: Grades, depth: int = DEPTH) -> float:
    """Normalised discounted cumulative gain: 1 for the best order there could be.

    >>> round(ndcg(["b", "a"], {"a": 1.0}), 3)
    0.631
    """
    best = sorted((grade for grade in grades.values() if grade > 0), reverse=True)
    ideal = _gain(best[:depth])
    return _gain([grades.get(paper, 0.0) for paper in ranked[:depth]]) / ideal if ideal else 0.0


def recall(ranked: Sequence[str], grades: Grades, depth: int = RECALL_DEPTH) -> float:
    """Share of the papers that fit which are among the first."""
    wanted = {paper for paper, grade in grades.items() if grade > 0}
    return len(wanted.intersection(ranked[:depth])) / len(wanted) if wanted else 0.0


def reciprocal_rank(ranked: Sequence[str], grades: Grades, depth: int = DEPTH) -> float:
    """1 over the place of the first paper that fits."""
    return next((1 / place for place, paper in enumerate(ranked[:depth], 1) if grades.get(paper, 0.0) > 0), 0.0)


def _quality(database: Readable, judged: Sequence[Judged], collection: str, mode: Mode) -> Quality:
    figures = []
    for one in judged:
        hits = search(database, one.text, limit=RECALL_DEPTH, collection=collection, mode=mode)
        ranked = [hit.paper_id for hit in hits]
        figures.append((ndcg(ranked, one.grades), recall(ranked, one.grades), reciprocal_rank(ranked, one.grades)))
    return Quality(mode, len(judged), *(fmean(column) for column in zip(*figures, strict=True)))


def _gain(grades: Sequence[float]) -> float:
    return sum(grade / math.log2(place + 1) for place, grade in enumerate(grades, 1))


def _queries(file: Path) -> Iterator[tuple[str, str]]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        raise EvaluationError(f"{file} cannot be read: {error}", 'one JSON object a line: {"_id", "text"}') from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
            yield str(value["_id"]), str(value["text"])
        except (ValueError, KeyError, TypeError, RecursionError):
            raise EvaluationError(
                f"line {number} of {file} is no query", 'write {"_id": "1", "text": "what is asked"}'
            ) from None


def _judgements(file: Path) -> Iterator[tuple[str, str, float]]:
    with file.open(encoding="utf-8", newline="") as lines:
        for number, row in enumerate(csv.reader(lines, delimiter="\t"), 1):
            if not row or (number == 1 and row[-1].strip().lower() in {"score", "grade", "relevance"}):
                continue
            try:
                query, paper, grade = row[0], row[-2], float(row[-1])
            except (IndexError, ValueError):
                raise EvaluationError(
                    f"line {number} of {file} is no judgement", "write query, paper and grade, parted by tabs"
                ) from None
            yield query, paper, grade
