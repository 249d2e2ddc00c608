from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.embedders.onnx import OnnxEmbedder
from pipeline.embedding import embedder
from pipeline.text.chunking import Chunk, Chunker, Limits, cut_name, embedded_text
from pipeline.text.document import Line, from_pdf_lines, from_record

MAX_TOKENS = 256


def cut(title: str, text: str) -> list[Chunk]:
    return embedder().chunker().cut("paper", title, from_record(text))


@settings(max_examples=40)
@given(
    st.text(max_size=400),
    st.lists(st.text(max_size=40), max_size=120).map(" ".join),
)
def test_no_chunk_exceeds_what_the_model_takes(title: str, text: str) -> None:
    encoder = embedder()
    assert isinstance(encoder, OnnxEmbedder)
    for chunk in cut(title, text):
        encoding = encoder.tokenizer.encode(embedded_text(chunk.heading, chunk.text))
        assert len(encoding.ids) <= MAX_TOKENS
        assert chunk.tokens <= MAX_TOKENS


def test_spans_name_the_text_they_came_from() -> None:
    lines = [Line(f"Sentence number {n} speaks of topic {n % 7}.", 1 + n // 40) for n in range(120)]
    document = from_pdf_lines(lines)
    chunks = embedder().chunker().cut("paper", "A title", document)
    assert len(chunks) > 3
    for chunk in chunks:
        assert document.text[chunk.char_start : chunk.char_end] == chunk.text
        assert chunk.page == document.page_at(chunk.char_start)
    assert [chunk.position for chunk in chunks] == list(range(len(chunks)))
    covered = {at for chunk in chunks for at in range(chunk.char_start, chunk.char_end)}
    assert not [at for at, letter in enumerate(document.text) if at not in covered and not letter.isspace()]


def cut_for(limits: Limits, text: str) -> list[Chunk]:
    encoder = embedder()
    return Chunker(encoder.count_tokens, limits, "name").cut("paper", "A title", from_record(text))


SENTENCES = [f"Sentence number {n} speaks of topic {n % 7} at length." for n in range(200)]


@pytest.mark.parametrize("overlap", [0, 8, 32, 100, 1000])
def test_a_chunk_begins_with_the_last_sentences_of_the_one_before_and_still_fits(overlap: int) -> None:
    encoder = embedder()
    chunks = cut_for(Limits(256, 2, overlap), " ".join(SENTENCES))
    assert len(chunks) > 5
    for before, chunk in pairwise(chunks):
        shared = before.text[chunk.char_start - before.char_start :] if chunk.char_start < before.char_end else ""
        assert encoder.count_tokens(shared) <= overlap
        assert chunk.text.startswith("Sentence number") or overlap == 8  # less than a sentence
        assert shared.strip() or overlap == 0
        assert before.char_start < chunk.char_start
    assert max(chunk.tokens for chunk in chunks) <= MAX_TOKENS


def test_without_sentences_an_overlap_begins_with_a_word() -> None:
    words = " ".join(f"word{n}" for n in range(600))
    chunks = cut_for(Limits(128, 2, 24), words)
    for before, chunk in pairwise(chunks):
        assert before.char_start < chunk.char_start < before.char_end
        assert chunk.text.startswith("word")


def test_papers_cut_with_another_overlap_are_cut_again() -> None:
    assert cut_name("name", Limits(256, 2, 0)) != cut_name("name", Limits(256, 2, 32))


def test_a_text_just_over_the_limit_is_cut_into_halves_and_not_into_a_whole_and_a_rest() -> None:
    chunks = cut("A title", "This sentence has exactly nine tokens in it. " * 30)
    sizes = [chunk.tokens for chunk in chunks]
    assert len(sizes) == 2
    assert min(sizes) > 0.6 * max(sizes)


def test_equal_input_has_equal_ids_and_equal_pieces_have_different_ones() -> None:
    text = "The same words again and again. " * 200
    first, second = cut("T", text), cut("T", text)
    assert [chunk.id for chunk in first] == [chunk.id for chunk in second]
    assert len({chunk.id for chunk in first}) == len(first)
    assert {chunk.id for chunk in cut("Another title", text)}.isdisjoint(chunk.id for chunk in first)


@pytest.mark.parametrize("text", ["", "   ", "\n\n"])
def test_a_paper_without_text_is_found_by_its_title(text: str) -> None:
    (chunk,) = cut("Only a title", text)
    assert (chunk.text, chunk.heading, chunk.section) == ("Only a title", "", "Title")


def test_a_paper_without_anything_has_no_chunks() -> None:
    assert cut("", "") == []


def test_an_endless_title_leaves_room_for_the_text() -> None:
    chunks = cut("word " * 500, "The text itself.")
    assert chunks[0].text == "The text itself."
    assert chunks[0].tokens <= MAX_TOKENS
