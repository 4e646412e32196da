"""The sampler against the model's exact probabilities and against transformers' generate; prompts, stops, decodings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from support.training import SHORT as T
from support.training import fits, gpt2, quiet
from transformers import GenerationConfig

from lab import theory
from lab.config.model import ModelConfig, Network
from lab.models.counted import Counted
from lab.models.counting import Positions, Uniform
from lab.models.gpt2 import Gpt2
from lab.models.initial_weights import random_gpt2, random_llama
from lab.models.ngram import Ngram
from lab.models.sampling import sample as sampling
from lab.models.sampling.decoding import Decoding
from lab.models.sampling.draw import GROUP, draw
from lab.models.sampling.kv_cache_cuda import CudaDecoder
from lab.models.sampling.sample import sample
from lab.seeds import generator

torch.set_num_threads(1)


def exact(model: Gpt2, prefix: list[int]) -> np.ndarray:
    """Return transformers' own probabilities of the token after BOS and this prefix, float64."""
    with torch.no_grad():
        return model.module(torch.tensor([[0, *prefix]])).logits[0, -1].double().softmax(-1).numpy()


def test_first_token_has_the_models_distribution() -> None:
    """The vocabulary has two groups, of which the second is cut."""
    model = gpt2(GROUP + 6)
    tokens, _ = sample(model, rows=20_000, positions=1, bos=0, seed=1, progress=quiet)
    assert fits(np.bincount(tokens[:, 0], minlength=GROUP + 6), exact(model, [])) > 0.001


def test_second_token_has_the_models_distribution_given_the_first() -> None:
    model = gpt2(5)
    tokens, _ = sample(model, rows=20_000, positions=2, bos=0, seed=2, progress=quiet)
    for first in range(5):
        after = tokens[tokens[:, 0] == first, 1]
        assert fits(np.bincount(after, minlength=5), exact(model, [first])) > 0.001


def test_a_biased_draw_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests above can fail: a likeliest token with a weight 10 % too high is enough."""
    model = gpt2(5)
    monkeypatch.setattr(sampling, "draw", lambda p_BV, u_B: draw(p_BV * torch.tensor([1.1, 1, 1, 1, 1]), u_B))
    tokens, _ = sample(model, rows=20_000, positions=1, bos=0, seed=1, progress=quiet)
    assert fits(np.bincount(tokens[:, 0], minlength=5), exact(model, [])) < 0.001


def test_a_fixed_shard_is_what_a_plain_loop_over_transformers_draws() -> None:
    """The plain loop has the same uniform numbers, transformers' logits over the whole text, and float64 sums."""
    model, rows = gpt2(GROUP + 6), 60
    tokens, nats = sample(model, rows=rows, positions=T, bos=0, seed=11, progress=quiet)
    text_BT = np.zeros((rows, 1), dtype=np.int64)
    for uniforms_B in generator(11).random((T, rows)):
        with torch.no_grad():
            p_BV = model.module(torch.from_numpy(text_BT)).logits[:, -1].double().softmax(-1).numpy()
        drawn_B = oracle(p_BV, uniforms_B)
        assert np.allclose(nats[:, text_BT.shape[1] - 1], -np.log(p_BV[np.arange(rows), drawn_B]), atol=1e-5)
        text_BT = np.c_[text_BT, drawn_B]
    assert np.array_equal(tokens, text_BT[:, 1:])


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


@pytest.mark.parametrize("vocab_size", [5, GROUP, GROUP + 6])
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
    model, reported = gpt2(70), []
    first, again, other = (
        sample(model, rows=8, positions=T, bos=0, seed=s, progress=reported.append) for s in (1, 1, 2)
    )
    assert np.array_equal(first[0], again[0]) and np.array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])
    assert reported[:T] == [8 * (t + 1) for t in range(T)]


def test_the_end_of_a_document_does_not_end_a_row() -> None:
    tokens, _ = sample(gpt2(5), rows=200, positions=T, bos=0, seed=1, progress=quiet)
    after = tokens[:, 1:][tokens[:, :-1] == 0]
    assert len(set(after.tolist())) > 1


def text(model: Gpt2 | Counted, rows: int, positions: int, seed: int = 1, **more: Any) -> tuple[np.ndarray, np.ndarray]:
    return sample(model, rows=rows, positions=positions, bos=0, seed=seed, progress=quiet, **more)


