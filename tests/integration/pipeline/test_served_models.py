"""Models behind an HTTP server: the bundled one runs in it, and every way in which servers answer badly is tried."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline.embedding import BadVectorsError, Embedder, embedder
from tests.support.model_server import Answer, ModelServer, model_server
from tests.unit.pipeline.test_embedding import Told
from workflows.model.errors import AuthenticationError, PermanentError, TransientError

TEXTS = [
    "Giant planets orbit close to their stars.",
    "Flaky tests fail and pass without any change of the code.",
    "A drawing of a planar graph has no crossing edges.",
]


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with model_server() as running:
        yield running


@pytest.fixture
def served(server: ModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Embedder:
    return declared(server, tmp_path, monkeypatch)


def declared(server: ModelServer, folder: Path, patch: pytest.MonkeyPatch, **more: object) -> Embedder:
    told = {"backend": "openai", "url": server.url, "model": "served", "dimension": 384, "max_tokens": 256, **more}
    file = folder / "models.yaml"
    file.write_text(json.dumps({"models": {"mine": told}}), encoding="utf-8")
    patch.setenv("CELERIAC_MODELS", str(file))
    patch.setattr("pipeline.embedding._embedders", {})
    return embedder("mine")


def vectors_of(count: int, dimension: int = 384, value: float = 1.0) -> bytes:
    return json.dumps({"data": [{"index": n, "embedding": [value] * dimension} for n in range(count)]}).encode()


def test_vectors_are_those_of_the_model_in_the_order_of_the_texts(served: Embedder, server: ModelServer) -> None:
    watch = Told()
    found = served.embed(TEXTS, watch)
    np.testing.assert_allclose(found, embedder().embed(TEXTS), atol=0.02)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, rtol=1e-5)
    assert (watch.done, len(watch.tokens)) == ([3], 1)
    (asked,) = server.seen
    assert (asked["path"], asked["model"], asked["encoding_format"]) == ("/v1/embeddings", "served", "float")
    assert "dimensions" not in asked
    assert server.keys == [None]
    assert served.embed([]).shape == (0, 384)
    assert len(server.seen) == 1


def test_a_request_holds_no_more_than_it_may(
    server: ModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_count = declared(server, tmp_path, monkeypatch, batch_texts=2)
    by_count.embed(TEXTS * 2)
    assert [len(asked["input"]) for asked in server.seen] == [2, 2, 2]
    server.seen.clear()
    by_tokens = declared(server, tmp_path, monkeypatch, batch_tokens=30)
    by_tokens.embed(TEXTS * 2)
    assert sorted(server.texts()) == sorted(TEXTS * 2)
    for asked in server.seen:
        assert sum(by_tokens.count_tokens(text) + 2 for text in asked["input"]) <= 30


def test_prefixes_and_shortening_are_sent(server: ModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = declared(
        server, tmp_path, monkeypatch, query_prefix="query: ", document_prefix="passage: ", shorten=True
    )  # fmt: skip
    encoder.embed(["one"])
    encoder.embed_query("two")
    assert server.texts() == ["passage: one", "query: two"]
    assert [asked["dimensions"] for asked in server.seen] == [384, 384]


def test_a_busy_server_is_asked_again_after_as_long_as_it_says(served: Embedder, server: ModelServer) -> None:
    server.answers = [Answer(429, headers={"Retry-After": "7"}), Answer(503), Answer(200, vectors_of(3), cut_after=90)]
    watch = Told()
    assert served.embed(TEXTS, watch).shape == (3, 384)
    assert watch.waits == [7.0, 2.0, 4.0]
    assert len(watch.tokens) == len(server.seen) == 4  # a try that failed may have been charged for


def test_a_server_that_stays_busy_is_a_passing_failure(served: Embedder, server: ModelServer) -> None:
    server.answers = [Answer(500)] * 4
    with pytest.raises(TransientError, match="answered 500"):
        served.embed(TEXTS, Told())
    server.answers = [Answer(429, headers={"Retry-After": "3600"})]
    with pytest.raises(TransientError, match="answered 429"):
        served.embed(TEXTS, Told())


def test_a_search_does_not_wait_for_a_busy_server(served: Embedder, server: ModelServer) -> None:
    server.answers = [Answer(503)]
    with pytest.raises(TransientError, match="answered 503"):
        served.embed_query("planets")
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        (Answer(401), AuthenticationError, "name `api_key_variable`"),
        (Answer(404), PermanentError, "no such model"),
        (Answer(400, b'{"error": {"message": "maximum context length"}}'), PermanentError, "lower `max_tokens`"),
        (Answer(429, b'{"error": {"code": "insufficient_quota"}}'), PermanentError, "no money left"),
        (Answer(307, headers={"Location": "http://192.0.2.1/"}), PermanentError, "redirects more than 0 times"),
        (Answer(200, b'{"data": "odd"}'), BadVectorsError, "as OpenAI's API does"),
        (Answer(200, b'[{"embedding": []}]'), BadVectorsError, "as OpenAI's API does"),
        (Answer(200, vectors_of(2)), BadVectorsError, "2 vectors for 3 texts"),
        (Answer(200, vectors_of(3, 768)), BadVectorsError, "say `dimension: 768`"),
        (Answer(200, vectors_of(3, value=float("nan"))), BadVectorsError, "numbers that are none"),
        (Answer(200, vectors_of(3, value=0.0)), BadVectorsError, "a vector of zeros"),
    ],
    ids=lambda value: f"{value.status}-{len(value.body)}" if isinstance(value, Answer) else None,
)
def test_an_answer_that_no_patience_mends_is_told_as_what_it_is(
    served: Embedder, server: ModelServer, answer: Answer, error: type[Exception], text: str
) -> None:
    server.answers = [answer]
    with pytest.raises(error, match=text):
        served.embed(TEXTS, Told())
    assert len(server.seen) == 1


def test_the_key_comes_from_the_environment(
    server: ModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = declared(server, tmp_path, monkeypatch, api_key_variable="MODEL_KEY")
    monkeypatch.delenv("MODEL_KEY", raising=False)
    with pytest.raises(AuthenticationError, match="environment variable MODEL_KEY"):
        encoder.embed(TEXTS)
    assert server.seen == []
    monkeypatch.setenv("MODEL_KEY", "secret")
    encoder.embed(TEXTS)
    assert server.keys == ["Bearer secret"]
    server.answers = [Answer(403)]
    with pytest.raises(AuthenticationError, match="MODEL_KEY") as caught:
        encoder.embed(TEXTS)
    assert "secret" not in str(caught.value)


def test_a_server_that_is_away_is_a_passing_failure(
    server: ModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = declared(server, tmp_path, monkeypatch, url="http://127.0.0.1:9/v1")
    watch = Told()
    with pytest.raises(TransientError, match="cannot be reached"):
        encoder.embed(TEXTS, watch)
    assert len(watch.waits) == 3
