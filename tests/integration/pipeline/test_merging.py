"""One paper that several catalogues have is one row, and says of each field where it is from."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from pipeline import papers
from pipeline.merging import keys_of
from pipeline.sources.record import Record
from pipeline.tables import paper_records
from pipeline.tables import papers as table
from workflows.db.database import Database

TITLE = "Attention is all you need, and a little more"
ARXIV = Record(
    "1706.03762",
    TITLE,
    "The abstract of arXiv.",
    ("Ashish Vaswani", "Noam Shazeer"),
    2017,
    None,
    "https://arxiv.org/abs/1706.03762",
)
CROSSREF = Record(
    "10.1/attention", TITLE.upper(), "", ("A. Vaswani",), 2017, "10.1/attention", "https://doi.org/10.1/attention"
)
OPENALEX = Record(
    "W1",
    "Attention is all you need",
    "Words of OpenAlex",
    ("Someone Else",),
    2018,
    "10.1/attention",
    "https://openalex.org/W1",
)
SEMANTIC = Record("s2", "Another title altogether", "", (), None, "10.48550/arxiv.1706.03762", None)
# By DOI, by arXiv id, and by title, year and author: what joins two of them comes before, between and after both.
ORDERS = (
    ("arxiv", "crossref", "openalex", "semantic_scholar"),
    ("semantic_scholar", "openalex", "crossref", "arxiv"),
    ("arxiv", "openalex", "semantic_scholar", "crossref"),
    ("openalex", "semantic_scholar", "arxiv", "crossref"),
)
ALL = {"arxiv": ARXIV, "crossref": CROSSREF, "openalex": OPENALEX, "semantic_scholar": SEMANTIC}


def _save(database: Database, source: str, *records: Record) -> papers.Fetched:
    with database.begin() as connection:
        return papers.save_records(connection, source, source, records)


def _rows(database: Database) -> list[Any]:
    with database.connect() as connection:
        return list(connection.execute(select(table)).mappings())


@pytest.mark.parametrize("order", ORDERS, ids=" ".join)
def test_in_whatever_order_they_come_they_are_one_paper(database: Database, order: tuple[str, ...]) -> None:
    fetched = [_save(database, source, ALL[source]) for source in order]
    (row,) = _rows(database)
    assert fetched[-1].paper_ids == (row["id"],)
    assert (row["title"], row["abstract"], row["year"]) == (TITLE, ARXIV.text, 2017)
    assert (row["doi"], row["url"]) == ("10.1/attention", ARXIV.url)
    assert json.loads(row["authors"]) == list(ARXIV.authors)
    told = json.loads(row["provenance"])
    assert (told["title"], told["text"], told["doi"]) == ("arxiv", "arxiv", "crossref")
    with database.connect() as connection:
        kept = {r.source: json.loads(r.content) for r in connection.execute(select(paper_records))}
    assert {source: content["title"] for source, content in kept.items()} == {s: r.title for s, r in ALL.items()}


def test_what_a_source_adds_is_an_update_and_the_same_again_is_none(database: Database) -> None:
    assert _save(database, "crossref", CROSSREF).new == 1
    added = _save(database, "openalex", OPENALEX)
    assert (added.new, added.updated) == (0, 1)  # the abstract
    assert _rows(database)[0]["abstract"] == "Words of OpenAlex"
    again = _save(database, "openalex", OPENALEX)
    assert (again.new, again.updated, again.unchanged) == (0, 0, 1)


def test_a_new_version_replaces_what_its_source_said(database: Database) -> None:
    _save(database, "arxiv", ARXIV)
    newer = replace(ARXIV, text="A better abstract.", year=2018)
    assert _save(database, "arxiv", newer).updated == 1
    (row,) = _rows(database)
    assert (row["abstract"], row["year"]) == ("A better abstract.", 2018)


def test_two_records_of_one_catalogue_stay_two(database: Database) -> None:
    twin = replace(CROSSREF, external_id="10.1/twin", doi="10.1/twin")
    assert _save(database, "crossref", CROSSREF, twin).new == 2
    assert len(_rows(database)) == 2


def test_papers_that_each_have_a_record_of_one_source_are_not_joined(database: Database) -> None:
    _save(database, "arxiv", ARXIV)
    _save(database, "openalex", OPENALEX, replace(SEMANTIC, external_id="W2"))
    # W2 is the arXiv paper, W1 has the DOI: a record with the DOI and the title would join two of OpenAlex.
    _save(database, "crossref", CROSSREF)
    rows = _rows(database)
    assert len(rows) == 2
    assert _save(database, "crossref", CROSSREF).unchanged == 1


def test_folders_are_left_alone(database: Database) -> None:
    _save(database, "arxiv", ARXIV)
    with database.begin() as connection:
        twins = [replace(ARXIV, external_id="1"), replace(ARXIV, external_id="2")]
        assert papers.save_records(connection, "local", "/folder", twins).new == 2
    rows = _rows(database)
    assert len(rows) == 3
    assert {row["provenance"] is None for row in rows if row["source"] == "local"} == {True}


@pytest.mark.parametrize(
    ("record", "keys"),
    [
        (replace(ARXIV, title="Short", arxiv_id="1706.03762"), ["arxiv:1706.03762"]),
        (
            replace(SEMANTIC, url="https://arxiv.org/abs/hep-th/9901001v3", doi=None),
            ["arxiv:hep-th/9901001"],
        ),
        (CROSSREF, ["doi:10.1/attention", "title:attentionisallyouneedandalittlemore:2017:vaswani"]),
        (replace(CROSSREF, year=None), ["doi:10.1/attention"]),
        (
            Record("x", "Été à la plage, mémoire d'un été", "", ("Zoë Ångström",), 2001),
            ["title:etealaplagememoiredunete:2001:angstrom"],
        ),
    ],
)
def test_a_paper_is_known_by_its_ids_and_its_title(record: Record, keys: list[str]) -> None:
    assert list(keys_of(record)) == keys
