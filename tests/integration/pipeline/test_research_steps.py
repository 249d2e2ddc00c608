"""The steps one after the other on a real database: what they do, and what they do not do a second time."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from reportlab.pdfgen.canvas import Canvas
from sqlalchemy import func, select

from pipeline.filters import SearchError
from pipeline.search import search
from pipeline.steps.embed import EmbedInput, embed
from pipeline.steps.fetch import FetchInput
from pipeline.steps.process_papers import ProcessInput, process_papers
from pipeline.steps.store import StoreInput, store
from pipeline.tables import chunks, embeddings, entries, paper_records, papers
from tests.support.pipeline import DirectContext, run_pipeline
from workflows.db.database import Database
from workflows.model.errors import NotFoundError
from workflows.steps import PermanentError

PLANETS = {"_id": "p1", "title": "Hot Jupiters", "text": "Giant planets orbit close to their stars.", "year": 2006}
FLAKY = {"_id": "p2", "title": "Flaky tests", "text": "Some tests fail and pass without any change of the code."}
GRAPHS = {"_id": "p3", "title": "Planar graphs", "text": "A drawing of a graph has no crossing edges."}


def write(folder: Path, *records: Any) -> str:
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    (folder / "corpus.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return str(folder)


def write_pdf(path: Path, *lines: str) -> None:
    canvas = Canvas(str(path), invariant=1)
    for index, line in enumerate(lines):
        canvas.drawString(72, 760 - 14 * index, line)
    canvas.save()


def count(database: Database, table: Any) -> int:
    with database.connect() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def ids(database: Database, query: str, **options: Any) -> list[str]:
    return [hit.paper_id for hit in search(database, query, **options)]


def test_papers_become_searchable(database: Database, tmp_path: Path) -> None:
    result = run_pipeline(database, path=write(tmp_path, PLANETS, FLAKY, GRAPHS))
    assert (result.fetch.fetched, result.fetch.new, result.store.count, result.store.new) == (3, 3, 3, 3)
    (best, *_) = search(database, "unreliable checks that break now and then")
    assert (best.paper_id, best.title, best.section, best.page) == ("p2", "Flaky tests", "Abstract", None)
    assert best.snippet == FLAKY["text"]
    assert ids(database, "planets")[0] == "p1"


def test_the_second_time_nothing_is_done_again(database: Database, tmp_path: Path) -> None:
    path = write(tmp_path, PLANETS, FLAKY)
    run_pipeline(database, path=path)
    with database.connect() as connection:
        before = connection.execute(select(entries.c.id, entries.c.chunk_id).order_by(entries.c.id)).all()
    again = run_pipeline(database, path=path)
    assert (again.fetch.new, again.fetch.updated, again.fetch.unchanged) == (0, 0, 2)
    assert [(output.status, output.chunk_ids, output.chunks) for output in again.process] == [("unchanged", [], 1)] * 2
    assert (again.embedded, again.store.new, again.store.unchanged, again.store.removed) == (0, 0, 2, 0)
    with database.connect() as connection:
        assert connection.execute(select(entries.c.id, entries.c.chunk_id).order_by(entries.c.id)).all() == before


def test_only_a_changed_paper_is_processed_and_its_old_text_is_no_longer_found(
    database: Database, tmp_path: Path
) -> None:
    run_pipeline(database, path=write(tmp_path, PLANETS, FLAKY))
    changed = {**PLANETS, "text": "Small moons circle around distant worlds."}
    result = run_pipeline(database, path=write(tmp_path, changed, FLAKY, GRAPHS))
    assert (result.fetch.new, result.fetch.updated, result.fetch.unchanged) == (1, 1, 1)
    assert [output.status for output in result.process] == ["processed", "unchanged", "processed"]
    assert result.embedded == 2
    assert (result.store.new, result.store.removed, result.store.unchanged) == (2, 1, 1)
    with database.connect() as connection:
        texts = connection.execute(select(entries.c.text)).scalars().all()
    assert sorted(texts) == sorted(str(record["text"]) for record in (changed, FLAKY, GRAPHS))


def test_force_does_the_work_again_and_changes_nothing(database: Database, tmp_path: Path) -> None:
    path = write(tmp_path, PLANETS, FLAKY)
    run_pipeline(database, path=path)
    forced = run_pipeline(database, path=path, force=True)
    assert [output.status for output in forced.process] == ["processed", "processed"]
    assert (forced.embedded, forced.store.count, forced.store.removed) == (2, 2, 0)
    assert count(database, chunks) == count(database, entries) == count(database, embeddings) == 2


def test_equal_text_is_embedded_once(database: Database, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    run_pipeline(database, path=write(first, PLANETS))
    result = run_pipeline(database, path=write(second, PLANETS))
    assert (result.fetch.new, result.embedded, result.store.new) == (1, 0, 1)
    assert count(database, papers) == 2
    assert count(database, embeddings) == 1


def test_a_run_that_broke_off_after_processing_is_finished_by_the_next(database: Database, tmp_path: Path) -> None:
    path = write(tmp_path, PLANETS)
    whole = run_pipeline(database, path=path)
    with database.begin() as connection:
        connection.execute(entries.delete())
        connection.execute(embeddings.delete())
    again = run_pipeline(database, path=path)
    assert again.process[0].status == "unchanged"
    assert again.process[0].chunk_ids == whole.process[0].chunk_ids or len(again.process[0].chunk_ids) == 1
    assert (again.embedded, again.store.new) == (1, 1)
    assert ids(database, "planets") == ["p1"]


def test_bad_records_are_quarantined_with_their_reason_and_forgotten_once_mended(
    database: Database, tmp_path: Path
) -> None:
    empty = {"_id": "p9", "title": "", "text": ""}
    result = run_pipeline(database, path=write(tmp_path, PLANETS, "{broken", empty))
    assert (result.fetch.fetched, result.fetch.quarantined) == (3, 1)
    assert [output.status for output in result.process] == ["processed", "quarantined", "quarantined"]
    with database.connect() as connection:
        kept = connection.execute(select(papers)).all()
    reasons = {row.external_id: row.quarantine_reason for row in kept}
    assert {row.external_id: row.quarantine_code for row in kept} == {
        "p1": None,
        "corpus.jsonl:2": "bad_record",
        "p9": "no_text",
    }
    assert {row.external_id: row.quarantined_at is None for row in kept}["p1"]
    assert all(row.quarantined_at > 1e9 for row in kept if row.quarantine_code)
    assert reasons["p1"] is None
    assert "not JSON" in reasons["corpus.jsonl:2"]
    assert "neither a title nor a text" in reasons["p9"]

    mended = run_pipeline(database, path=write(tmp_path, PLANETS, FLAKY, {**empty, "title": "A title at last"}))
    assert sum(output.quarantined for output in mended.process) == 0
    assert ids(database, "a title at last")[0] == "p9"
    assert count(database, papers) == 3


def test_an_unreadable_pdf_falls_back_to_the_abstract_until_it_is_replaced(database: Database, tmp_path: Path) -> None:
    path = write(tmp_path, PLANETS)
    (tmp_path / "p1.pdf").write_bytes(b"not a PDF")
    (tmp_path / "lonely.pdf").write_bytes(b"not a PDF either")
    broken = run_pipeline(database, path=path)
    assert [(output.status, output.chunks) for output in broken.process] == [("quarantined", 1), ("quarantined", 0)]
    assert "cannot be opened as a PDF" in str(broken.process[0].reason)
    assert [output.code for output in broken.process] == ["damaged", "damaged"]
    assert search(database, "planets")[0].section == "Abstract"

    write_pdf(
        tmp_path / "p1.pdf", "Abstract", "Giant planets.", "1 Introduction", "They are hot.", "References", "[1] X"
    )
    mended = run_pipeline(database, path=path)
    assert (mended.process[0].status, mended.process[0].chunks) == ("processed", 2)
    assert (mended.process[0].code, mended.process[0].reason) == (None, None)
    hit = search(database, "They are hot")[0]
    assert (hit.paper_id, hit.page, hit.section) == ("p1", 1, "Introduction")


def test_a_folder_of_pdfs_alone_is_a_corpus(database: Database, tmp_path: Path) -> None:
    write_pdf(tmp_path / "paper-7.pdf", "On Giant Planets", "Giant planets orbit close to their stars.")
    run_pipeline(database, path=str(tmp_path))
    (hit,) = search(database, "planets near stars")
    assert (hit.paper_id, hit.title, hit.page) == ("paper-7", "On Giant Planets", 1)
    assert hit.source == str(tmp_path / "paper-7.pdf")


def test_text_that_a_database_would_choke_on_is_stored_and_found(database: Database, tmp_path: Path) -> None:
    odd = (
        r'{"_id": "odd", "title": "Nul\u0000 and \ud800", "text": "\u00e9t\u00e9 \u2264 \u0000 planets % \\ \" ; DROP"}'
    )
    run_pipeline(database, path=write(tmp_path, odd))
    assert ids(database, "été planets") == ["odd"]


@pytest.mark.parametrize(
    "query",
    ['"', "NEAR(a b)", "a AND OR NOT", "title:x *", "^a -b", "'; DROP TABLE papers;--", "a:b & !c | (", "\\", "…", "%"],
)
def test_no_query_is_taken_for_syntax(database: Database, tmp_path: Path, query: str) -> None:
    run_pipeline(database, path=write(tmp_path, PLANETS, FLAKY))
    assert sorted(ids(database, query)) == ["p1", "p2"]


def test_collections_are_apart_and_the_limit_holds(database: Database, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    run_pipeline(database, path=write(first, PLANETS, FLAKY, GRAPHS), collection="a")
    run_pipeline(database, path=write(second, FLAKY), collection="b")
    assert len(ids(database, "tests", collection="a")) == 3
    assert len(ids(database, "tests", collection="a", limit=2)) == 2
    assert ids(database, "planets", collection="b") == ["p2"]


def test_a_search_before_anything_is_stored_says_what_to_do(database: Database) -> None:
    with pytest.raises(NotFoundError, match="nothing is stored") as caught:
        search(database, "planets")
    assert "celeriac run" in caught.value.hint
    with pytest.raises(SearchError, match="empty"):
        search(database, "  \n ")
    with pytest.raises(SearchError, match="limit"):
        search(database, "planets", limit=0)


def test_a_search_without_tables_says_the_same(database_url: str) -> None:
    with pytest.raises(NotFoundError, match="nothing is stored"):
        search(Database(database_url), "planets")


def test_a_limit_takes_the_first_papers_and_counts_the_others(database: Database, tmp_path: Path) -> None:
    result = run_pipeline(database, path=write(tmp_path, PLANETS, FLAKY, GRAPHS), limit=2)
    assert (result.fetch.fetched, result.fetch.left_out) == (2, 1)


def test_an_unknown_paper_is_a_permanent_error(database: Database) -> None:
    with pytest.raises(PermanentError, match="no paper"):
        process_papers(ProcessInput(paper="nobody"), DirectContext(database))


def test_chunks_that_are_gone_are_no_error(database: Database) -> None:
    output = embed(EmbedInput(chunks=["gone", "too"]), DirectContext(database))
    assert (output.vectors, output.embedded) == (0, 0)
    assert embed(EmbedInput(chunks=[]), DirectContext(database)).vectors == 0
    assert store(StoreInput(papers=[]), DirectContext(database)).count == 0


def test_a_failed_embedding_is_counted_as_missing_and_the_paper_keeps_what_it_has(
    database: Database, tmp_path: Path
) -> None:
    result = run_pipeline(database, path=write(tmp_path, PLANETS, FLAKY))
    with database.begin() as connection:
        kept = connection.execute(select(chunks.c.text_hash).where(chunks.c.text == FLAKY["text"])).scalar_one()
        connection.execute(embeddings.delete().where(embeddings.c.text_hash != kept))
        connection.execute(entries.delete())
    stored = store(StoreInput(papers=result.fetch.paper_ids), DirectContext(database))
    assert (stored.count, stored.missing) == (1, 1)


def test_two_runs_at_once_store_every_chunk_once(database: Database, tmp_path: Path) -> None:
    path = write(tmp_path, *({**FLAKY, "_id": f"p{n}", "title": f"Title {n}"} for n in range(12)))
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda _: run_pipeline(database, path=path), range(3)))
    assert [result.store.count for result in results] == [12, 12, 12]
    assert count(database, papers) == count(database, chunks) == count(database, entries) == 12


def test_an_entry_of_a_folder_is_kept_as_it_was_written(database: Database, tmp_path: Path) -> None:
    entry = "@misc{key, title = {A title}, abstract = {Tests that fail}, mynote = {mine}}"
    (tmp_path / "refs.bib").write_text(entry, encoding="utf-8")
    run_pipeline(database, path=str(tmp_path))
    result = run_pipeline(database, path=str(tmp_path))
    assert (result.fetch.unchanged, result.store.collection_papers) == (1, 1)
    with database.connect() as connection:
        (said,) = connection.execute(select(paper_records)).all()
        (paper,) = connection.execute(select(papers)).all()
    assert (said.external_id, said.original, said.paper_id) == ("key", entry, paper.id)
    assert json.loads(paper.details) == {"type": "misc", "mynote": "mine"}
    assert ids(database, "failing checks") == ["key"]


def test_what_is_no_longer_in_the_folder_goes_when_it_is_pruned(database: Database, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    run_pipeline(database, path=write(other, GRAPHS))
    run_pipeline(database, path=write(tmp_path, PLANETS, FLAKY))
    path = write(tmp_path, FLAKY)
    assert run_pipeline(database, path=path).fetch.removed == 0
    assert set(ids(database, "anything")) == {"p1", "p2", "p3"}
    pruned = run_pipeline(database, path=path, prune=True)
    assert (pruned.fetch.removed, pruned.fetch.unchanged, pruned.store.collection_papers) == (1, 1, 2)
    assert set(ids(database, "anything")) == {"p2", "p3"}
    assert run_pipeline(database, path=path, prune=True).fetch.removed == 0


def test_nothing_is_forgotten_while_an_entry_cannot_be_read(database: Database, tmp_path: Path) -> None:
    run_pipeline(database, path=write(tmp_path, PLANETS, FLAKY))
    torn = run_pipeline(database, path=write(tmp_path, json.dumps(PLANETS)[:30], FLAKY), prune=True)
    assert (torn.fetch.removed, torn.fetch.quarantined) == (0, 1)
    assert set(ids(database, "anything")) == {"p1", "p2"}
    assert run_pipeline(database, path=write(tmp_path, FLAKY), prune=True).fetch.removed == 1


def test_pruning_keeps_what_is_beyond_the_limit_and_is_for_folders(database: Database, tmp_path: Path) -> None:
    path = write(tmp_path, PLANETS, FLAKY)
    run_pipeline(database, path=path)
    limited = run_pipeline(database, path=path, prune=True, limit=1)
    assert (limited.fetch.removed, limited.fetch.left_out) == (0, 1)
    with pytest.raises(ValueError, match="'local'"):
        FetchInput(source="arxiv", query="x", prune=True)
