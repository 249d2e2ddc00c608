import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.sources.local import SHIPPED, locate, read
from pipeline.sources.record import Record, RecordError, parse_record
from workflows.steps import PermanentError


def corpus(folder: Path, *lines: Any) -> Path:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    (folder / "corpus.jsonl").write_text(text, encoding="utf-8")
    return folder


def records(folder: Path) -> list[Record]:
    return read(locate(str(folder)))


def test_the_shipped_corpus_holds_a_hundred_papers_and_some_pdfs() -> None:
    found = read(locate(SHIPPED))
    assert len(found) >= 100
    assert all(record.title and record.text and record.authors and record.url and not record.fault for record in found)
    assert len([record for record in found if record.pdf]) == 6
    assert locate("") == locate(SHIPPED)


def test_records_keep_the_order_of_the_file_and_their_ids(tmp_path: Path) -> None:
    corpus(tmp_path, {"_id": "b", "title": "B", "text": "x"}, "", {"_id": 7, "title": "7", "text": ""})
    assert [(r.external_id, r.title, r.text) for r in records(tmp_path)] == [("b", "B", "x"), ("7", "7", "")]


def test_bad_lines_are_set_aside_with_their_reason_and_the_others_are_read(tmp_path: Path) -> None:
    corpus(
        tmp_path,
        {"_id": "1", "title": "good", "text": "x"},
        "{not json",
        "[1, 2]",
        {"title": "no id"},
        {"_id": "1", "title": "the same id"},
        {"_id": "2", "title": ["no", "text"]},
        '{"_id": "\\ud800"}',
        "[" * 100_000,
    )
    with (tmp_path / "corpus.jsonl").open("ab") as file:
        file.write(b'\n{"_id": "\xff"}\n')
    good, *bad = records(tmp_path)
    assert (good.external_id, good.fault) == ("1", None)
    assert [record.external_id for record in bad] == [f"corpus.jsonl:{n}" for n in range(2, 10)]
    reasons = ["not JSON", "no JSON object", "no '_id'", "same _id '1'", "no text", "cannot be shown", "", "UTF-8"]
    for record, reason in zip(bad, reasons, strict=True):
        assert record.fault is not None
        assert reason in record.fault


def test_a_corpus_of_bad_lines_only_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match=r"corpus.jsonl:1: line 1: it is not JSON"):
        records(corpus(tmp_path, "nothing", "good"))


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda folder: None, "neither corpus.jsonl nor a .pdf"),
        (lambda folder: (folder / "corpus.jsonl").touch(), "corpus.jsonl is empty"),
        (lambda folder: (folder / "notes.txt").write_text("x"), "neither corpus.jsonl nor a .pdf"),
    ],
    ids=["nothing", "an empty corpus", "other files"],
)
def test_a_folder_without_papers_is_an_error_that_says_what_to_put_there(
    tmp_path: Path, prepare: Any, message: str
) -> None:
    prepare(tmp_path)
    with pytest.raises(PermanentError, match=message):
        records(tmp_path)


@pytest.mark.parametrize("path", ["no/such/folder", "nul\x00", "~no-such-user/papers"])
def test_a_path_that_leads_nowhere_is_an_error_with_a_hint(path: str) -> None:
    with pytest.raises(PermanentError, match="path"):
        locate(path)


def test_a_relative_path_is_looked_up_in_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus(tmp_path, {"_id": "1", "title": "t", "text": "x"})
    monkeypatch.chdir(tmp_path.parent)
    place = locate(tmp_path.name)
    assert place.origin == str(tmp_path.resolve())
    assert len(read(place)) == 1


def test_a_pdf_belongs_to_the_line_with_its_name_and_stands_alone_without_one(tmp_path: Path) -> None:
    corpus(tmp_path, {"_id": "cs/0503050", "title": "Old", "text": "abstract"})
    for name in ("z.pdf", "cs_0503050.PDF", "a.pdf"):
        (tmp_path / name).write_bytes(name.encode())
    found = records(tmp_path)
    assert [(r.external_id, r.pdf.name if r.pdf else None) for r in found] == [
        ("cs/0503050", "cs_0503050.PDF"),
        ("a", "a.pdf"),
        ("z", "z.pdf"),
    ]


def test_one_file_may_be_named_instead_of_a_folder(tmp_path: Path) -> None:
    corpus(tmp_path, {"_id": "1", "title": "t", "text": "x"}).joinpath("corpus.jsonl").rename(tmp_path / "mine.jsonl")
    (tmp_path / "p.pdf").write_bytes(b"%PDF")
    assert [record.external_id for record in records(tmp_path / "mine.jsonl")] == ["1"]
    assert [record.external_id for record in records(tmp_path / "p.pdf")] == ["p"]


def test_the_content_hash_sees_every_field_and_the_pdf_but_not_its_place(tmp_path: Path) -> None:
    base = Record("1", "t", "x", ("A",), 2000, "10.1/x", "https://example.org", pdf=tmp_path / "a.pdf", pdf_hash="hash")
    from dataclasses import replace

    assert replace(base, pdf=tmp_path / "b.pdf").content_hash() == base.content_hash()
    changes: list[dict[str, Any]] = [
        {"title": "T"},
        {"text": "y"},
        {"authors": ("B",)},
        {"year": 2001},
        {"doi": None},
        {"url": None},
        {"pdf_hash": "h"},
    ]
    hashes = {replace(base, **change).content_hash() for change in changes}
    assert len(hashes) == len(changes)
    assert base.content_hash() not in hashes


def test_odd_optional_fields_are_left_out_and_do_not_lose_the_paper() -> None:
    record = parse_record({"_id": "1", "authors": "Ada Lovelace; Alan Turing", "year": "1999", "doi": " 10.1/x "})
    assert (record.authors, record.year, record.doi) == (("Ada Lovelace", "Alan Turing"), 1999, "10.1/x")
    odd = parse_record({"_id": "1", "authors": [1, None, "A"], "year": "soon", "title": None})
    assert (odd.authors, odd.year, odd.title) == (("A",), None, "")


@pytest.mark.parametrize("value", [None, 3, "text", {"_id": ""}, {"_id": True}, {"_id": None}, {"_id": 1.5}])
def test_what_has_no_id_is_no_record(value: object) -> None:
    with pytest.raises(RecordError):
        parse_record(value)
