import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.search import Ranked, Ranking, coverage, fuse, rarity, snippet, telling_words


def ranking(*papers: str, weight: float = 1.0, first_entry: int = 0) -> Ranking:
    return Ranking([Ranked(first_entry + index, paper) for index, paper in enumerate(papers)], weight)


def test_a_paper_high_in_both_rankings_comes_first() -> None:
    fused = fuse([ranking("a", "b", "c"), ranking("b", "c", "a")])
    assert [ranked.paper for ranked, _ in fused] == ["b", "a", "c"]
    assert fused[0][1] == pytest.approx(1 / 62 + 1 / 61)


def test_a_ranking_without_weight_changes_nothing() -> None:
    dense = ranking("a", "b", "c")
    assert [found.paper for found, _ in fuse([dense, ranking("c", "b", weight=0.0)])] == ["a", "b", "c"]


def test_a_paper_is_shown_by_the_chunk_that_stands_highest() -> None:
    fused = fuse([ranking("a", "b"), ranking("b", "a", first_entry=10)])
    assert {found.paper: found.entry for found, _ in fused} == {"a": 0, "b": 10}


def test_a_paper_stands_where_its_best_chunk_stands() -> None:
    assert ranking("a", "a", "b", "a", "c").papers(2).entries == [Ranked(0, "a"), Ranked(2, "b")]


@given(st.lists(st.permutations("abcdef"), min_size=1, max_size=3))
def test_fusion_loses_no_paper_and_its_scores_fall(orders: list[list[str]]) -> None:
    fused = fuse([ranking(*order) for order in orders])
    scores = [score for _, score in fused]
    assert sorted(found.paper for found, _ in fused) == list("abcdef")
    assert scores == sorted(scores, reverse=True)


def test_rare_words_weigh_more_and_coverage_is_their_share() -> None:
    assert rarity(1, 1000) > rarity(500, 1000) > rarity(1000, 1000) >= 0
    assert coverage([3.0, 1.0], [True, False]) == 0.75
    assert coverage([], []) == 0.0


def test_words_of_nearly_every_text_make_no_candidates_unless_there_are_no_others() -> None:
    assert telling_words({"blockchain": 5.0, "testing": 0.1, "graph": 2.0}) == ["blockchain", "graph"]
    assert telling_words({"testing": 0.1}) == ["testing"]
    assert telling_words({}) == []


def test_a_snippet_shows_the_sentence_with_the_words_of_the_query() -> None:
    text = "First, some talk. Planets orbit their stars. Last, more talk."
    assert snippet(text, ["planet", "star"], 40) == "Planets orbit their stars."
    assert snippet(text, [], 17) == "First, some talk."


@given(st.text(min_size=1), st.lists(st.text(), max_size=3))
def test_a_snippet_is_never_longer_than_it_may_be(text: str, terms: list[str]) -> None:
    assert len(snippet(text, terms, 50)) <= 50
