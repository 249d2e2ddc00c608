from contextlib import suppress
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reportlab.lib.pagesizes import A4
from reportlab.pdfgen.canvas import Canvas

from pipeline.sources.local import SHIPPED, locate
from pipeline.text.document import Line, from_pdf_lines
from pipeline.text.pdf import (
    Segment,
    UnreadablePdfError,
    find_gutter,
    pdf_title,
    printed_title,
    read_pdf,
    reading_order,
    without_running_lines,
)

CORPUS = locate(SHIPPED).path


def row(left: float, right: float, top: float, text: str) -> Segment:
    return Segment(left, top - 10, right, top, text)


def test_the_left_column_is_read_before_the_right_one_however_they_were_drawn() -> None:
    title = row(50, 550, 800, "title")
    rows = [row(50, 290, 780 - 12 * i, f"left {i}") for i in range(5)]
    rows += [row(310, 550, 780 - 12 * i, f"right {i}") for i in range(5)]
    drawn = [title, *sorted(rows, key=lambda segment: (-segment.top, segment.left))]
    expected = ["title", *(f"left {i}" for i in range(5)), *(f"right {i}" for i in range(5))]
    assert [segment.text for segment in reading_order(drawn)] == expected


def test_a_full_width_line_parts_what_is_above_from_what_is_below() -> None:
    above = [
        row(x, x + 240, 780 - 12 * i, f"above {side} {i}") for i in range(4) for side, x in (("l", 50), ("r", 310))
    ]
    figure = row(50, 550, 700, "a wide caption")
    below = [
        row(x, x + 240, 680 - 12 * i, f"below {side} {i}") for i in range(4) for side, x in (("l", 50), ("r", 310))
    ]
    texts = [segment.text for segment in reading_order([*above, figure, *below])]
    assert texts[:4] == [f"above l {i}" for i in range(4)]
    assert texts[8] == "a wide caption"
    assert texts[9:13] == [f"below l {i}" for i in range(4)]


def test_one_column_keeps_the_order_of_the_file() -> None:
    lines = [row(50, 500 - 7 * i, 780 - 12 * i, str(i)) for i in range(20)]
    assert find_gutter(lines) is None
    assert reading_order(lines) == lines


def test_running_heads_and_page_numbers_are_left_out_and_the_first_page_keeps_its_title() -> None:
    pages = [[Line("On Things", n), Line(f"text of page {'abc'[n]}", n), Line(str(n), n)] for n in range(3)]
    texts = [line.text for line in without_running_lines(pages)]
    assert texts == ["On Things", *(f"text of page {letter}" for letter in "abc")]


def test_a_shipped_two_column_pdf_reads_like_the_abstract_that_it_was_made_from() -> None:
    document = from_pdf_lines(read_pdf(CORPUS / "2306.07400.pdf"))
    abstract = next(section for section in document.sections if section.name == "Abstract")
    text = document.text[abstract.start : abstract.end]
    assert "enhancing the quality of inferred models, and thus, the effectiveness of generated test suites" in text
    assert "arXiv:2306.07400, 2023" not in document.text
    assert pdf_title(CORPUS / "2306.07400.pdf", []) == "Neural Embeddings for Web Testing"


@pytest.mark.parametrize("content", [b"", b"this is no PDF", b"%PDF-1.4\n%%EOF", b"\x00" * 1000])
def test_a_damaged_pdf_gives_a_reason(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.pdf"
    path.write_bytes(content)
    with pytest.raises(UnreadablePdfError, match=r"broken\.pdf"):
        read_pdf(path)
    assert not pdf_title(path, [])


def test_an_encrypted_pdf_gives_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "locked.pdf"
    canvas = Canvas(str(path), encrypt="secret")
    canvas.drawString(100, 100, "nobody reads this")
    canvas.save()
    with pytest.raises(UnreadablePdfError, match="assword"):
        read_pdf(path)


def test_a_scan_without_text_gives_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "scan.pdf"
    canvas = Canvas(str(path), pagesize=A4)
    canvas.rect(100, 100, 50, 50, fill=1)
    canvas.save()
    with pytest.raises(UnreadablePdfError, match="no text layer"):
        read_pdf(path)


def test_a_missing_pdf_gives_a_reason(tmp_path: Path) -> None:
    with pytest.raises(UnreadablePdfError, match="gone"):
        read_pdf(tmp_path / "moved.pdf")


def test_a_hyphen_at_a_line_end_joins_the_word(tmp_path: Path) -> None:
    path = tmp_path / "hyphen.pdf"
    canvas = Canvas(str(path), pagesize=A4)
    canvas.drawString(100, 700, "This is auto-")
    canvas.drawString(100, 686, "matically joined.")
    canvas.save()
    assert from_pdf_lines(read_pdf(path)).text == "This is automatically joined."


def test_the_largest_print_near_the_top_is_the_title_where_the_metadata_have_none(tmp_path: Path) -> None:
    path = tmp_path / "untitled.pdf"
    canvas = Canvas(str(path), pagesize=A4)
    canvas.setTitle("main.tex")
    for y, size, text in (
        (800, 9, "Proceedings of a Workshop, 2021"),
        (770, 18, "Counting Things on Many Lines:"),
        (748, 18, "a new Method"),
        (720, 11, "Ada Lovelace"),
        (690, 10, "We count things by means that are new."),
    ):
        canvas.setFont("Times-Roman", size)
        canvas.drawString(80, y, text)
    canvas.rotate(90)
    canvas.setFont("Times-Roman", 20)
    canvas.drawString(250, -30, "stamp:2101.00001 [cs.XX] on its side")
    canvas.save()
    assert pdf_title(path, read_pdf(path)) == "Counting Things on Many Lines: a new Method"


def test_a_title_of_lines_without_sizes_is_the_first_line() -> None:
    assert printed_title([Line("A Study of Things", 1), Line("Somebody", 1)]) == "A Study of Things"
    assert not printed_title([])


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.randoms(use_true_random=False), st.sampled_from([1, 5, 30, 200]))
def test_whatever_is_damaged_a_pdf_is_read_or_gives_a_reason(tmp_path: Path, chance: Random, damages: int) -> None:
    content = bytearray((CORPUS / "2306.07400.pdf").read_bytes())
    for _ in range(damages):
        content[chance.randrange(len(content))] = chance.randrange(256)
    path = tmp_path / "damaged.pdf"
    path.write_bytes(content)
    with suppress(UnreadablePdfError):
        assert from_pdf_lines(read_pdf(path)).text
