import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.embedders.local import batches
from pipeline.embedders.onnx import (
    BUNDLED_MODEL,
    BUNDLED_TOKENIZER,
    CHECKSUMS,
    MODEL_BATCH,
    MODEL_BATCH_TOKENS,
    OnnxEmbedder,
    installed,
)
from pipeline.embedding import ModelUnavailableError, embedder, model_of
from workflows.settings import SettingsError

SENTENCES = [
    "Flaky tests fail and pass without any change of the code.",
    "A test that sometimes breaks for no reason is unreliable.",
    "Giant planets orbit close to their stars.",
]


class Told:
    """What a model told while it was at work."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.done: list[int] = []
        self.waits: list[float] = []

    def before(self, tokens: int) -> None:
        self.tokens.append(tokens)

    def after(self, done: int, used: int | None = None) -> None:
        self.done.append(done)

    def wait(self, seconds: float, why: str) -> None:
        self.waits.append(seconds)


def bundled() -> OnnxEmbedder:
    found = embedder()
    assert isinstance(found, OnnxEmbedder)
    return found


def test_vectors_have_length_one_and_the_model_s_dimension() -> None:
    vectors = embedder().embed([*SENTENCES, ""])
    assert vectors.shape == (4, model_of().dimension)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)


def test_meaning_is_near_meaning() -> None:
    first, paraphrase, other = embedder().embed(SENTENCES)
    assert first @ paraphrase > 0.5
    assert first @ other < 0.2


def test_vectors_come_in_the_order_of_the_texts_and_padding_changes_none() -> None:
    texts = [SENTENCES[n % 3] * (1 + n % 5) for n in range(20)]
    together = embedder().embed(texts)
    # The model is quantised by the range of each batch, so vectors agree closely and not to the bit.
    for text, vector in zip(texts, together, strict=True):
        assert embedder().embed([text])[0] @ vector > 0.99


def test_a_text_over_the_limit_is_cut_and_keeps_its_frame() -> None:
    long = "word " * 1000
    encoding = bundled()._encode(long)
    assert len(encoding.ids) == model_of().limits.max_tokens
    assert (encoding.tokens[0], encoding.tokens[-1]) == ("[CLS]", "[SEP]")
    assert embedder().embed([long]).shape == (1, 384)


def test_no_texts_give_no_vectors() -> None:
    assert embedder().embed([]).shape == (0, 384)


def test_progress_is_told_after_each_call_of_the_model() -> None:
    watch = Told()
    embedder().embed(SENTENCES * 6, watch)
    assert watch.done == [8, 16, 18]
    assert sum(watch.tokens) == sum(embedder().count_tokens(text) + 2 for text in SENTENCES * 6)


def test_batches_hold_every_text_once_and_stay_within_their_bounds() -> None:
    lengths = [256, 3, 200, 4, 128, 5, 256, 256, 256, 256, 7, 9, 11, 13, 17, 19]
    found = list(batches(lengths, MODEL_BATCH, MODEL_BATCH_TOKENS))
    assert sorted(index for batch in found for index in batch) == list(range(len(lengths)))
    for batch in found:
        assert len(batch) <= MODEL_BATCH
        assert len(batch) * max(lengths[index] for index in batch) <= MODEL_BATCH_TOKENS


def test_a_wrong_number_of_threads_is_refused_with_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.embedding._embedders", {})
    monkeypatch.setenv("CELERIAC_EMBED_THREADS", "0")
    with pytest.raises(SettingsError, match="CELERIAC_EMBED_THREADS"):
        embedder()


def test_a_process_has_one_embedder() -> None:
    assert embedder() is embedder()
    assert isinstance(embedder(), OnnxEmbedder)


def test_importing_the_steps_loads_no_model_library() -> None:
    heavy = ("numpy", "onnxruntime", "tokenizers", "semchunk", "pypdfium2")
    code = f"import sys, pipeline.steps, pipeline.search; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_model_file_that_is_not_the_right_one_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "model.onnx"
    broken.write_bytes(installed(*BUNDLED_MODEL).read_bytes()[:-1] + b"\0")
    encoder = OnnxEmbedder(model_of(), broken, installed(*BUNDLED_TOKENIZER), longest=256, checksums=CHECKSUMS)
    with pytest.raises(ModelUnavailableError, match="SHA-256") as caught:
        encoder.embed(["a text"])
    assert "install it again" in str(caught.value.hint)


def test_the_batches_of_a_server_count_tokens_as_they_are() -> None:
    assert list(batches([5, 5, 5, 5], 64, 10, is_padded=False)) == [[0, 1], [2, 3]]
    assert list(batches([100, 1], 64, 10, is_padded=False)) == [[1], [0]]
