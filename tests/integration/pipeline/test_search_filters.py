"""A search is narrowed before anything is ranked, on both databases."""

import json
from pathlib import Path

import pytest

from pipeline.filters import Filters, SearchError
from pipeline.search import Mode, search
from tests.support.pipeline import run_pipeline
from workflows.db.database import Database

PAPERS = [
    {"_id": "old", "title": "Beets in winter", "text": "Beets are stored in sand over the winter.", "year": 1999},
    {"_id": "new", "title": "Beets in summer", "text": "Beets are sown early for the summer.", "year": 2021},
    {"_id": "undated", "title": "Beets at large", "text": "Beets are red, mostly, and keep well."},
]


@pytest.fixture
def stored(database: Database, tmp_path: Path) -> Database:
    (tmp_path / "corpus.jsonl").write_text("\n".join(map(json.dumps, PAPERS)))
    run_pipeline(database, path=str(tmp_path))
    return database


@pytest.mark.parametrize("mode", ["hybrid", "dense", "lexical"])
@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (Filters(), {"old", "new", "undated"}),
        (Filters(year_from=2000), {"new"}),
        (Filters(year_to=2000), {"old"}),
        (Filters(year_from=1999, year_to=2021), {"old", "new"}),
        (Filters(source="local"), {"old", "new", "undated"}),
        (Filters(source="arxiv"), set()),
        (Filters(section="no such%"), set()),
    ],
)
def test_only_what_the_filters_leave_is_found(stored: Database, mode: Mode, filters: Filters, found: set[str]) -> None:
    assert {hit.paper_id for hit in search(stored, "beets", mode=mode, filters=filters)} == found


def test_as_many_as_asked_for_are_found_among_what_is_left(stored: Database) -> None:
    (hit,) = search(stored, "stored in sand over the winter", limit=1, filters=Filters(year_from=2000))
    assert hit.paper_id == "new"


def test_words_of_the_query_are_marked(stored: Database) -> None:
    (hit,) = search(stored, "sand in winter", limit=1)
    assert [hit.snippet[start:end] for start, end in hit.highlights] == ["sand", "winter"]


def test_years_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(SearchError, match="exchange"):
        Filters(year_from=2020, year_to=2010)


def test_a_search_sees_what_was_stored_since_the_last(stored: Database, tmp_path: Path) -> None:
    assert len(search(stored, "beets")) == 3
    (tmp_path / "corpus.jsonl").write_text(json.dumps({"_id": "fresh", "title": "Fresh beets", "text": "Beets anew."}))
    run_pipeline(stored, path=str(tmp_path))
    assert len(search(stored, "beets")) == 4
