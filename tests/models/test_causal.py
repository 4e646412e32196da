"""Pretrained models and Llamas from scratch against transformers: its forward pass, loss and gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.pretrained import (
    BOS,
    CONFIGS,
    GPT2,
    T,
    V,
    base,
    checkpoint,
    each_model,
    llama,
    read_of,
    rows_of,
    train,
)
from support.training import ascending, fits, quiet
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
)

from lab.models import scoring
from lab.models.causal import Causal
from lab.models.counted import Counted
from lab.models.gpt2 import Gpt2
from lab.models.initial_weights import start
from lab.models.load import load
from lab.models.loss import MeanLoss
from lab.models.sampling.sample import sample

torch.set_num_threads(1)


@each_model
def test_the_fast_code_serves_what_it_computes_exactly(name: str, bases: dict[str, Path]) -> None:
    model = base(bases, name)
    assert isinstance(model, Gpt2) == (name == "gpt2")
    assert (model.vocab_size, model.positions, model.bos, model.device.type) == (V, T, BOS, "cpu")


@pytest.mark.parametrize(
    ("change", "fast"),
    [
        ({"activation_function": "gelu"}, True),
        ({"activation_function": "relu"}, False),
        ({"scale_attn_weights": False}, False),
        ({"reorder_and_upcast_attn": True}, False),
        ({"n_inner": 40, "layer_norm_epsilon": 1e-3}, True),
    ],
)
def test_every_gpt2_gives_transformers_own_nats(change: dict[str, Any], fast: bool, tmp_path: Path) -> None:
    model, rows = load(checkpoint(tmp_path, GPT2Config(**GPT2, **change))), rows_of(6, T - 1)
    assert type(model) is (Gpt2 if fast else Causal)
    ids = read_of(rows)
    with torch.no_grad():
        want = AutoModelForCausalLM.from_pretrained(tmp_path)(ids, labels=ids).loss.item()
    assert model.nats(rows).mean() == pytest.approx(want, rel=1e-5)


@each_model
def test_nats_are_transformers_own_loss_of_each_token(
    name: str, bases: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In batches of 4 rows, 30 at a time to the vocabulary; transformers in its default attention, all at once."""
    monkeypatch.setattr(scoring, "BATCH_TOKENS", 4 * T)
    monkeypatch.setattr(scoring, "LOGIT_TOKENS", 30)
    model, rows = base(bases, name), rows_of(9)
    module = AutoModelForCausalLM.from_pretrained(bases[name])
    with torch.no_grad():
        logits_BTV = module(read_of(rows)[:, :-1]).logits
    want = F.cross_entropy(logits_BTV.transpose(1, 2), read_of(rows)[:, 1:], reduction="none").numpy()
    got = model.nats(rows)
    assert got.dtype == np.float32 and np.abs(got - want).max() <= 1e-5 * want.max()
    assert np.array_equal(model.nats(rows.astype(np.int64)), got) and model.nats(rows[:0]).shape == (0, T)


@each_model
def test_stepped_logits_are_those_of_the_whole_row(name: str, bases: dict[str, Path]) -> None:
    model, rows = base(bases, name), rows_of(5)
    decoder = model.decoder(5)
    got = torch.stack([decoder.step(tokens_B).clone() for tokens_B in read_of(rows)[:, :-1].T], dim=1)
    with torch.no_grad():
        want = model.module(read_of(rows)[:, :-1]).logits
    assert got.dtype == torch.float32
    assert (got - want).abs().max() <= 1e-5 * want.abs().max()


@each_model
def test_samples_have_the_models_distribution(name: str, bases: dict[str, Path]) -> None:
    """So it is for the first token, and for the second one after the commonest first; equal seeds give equal bytes."""
    model = base(bases, name)
    drawn = [sample(model, rows=3000, positions=2, bos=BOS, seed=seed, progress=quiet) for seed in (1, 1, 2)]
    (tokens, nats), again, other = drawn
    assert np.array_equal(tokens, again[0]) and np.array_equal(nats, again[1]) and not np.array_equal(tokens, other[0])
    assert np.allclose(model.nats(tokens), nats, atol=1e-4)
    first = np.bincount(tokens[:, 0]).argmax()
    for prefix, after in (([], tokens[:, 0]), ([first], tokens[tokens[:, 0] == first, 1])):
        with torch.no_grad():
            exact = model.module(torch.tensor([[BOS, *prefix]])).logits[0, -1].double().softmax(-1).numpy()
        assert fits(np.bincount(after, minlength=V), exact) > 0.001


