from collections.abc import Iterable
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
from pipeline.text.faults import UnreadablePdfError
from pipeline.text.furniture import without_furniture
from pipeline.text.glyphs import Page, Word
from pipeline.text.layout import Row, find_gutters, reading_order
from pipeline.text.pdf import pdf_title, printed_title, read_pdf

CORPUS = locate(SHIPPED).path


def words(left: float, base: float, text: str, size: float = 10.0) -> list[Word]:
    """The words of a line of six-point letters."""
    found, x = [], left
    for part in text.split():
        found.append(Word(x, x + 6.0 * len(part), base, size, part, "Times", is_bold=False, is_spaced=True))
        x += 6.0 * (len(part) + 0.5)
    return found


def page(*lines: list[Word], number: int = 1) -> Page:
    return Page(number, 600, 840, tuple(word for line in lines for word in line))


def columns(top: float, name: str, rows: int = 5) -> list[list[Word]]:
    left = [words(50, top - 12 * n, f"{name} left side row number {n}a here") for n in range(rows)]
    right = [words(310, top - 12 * n, f"{name} right side row number {n}b here") for n in range(rows)]
    return [line for pair in zip(left, right, strict=True) for line in pair]


def texts(rows: Iterable[Row]) -> list[str]:
    return [row.text for row in rows]


def test_the_left_column_is_read_before_the_right_one_however_they_were_drawn() -> None:
    found = texts(reading_order(page(words(50, 800, "title " * 12), *columns(780, "x"))))
    assert found[1:6] == [f"x left side row number {n}a here" for n in range(5)]
    assert found[6:] == [f"x right side row number {n}b here" for n in range(5)]


def test_a_full_width_line_parts_what_is_above_from_what_is_below() -> None:
    found = texts(reading_order(page(*columns(780, "above"), words(50, 700, "wide " * 14), *columns(680, "below"))))
    assert [text.split()[0] for text in found] == ["above"] * 10 + ["wide"] + ["below"] * 10
    assert [text.split()[1] for text in found[11:]] == ["left"] * 5 + ["right"] * 5


def test_three_columns_are_read_one_after_the_other() -> None:
    lines = [
        words(x, 780 - 12 * n, f"{name} is the side")
        for n in range(6)
        for name, x in zip("abc", (50, 220, 390), strict=True)
    ]
    assert "".join(text[0] for text in texts(reading_order(page(*lines)))) == "a" * 6 + "b" * 6 + "c" * 6


def test_columns_whose_lines_stand_at_other_heights_are_told_apart() -> None:
    left = [words(50, 780 - 12 * n, f"left side row number {n}a here") for n in range(9)]
    right = [words(310, 775 - 13 * n, f"right side row number {n}b here") for n in range(9)]
    found = texts(reading_order(page(*left, *right)))
    assert [text.split()[0] for text in found] == ["left"] * 9 + ["right"] * 9


def test_the_cells_of_a_table_are_no_columns_of_text() -> None:
    rows = [[*words(50, 780 - 12 * n, f"Name{n}"), *words(310, 780 - 12 * n, f"{n}.5")] for n in range(9)]
    assert find_gutters(page(*rows)) == []
    assert texts(reading_order(page(*rows)))[1] == "Name1 1.5"


def test_one_column_keeps_its_lines() -> None:
    lines = [words(50, 780 - 12 * n, "one line of text that goes on " * 2) for n in range(20)]
    assert find_gutters(page(*lines)) == []
    assert len(reading_order(page(*lines))) == 20


def test_a_raised_mark_belongs_to_its_line() -> None:
    line = [*words(50, 700, "as was shown"), *words(123, 703.5, "2", size=7), *words(133, 700, "before")]
    assert texts(reading_order(page(line, words(50, 688, "and again")))) == ["as was shown 2 before", "and again"]


def test_running_heads_and_page_numbers_are_left_out_and_the_first_page_keeps_its_title() -> None:
    def leaf(number: int) -> Page:
        head = words(50, 820, "On Things", size=18 if number == 1 else 8)
        body = [words(50, 780 - 12 * n, f"text {'abc'[number - 1]} of line {'xyz'[n]}") for n in range(3)]
        return page(head, *body, words(300, 20, str(number)), number=number)

    found = [text for leaf in without_furniture([leaf(n) for n in (1, 2, 3)]) for text in texts(reading_order(leaf))]
    assert found == ["On Things", *(f"text {a} of line {b}" for a in "abc" for b in "xyz")]


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
