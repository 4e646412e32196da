"""The `evaluate` modules load offline from their folders and equal the pure functions."""

from __future__ import annotations

import copy
import math
import os
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # before evaluate reads it

import evaluate
import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

import lab
from lab.metrics.diversity import distinct_n
from lab.metrics.risk import bits_per_byte, mean_nats, perplexity
from lab.metrics.tails import loss_by_token_bin
from lab.text.tokenizer import END, token_bytes, train_tokenizer

pytestmark = pytest.mark.slow
NAMES = ["distinct_n", "perplexity", "rare_token_loss"]
TEXTS = ["the café is open", "", "a much longer text, of more tokens than the model has positions for: déjà vu", "x"]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def load(name: str, tmp_path: Path) -> Any:
    return evaluate.load(lab.metric_path(name), cache_dir=str(tmp_path))


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=train_tokenizer(["the cat and the hat, the bat"], 280), bos_token=END, eos_token=END
    )


@pytest.fixture(scope="module")
def model() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=280,
        n_positions=16,
        n_embd=32,
        n_layer=1,
        n_head=2,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=None,
    )
    return GPT2LMHeadModel(config).eval()


def library_nats(model: GPT2LMHeadModel, window: list[int]) -> float:
    """Total loss of a window behind BOS, by transformers' own `labels`: it shifts, so the BOS is not scored.

    The window must leave room for the BOS *and* for the last token as an input: n_positions - 1 tokens.
    """
    ids = torch.tensor([[0, *window]])
    return model(input_ids=ids, labels=ids).loss.item() * len(window)


@pytest.mark.parametrize("name", NAMES)
def test_module_loads_offline(name: str, tmp_path: Path) -> None:
    metric = load(name, tmp_path)
    assert metric.name == name and len(metric.description) > 100 and "predictions" in metric.inputs_description


def test_perplexity_equals_the_librarys_loss(model: Any, tokenizer: Any, tmp_path: Path) -> None:
    texts = ["the cat", "hat", "and the bat"]
    ids = [tokenizer(text)["input_ids"] for text in texts]
    assert 1 <= max(map(len, ids)) < 16
    total, tokens = sum(library_nats(model, row) for row in ids), sum(map(len, ids))
    found = load("perplexity", tmp_path).compute(predictions=texts, model=model, tokenizer=tokenizer)
    assert found["tokens"] == tokens
    assert found["nll"] == pytest.approx(total / tokens, rel=1e-5)
    assert found["perplexity"] == pytest.approx(math.exp(total / tokens), rel=1e-5)
    assert found["bits_per_byte"] == pytest.approx(total / math.log(2) / sum(map(len, texts)), rel=1e-5)