@pytest.mark.parametrize("prompts", [None, np.full((30, 2), 3)], ids=["bos", "prompted"])
@pytest.mark.parametrize("decoding", [Decoding(), Decoding(2.0, top_k=8, min_p=0.5)], ids=str)
def test_each_row_and_position_has_its_uniform_number(prompts: np.ndarray | None, decoding: Decoding) -> None:
    """Of 8 equal tokens, token n is drawn where u is in [n, n + 1) / 8: the text of a seed never changes."""
    tokens, _ = text(Counted(Uniform(8)), 30, 10, seed=3, prompts=prompts, decoding=decoding)
    assert np.array_equal(tokens, np.floor(8 * generator(3).random((10, 30))).T)


def test_the_text_goes_on_from_the_prompt() -> None:
    """Every second row has another prompt of two tokens: the distribution depends on both and on their order."""
    model, prompts = gpt2(5), np.tile(np.array([[1, 4], [4, 1]], dtype=np.uint16), (10_000, 1))
    tokens, _ = text(model, 20_000, 1, prompts=prompts)
    assert tokens.shape == (20_000, 1)
    for start in (0, 1):
        counts = np.bincount(tokens[start::2, 0], minlength=5)
        assert fits(counts, exact(model, prompts[start].tolist())) > 0.001
        assert fits(counts, exact(model, prompts[1 - start].tolist())) < 1e-6


def test_a_prompt_is_context_and_not_text() -> None:
    """Only the drawn tokens and their nats are returned; an empty prompt is the same as none."""
    model, prompts = gpt2(70), np.random.default_rng(0).integers(0, 70, (32, 2))
    tokens, nats = text(model, 32, T - 2, prompts=prompts)
    assert tokens.shape == nats.shape == (32, T - 2)
    assert np.allclose(model.nats(np.concatenate([prompts, tokens], axis=1))[:, 2:], nats, atol=1e-4)
    for one, two in zip(text(model, 32, T, prompts=prompts[:, :0]), text(model, 32, T), strict=True):
        assert np.array_equal(one, two)


def test_prompts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"3 tokens of prompt and 4 to draw exceed the model's 6 positions; .* most 3"):
        text(gpt2(5), 2, 4, prompts=np.ones((2, 3), dtype=int))
    for prompts in (np.ones((3, 1), dtype=int), np.ones(2, dtype=int)):
        with pytest.raises(ValueError, match=r"expected \[2, k\]"):
            text(gpt2(5), 2, 1, prompts=prompts)


