"""Papers as they are printed: each holds what a reader of its PDF must not fall over."""

import re
from pathlib import Path

import pytest
from reportlab.pdfbase.pdfmetrics import stringWidth
from reportlab.pdfgen.canvas import Canvas

from pipeline.text.document import Document, from_pdf_lines
from pipeline.text.pdf import pdf_title, read_pdf
from tests.support.typesetting import Typesetter, prose, use_ligatures

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u00ad\ufffe\uffff]")


def read(path: Path) -> Document:
    document = from_pdf_lines(read_pdf(path))
    assert not CONTROL.search(document.text)
    for section in document.sections:
        assert 0 <= section.start < section.end <= len(document.text)
    return document


def sections(document: Document) -> dict[str, str]:
    return {section.name: document.text[section.start : section.end] for section in document.sections}


def page_of(document: Document, text: str) -> int | None:
    return document.page_at(document.text.index(text))


@pytest.mark.parametrize("order", ["reading", "rows", "none"])
@pytest.mark.parametrize("gutter", [10.0, 18.0, 30.0])
def test_columns_are_never_joined_however_they_were_drawn(tmp_path: Path, order: str, gutter: float) -> None:
    paper = Typesetter(columns=2, order=order, gutter=gutter)
    paper.across("Heat in Narrow Pipes: A Study", 18, "Times-Bold")
    paper.across("Ada Lovelace, Emmy Noether", 11)
    body = {name: [prose(10 * number + n, 9) for n in range(4)] for number, name in enumerate("ABCD")}
    paper.heading("Abstract")
    paper.paragraph(prose(999))
    for number, (name, paragraphs) in enumerate(body.items(), start=1):
        paper.heading(f"{number} Part {name} of it")
        for paragraph in paragraphs:
            paper.paragraph(paragraph)
    document = read(paper.saved(tmp_path / "paper.pdf"))
    found = sections(document)
    assert list(found) == ["Abstract", *(f"Part {name} of it" for name in body)]
    assert found["Abstract"] == prose(999)
    for name, paragraphs in body.items():
        assert found[f"Part {name} of it"] == "\n\n".join(paragraphs)


def test_a_paper_of_41_pages_loses_its_alternating_heads_and_page_numbers(tmp_path: Path) -> None:
    def running(page: int) -> tuple[str, str, str, str, str, str]:
        if page == 1:
            return ("", "", "", "", "1", "")
        if page % 2:
            return ("", "A. Lovelace and E. Noether", str(page), "", "", "")
        return (str(page), "Heat in narrow pipes", "", "", "", "")

    paper = Typesetter(running=running, notes={3 + 4 * n: f"{n} See the remark of reader {n}." for n in range(1, 8)})
    paper.across("Heat in Narrow Pipes", 18, "Times-Bold")
    parts: dict[str, list[str]] = {}
    while len(paper.pages) < 41:
        number = len(parts) + 1
        parts[f"Part {number}"] = [prose(100 * number + n, 12) for n in range(9)]
        paper.heading(f"{number}. Part {number}")
        for paragraph in parts[f"Part {number}"]:
            paper.paragraph(paragraph)
    document = read(paper.saved(tmp_path / "long.pdf"))
    assert "Lovelace and" not in document.text
    assert "narrow pipes" not in document.text
    found = sections(document)
    assert [name for name in found if name != "Front matter"] == list(parts)
    for name, paragraphs in parts.items():
        for paragraph in paragraphs:
            assert paragraph in found[name]
    assert page_of(document, parts["Part 1"][0]) == 1
    assert document.page_starts[-1][1] == len(paper.pages)
    for reader in range(1, 8):
        assert f"See the remark of reader {reader}." in document.text


def test_heads_that_change_with_the_section_and_roman_page_numbers_are_left_out(tmp_path: Path) -> None:
    roman = ["", "i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x", "xi", "xii"]
    paper = Typesetter(running=lambda page: ("", f"Chapter about {'abcdefghijkl'[page - 1]}", "", "", roman[page], ""))
    seed = 0
    while len(paper.pages) < 9:
        seed += 1
        paper.paragraph(prose(seed, 14))
    document = read(paper.saved(tmp_path / "roman.pdf"))
    assert "Chapter about" not in document.text
    assert not re.search(r"\b[ivx]+\b", document.text)


def test_a_stamp_on_its_side_and_numbers_of_lines_are_left_out(tmp_path: Path) -> None:
    paper = Typesetter(stamp="arXiv:2101.00001v1 [cs.XX] 1 Jan 2021", numbers_lines=True)
    paper.across("Heat in Narrow Pipes", 18, "Times-Bold")
    paper.heading("1 Introduction")
    paragraphs = [prose(n, 9) for n in range(14)]
    for paragraph in paragraphs:
        paper.paragraph(paragraph)
    path = paper.saved(tmp_path / "stamped.pdf")
    document = read(path)
    assert sections(document)["Introduction"] == "\n\n".join(paragraphs)
    assert not re.search(r"\d", document.text)
    assert pdf_title(path, read_pdf(path)) == "Heat in Narrow Pipes"


