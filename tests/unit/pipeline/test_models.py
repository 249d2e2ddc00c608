"""The operator's file of models: what it may say, what follows from it, and how errors in it are told."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import models
from pipeline.embedders.onnx import BUNDLED_MODEL, BUNDLED_TOKENIZER, installed
from pipeline.embedding import (
    EmbeddingModel,
    ModelDefinitionError,
    ModelUnavailableError,
    UnknownModelError,
    embedder,
    model_of,
)

SERVED = {"backend": "openai", "url": "http://127.0.0.1:9/v1", "model": "some-model", "dimension": 768}
TEXTS = ["Giant planets orbit close to their stars.", "Flaky tests fail for no reason."]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "models.yaml"
    monkeypatch.setenv("CELERIAC_MODELS", str(path))
    monkeypatch.delenv("CELERIAC_MODEL", raising=False)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The bundled model, laid out as the Hub has models."""
    made = tmp_path / "minilm"
    made.mkdir()
    (made / "model.onnx").symlink_to(installed(*BUNDLED_MODEL))
    (made / "tokenizer.json").symlink_to(installed(*BUNDLED_TOKENIZER))
    (made / "config.json").write_text('{"pad_token_id": 0}', encoding="utf-8")
    told = {"model_max_length": 256, "pad_token": "[PAD]"}
    (made / "tokenizer_config.json").write_text(json.dumps(told), encoding="utf-8")
    return made


def declare(file: Path, **told: Any) -> EmbeddingModel:
    file.write_text(json.dumps({"models": {"mine": told}}), encoding="utf-8")
    models._read.cache_clear()  # two files within one tick of the clock
    return model_of("mine")


def test_without_a_file_there_is_the_bundled_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CELERIAC_MODELS", raising=False)
    assert model_of() == model_of("all-MiniLM-L6-v2")
    assert (model_of().dimension, model_of().cut, model_of().price) == (384, "all-MiniLM-L6-v2/256/32", 0.0)
    with pytest.raises(UnknownModelError, match="no embedding model 'other'; there are all-MiniLM-L6-v2"):
        model_of("other")


def test_the_default_may_be_another(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    declare(file, **SERVED)
    assert model_of().name == "all-MiniLM-L6-v2"
    monkeypatch.setenv("CELERIAC_MODEL", "mine")
    assert (model_of().name, model_of().dimension) == ("mine", 768)


def test_the_revision_follows_from_what_vectors_depend_on(file: Path) -> None:
    revision = declare(file, **SERVED).revision
    same = {**SERVED, "url": "http://127.0.0.1:10/v1", "price": 0.1, "rate": "5/s", "max_tokens": 256, "batch_texts": 2}
    assert declare(file, **same).revision == revision
    for changed in ({"model": "another"}, {"document_prefix": "passage: "}, {"dimension": 384}):
        assert declare(file, **{**SERVED, **changed}).revision != revision
    assert declare(file, **SERVED, revision="2026-01").revision == "2026-01"


def test_chunks_leave_room_when_another_tokenizer_counts_them(file: Path, folder: Path) -> None:
    assert declare(file, **SERVED).limits.max_tokens == 384  # three quarters of 512
    assert declare(file, **SERVED, max_tokens=8192).limits.max_tokens == 512
    assert declare(file, **SERVED, max_tokens=8192, chunk_tokens=1000).limits.max_tokens == 1000
    exact = declare(file, **SERVED, tokenizer=str(folder / "tokenizer.json"))
    assert (exact.limits.max_tokens, exact.tokenizer) == (512, "mine")


def test_costs_come_from_the_price(file: Path) -> None:
    model = declare(file, **SERVED, price=0.02, rate="50/s")
    assert (model.cost(2_500_000), model.rate) == (0.05, "50/s")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("models: [", "is no YAML"),
        ("- a list", "must have one key, `models`"),
        ("models: {mine: 1}", "model 'mine' is no mapping"),
        ("models: {all-MiniLM-L6-v2: {}}", "the name of the bundled model"),
        ("models: {mine: {dimension: 3}}", "model 'mine': backend"),
        ("models: {mine: {backend: magic, dimension: 3}}", "model 'mine': backend"),
        ("models: {mine: {backend: onnx, dimension: 3}}", "model 'mine': path: Field required"),
        ("models: {mine: {backend: onnx, dimension: 3, path: x, speed: 1}}", "model 'mine': speed"),
        ("models: {mine: {backend: openai, url: 'ftp://x', model: m, dimension: 3}}", "model 'mine': url"),
        (
            "models: {mine: {backend: openai, url: 'http://x', model: m, dimension: 3, rate: 1/0s}}",
            "model 'mine': rate",
        ),
        ("models: {'a b': {backend: onnx, dimension: 3, path: x}}", "model 'a b': name"),
        ("models: {mine: {backend: onnx, dimension: 3, path: x, max_tokens: 64, chunk_tokens: 65}}", "must not exceed"),
    ],
)
def test_an_error_in_the_file_is_told_with_its_place(file: Path, text: str, told: str) -> None:
    file.write_text(text, encoding="utf-8")
    models._read.cache_clear()
    with pytest.raises(ModelDefinitionError) as caught:
        model_of("mine")
    assert told in str(caught.value)
    assert str(file) in str(caught.value)
    assert caught.value.hint


