import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.text.clean import clean, clean_line
from pipeline.text.document import Document, Line, from_pdf_lines, from_record


def section_texts(document: Document) -> dict[str, str]:
    return {section.name: document.text[section.start : section.end].strip() for section in document.sections}


@pytest.mark.parametrize(
    ("dirty", "expected"),
    [
        ("auto\x02\r\nmatic tests", "automatic tests"),
        ("one\r\ntwo\rthree", "one\ntwo\nthree"),
        ("a\x00b\x07c\ufeff", "abc"),
        ("e\ufb03cient \ufb01eld", "efficient field"),
        ("lone \ud800 surrogate", "lone \ufffd surrogate"),
        ("a \u00a0\u2003 b", "a b"),
        ("one\n\n\n\n\ntwo", "one\n\ntwo"),
        ("", ""),
    ],
)
def test_text_loses_what_no_reader_sees(dirty: str, expected: str) -> None:
    assert clean(dirty) == expected


@given(st.text(st.characters(exclude_categories=[])))
def test_cleaned_text_can_be_stored_and_cleaning_it_again_changes_nothing(text: str) -> None:
    cleaned = clean(text)
    assert "\x00" not in cleaned
    cleaned.encode("utf-8")
    assert clean(cleaned) == cleaned
    assert "\n" not in clean_line(text)


def test_sections_are_named_by_their_headings_and_references_are_left_out() -> None:
    document = from_pdf_lines(
        [
            Line("A Study of Things", 1),
            Line("Ada Lovelace", 1),
            Line("Abstract", 1),
            Line("We study things.", 1),
            Line("1 INTRODUCTION", 1),
            Line("Things are everywhere", 1),
            Line("and they matter.", 2),
            Line("2.1. How we count", 2),
            Line("By hand.", 2),
            Line("References", 3),
            Line("[1] Someone. 1 Introduction to nothing. 1999.", 3),
            Line("Conclusion", 3),
            Line("Appendix A Proofs", 4),
            Line("It follows.", 4),
        ]
    )
    assert section_texts(document) == {
        "Abstract": "We study things.",
        "Introduction": "Things are everywhere and they matter.",
        "How we count": "By hand.",
        "Appendix A Proofs": "It follows.",
    }


def test_an_abstract_may_begin_on_the_line_of_its_heading() -> None:
    document = from_pdf_lines([Line("A title", 1), Line("Abstract\u2014We study things.", 1)])
    assert section_texts(document) == {"Abstract": "We study things."}


def test_text_without_any_heading_is_kept_whole() -> None:
    assert section_texts(from_pdf_lines([Line("Only this.", 1)])) == {"Front matter": "Only this."}
    assert section_texts(from_record("Only this.")) == {"Abstract": "Only this."}


def test_a_record_without_text_has_no_sections() -> None:
    assert from_record(" \n \x00").sections == ()


def test_a_numbered_sentence_is_no_heading() -> None:
    text = "2. We then repeated every run five times on three machines, and compared what came out of it."
    assert section_texts(from_pdf_lines([Line(text, 1)])) == {"Front matter": text}


def test_words_broken_at_a_line_end_are_made_whole_over_lines_and_pages() -> None:
    document = from_pdf_lines([Line("an auto\x02", 1), Line("matic test", 2)])
    assert document.text == "an automatic test"


def test_every_character_knows_its_page() -> None:
    document = from_pdf_lines([Line("first page", 1), Line("second page", 2), Line("fourth page", 4)])
    assert [document.page_at(document.text.index(word)) for word in ("first", "second", "fourth")] == [1, 2, 4]
    assert from_record("no pages").page_at(0) is None


@given(st.lists(st.text(max_size=30), max_size=20))
def test_sections_lie_within_the_text_in_order(lines: list[str]) -> None:
    document = from_pdf_lines([Line(text, 1 + index // 5, index % 3 == 0) for index, text in enumerate(lines)])
    edges = [edge for section in document.sections for edge in (section.start, section.end)]
    assert edges == sorted(edges)
    assert all(0 <= edge <= len(document.text) for edge in edges)