def test_text_flows_around_footnotes_and_captions_over_columns_and_pages(tmp_path: Path) -> None:
    captions = {n: f"Figure {n}. The apparatus number {n} as it was used in the laboratory." for n in (2, 5)}
    notes = {n: f"{n} A note that tells more about matter {n} than the text does." for n in (0, 1, 3)}
    paper = Typesetter(columns=2, floats=captions, notes=notes, indent=12, gap=0.0)
    paper.heading("1 Introduction")
    paragraphs = [prose(n, 30) for n in range(9)]
    for paragraph in paragraphs:
        paper.paragraph(paragraph)
    text = sections(read(paper.saved(tmp_path / "floats.pdf")))["Introduction"]
    for paragraph in paragraphs:
        assert paragraph in text
    for aside in (*captions.values(), *(note[2:] for note in notes.values())):
        assert aside in text


def test_an_appendix_behind_the_references_is_kept_and_they_are_not(tmp_path: Path) -> None:
    paper = Typesetter(columns=2)
    paper.across("Heat in Narrow Pipes", 18, "Times-Bold")
    paper.heading("Abstract")
    paper.paragraph(prose(1))
    paper.heading("I. INTRODUCTION")
    paper.paragraph(prose(2, 12))
    paper.heading("IV. How the pipes were heated")
    paper.paragraph(prose(3, 12))
    paper.heading("Acknowledgements")
    paper.paragraph(prose(4, 2))
    paper.heading("References")
    for n in range(60):
        paper.paragraph(f"[{n}] A. Author{n} and B. Writer. On the number {n}. Journal of Numbers, 1999.", size=8)
    paper.heading("A Proofs of the lemmas")
    paper.paragraph(prose(5, 12))
    paper.heading("A.1 A longer proof", size=10.0)
    paper.paragraph(prose(6, 12))
    document = read(paper.saved(tmp_path / "appendix.pdf"))
    found = sections(document)
    assert found == {
        "Abstract": prose(1),
        "Introduction": prose(2, 12),
        "How the pipes were heated": prose(3, 12),
        "Acknowledgements": prose(4, 2),
        "A Proofs of the lemmas": prose(5, 12),
        "A longer proof": prose(6, 12),
    }
    assert "Author" not in document.text


def test_heads_without_numbers_and_with_unknown_names_part_the_text(tmp_path: Path) -> None:
    paper = Typesetter(font="Helvetica", bold="Helvetica-Bold")
    paper.across("Heat in Narrow Pipes", 20, "Helvetica-Bold")
    paper.across("Ada Lovelace", 12)
    names = ["Introduction", "Why pipes get warm", "What we did about it", "Conclusion"]
    for number, name in enumerate(names):
        paper.heading(name, size=13)
        paper.paragraph(prose(number, 20))
    found = sections(read(paper.saved(tmp_path / "unnumbered.pdf")))
    assert [name for name in found if name != "Front matter"] == names
    for number, name in enumerate(names):
        assert found[name] == prose(number, 20)


def test_ligatures_become_letters(tmp_path: Path) -> None:
    font = use_ligatures()
    paper = Typesetter(font=font, bold=font)
    text = prose(3, 12)
    paper.paragraph(text.replace("ffi", "f\ufb01").replace("fl", "\ufb02").replace("fi", "\ufb01"))
    assert read(paper.saved(tmp_path / "ligatures.pdf")).text == text


def test_a_table_of_contents_is_left_out(tmp_path: Path) -> None:
    paper = Typesetter()
    paper.across("Heat in Narrow Pipes", 20, "Times-Bold")
    paper.heading("Contents")
    for number in range(1, 12):
        paper.across(f"{number} Part {number} {'. ' * 40} {number + 3}", 10, gap=0.0)
    paper.heading("1 Introduction")
    paper.paragraph(prose(1, 20))
    document = read(paper.saved(tmp_path / "contents.pdf"))
    assert sections(document)["Introduction"] == prose(1, 20)
    assert ". . ." not in document.text


def test_the_mark_of_a_footnote_is_left_out_of_the_word_that_it_stands_on(tmp_path: Path) -> None:
    path = tmp_path / "marks.pdf"
    canvas = Canvas(str(path))
    lines = [prose(n, 1)[:70] for n in range(20)]
    for number, line in enumerate(lines):
        canvas.setFont("Times-Roman", 11)
        canvas.drawString(72, 760 - 14 * number, line)
        if number in (3, 9):
            end = 72 + stringWidth(line, "Times-Roman", 11)
            canvas.setFont("Times-Roman", 7)
            canvas.drawString(end, 764 - 14 * number, "1" if number == 3 else "5")
    canvas.setFont("Times-Roman", 6)
    canvas.drawString(72, 103, "1")
    canvas.setFont("Times-Roman", 8)
    canvas.drawString(76, 100, "A remark that tells more.")
    canvas.save()
    text = read(path).text
    assert f"{lines[3]} {lines[4]}" in text.replace("\n\n", " ")
    assert f"{lines[9]}5" in text  # no footnote has this number: it belongs to the text
    assert text.endswith("A remark that tells more.")


def test_words_are_made_whole_as_the_paper_writes_them_elsewhere(tmp_path: Path) -> None:
    paper = Typesetter()
    paper.paragraph("We use a data-driven method and a database. It is self-supervised in pre- and post-processing.")
    for line in (
        "It was called data-", "driven, since its data-", "base is well-", "known. In pre-",
        "and post-processing of GPT-", "3 the distribu-", "tion of state-of-the-", "art models was self-",
        "supervised.",
    ):  # fmt: skip
        paper.across(line, 10, gap=0.0)
    text = read(paper.saved(tmp_path / "hyphens.pdf")).text
    assert "It was called data-driven, since its database is well-known. In pre- and post-processing of GPT-3" in text
    assert "the distribution of state-of-the-art models was self-supervised." in text