def test_a_file_that_is_missing_is_told(file: Path) -> None:
    with pytest.raises(ModelDefinitionError, match="cannot be read"):
        model_of("mine")
    assert model_of("all-MiniLM-L6-v2").dimension == 384


def test_a_model_in_a_folder_is_read_beside_the_file(file: Path, folder: Path) -> None:
    model = declare(file, backend="onnx", path=folder.name, dimension=384, max_tokens=256)
    found = embedder("mine")
    np.testing.assert_allclose(found.embed(TEXTS), embedder().embed(TEXTS), atol=1e-5)
    assert found.embed_query(TEXTS[0]) @ found.embed(TEXTS)[0] > 0.99
    assert model.revision != model_of().revision


def test_pooling_and_prefixes_change_the_vectors(file: Path, folder: Path) -> None:
    told = {"backend": "onnx", "path": str(folder), "dimension": 384, "max_tokens": 256}
    declare(file, **told, pooling="cls")
    by_first = embedder("mine").embed(TEXTS)
    declare(file, **told, document_prefix="passage: ")
    with_prefix = embedder("mine").embed(TEXTS)
    np.testing.assert_allclose(with_prefix, embedder().embed([f"passage: {text}" for text in TEXTS]), atol=1e-5)
    assert (by_first * with_prefix).sum(axis=1).max() < 0.99


def test_a_folder_that_is_not_there_is_told(file: Path) -> None:
    with pytest.raises(ModelUnavailableError, match="is not there"):
        declare(file, backend="onnx", path="nowhere", dimension=384)


def test_a_folder_without_a_model_is_told(file: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    declare(file, backend="onnx", path="empty", dimension=384)
    with pytest.raises(ModelUnavailableError, match="tokenizer"):
        embedder("mine").embed(TEXTS)


def test_fastembed_gives_what_the_same_model_gives_here(file: Path, folder: Path) -> None:
    declare(
        file,
        backend="fastembed",
        model="sentence-transformers/all-MiniLM-L6-v2",
        path=str(folder),
        dimension=384,
        max_tokens=256,
    )
    found = embedder("mine").embed(TEXTS)
    np.testing.assert_allclose((found * embedder().embed(TEXTS)).sum(axis=1), 1.0, atol=0.01)
    assert embedder("mine").embed_query(TEXTS[0]) @ found[0] > 0.99
    chunk = embedder("mine").chunker().cut_name
    assert chunk == model_of("mine").cut


def test_fastembed_says_which_model_it_does_not_know(file: Path, folder: Path) -> None:
    declare(file, backend="fastembed", model="nobody/nothing", path=str(folder), dimension=384)
    with pytest.raises(ModelUnavailableError, match="cannot load 'nobody/nothing'"):
        embedder("mine").embed(TEXTS)


def test_a_package_that_is_not_installed_is_named(file: Path, folder: Path) -> None:
    declare(file, backend="sentence-transformers", path=str(folder), dimension=384)
    with pytest.raises(ModelUnavailableError, match="sentence-transformers") as caught:
        embedder("mine").embed(TEXTS)
    assert "pip install 'celeriac[sentence-transformers]'" in caught.value.hint
