"""Laws for every model, and GPT-2 held against transformers' own forward pass."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, pipeline

from lab import machine
from lab.config.model import ModelConfig
from lab.errors import InputError
from lab.models import counting
from lab.models.counted import Counted
from lab.models.gpt2 import Gpt2
from lab.models.initial_weights import random_gpt2
from lab.models.load import load
from lab.models.protocols import LanguageModel
from lab.steps.probes import held_out_nats

torch.set_num_threads(1)
V, T = 70, 16
SHAPES = {"1 head": (1, 1, 16), "2 layers": (2, 2, 32), "4 heads": (1, 4, 32)}
COUNTED = {
    "uniform": {"kind": "uniform"},
    "positions": {"kind": "positions"},
    "bigram": {"kind": "ngram", "order": 2, "smoothing": "none"},
    "smoothed 5-gram": {"kind": "ngram", "order": 5, "smoothing": "interpolated"},
}
MODELS = [*SHAPES, *COUNTED]


def gpt2(shape: str = "2 layers", *, seed: int = 1, vocab_size: int = V) -> Gpt2:
    """Return a small model whose predictions are far from uniform."""
    n_layer, n_head, n_embd = SHAPES[shape]
    config = ModelConfig(n_layer=n_layer, n_head=n_head, n_embd=n_embd, n_positions=T)
    model = random_gpt2(config, vocab_size=vocab_size, bos=0, seed=seed)
    with torch.no_grad():
        for parameter in model.module.parameters():
            parameter += torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)) * 0.3
    return model


def make(name: str) -> Gpt2 | Counted:
    if name in SHAPES:
        return gpt2(name)
    return Counted(counting.fit(COUNTED[name], rows_of(300), vocab_size=V, bos=0, eos=0))


def rows_of(n: int, positions: int = T, vocab_size: int = V) -> np.ndarray:
    return np.random.default_rng(0).integers(0, vocab_size, (n, positions)).astype(np.uint16)


def decoded(model: LanguageModel, rows: np.ndarray) -> torch.Tensor:
    """Return the logits [B, T, V] of the step-by-step decoder, which reads BOS and all tokens except the last."""
    inputs = np.concatenate([np.zeros((len(rows), 1), np.int64), rows[:, :-1].astype(np.int64)], axis=1)
    decoder = model.decoder(len(rows))
    return torch.stack([decoder.step(torch.from_numpy(inputs[:, t])).clone() for t in range(rows.shape[1])], dim=1)


@pytest.mark.parametrize("name", MODELS)
def test_probabilities_sum_to_one(name: str) -> None:
    total = decoded(make(name), rows_of(5)).double().softmax(-1).sum(-1)
    assert torch.allclose(total, torch.ones_like(total))


@pytest.mark.parametrize("name", MODELS)
def test_nats_are_those_of_the_decoder(name: str) -> None:
    model, rows = make(name), rows_of(5)
    nats = F.cross_entropy(
        decoded(model, rows).transpose(1, 2), torch.from_numpy(rows.astype(np.int64)), reduction="none"
    )
    got = model.nats(rows)
    assert got.shape == rows.shape and got.dtype == np.float32
    assert np.allclose(got, nats, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_a_changed_token_leaves_what_is_before_it_alone(name: str) -> None:
    model, rows = make(name), rows_of(3)
    for j in (0, 7, T - 1):
        changed = rows.copy()
        changed[:, j] = (changed[:, j] + 1) % V
        assert torch.equal(decoded(model, changed)[:, : j + 1], decoded(model, rows)[:, : j + 1])
        assert np.array_equal(model.nats(changed)[:, :j], model.nats(rows)[:, :j])


@pytest.mark.parametrize("name", MODELS)
def test_save_and_load(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model, rows = make(name), rows_of(4)
    model.save(tmp_path)
    assert capfd.readouterr() == ("", ""), "no bars in a worker's log"
    again = load(tmp_path)
    assert again.vocab_size == V
    assert torch.equal(decoded(again, rows), decoded(model, rows))
    assert np.array_equal(again.nats(rows), model.nats(rows))


@pytest.mark.parametrize("name", MODELS)
def test_rows_may_be_of_any_integer_type_and_number(name: str) -> None:
    model, rows = make(name), rows_of(300)  # more than one batch
    nats = model.nats(rows)
    assert np.array_equal(model.nats(rows.astype(np.int64)), nats)
    assert np.allclose(model.nats(rows[290:]), nats[290:], atol=1e-5)
    assert model.nats(rows[:0]).shape == (0, T)


def test_uniform_perplexity_is_the_vocabulary() -> None:
    nats = make("uniform").nats(rows_of(10))
    assert math.exp(nats.mean()) == pytest.approx(V, rel=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_cached_logits_are_transformers_own(shape: str) -> None:
    model, rows = gpt2(shape), rows_of(6)
    inputs = F.pad(torch.from_numpy(rows.astype(np.int64))[:, :-1], (1, 0))
    with torch.no_grad():
        want = model.module(inputs).logits
    assert (decoded(model, rows) - want).abs().max() <= 1e-5 * want.abs().max()


def test_cached_logits_are_transformers_own_at_a_larger_size() -> None:
    """4 x 256, with more positions than a table of keys holds.

    An initializer_range of 0.2 would be too wide for this bound: there transformers' own float32 logits differ by
    1.5e-5 from its float64 logits.
    """
    config = ModelConfig(n_layer=4, n_head=8, n_embd=256, n_positions=192, initializer_range=0.1)
    model = random_gpt2(config, vocab_size=1_000, bos=0, seed=3)
    rows = rows_of(2, 192, 1_000)
    with torch.no_grad():
        want = model.module(F.pad(torch.from_numpy(rows.astype(np.int64))[:, :-1], (1, 0))).logits
    assert (decoded(model, rows) - want).abs().max() <= 1e-5 * want.abs().max()


@pytest.mark.parametrize("shape", SHAPES)
def test_nats_are_transformers_own_loss(shape: str) -> None:
    """transformers scores tokens 2.. of what it reads: BOS and T - 1 tokens."""
    model, rows = gpt2(shape), rows_of(6, T - 1)
    ids = F.pad(torch.from_numpy(rows.astype(np.int64)), (1, 0))
    with torch.no_grad():
        want = model.module(ids, labels=ids).loss.item()
    assert model.nats(rows).mean() == pytest.approx(want, rel=1e-5)


def test_long_rows_use_the_fused_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows = gpt2(), rows_of(4)
    eager = model.nats(rows)
    monkeypatch.setattr("lab.models.gpt2.EAGER_POSITIONS", T - 1)
    assert np.allclose(model.nats(rows), eager, atol=1e-5)


def test_the_cache_grows_with_the_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for 3, 6, 12, 24 tokens in turn, and tables of 2 and 4 keys: equal logits, except for the order of a sum."""
    model, rows = gpt2(), rows_of(4)
    at_once = decoded(model, rows)
    monkeypatch.setattr("lab.models.sampling.kv_cache_cpu.FIRST_POSITIONS", 3)
    monkeypatch.setattr("lab.models.sampling.kv_cache_cpu.NARROW", 2)
    monkeypatch.setattr("lab.models.sampling.kv_cache_cpu.WIDE", 4)
    assert model.decoder(4).caches[0].values.shape[1] == 3
    assert torch.allclose(decoded(model, rows), at_once, atol=1e-5)


