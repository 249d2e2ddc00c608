"""Search over the shipped corpus: paraphrases that share few words with their paper find it."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.evaluation import Judged, evaluate
from pipeline.search import search
from pipeline.sources.local import SHIPPED, locate, read
from tests.support.pipeline import Result, run_pipeline
from workflows.db.database import Database
from workflows.db.migrate import upgrade

PARAPHRASES = {
    "how often do giant planets orbit very near to their suns": "astro-ph/0601001",
    "finding weaknesses in money contracts that run on a blockchain by planting small faults": "1908.03707",
    "pooling specimens from many patients so fewer assays reveal who carries an illness": "1009.3186",
    "children's block-based visual coding projects verified automatically": "2202.06271",
    "students asking a chatbot to answer exam questions about quality assurance": "2302.03287",
    "artificial players learned by evolution exercise all parts of a computer game": "2501.07954",
    "drawing a diagram whose clusters lie in horizontal bands without crossings": "1309.0683",
    "do neutrino masses and mixings look random": "hep-ph/0301050",
    "sea circulation simulation software verified without knowing the right answers": "2009.01554",
    "crawlers recognise pages that are practically the same using learned vectors": "2306.07400",
    "plain English instructions turned into browser automation for people who cannot program": "1809.08100",
    "how much electricity do tools use when they write checks for code by themselves": "2501.09657",
    "repairing variables and method names in machine-written checks so that developers can follow them": "2412.18843",
    "assembly code and C-like syntax for machines computing with qubits": "quant-ph/0201082",
}


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Database, Result]]:
    database = Database(f"sqlite:///{tmp_path_factory.mktemp('shipped') / 'test.db'}")
    upgrade(database)
    yield database, run_pipeline(database)
    database.close()


def test_the_shipped_corpus_is_stored_whole(shipped: tuple[Database, Result]) -> None:
    _, result = shipped
    assert result.fetch.new == result.fetch.fetched >= 100
    assert sum(output.quarantined for output in result.process) == 0
    assert result.store.count == sum(output.chunks for output in result.process) == result.store.collection_count
    assert result.store.missing == 0


@pytest.mark.parametrize(("query", "paper"), PARAPHRASES.items(), ids=PARAPHRASES.values())
def test_a_paraphrase_finds_its_paper_among_the_first_five(
    shipped: tuple[Database, Result], query: str, paper: str
) -> None:
    hits = search(shipped[0], query, limit=5)
    assert paper in [hit.paper_id for hit in hits]
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_the_paraphrases_share_few_words_with_their_papers() -> None:
    texts = {record.external_id: f"{record.title} {record.text}".lower() for record in read(locate(SHIPPED))}
    for query, paper in PARAPHRASES.items():
        words = set(re.findall(r"\w{4,}", query.lower()))
        shared = words.intersection(re.findall(r"\w+", texts[paper]))
        assert len(shared) <= len(words) * 0.6, (query, shared)


def test_meaning_and_words_together_are_measured_beside_each_alone(shipped: tuple[Database, Result]) -> None:
    judged = [Judged(paper, query, {paper: 1.0}) for query, paper in PARAPHRASES.items()]
    found = {quality.mode: quality for quality in evaluate(shipped[0], judged, "papers")}
    assert found["hybrid"].queries == len(PARAPHRASES)
    assert min(found["hybrid"].ndcg, found["dense"].ndcg) > 0.8
    assert found["hybrid"].ndcg >= max(found["dense"].ndcg, found["lexical"].ndcg)
    assert all(quality.recall >= quality.reciprocal_rank for quality in found.values())


def test_a_rare_word_finds_its_paper(shipped: tuple[Database, Result]) -> None:
    assert search(shipped[0], "AGSolT")[0].paper_id == "2102.08864"
    assert search(shipped[0], "Csmith GCC")[0].paper_id == "2012.10662"


def test_hits_from_a_pdf_name_their_page_and_never_its_references(shipped: tuple[Database, Result]) -> None:
    hit = search(shipped[0], "Siamese neural networks infer web application models")[0]
    assert (hit.paper_id, hit.page, hit.section) == ("2306.07400", 1, "Abstract")
    assert hit.source == "https://arxiv.org/abs/2306.07400"


def test_the_corpus_says_where_it_comes_from() -> None:
    readme = Path(locate(SHIPPED).path, "README.md").read_text(encoding="utf-8")
    assert "CC0" in readme
    assert "arxiv.org" in readme