@pytest.mark.parametrize("decoding", [Decoding(), Decoding(0.8, top_p=0.95, repetition_penalty=1.2)], ids=str)
def test_a_stop_ends_a_row_and_changes_nothing_before_it(decoding: Decoding, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bits are equal as long as no row is dropped from the decoder."""
    monkeypatch.setattr(sampling, "KEPT", -1.0)
    model, stop, reported = gpt2(5), 3, []
    free, free_nats = text(model, 200, T, decoding=decoding)
    tokens, nats = sample(
        model, rows=200, positions=T, bos=0, seed=1, progress=reported.append, decoding=decoding, stop=stop
    )
    ended = np.cumsum(free == stop, axis=1) - (free == stop) > 0
    assert ended.any() and not ended[:, -1].all() and len(reported) == T
    assert np.array_equal(tokens, np.where(ended, stop, free)) and tokens.dtype == np.uint16
    assert np.array_equal(nats, np.where(ended, 0, free_nats).astype(np.float32))


@pytest.mark.parametrize("name", ["gpt2", "gpt2-cuda", "llama", "ngram"])
def test_rows_that_have_ended_leave_the_decoder(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether they are dropped when one in four has ended, at once or never, the other rows stay the same."""
    positions, results = 40, {}
    if name == "llama":
        shape = {"n_layer": 2, "n_head": 2, "n_embd": 16, "n_positions": positions, "initializer_range": 0.3}
        model: Any = random_llama(Network(**shape), vocab_size=9, bos=0, seed=3)
    elif name == "ngram":
        rows = np.random.default_rng(0).integers(0, 9, (50, 30))
        model = Counted(Ngram.fit(rows, order=2, vocab_size=9, bos=0, smoothed=True))
    else:
        config = ModelConfig(n_layer=2, n_head=2, n_embd=16, n_positions=positions, initializer_range=0.5)
        model = random_gpt2(config, vocab_size=9, bos=0, seed=3)
    if name == "gpt2-cuda":
        monkeypatch.setattr("lab.models.gpt2.CpuDecoder", CudaDecoder)
    for kept in (-1.0, 0.75, 1.0):
        monkeypatch.setattr(sampling, "KEPT", kept)
        results[kept] = sample(model, rows=100, positions=positions, bos=0, seed=1, progress=quiet, stop=4)
    ends = (results[-1.0][0] == 4).argmax(1)
    assert len(np.unique(ends)) > 10 and ends.max() > 20
    for tokens, nats in (results[0.75], results[1.0]):
        assert np.array_equal(tokens, results[-1.0][0]) and np.allclose(nats, results[-1.0][1], atol=1e-4)


def test_drawing_ends_when_every_row_has() -> None:
    """The model writes 2 1 and then always 1: both rows have ended after two of nine positions."""
    reported: list[int] = []
    model = Counted(Ngram.fit(np.array([[2, 1, 1]]), order=2, vocab_size=3, bos=0, smoothed=False))
    tokens, nats = sample(model, rows=2, positions=9, bos=0, seed=0, progress=reported.append, stop=1)
    assert reported == [2, 4] and not nats.any() and tokens.tolist() == [[2] + 8 * [1]] * 2


def test_drawn_tokens_have_the_filtered_distribution() -> None:
    """A bigram model with zeros, whose distribution is computed here in float64 from the paper's definitions."""
    human = np.random.default_rng(5).choice(12, size=(40, 20), p=np.arange(12, 0, -1) / 78)
    model = Ngram.fit(human, order=2, vocab_size=12, bos=0, smoothed=False)
    tokens, _ = text(Counted(model), 20_000, 2, seed=4, decoding=Decoding(0.7, top_k=6, top_p=0.8))
    for before, after in [(0, tokens[:, 0]), *((first, tokens[tokens[:, 0] == first, 1]) for first in range(12))]:
        weights = np.float64(model.weights(np.array([[before]]))[0]) ** (1 / 0.7)
        weights *= weights >= np.sort(weights)[-6]
        want = theory.top_p(weights / weights.sum(), 0.8)
        counts = np.bincount(after, minlength=12)
        assert not counts[want == 0].any()
        if (want > 0).sum() > 1 and len(after) > 100:
            assert fits(counts[want > 0], want[want > 0]) > 0.001


def test_pairs_under_filters_are_distributed_as_transformers_generates_them() -> None:
    """There is a prompt, which transformers' penalty reads as well as BOS."""
    model, n, decoding = gpt2(6), 8_000, Decoding(0.8, top_k=5, top_p=0.9, min_p=0.05, repetition_penalty=1.3)
    tokens, _ = text(model, n, 2, decoding=decoding, prompts=np.full((n, 1), 4))
    settings = GenerationConfig(
        do_sample=True,
        temperature=0.8,
        top_k=5,
        top_p=0.9,
        min_p=0.05,
        repetition_penalty=1.3,
        max_new_tokens=2,
        max_length=None,
        eos_token_id=99,
        pad_token_id=0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        ids = torch.tensor([[0, 4]]).repeat(n, 1)
        want = model.module.generate(ids, attention_mask=torch.ones(n, 2), generation_config=settings).numpy()
    pairs = np.array([np.bincount(6 * x[:, 0].astype(int) + x[:, 1], minlength=36) for x in (tokens, want[:, 2:])])
    assert np.count_nonzero(pairs.sum(0)) > 4
    assert stats.chi2_contingency(pairs[:, pairs.sum(0) > 9]).pvalue > 0.001


def test_nats_are_the_unfiltered_models_whatever_the_decoding() -> None:
    """They are finite even if float32 has no probability left for a token that a high temperature made possible."""
    model = gpt2(70)
    for decoding in (Decoding(0), Decoding(0.5), Decoding(top_k=3, repetition_penalty=2.0), Decoding(3.0, top_p=0.9)):
        tokens, nats = text(model, 64, T, decoding=decoding)
        assert nats.dtype == np.float32 and np.allclose(model.nats(tokens), nats, atol=1e-4)
    with torch.no_grad():
        model.module.transformer.ln_f.weight *= 300
    tokens, nats = text(model, 64, T, decoding=Decoding(300.0))
    assert 104 < nats.max() < np.inf and np.allclose(model.nats(tokens), nats, rtol=1e-3, atol=1e-2)


def test_greedy_text_is_the_likeliest_token_each_time() -> None:
    model = gpt2(GROUP + 6)
    tokens, _ = text(model, 3, T, decoding=Decoding(0))
    assert (tokens == tokens[0]).all()
    for t in range(T):
        assert tokens[0, t] == exact(model, tokens[0, :t].tolist()).argmax()
    assert not text(Counted(Uniform(9)), 3, 4, decoding=Decoding(0))[0].any()


def test_the_penalty_reads_bos_the_prompt_and_the_text() -> None:
    """The penalty is so heavy that no token comes twice: after 0 (BOS) and 3 come 1 2 4 5 in some order."""
    heavy = Decoding(repetition_penalty=1e6)
    tokens, _ = text(Counted(Uniform(6)), 300, 4, decoding=heavy, prompts=np.full((300, 1), 3))
    assert (np.sort(tokens, axis=1) == [1, 2, 4, 5]).all()
    assert len(np.unique(tokens, axis=0)) == 24


def test_equal_seeds_draw_equal_text_under_a_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text does not depend on how many rows the processor's cache holds at once."""
    model, decoding = gpt2(70), Decoding(0.9, top_k=40, top_p=0.9, min_p=0.01, repetition_penalty=1.1)
    first, other = (text(model, 50, T, seed=seed, decoding=decoding) for seed in (1, 2))
    monkeypatch.setattr(sampling, "CACHED", 7 * 70)
    again = text(model, 50, T, decoding=decoding)
    assert np.array_equal(first[0], again[0]) and np.allclose(first[1], again[1], rtol=1e-5)
    assert not np.array_equal(first[0], other[0])


def oracle(weights_BV: np.ndarray, uniforms_B: np.ndarray) -> list[int]:
    """Invert the cumulative distribution in float64, one row at a time."""
    sums_BV = weights_BV.astype(np.float64).cumsum(1)
    return [int(np.searchsorted(s, u * s[-1], side="right")) for s, u in zip(sums_BV, uniforms_B, strict=True)]


def drawn(weights_BV: np.ndarray, uniforms_B: np.ndarray) -> list[int]:
    return draw(torch.from_numpy(weights_BV.astype(np.float32)), torch.from_numpy(uniforms_B)).tolist()


@pytest.mark.parametrize("vocab_size", [1, 3, GROUP - 1, GROUP, GROUP + 1, 5 * GROUP + 7])
def test_draw_is_the_inverse_cdf(vocab_size: int) -> None:
    """Weights are whole numbers, so that sums are exact; half are zero; some uniform numbers fall on the boundaries."""
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
    vocab_size = 2 * GROUP + 3
    for u in (0.0, 0.5, np.nextafter(1, 0)):
        assert drawn(np.eye(vocab_size), np.full(vocab_size, u)) == list(range(vocab_size))


def test_a_rare_token_at_the_end_of_a_group_is_reached() -> None:
    """Its weight, 1e-9 of its group's, is lost in the float32 sum of the group."""
    weights = np.zeros((1, 3 * GROUP))
    weights[0, : GROUP - 1], weights[0, GROUP - 1], weights[0, -1] = 1, 1e-9 * GROUP, 1
    edge = (GROUP - 1) / GROUP
    found = {drawn(weights, np.array([edge * (1 - share)]))[0] for share in np.linspace(0, 3e-9, 61)[1:]}
    assert found == {GROUP - 2, GROUP - 1}


def test_no_impossible_token_is_drawn_from_a_softmax() -> None:
    """Logits of -200 underflow to probability zero, at both ends and in between."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 4, (4000, 150))
    logits[:, [0, 1, GROUP - 1, GROUP, 70, 148, 149]] = -200
    probabilities = torch.softmax(torch.from_numpy(logits.astype(np.float32)), -1)
    for u in (rng.random(4000), np.zeros(4000), np.full(4000, np.nextafter(1, 0))):
        assert probabilities.gather(1, draw(probabilities, torch.from_numpy(u))[:, None]).min() > 0


class OneByOne:
    """A counting model of which the sampler knows only that it has a decoder."""

    def __init__(self, model: Counted) -> None:
        self.vocab_size, self.device, self.decoder = model.vocab_size, model.device, model.decoder


@pytest.mark.parametrize("decoding", [Decoding(), Decoding(temperature=0.9), Decoding(top_p=0.75)])
@pytest.mark.parametrize(("vocabulary", "rows"), [(8, 20), (GROUP + 6, 60)])
def test_positions_drawn_at_once_are_those_drawn_one_by_one(decoding: Decoding, vocabulary: int, rows: int) -> None:
    """After a prompt too, and where one block of positions is not enough."""
    seen = generator(0).integers(0, vocabulary, (30, 240))
    model: Any = Counted(Positions.fit(seen, vocab_size=vocabulary))
    prompts = np.zeros((rows, 2), np.int64)
    wanted: dict[str, Any] = {"rows": rows, "positions": 230, "bos": 0, "seed": 3, "prompts": prompts}
    alone: Any = OneByOne(model)
    calls: list[int] = []
    tokens, nats = sample(model, **wanted, decoding=decoding, progress=calls.append)
    expected, cost = sample(alone, **wanted, decoding=decoding, progress=quiet)
    assert len(calls) > 1 and calls[-1] == rows * 230
    assert tokens.dtype == expected.dtype and np.array_equal(tokens, expected) and np.array_equal(nats, cost)