def test_tables_of_keys_are_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tables of one width become one of twice the width, up to the widest: 11 positions are 4 + 4 + 2 + 1 of 2."""
    monkeypatch.setattr("lab.models.sampling.kv_cache_cpu.NARROW", 2)
    monkeypatch.setattr("lab.models.sampling.kv_cache_cpu.WIDE", 4)
    decoder = gpt2().decoder(4)
    for token in rows_of(4, 11).T:
        decoder.step(torch.from_numpy(token.astype(np.int64)))
    assert [keys.shape[1] for keys in decoder.caches[0].keys] == [4, 4, 2, 2]


def test_products_without_onednn_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows = gpt2(), rows_of(4)
    with_it = decoded(model, rows)
    monkeypatch.setattr("lab.models.gpt2_ops.ONEDNN", False)
    assert torch.allclose(decoded(model, rows), with_it, atol=1e-4)


def test_rows_that_are_too_long_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 17\).*at most 16"):
        gpt2().nats(rows_of(2, T + 1))


def test_initial_weights_depend_on_the_seed_only() -> None:
    config = ModelConfig(n_layer=1, n_head=1, n_embd=16, n_positions=T)
    before = torch.random.get_rng_state()
    first, again, other = (random_gpt2(config, vocab_size=V, bos=0, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    wte = [model.module.transformer.wte.weight for model in (first, again, other)]
    assert torch.equal(wte[0], wte[1]) and not torch.equal(wte[0], wte[2])
    assert wte[0].std().item() == pytest.approx(0.02, rel=0.1)  # GPT-2's initializer_range


def test_an_unknown_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "lstm"}')
    with pytest.raises(InputError, match='"lstm"; known: lab-ngram, lab-positions, lab-uniform, gpt2, llama, opt and'):
        load(tmp_path)


class _Messages(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def test_a_saved_model_is_anyones(tmp_path: Path) -> None:
    """It loads with AutoModelForCausalLM and runs in a pipeline, and transformers logs no warning."""
    words = {"<|endoftext|>": 0} | {f"w{i}": i for i in range(1, V)}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<|endoftext|>"))
    tokenizer.pre_tokenizer = Whitespace()
    special = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(tmp_path)
    gpt2().save(tmp_path)
    messages, logger = _Messages(), logging.getLogger("transformers")
    logger.addHandler(messages)
    try:
        module = AutoModelForCausalLM.from_pretrained(tmp_path)
        generate = pipeline("text-generation", model=str(tmp_path))
        text = generate("w1 w2")[0]["generated_text"]
    finally:
        logger.removeHandler(messages)
    assert module.config.n_positions == T and module.generation_config.top_k == 0
    assert text.startswith("w1 w2") and messages.lines == []


def test_heldout_is_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.steps.probes.ROWS", 4)
    model, rows, reported = gpt2(), rows_of(10), []
    nats = held_out_nats(model, rows, reported.append)
    assert np.allclose(nats, model.nats(rows), atol=1e-5) and nats.dtype == np.float32
    assert reported == [4 * T, 8 * T, 10 * T]


def test_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_cpuinfo", lambda: {"flags": "fpu avx512_bf16", "model name": "A CPU"})
    assert (machine.cpu_name(), machine.resolve_dtype("auto", "cpu")) == ("A CPU", "bfloat16")
    monkeypatch.setattr(machine, "_cpuinfo", lambda: {"flags": "fpu avx2"})
    assert machine.resolve_dtype("auto", "cpu") == "float32"
    assert machine.resolve_dtype("bfloat16", "cpu") == "bfloat16"
    assert machine.resolve_device("cpu") == "cpu"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert machine.resolve_device("auto") == "cpu"
    with pytest.raises(InputError, match=r"CUDA_VISIBLE_DEVICES hides every GPU; set compute.device=cpu"):
        machine.resolve_device("cuda")
    assert machine.cpu_cores() >= 1 and {"python", "torch", "numpy"} <= set(machine.versions())
