"""Folders with bibliographies: BibTeX, RIS and CSL-JSON as programs write them, and as people break them."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from pipeline.sources.bibtex import files_of
from pipeline.sources.latex import plain
from pipeline.sources.local import locate, read
from pipeline.sources.record import Record
from workflows.steps import PermanentError

BIB = r"""% Encoding: UTF-8
@comment{jabref-meta: databaseType:bibtex;}
@string{prl = "Physical Review " # "Letters"}

@Article{schroedinger1935,
  author = {Schr{\"o}dinger, Erwin and {The Cat Collaboration} and van der Waals, J. D. and Grace Hopper and others},
  title = {Die gegenw{\"a}rtige {S}ituation \emph{in der} Quantenmechanik -- with $\psi_1$},
  journal = PRL, year = 1935, month = nov, volume = 23, number = 48, pages = {807--812},
  doi = {https://doi.org/10.1007/BF01491891}, url = {http://example.org/a_b\%20c},
  abstract = "A cat is
     penned up in a \textit{steel} chamber.",
  keywords = {cats; quantum mechanics, boxes}, issn = {0028-1042, 1432-1904},
  archivePrefix = {arXiv}, eprint = {quant-ph/0000001v2},
  mycustom = {kept, too},
}
@inproceedings(b2020, title = "Braces {and} parentheses", booktitle = {Proc. of Things}, date = {2020-03-21},
  editor = {Last, Jr., First})
"""

RIS = """TY  - JOUR
ID  - one
AU  - Lovelace, Ada
AU  - King, William, Jr.
TI  - Notes on the
      analytical engine
T2  - Scientific Memoirs
JO  - Sci. Mem.
PY  - 1843/09/01/
VL  - 3
SP  - 666
EP  - 731
DO  - 10.1000/notes
UR  - https://example.org/notes
KW  - engines
KW  - numbers
AB  - It weaves algebraic patterns.
N1  - a note
SN  - 1234-5678
M3  - Article
M3  - Translation
XX  - a tag of nobody
ER  -

TY - CONF
DO - 10.1000/two
T1 - One space before the hyphen
Y1 - 1999
ER -
"""

CSL = [
    {
        "id": "http://zotero.org/users/1/items/ABCD",
        "type": "article-journal",
        "title": "On <i>beets</i>",
        "author": [
            {"given": "Ada", "family": "Beet", "suffix": "III"},
            {"literal": "Root Group"},
            {"given": "Jan", "non-dropping-particle": "van", "family": "Biet"},
        ],
        "container-title": "Journal of Roots",
        "issued": {"date-parts": [[2021, 5, "6"]]},
        "DOI": "10.1/BEET",
        "abstract": "<p>Beets are red.</p>",
        "ISSN": "1111-2222",
        "keyword": "beets, roots",
        "page": "1-9",
        "custom": {"field": [1, 2]},
    }
]


def _records(folder: Path) -> dict[str, Record]:
    return {record.external_id: record for record in read(locate(str(folder)))}


def test_bibtex_keeps_every_field_as_plain_text(tmp_path: Path) -> None:
    (tmp_path / "refs.bib").write_text(BIB, encoding="utf-8")
    found = _records(tmp_path)
    assert list(found) == ["schroedinger1935", "b2020"]
    cat, other = found.values()
    assert cat.authors == ("Erwin Schrödinger", "The Cat Collaboration", "J. D. van der Waals", "Grace Hopper")
    assert cat.title == r"Die gegenwärtige Situation in der Quantenmechanik – with $\psi_1$"
    assert cat.text == "A cat is penned up in a steel chamber."
    assert (cat.year, cat.venue, cat.doi) == (1935, "Physical Review Letters", "10.1007/BF01491891")
    assert (cat.url, cat.arxiv_id) == ("http://example.org/a_b%20c", "quant-ph/0000001")
    assert cat.details == {
        "type": "article",
        "published": "1935-11",
        "volume": "23",
        "issue": "48",
        "pages": "807-812",
        "keywords": ["cats", "quantum mechanics", "boxes"],
        "issn": ["0028-1042", "1432-1904"],
        "archiveprefix": "arXiv",
        "eprint": "quant-ph/0000001v2",
        "mycustom": "kept, too",
    }
    assert cat.original.startswith("@Article{schroedinger1935")
    assert cat.original.endswith("}")
    assert (other.venue, other.year, other.details["published"]) == ("Proc. of Things", 2020, "2020-03-21")
    assert other.details["editors"] == ["First Last Jr."]


def test_ris_keeps_every_field(tmp_path: Path) -> None:
    (tmp_path / "refs.ris").write_text(RIS, encoding="utf-8-sig")
    one, two = _records(tmp_path).values()
    assert (one.external_id, one.title, one.year) == ("one", "Notes on the analytical engine", 1843)
    assert one.authors == ("Ada Lovelace", "William King Jr.")
    assert (one.doi, one.url, one.text) == (
        "10.1000/notes",
        "https://example.org/notes",
        "It weaves algebraic patterns.",
    )
    assert one.venue == "Sci. Mem."
    assert one.details == {
        "type": "JOUR",
        "published": "1843-09-01",
        "volume": "3",
        "pages": "666-731",
        "keywords": ["engines", "numbers"],
        "notes": ["a note"],
        "issn": ["1234-5678"],
        "type_of_work": ["Article", "Translation"],
        "secondary_title": "Scientific Memoirs",
        "ris_xx": ["a tag of nobody"],
    }
    assert one.original.splitlines()[:2] == ["TY  - JOUR", "ID  - one"]
    assert (two.external_id, two.title, two.year) == ("10.1000/two", "One space before the hyphen", 1999)


def test_csl_keeps_every_field(tmp_path: Path) -> None:
    (tmp_path / "zotero.json").write_text(json.dumps(CSL), encoding="utf-8")
    (tmp_path / "package.json").write_text('{"name": "no bibliography"}', encoding="utf-8")
    (tmp_path / "numbers.json").write_text("[1, 2, 3]", encoding="utf-8")
    (record,) = _records(tmp_path).values()
    assert record.external_id == "http://zotero.org/users/1/items/ABCD"
    assert (record.title, record.text, record.year) == ("On beets", "Beets are red.", 2021)
    assert record.authors == ("Ada Beet III", "Root Group", "Jan van Biet")
    assert (record.doi, record.venue) == ("10.1/BEET", "Journal of Roots")
    assert record.details == {
        "type": "article-journal",
        "published": "2021-05-06",
        "issn": ["1111-2222"],
        "keywords": ["beets", "roots"],
        "pages": "1-9",
        "custom": {"field": [1, 2]},
    }
    assert json.loads(record.original) == CSL[0]


def test_a_broken_entry_is_set_aside_with_its_line_and_costs_no_other(tmp_path: Path) -> None:
    (tmp_path / "a.bib").write_text(
        "@article{good, title = {Good}}\n"
        "@article{open, title = {never {closed},\n year = 2000\n\n"
        "@article{empty}\n"
        "@article{, title={no key}}\n"
        "@book{next, title = {Next} year = 1999}\n"
        "@article{good, title = {The same key}}\n"
        '@misc{last, title = "Last", month = undefined_name, year = 2001} @misc{inline, title={Same line}}\n',
        encoding="utf-8",
    )
    (tmp_path / "b.ris").write_text(
        "lines of nobody\n\nTY  - JOUR\nTI  - Cut off\n\nTY  - JOUR\nAU  - No, Title\nER  - \n", encoding="utf-8"
    )
    (tmp_path / "c.json").write_text('[{"id": 1, "type": "book", "title": "B"}, 7, {"type": "x"}]', encoding="utf-8")
    (tmp_path / "d.json").write_text('[{"id": 1, "type": "book", "title": "B"},', encoding="utf-8")
    found = read(locate(str(tmp_path)))
    assert [r.external_id for r in found if r.fault is None] == ["good", "last", "inline", "Cut off", "1"]
    faults = {record.external_id: str(record.fault) for record in found if record.fault is not None}
    assert {place: reason for place, reason in faults.items() if ";" not in reason} == {}
    expected = {
        "a.bib:2": "no BibTeX",
        "a.bib:5": "no fields",
        "a.bib:6": "entry key expected",
        "a.bib:7": "'}' expected",
        "a.bib:8": "a.bib:1 has the same _id 'good'",
        "b.ris:1": "does not begin with the tag TY",
        "b.ris:6": "neither an ID nor a DO nor a title",
        "c.json:2": "entry 2: it is no JSON object",
        "c.json:3": "entry 3: it has no 'id'",
        "d.json:1": "not JSON",
    }
    assert list(faults) == list(expected)
    for place, reason in expected.items():
        assert reason in faults[place]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends_of_all_systems_are_read(tmp_path: Path, encoding: str, newline: str) -> None:
    bib = "@article{k,\n title = {Über Größe},\n author={Ørsted, H}\n}\n"
    ris = "TY  - JOUR\nID  - r\nTI  - Über Größe\nER  - \n"
    csl = json.dumps([{"id": "c", "type": "book", "title": "Über Größe"}], ensure_ascii=False)
    for name, text in (("a.bib", bib), ("a.ris", ris), ("a.json", csl)):
        (tmp_path / name).write_bytes(text.replace("\n", newline).encode(encoding))
    assert {key: record.title for key, record in _records(tmp_path).items()} == dict.fromkeys("krc", "Über Größe")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("nothing special", "nothing special"),
        (r"Erd\H{o}s, G\'{e}rard, na\"{\i}ve, na\"\i ve", "Erdős, Gérard, naïve, naïve"),
        (r"\v{C}apek, \c{c}a, {\O}re, {\'E}cole", "Čapek, ça, Øre, École"),
        (r"R\&D, 100\%, a\_b, \$5, \{x\}", "R&D, 100%, a_b, $5, {x}"),
        (r"{\textbf{bold} \textsc{Small} {\em so}}", "bold Small so"),
        (r"\href{http://x.org/a}{the text} at \url{http://y.org}", "the text at http://y.org"),
        (r"``quoted'' --- and pages 1--2", "“quoted” — and pages 1–2"),
        (r"$x_{1}^2 \leq \alpha$ {B}", r"$x_{1}^2 \leq \alpha$ B"),
        (r"stra\ss e, stra{\ss}e", "straße, straße"),
    ],
)  # fmt: skip
def test_latex_becomes_plain_text(written: str, meant: str) -> None:
    assert plain(written) == meant


@pytest.mark.parametrize(
    ("field", "paths"),
    [
        ("a.pdf", ["a.pdf"]),
        (":a.pdf:PDF", ["a.pdf"]),
        ("Full Text PDF:files/12/Beet - 2021.pdf:application/pdf", ["files/12/Beet - 2021.pdf"]),
        (r":C\:\\Users\\ada\\b.pdf:PDF", [r"C:\Users\ada\b.pdf"]),
        (r"x:one\;two.pdf:PDF;:b.pdf:PDF", ["one;two.pdf", "b.pdf"]),
        (":mendeley/c.pdf:pdf", ["mendeley/c.pdf"]),
        ("https://x.org/a.pdf", ["https://x.org/a.pdf"]),
        ("", []),
    ],
)
def test_the_field_file_is_read_as_programs_write_it(field: str, paths: list[str]) -> None:
    assert files_of(field) == paths


def test_pdfs_are_found_by_the_field_file_or_by_the_key_and_only_within_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "papers"
    (folder / "files" / "7").mkdir(parents=True)
    for pdf in ("key.pdf", "linked.pdf", "alone.pdf", "files/7/deep.pdf", "moved.pdf"):
        (folder / pdf).write_bytes(pdf.encode())
    (tmp_path / "secret.pdf").write_bytes(b"secret")
    (folder / "refs.bib").write_text(
        r"""@misc{key, title={By its key}}
@misc{l, title={By its field}, file={:linked.pdf:PDF}}
@misc{d, title={Deeper}, file={Deep:files/7/deep.pdf:application/pdf}}
@misc{m, title={From another machine}, file={:C\:\\Users\\ada\\moved.pdf:PDF}}
@misc{up, title={Outside}, file={../secret.pdf}}
@misc{abs, title={Outside}, file={/etc/secret.pdf}}
@misc{gone, title={Not there}, file={gone.pdf}}""",
        encoding="utf-8",
    )
    found = {key: record.pdf and record.pdf.name for key, record in _records(folder).items()}
    assert {key: name for key, name in found.items() if name} == {
        "key": "key.pdf",
        "l": "linked.pdf",
        "d": "deep.pdf",
        "m": "moved.pdf",
        "alone": "alone.pdf",
    }


def test_the_address_of_a_pdf_is_found_where_programs_write_it(tmp_path: Path) -> None:
    (tmp_path / "a.bib").write_text(
        r"""@misc{a, title={T}, pdf={https://x.org/~ada/a--b\_c.pdf}}
@misc{b, title={T}, url={https://x.org/b.pdf?download=1}}
@misc{c, title={T}, archiveprefix={arXiv}, eprint={2101.00001v2}}
@misc{d, title={T}, pdf_url={https://x.org/get/d}}
@misc{e, title={T}, url={https://x.org/e.pdf.html}}""",
        encoding="utf-8",
    )
    (tmp_path / "b.ris").write_text(
        "TY  - JOUR\nID  - f\nTI  - T\nL1  - https://x.org/f.pdf\nER  - \n", encoding="utf-8"
    )
    csl = [{"id": "g", "type": "book", "title": "T", "URL": "https://x.org/g.PDF"}]
    (tmp_path / "c.json").write_text(json.dumps(csl), encoding="utf-8")
    assert {key: record.pdf_url for key, record in _records(tmp_path).items()} == {
        "a": "https://x.org/~ada/a--b_c.pdf",
        "b": "https://x.org/b.pdf?download=1",
        "c": "https://arxiv.org/pdf/2101.00001v2",
        "d": "https://x.org/get/d",
        "e": None,
        "f": "https://x.org/f.pdf",
        "g": "https://x.org/g.PDF",
    }


def test_other_lists_of_papers_count_when_there_is_no_corpus(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_text('{"_id": "b", "title": "B"}', encoding="utf-8")
    (tmp_path / "a.ndjson").write_text('{"_id": "a", "title": "A"}', encoding="utf-8")
    assert set(_records(tmp_path)) == {"a", "b"}
    (tmp_path / "corpus.jsonl").write_text('{"_id": "c", "title": "C"}', encoding="utf-8")
    assert set(_records(tmp_path)) == {"c"}


def test_one_bibliography_may_be_named_instead_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "refs.bib").write_text("@misc{k, title={T}, file={a.pdf}}", encoding="utf-8")
    (tmp_path / "a.pdf").write_bytes(b"%PDF")
    (tmp_path / "b.pdf").write_bytes(b"%PDF")
    (record,) = read(locate(str(tmp_path / "refs.bib")))
    assert (record.external_id, record.pdf) == ("k", tmp_path / "a.pdf")
    (tmp_path / "object.json").write_text('{"id": 1}', encoding="utf-8")
    with pytest.raises(PermanentError, match="no list of CSL objects"):
        read(locate(str(tmp_path / "object.json")))


@pytest.mark.parametrize(
    "text",
    [
        "@article{k, title = " + "{" * 100_000,
        "@a{k, t = {" + "{}" * 100_000 + '"',
        "@article{k," * 3_000,
        "@" * 100_000,
    ],
    ids=["deep", "many pairs", "many starts", "only signs"],
)
def test_hostile_bibliographies_cost_little(tmp_path: Path, text: str) -> None:
    (tmp_path / "refs.bib").write_text("@misc{good, title={Good}}\n" + text, encoding="utf-8")
    begun = time.monotonic()
    assert "good" in _records(tmp_path)
    assert time.monotonic() - begun < 10


def test_ten_thousand_entries_are_read_within_seconds(tmp_path: Path) -> None:
    entry = r"@article{k#, title = {Gr{\"o}{\ss}e # of \emph{things}}, author = {A, B and C, D}, year = 2000}"
    (tmp_path / "refs.bib").write_text("\n".join(entry.replace("#", str(n)) for n in range(10_000)), encoding="utf-8")
    begun = time.monotonic()
    found = _records(tmp_path)
    assert len(found) == 10_000
    assert found["k9999"].title == "Größe 9999 of things"
    assert time.monotonic() - begun < 30
