import subprocess
import sys

import numpy as np
import pytest

from pipeline.embedding import MODEL_BATCH, MODEL_BATCH_TOKENS, Embedder, batches, bundled_model, embedder
from workflows.settings import SettingsError

SENTENCES = [
    "Flaky tests fail and pass without any change of the code.",
    "A test that sometimes breaks for no reason is unreliable.",
    "Giant planets orbit close to their stars.",
]


def test_vectors_have_length_one_and_the_model_s_dimension() -> None:
    vectors = embedder().embed([*SENTENCES, ""])
    assert vectors.shape == (4, bundled_model().dimension)
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
    encoding = embedder()._encode(long)
    assert len(encoding.ids) == bundled_model().limits.max_tokens
    assert (encoding.tokens[0], encoding.tokens[-1]) == ("[CLS]", "[SEP]")
    assert embedder().embed([long]).shape == (1, 384)


def test_no_texts_give_no_vectors() -> None:
    assert embedder().embed([]).shape == (0, 384)


def test_progress_is_told_after_each_call_of_the_model() -> None:
    told: list[int] = []
    embedder().embed(SENTENCES * 6, told.append)
    assert told == [8, 16, 18]


def test_batches_hold_every_text_once_and_stay_within_their_bounds() -> None:
    lengths = [256, 3, 200, 4, 128, 5, 256, 256, 256, 256, 7, 9, 11, 13, 17, 19]
    found = list(batches(lengths))
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
    assert isinstance(embedder(), Embedder)


def test_importing_the_steps_loads_no_model_library() -> None:
    heavy = ("numpy", "onnxruntime", "tokenizers", "semchunk", "pypdfium2")
    code = f"import sys, pipeline.steps, pipeline.search; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
