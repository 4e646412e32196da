"""The sampler against the model's exact probabilities and against transformers' generate."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from transformers import GenerationConfig

from lab import sample as sampling
from lab.config import ModelConfig
from lab.counting import Uniform
from lab.models import Counted, Gpt2
from lab.sample import BLOCK, draw, sample

torch.set_num_threads(1)
T = 6


def gpt2(vocab_size: int) -> Gpt2:
    """A small model whose predictions are far from uniform."""
    config = ModelConfig(n_layer=1, n_head=2, n_embd=16, n_positions=T)
    model = Gpt2.fresh(config, vocab_size=vocab_size, bos=0, seed=3)
    with torch.no_grad():
        for parameter in model.module.parameters():
            parameter += torch.randn(parameter.shape, generator=torch.Generator().manual_seed(5)) * 0.2
    return model


def quiet(tokens: int) -> None:
    pass


def exact(model: Gpt2, prefix: list[int]) -> np.ndarray:
    """transformers' own probabilities of the token after BOS and this prefix, float64."""
    with torch.no_grad():
        return model.module(torch.tensor([[0, *prefix]])).logits[0, -1].double().softmax(-1).numpy()


def test_first_token_has_the_models_distribution() -> None:
    """A vocabulary of two blocks, the second of them cut."""
    model = gpt2(BLOCK + 6)
    tokens, _ = sample(model, rows=20_000, positions=1, bos=0, seed=1, progress=quiet)
    assert fits(np.bincount(tokens[:, 0], minlength=BLOCK + 6), exact(model, [])) > 0.001


def test_second_token_has_the_models_distribution_given_the_first() -> None:
    model = gpt2(5)
    tokens, _ = sample(model, rows=20_000, positions=2, bos=0, seed=2, progress=quiet)
    for first in range(5):
        after = tokens[tokens[:, 0] == first, 1]
        assert fits(np.bincount(after, minlength=5), exact(model, [first])) > 0.001