@each_model
def test_save_and_load(name: str, bases: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model, rows = base(bases, name), rows_of(4)
    capfd.readouterr()
    model.save(tmp_path)
    assert capfd.readouterr() == ("", ""), "no bars in a worker's log"
    again = load(tmp_path)
    assert type(again) is type(model) and np.array_equal(again.nats(rows), model.nats(rows))
    with torch.no_grad():
        theirs = AutoModelForCausalLM.from_pretrained(tmp_path)(read_of(rows)[:, :-1]).logits
        assert torch.allclose(theirs, model.module(read_of(rows)[:, :-1]).logits, atol=1e-4)


@each_model
def test_gradients_are_transformers_own(name: str, bases: dict[str, Path]) -> None:
    model, rows = base(bases, name), rows_of(20, T - 1)
    parameters, ids = list(model.module.parameters()), read_of(rows)
    loss, want = MeanLoss(model, torch.float32)(ids[:, 1:]), model.module(ids, labels=ids).loss
    assert loss.item() == pytest.approx(want.item(), rel=1e-6)
    ours, theirs = torch.autograd.grad(loss, parameters), torch.autograd.grad(want, parameters)
    largest = max(gradient.abs().max() for gradient in theirs)
    for our, their in zip(ours, theirs, strict=True):
        # Some are zero except for rounding: a bias on all keys changes no attention.
        assert (our - their).abs().max() <= 1e-5 * their.abs().max() + 1e-7 * largest


@each_model
def test_bfloat16_stays_near(name: str, bases: dict[str, Path], tmp_path: Path) -> None:
    model = load(checkpoint(tmp_path, CONFIGS[name], scale=0.05))
    assert not isinstance(model, Counted)
    ids_BT, weights = read_of(rows_of(20))[:, 1:], [p for p in model.module.parameters() if p.ndim == 2]
    rounded, inside = (model.hidden(ids_BT, dtype).to(torch.bfloat16) for dtype in (torch.float32, torch.bfloat16))
    assert not torch.equal(rounded, inside)  # the products within the model are in bfloat16 too
    exact, near = (MeanLoss(model, dtype)(ids_BT) for dtype in (torch.float32, torch.bfloat16))
    assert near.dtype == torch.float32 and 0 < abs(near.item() / exact.item() - 1) < 5e-3
    for ours, theirs in zip(torch.autograd.grad(near, weights), torch.autograd.grad(exact, weights), strict=True):
        assert ours.dtype == torch.float32 and F.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0) > 0.98


DTYPES = ("float32", "bfloat16")
"""In CI each configuration is trained in one of them, in turn."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        pytest.param(name, dtype, marks=[pytest.mark.full] if (number + other) % 2 else [])
        for number, name in enumerate(CONFIGS)
        for other, dtype in enumerate(DTYPES)
    ],
)
def test_training_further_learns_and_repeats(name: str, dtype: str, bases: dict[str, Path], tmp_path: Path) -> None:
    """Dropout, which the gpt2 and OPT configurations ask for, would make two trainings differ."""
    saved = []
    for folder in (tmp_path / "first", tmp_path / "again"):
        model = start(bases[name], vocab_size=V, bos=BOS, positions=T)
        log = train(model, dtype=dtype)
        assert log[-1]["validation"] < 0.8 * log[0]["validation"]
        folder.mkdir()
        model.save(folder)
        saved.append((folder / "model.safetensors").read_bytes())
        torch.rand(3)  # the global generator has no say
    assert saved[0] == saved[1]
    assert np.array_equal(load(tmp_path / "first").nats(ascending(5)), model.nats(ascending(5)))


def test_rows_that_are_too_long_are_refused() -> None:
    model = llama()
    with pytest.raises(ValueError, match=r"\(2, 17\).*at most 16"):
        model.nats(rows_of(2, T + 1))
    decoder = model.decoder(2)
    with pytest.raises(ValueError, match="a row is full: the model reads at most 16 tokens"):
        for _ in range(T + 1):
            decoder.step(torch.tensor([BOS, BOS]))
