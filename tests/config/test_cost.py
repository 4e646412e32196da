"""Estimates of disk and time: right to a factor of two for models of every kind."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file
from support.tiny import PROJECT, tiny_config

from lab.config.cost import UNKNOWN_PARAMETERS, model_bytes, operations, parameters, reachable, vocabulary
from lab.config.study import StudyConfig
from lab.models.ngram import Ngram
from lab.store.space import size_of
from lab.text.tokenizer import save_tokenizer, train_tokenizer


@pytest.fixture(scope="module")
def downloaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder as of a small pretrained model: 0.6 million weights of 2 bytes, and a tokenizer."""
    folder = tmp_path_factory.mktemp("downloaded")
    words = np.random.default_rng(0).integers(97, 123, (3000, 7), dtype=np.uint8)
    texts = [" ".join(bytes(word).decode() for word in some) for some in np.array_split(words, 60)]
    save_tokenizer(train_tokenizer(texts, 4000), folder)
    weights = {"wte": np.zeros((4000, 128), np.float16), "h": np.zeros((800, 128), np.float16)}
    save_file(weights, folder / "model.safetensors")
    return folder


def pretrained(folder: Path | str) -> StudyConfig:
    model: Any = {"kind": "pretrained", "path": str(folder), "n_positions": 16}
    return tiny_config("tales.jsonl", model=model, tokenizer=None, train__start="base")


def test_a_small_pretrained_model_is_estimated_from_its_files(downloaded: Path) -> None:
    study = pretrained(downloaded)
    assert parameters(study.model, 0) == 4800 * 128, "float16 is kept as float32"
    assert vocabulary(study) == pytest.approx(4000, rel=0.5)
    written = 4 * 4800 * 128 + sum(size_of(file) for file in downloaded.glob("tokenizer*.json"))
    assert model_bytes(study, 0) == pytest.approx(written, rel=0.1)


@pytest.mark.parametrize("head", [b"", b"\xff" * 8, b"\x02\0\0\0\0\0\0\0[]", b"\x05\0\0\0\0\0\0\0" + b'{"a":'])
def test_a_damaged_file_of_weights_is_estimated_by_its_size(tmp_path: Path, head: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(head + b"\0" * 400)
    assert parameters(pretrained(tmp_path).model, 0) == (len(head) + 400) // 4


def test_what_is_unknown_is_a_gpt2() -> None:
    study = pretrained("some/model")
    assert parameters(study.model, 0) == UNKNOWN_PARAMETERS and vocabulary(study) == 50_257


def counting(**changes: Any) -> StudyConfig:
    model = {"kind": "ngram", "order": 3, "smoothing": "interpolated", "n_positions": 16} | changes
    return tiny_config("tales.jsonl", model=model, train=None)


@pytest.mark.parametrize("rows", [400, 20_000])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_counts_take_what_is_estimated(tmp_path: Path, rows: int, order: int) -> None:
    """On rows of a Zipf law, of which each is there twice."""
    types = 300
    law = 1 / np.arange(1, types + 1)
    drawn = np.random.default_rng(0).choice(types, (rows // 2, 16), p=law / law.sum())
    fitted = Ngram.fit(np.concatenate([drawn, drawn]), order=order, vocab_size=types, bos=0, smoothed=True)
    fitted.save(tmp_path)
    study = counting(order=order)
    tokenizer = model_bytes(counting(order=1), 0)
    estimated = model_bytes(study, rows) - tokenizer
    assert 0.4 < (estimated + 20_000) / (size_of(tmp_path) + 20_000) < 2.5


def test_counting_models_take_time() -> None:
    """A token is drawn from the whole distribution, and scored by a look-up."""
    study = counting()
    drawn, scored = (operations(study, 1000, 1, drawn=drawn) for drawn in (True, False))
    assert drawn > scored > 0
    assert operations(counting(order=1), 1000, 1, drawn=True) == pytest.approx(drawn / 3)
    assert operations(study, 2000, 1, drawn=True) == 2 * drawn


@pytest.mark.parametrize("size", [3_000, 40_000])
def test_the_vocabulary_that_a_text_can_fill_is_right_to_a_factor_of_one_and_a_half(size: int) -> None:
    text = "\n".join(pq.read_table(PROJECT / "data" / "human-small.parquet")["text"].to_pylist()[:9])[:size]
    made = train_tokenizer([text], 10**6).get_vocab_size()
    assert len(text) == size and 2 / 3 < reachable(size) / made < 3 / 2
    assert reachable(0) == 257 and reachable(float("inf")) == float("inf"), "the size of a hub's text is unknown"