def test_a_biased_draw_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests above have teeth: weighing the likeliest token 10 % too high is enough."""
    model = gpt2(5)
    monkeypatch.setattr(sampling, "draw", lambda p_BV, u_B: draw(p_BV * torch.tensor([1.1, 1, 1, 1, 1]), u_B))
    tokens, _ = sample(model, rows=20_000, positions=1, bos=0, seed=1, progress=quiet)
    assert fits(np.bincount(tokens[:, 0], minlength=5), exact(model, [])) < 0.001


def test_pairs_are_distributed_as_transformers_generates_them() -> None:
    model, n = gpt2(5), 8_000
    tokens, _ = sample(model, rows=n, positions=2, bos=0, seed=7, progress=quiet)
    settings = GenerationConfig(
        do_sample=True, top_k=0, max_new_tokens=2, max_length=None, eos_token_id=99, pad_token_id=0
    )
    model.module.generation_config = settings  # no end of text, as in layout `blocks`
    with torch.random.fork_rng():
        torch.manual_seed(0)
        want = model.module.generate(torch.zeros(n, 1, dtype=torch.int64), attention_mask=torch.ones(n, 1)).numpy()
    pairs = [np.bincount(5 * x[:, 0].astype(int) + x[:, 1], minlength=25) for x in (tokens, want[:, 1:])]
    assert stats.chi2_contingency(np.array(pairs)).pvalue > 0.001


def fits(counts: np.ndarray, probabilities: np.ndarray) -> float:
    """p-value of a chi-square test; tokens expected fewer than 5 times stand together."""
    expected = probabilities / probabilities.sum() * counts.sum()
    rare = expected < 5
    if rare.any():
        counts, expected = (np.append(x[~rare], x[rare].sum()) for x in (counts, expected))
    return float(stats.chisquare(counts, expected).pvalue)


@pytest.mark.parametrize("vocab_size", [5, BLOCK, BLOCK + 6])
def test_nats_are_the_models_own(vocab_size: int) -> None:
    model = gpt2(vocab_size)
    tokens, nats = sample(model, rows=64, positions=T, bos=0, seed=4, progress=quiet)
    assert tokens.dtype == np.uint16 and nats.dtype == np.float32 and tokens.shape == nats.shape == (64, T)
    assert np.allclose(model.nats(tokens), nats, atol=1e-4)


def test_the_uniform_model_samples_uniformly() -> None:
    model = Counted(Uniform(70_000))
    tokens, nats = sample(model, rows=20, positions=50, bos=0, seed=0, progress=quiet)
    assert tokens.dtype == np.uint32 and np.allclose(nats, np.log(70_000))
    thirds, _ = np.histogram(tokens, bins=10, range=(0, 70_000))
    assert stats.chisquare(thirds).pvalue > 0.001


def test_equal_seeds_draw_equal_text() -> None:
    model, told = gpt2(70), []
    first, again, other = (sample(model, rows=8, positions=T, bos=0, seed=s, progress=told.append) for s in (1, 1, 2))
    assert np.array_equal(first[0], again[0]) and np.array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])
    assert told[:T] == [8 * (t + 1) for t in range(T)]


def test_the_end_of_a_document_does_not_end_a_row() -> None:
    tokens, _ = sample(gpt2(5), rows=200, positions=T, bos=0, seed=1, progress=quiet)
    after = tokens[:, 1:][tokens[:, :-1] == 0]
    assert len(set(after.tolist())) > 1


def oracle(weights_BV: np.ndarray, uniforms_B: np.ndarray) -> list[int]:
    """Inverse CDF in float64, a row at a time."""
    sums_BV = weights_BV.astype(np.float64).cumsum(1)
    return [int(np.searchsorted(s, u * s[-1], side="right")) for s, u in zip(sums_BV, uniforms_B, strict=True)]


def drawn(weights_BV: np.ndarray, uniforms_B: np.ndarray) -> list[int]:
    return draw(torch.from_numpy(weights_BV.astype(np.float32)), torch.from_numpy(uniforms_B)).tolist()


@pytest.mark.parametrize("vocab_size", [1, 3, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK + 7])
def test_draw_is_the_inverse_cdf(vocab_size: int) -> None:
    """Whole weights, so that every sum is exact; half of them zero; uniform numbers that fall on the boundaries too."""
    rng = np.random.default_rng(vocab_size)
    weights = rng.integers(0, 8, (2000, vocab_size)) * rng.integers(0, 2, (2000, vocab_size))
    weights[:, rng.integers(vocab_size)] += 1
    uniforms = rng.random(2000)
    edges = rng.integers(0, weights.sum(1)) / weights.sum(1)
    for u in (uniforms, edges, np.zeros(2000), np.full(2000, np.nextafter(1, 0))):
        assert drawn(weights, u) == oracle(weights, u)


def test_draw_by_hand() -> None:
    weights = np.tile([0.0, 1.0, 0.0, 3.0], (5, 1))
    assert drawn(weights, np.array([0.0, 0.2, 0.25, 0.9, np.nextafter(1, 0)])) == [1, 1, 3, 3, 3]


def test_a_certain_token_is_drawn_wherever_it_stands() -> None:
    vocab_size = 2 * BLOCK + 3
    for u in (0.0, 0.5, np.nextafter(1, 0)):
        assert drawn(np.eye(vocab_size), np.full(vocab_size, u)) == list(range(vocab_size))


def test_a_rare_token_at_the_end_of_a_block_is_reached() -> None:
    """Its weight, 1e-9 of the block's, is lost in the float32 sum of the block."""
    weights = np.zeros((1, 3 * BLOCK))
    weights[0, : BLOCK - 1], weights[0, BLOCK - 1], weights[0, -1] = 1, 1e-9 * BLOCK, 1
    edge = (BLOCK - 1) / BLOCK
    found = {drawn(weights, np.array([edge * (1 - share)]))[0] for share in np.linspace(0, 3e-9, 61)[1:]}
    assert found == {BLOCK - 2, BLOCK - 1}


def test_no_impossible_token_is_drawn_from_a_softmax() -> None:
    """Logits of -200 underflow to probability zero, at both ends and in between."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 4, (4000, 150))
    logits[:, [0, 1, BLOCK - 1, BLOCK, 70, 148, 149]] = -200
    probabilities = torch.softmax(torch.from_numpy(logits.astype(np.float32)), -1)
    for u in (rng.random(4000), np.zeros(4000), np.full(4000, np.nextafter(1, 0))):
        assert probabilities.gather(1, draw(probabilities, torch.from_numpy(u))[:, None]).min() > 0