def test_a_long_text_is_cut_into_windows_behind_bos(model: Any, tokenizer: Any, tmp_path: Path) -> None:
    """37 tokens at n_positions 16: windows of 16, 16 and 5, each scored like a text of its own."""
    text = np.random.default_rng(0).integers(1, len(tokenizer), size=37).tolist()
    metric = load("perplexity", tmp_path)
    whole = metric.compute(predictions=[text], model=model, tokenizer=tokenizer)
    pieces = [text[:16], text[16:32], text[32:]]
    parts = metric.compute(predictions=pieces, model=model, tokenizer=tokenizer, batch_size=1)
    assert whole["tokens"] == parts["tokens"] == 37
    assert whole["nll"] == pytest.approx(parts["nll"], rel=1e-6)
    last = metric.compute(predictions=[text[32:]], model=model, tokenizer=tokenizer)
    assert last["nll"] * 5 == pytest.approx(library_nats(model, text[32:]), rel=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_perplexity_equals_the_pure_functions(model: Any, tokenizer: Any, tmp_path: Path, batch_size: int) -> None:
    """Texts of unlike length, padded or not, against one window at a time through the model's own logits."""
    found = load("perplexity", tmp_path).compute(
        predictions=TEXTS, model=model, tokenizer=tokenizer, batch_size=batch_size
    )
    tokens, nats = [], []
    for text in TEXTS:
        ids = tokenizer(text)["input_ids"]
        for window in (ids[at : at + 16] for at in range(0, len(ids), 16)):
            with torch.no_grad():
                logits = model(torch.tensor([[0, *window[:-1]]])).logits[0]
            nats += (-logits.log_softmax(-1)[range(len(window)), window]).tolist()
            tokens += window
    flat, losses = np.array(tokens), np.array(nats)
    assert found["tokens"] == len(tokens) > 16
    assert found["nll"] == pytest.approx(mean_nats(losses), rel=1e-5)
    assert found["perplexity"] == pytest.approx(perplexity(losses), rel=1e-5)
    entries = token_bytes(tokenizer.backend_tokenizer)
    assert found["bits_per_byte"] == pytest.approx(bits_per_byte(flat, losses, entries), rel=1e-5)
    assert sum(len(entries[token]) for token in tokens) == sum(len(text.encode()) for text in TEXTS)


def test_uniform_model_has_perplexity_v(model: Any, tokenizer: Any, tmp_path: Path) -> None:
    uniform = GPT2LMHeadModel(model.config)
    for parameter in uniform.parameters():
        torch.nn.init.zeros_(parameter)
    found = load("perplexity", tmp_path).compute(predictions=TEXTS, model=uniform, tokenizer=tokenizer)
    assert found["perplexity"] == pytest.approx(280, rel=1e-5)


def test_a_model_in_training_is_scored_without_dropout(model: Any, tokenizer: Any, tmp_path: Path) -> None:
    """And given back in training."""
    training = copy.deepcopy(model).train()
    metric = load("perplexity", tmp_path)
    found = [metric.compute(predictions=TEXTS, model=each, tokenizer=tokenizer) for each in (model, training)]
    assert found[0] == found[1]
    assert training.training and not model.training


def test_perplexity_of_empty_texts_is_nan(model: Any, tokenizer: Any, tmp_path: Path) -> None:
    found = load("perplexity", tmp_path).compute(predictions=["", ""], model=model, tokenizer=tokenizer)
    assert found["tokens"] == 0
    assert all(math.isnan(found[name]) for name in ("perplexity", "nll", "bits_per_byte"))


def test_perplexity_needs_a_bos(model: Any, tmp_path: Path) -> None:
    bare = PreTrainedTokenizerFast(tokenizer_object=train_tokenizer(["a"], 257))
    with pytest.raises(ValueError, match="no BOS"):
        load("perplexity", tmp_path).compute(predictions=["a"], model=model, tokenizer=bare)


def test_distinct_n_by_hand(tmp_path: Path) -> None:
    """'a b a b': 2 of 3 bigrams; with 'a b' behind it, 2 of 4, because no bigram crosses from text to text."""
    metric = load("distinct_n", tmp_path)
    assert metric.compute(predictions=["a b a b"], n=2, tokens=4) == {"distinct_n": 2 / 3}
    assert metric.compute(predictions=["a b a b", "a b"], n=2, tokens=6) == {"distinct_n": 2 / 4}
    assert metric.compute(predictions=["a b a b", "a b"], n=2, tokens=4) == {"distinct_n": 2 / 3}
    with pytest.raises(ValueError, match="7 tokens"):
        metric.compute(predictions=["a b a b", "a b"], n=2, tokens=7)


def test_distinct_n_equals_the_pure_function(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).integers(0, 6, size=(9, 20))
    found = load("distinct_n", tmp_path).compute(predictions=rows.tolist(), n=3, tokens=150, eos=0)
    assert found["distinct_n"] == distinct_n(rows, n=3, eos=0, tokens=150)
    ragged = [[1, 2, 3], [], [1, 2], [4]]
    found = load("distinct_n", tmp_path).compute(predictions=ragged, n=2, tokens=6)
    assert found["distinct_n"] == distinct_n(ragged, n=2, eos=None, tokens=6) == 2 / 3
    assert math.isnan(load("distinct_n", tmp_path).compute(predictions=["", "a"], n=2, tokens=1)["distinct_n"])


def test_rare_token_loss_by_hand(tmp_path: Path) -> None:
    found = load("rare_token_loss", tmp_path).compute(
        predictions=[[0, 1], [0]], nats=[[1.0, 4.0], [2.0]], training=[[0, 0], [0]], vocab_size=2
    )
    assert found["bins"] == [
        {"label": "0", "tokens": 1, "types": 1, "nats_per_token": 4.0},
        {"label": "2-3", "tokens": 2, "types": 1, "nats_per_token": 1.5},
    ]


def test_rare_token_loss_equals_the_pure_function(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows, train = rng.integers(0, 50, size=(6, 30)), rng.zipf(1.5, size=(4, 30)) % 50
    nats = rng.random((6, 30)).astype(np.float32)
    metric = load("rare_token_loss", tmp_path)
    found = metric.compute(predictions=rows.tolist(), nats=nats.tolist(), training=train, vocab_size=50)
    assert len(found["bins"]) > 2
    assert found["bins"] == [vars(item) for item in loss_by_token_bin(rows, nats, train, 50)]


def test_rare_token_loss_wants_a_loss_for_each_token(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="prediction 1 has 1 tokens and 2 nats"):
        load("rare_token_loss", tmp_path).compute(
            predictions=[[0, 1], [0]],
            nats=[[1.0, 1.0], [2.0, 3.0]],
            training=[[0]],
            vocab_size=2,
        )
