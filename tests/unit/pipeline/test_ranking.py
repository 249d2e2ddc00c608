import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.lexical import rarity, telling_words, terms_of
from pipeline.search import Ranked, best_of_papers, combined
from pipeline.snippets import snippet


def ranked(of_papers: str, scores: list[float], limit: int = 10) -> list[tuple[str, int]]:
    """The papers (one letter an entry), best first, each with the entry that speaks for it."""
    names = np.array(list(of_papers), dtype=object)
    found = best_of_papers(np.arange(len(scores)), names, np.array(scores), limit)
    return [(of_papers[one.entry], one.entry) for one in found]


def test_meaning_and_words_add_up_by_their_weights() -> None:
    ids = np.array([3, 5, 9])
    cosines = np.array([0.5, 0.2, -0.1], dtype=np.float32)
    assert combined(ids, cosines, {5: 1.0, 9: 0.5}, 0.6) == pytest.approx([0.3, 0.52, 0.14])


def test_words_of_an_entry_that_is_not_searched_add_nothing() -> None:
    ids = np.array([3, 5])
    assert combined(ids, np.array([0.5, 0.2], dtype=np.float32), {1: 1.0, 4: 1.0, 7: 1.0}, 0.5) == pytest.approx(
        [0.25, 0.1]
    )


def test_a_paper_is_worth_what_its_best_chunk_is() -> None:
    assert ranked("aab", [0.2, 0.9, 0.5]) == [("a", 1), ("b", 2)]


def test_of_equal_papers_the_elder_comes_first() -> None:
    assert ranked("cab", [0.5, 0.5, 0.5], limit=2) == [("c", 0), ("a", 1)]


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.floats(-1, 1)), min_size=1, max_size=30))
def test_no_paper_is_lost_or_named_twice_and_scores_fall(pairs: list[tuple[str, float]]) -> None:
    of_papers, scores = np.array([paper for paper, _ in pairs], dtype=object), np.array([score for _, score in pairs])
    found: list[Ranked] = best_of_papers(np.arange(len(pairs)), of_papers, scores, 100)
    assert sorted(of_papers[one.entry] for one in found) == sorted(set(of_papers))
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)


def test_rare_words_weigh_more() -> None:
    assert rarity(1, 1000) > rarity(500, 1000) > rarity(1000, 1000) >= 0


def test_words_of_nearly_every_text_make_no_candidates_unless_there_are_no_others() -> None:
    assert telling_words({"blockchain": 5.0, "testing": 0.1, "graph": 2.0}) == ["blockchain", "graph"]
    assert telling_words({"testing": 0.1}) == ["testing"]
    assert telling_words({}) == []


def test_words_that_say_nothing_are_no_terms() -> None:
    assert terms_of("How do I sort an ARRAY by its keys, and sort it again?") == ["sort", "array", "keys"]


def test_a_snippet_shows_the_sentence_with_the_words_of_the_query_and_marks_them() -> None:
    text = "First, some talk. Planets orbit their stars. Last, more talk."
    found = snippet(text, ["planet", "star"], 40)
    assert found.text == "Planets orbit their stars."
    assert [found.text[start:end] for start, end in found.spans] == ["Planets", "stars"]
    assert snippet(text, [], 17).text == "First, some talk."
    assert snippet(text, [], 17).spans == ()


def test_a_long_sentence_is_cut_to_the_part_around_the_word() -> None:
    found = snippet("much ado " * 30 + "about a planet " + "and nothing " * 30, ["planet"], 100)
    assert [found.text[start:end] for start, end in found.spans] == ["planet"]
    assert found.text[0] == found.text[-1] == "\u2026"


@given(st.text(min_size=1), st.lists(st.text(), max_size=3))
def test_a_snippet_is_never_longer_than_it_may_be_and_its_marks_lie_within(text: str, terms: list[str]) -> None:
    found = snippet(text, [*terms, *text.lower().split()[:2]], 50)
    assert len(found.text) <= 50
    ends = [place for span in found.spans for place in span]
    assert ends == sorted(ends)
    assert all(0 <= place <= len(found.text) for place in ends)
