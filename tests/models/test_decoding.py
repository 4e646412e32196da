"""The filtered distribution against transformers' own processors, in its own order, and against sums done by hand."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.training import gpt2
from torch import Tensor
from transformers import GenerationConfig, GPT2LMHeadModel

from lab import theory
from lab.models.sampling.decoding import Decoding, weights

torch.set_num_threads(1)
ALONE = [
    Decoding(temperature=0.7),
    Decoding(temperature=1.8),
    Decoding(top_k=1),
    Decoding(top_k=5),
    Decoding(top_k=10_000),
    Decoding(top_p=0.05),
    Decoding(top_p=0.9),
    Decoding(top_p=1.0),
    Decoding(min_p=0.05),
    Decoding(min_p=1.0),
    Decoding(repetition_penalty=1.3),
    Decoding(repetition_penalty=0.6),
]
TOGETHER = [
    Decoding(),
    Decoding(temperature=0.7, top_k=20, top_p=0.9, min_p=0.02, repetition_penalty=1.3),
    Decoding(temperature=1.5, top_k=6, top_p=0.5, min_p=0.2),
    Decoding(temperature=2.0, top_p=0.95, repetition_penalty=0.8),
    Decoding(temperature=0.5, top_k=4, min_p=0.3, repetition_penalty=2.0),
]


def probabilities(logits: Any, decoding: Decoding, seen: Any = None) -> np.ndarray:
    """Return the filtered distribution, normalised; in float64 unless the logits are a tensor."""
    logits_BV = logits if isinstance(logits, Tensor) else torch.tensor(np.atleast_2d(logits), dtype=torch.float64)
    seen = torch.zeros(len(logits_BV), 0, dtype=torch.int64) if seen is None else seen
    weights_BV = weights(logits_BV, decoding, seen)
    assert weights_BV.dtype == logits_BV.dtype and weights_BV.min() >= 0
    array = weights_BV.double().numpy()
    return array / array.sum(1, keepdims=True)


def of(masses: list[float], decoding: Decoding) -> list[float]:
    """Return the filtered distribution for one row of probabilities, through float32 logits as in `sample`."""
    with np.errstate(divide="ignore"):
        logits = torch.tensor(np.log(np.array([masses])), dtype=torch.float32)
    return probabilities(logits, decoding)[0].tolist()


def generation(decoding: Decoding, **more: Any) -> GenerationConfig:
    """Return the same settings as a user of transformers writes them, where 0 or None turns a filter off."""
    fields = dataclasses.asdict(decoding)
    return GenerationConfig(do_sample=True, **{**fields, "top_k": decoding.top_k or 0}, **more)


def transformers_own(module: GPT2LMHeadModel, logits_BV: Tensor, decoding: Decoding, seen_BT: Tensor) -> np.ndarray:
    """Return what transformers' own processors make, which transformers chooses and orders."""
    processors = module._get_logits_processor(generation(decoding), input_ids_seq_length=seen_BT.shape[1])
    return processors(seen_BT, logits_BV.clone()).double().softmax(-1).numpy()


@pytest.mark.parametrize("decoding", ALONE + TOGETHER, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_distribution_is_transformers_own(decoding: Decoding, dtype: torch.dtype) -> None:
    """Positive and negative logits, a fifth of them impossible in half of the rows; some tokens seen twice."""
    module, rng = gpt2(5).module, torch.Generator().manual_seed(11)
    for vocab_size in (7, 300):
        logits_BV = torch.randn(64, vocab_size, generator=rng, dtype=dtype) * 3 + 1
        logits_BV[32:, 1:][torch.rand(32, vocab_size - 1, generator=rng) < 0.2] = -math.inf
        seen_BT = torch.randint(vocab_size, (64, 9), generator=rng)
        before = logits_BV.clone()
        ours = probabilities(logits_BV, decoding, seen_BT)
        want = transformers_own(module, logits_BV, decoding, seen_BT)
        assert torch.equal(before, logits_BV), "the sampler still needs the model's own logits"
        assert np.array_equal(ours > 0, want > 0)
        assert np.allclose(ours, want, rtol=2e-5 if dtype == torch.float32 else 1e-12, atol=0)


def test_it_is_so_for_a_large_vocabulary_but_where_a_bound_is_met_to_a_millionth() -> None:
    """Where the two disagree, they differ by one token, and the float64 sum is within 3e-6 of the bound."""
    module, decoding = gpt2(5).module, Decoding(temperature=0.9, top_p=0.9)
    logits_BV = torch.randn(256, 4096, generator=torch.Generator().manual_seed(2)) * 2.5
    ours = probabilities(logits_BV, decoding) > 0
    want = transformers_own(module, logits_BV, decoding, torch.zeros(256, 1, dtype=torch.int64)) > 0
    mass_BV = (logits_BV / 0.9).double().softmax(1).sort(descending=True).values.cumsum(1)
    gaps = (mass_BV - 0.9).abs().amin(1).numpy()
    sizes = np.abs(ours.sum(1) - want.sum(1))
    assert (sizes <= 1).all() and (gaps[sizes == 1] < 3e-6).all() and (sizes == 1).mean() < 0.05


@pytest.mark.parametrize("decoding", TOGETHER, ids=str)
def test_every_step_of_generate_has_the_same_distribution(decoding: Decoding) -> None:
    """generate() shows the model's logits and what it drew from: BOS and all the text so far are in the penalty."""
    model, rows = gpt2(40), 16
    with torch.random.fork_rng():
        torch.manual_seed(1)
        generated = model.module.generate(
            torch.zeros(rows, 1, dtype=torch.int64),
            attention_mask=torch.ones(rows, 1),
            generation_config=generation(decoding, max_new_tokens=5, max_length=None, eos_token_id=99, pad_token_id=0),
            output_scores=True,
            output_logits=True,
            return_dict_in_generate=True,
        )
    assert len(generated.scores) == 5
    for t, (logits_BV, scores_BV) in enumerate(zip(generated.logits, generated.scores, strict=True)):
        ours, want = probabilities(logits_BV, decoding, generated.sequences[:, : 1 + t]), scores_BV.double().softmax(-1)
        assert np.array_equal(ours > 0, want.numpy() > 0) and np.allclose(ours, want.numpy(), rtol=2e-5, atol=0)


def test_greedy_is_what_generate_does_without_sampling() -> None:
    """The penalty has an effect; temperature and filters have none."""
    model, decoding = gpt2(40), Decoding(temperature=0, top_k=2, top_p=0.1, repetition_penalty=1.5)
    want = model.module.generate(
        torch.arange(16)[:, None],
        attention_mask=torch.ones(16, 1),
        generation_config=GenerationConfig(
            do_sample=False,
            repetition_penalty=1.5,
            max_new_tokens=5,
            max_length=None,
            eos_token_id=99,
            pad_token_id=0,
        ),
    )
    text_BT = torch.arange(16)[:, None]
    for _ in range(5):
        with torch.no_grad():
            logits_BV = model.module(text_BT).logits[:, -1]
        text_BT = torch.cat([text_BT, weights(logits_BV, decoding, text_BT).argmax(1, keepdim=True)], 1)
    assert torch.equal(text_BT, want)


def test_by_hand() -> None:
    """The order matters: of 0.5 0.3 0.2 top-k 2 leaves 0.625 0.375, and the first of these alone reaches 0.6."""
    p = [0.5, 0.3, 0.2]
    assert of(p, Decoding()) == pytest.approx(p)
    assert of(p, Decoding(temperature=0.5)) == pytest.approx([25 / 38, 9 / 38, 4 / 38])
    assert of(p, Decoding(temperature=0)) == [1, 0, 0]
    assert of(p, Decoding(top_k=2)) == pytest.approx([0.625, 0.375, 0])
    assert of(p, Decoding(top_p=0.6)) == pytest.approx([0.625, 0.375, 0])
    assert of(p, Decoding(top_k=2, top_p=0.6)) == [1, 0, 0]
    assert of(p, Decoding(temperature=0.5, top_p=0.6)) == [1, 0, 0]
    assert of(p, Decoding(min_p=0.5)) == pytest.approx([0.625, 0.375, 0])
    assert of(p, Decoding(top_p=0.6, min_p=0.7)) == [1, 0, 0]


def test_the_penalty_by_hand() -> None:
    """Positive logits are divided, negative ones multiplied, once however often a token stands; 0 and -inf stay."""
    logits = torch.tensor([[2.0, -1.0, 0.0, 3.0, -math.inf]])
    ours = probabilities(logits, Decoding(repetition_penalty=2.0), torch.tensor([[0, 1, 1, 2, 4]]))[0]
    want = np.exp([1, -2, 0, 3, -np.inf])
    assert ours == pytest.approx(want / want.sum())
    assert probabilities(logits, Decoding(repetition_penalty=0.5), torch.tensor([[4]]))[0, 4] == 0


def test_ties() -> None:
    """Top-k keeps all that equal the k-th, min-p all that equal the bound, top-p the lower indices of a tie."""
    tied = [0.2, 0.3, 0.2, 0.1, 0.2]
    assert of(tied, Decoding(top_k=2)) == pytest.approx([2 / 9, 1 / 3, 2 / 9, 0, 2 / 9])
    assert of(tied, Decoding(top_p=0.6)) == pytest.approx([2 / 7, 3 / 7, 2 / 7, 0, 0])
    assert of(tied, Decoding(top_k=2, top_p=0.6)) == pytest.approx([2 / 7, 3 / 7, 2 / 7, 0, 0])
    assert of(tied, Decoding(top_p=0.6, min_p=0.8)) == [0, 1, 0, 0, 0]
    assert of([0.25, 0.5, 0.25], Decoding(min_p=0.5)) == pytest.approx([0.25, 0.5, 0.25])
    assert of([0.2, 0.4, 0.4], Decoding(temperature=0)) == [0, 1, 0]


def test_a_tie_that_transformers_cuts_at_the_other_end() -> None:
    """The documented difference: the number of tokens is the same, the tokens are not."""
    logits = torch.zeros(1, 10)
    want = transformers_own(gpt2(5).module, logits, Decoding(top_p=0.35), torch.zeros(1, 1, dtype=torch.int64))[0]
    ours = probabilities(logits, Decoding(top_p=0.35))[0]
    assert np.flatnonzero(ours).tolist() == [0, 1, 2, 3] and (want > 0).sum() == 4


@pytest.mark.parametrize("types", [3, 7, 10, 100, 1000, 4999])
@pytest.mark.parametrize("mass", [0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 0.99])
def test_top_p_of_equal_tokens_keeps_the_theorys_number(types: int, mass: float) -> None:
    """ceil(mass K), at log(1 / K) as a counting model gives it; float32 sums would be off by one for some."""
    ours = np.array(of([1 / types] * types, Decoding(top_p=mass)))
    kept = theory.top_p_uniform_support(types, mass, 1)
    assert np.array_equal(np.flatnonzero(ours), np.arange(kept)) and np.allclose(ours[:kept], 1 / kept)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=12).filter(any),
    st.sampled_from([0.1, 0.25, 0.3, 0.5, 0.6, 2 / 3, 0.7, 0.75, 0.8, 0.9, 0.95, 1.0]),
)
def test_top_p_of_counts_is_the_theorys(counts: list[int], mass: float) -> None:
    """Small counts meet the bound exactly again and again, as an n-gram model's do."""
    p = np.array(counts) / sum(counts)
    assert of(p.tolist(), Decoding(top_p=mass)) == pytest.approx(theory.top_p(p, mass).tolist(), rel=1e-5)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 19), min_size=2, max_size=8), st.integers(0, 6))
def test_a_bound_that_is_met_exactly_is_met(counts: list[int], index: int) -> None:
    """Without `TOLERANCE` float32 logits of such counts miss it in one case of seven: 18 of 46, 6 to 8."""
    counts.sort(reverse=True)
    index = min(index, len(counts) - 2)
    p, kept = np.array(counts) / sum(counts), 1 + index
    assert np.count_nonzero(of(p.tolist(), Decoding(top_p=sum(counts[:kept]) / sum(counts)))) == kept
    share = counts[index] / counts[0]
    assert np.count_nonzero(of(p.tolist(), Decoding(min_p=share))) == sum(n >= counts[index] for n in counts)


def test_a_bound_met_exactly_by_hand() -> None:
    assert of([18 / 46, 18 / 46, 10 / 46], Decoding(top_p=18 / 46)) == [1, 0, 0]
    assert of([8 / 14, 6 / 14], Decoding(min_p=0.75)) == pytest.approx([8 / 14, 6 / 14])


def test_the_ends_of_top_p() -> None:
    """1 keeps tokens that are rarer than the tolerance; a tiny mass keeps the likeliest token."""
    assert of([1 - 1e-9, 1e-9], Decoding(top_p=1.0, top_k=2))[1] == pytest.approx(1e-9)
    assert of([0.3, 0.7], Decoding(top_p=1e-7)) == [0, 1]


LOGITS = st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=80, unique=True)
"""All different, so that no tie is cut."""
DECODINGS = st.builds(
    Decoding,
    temperature=st.floats(0.2, 3),
    top_k=st.none() | st.integers(1, 90),
    top_p=st.none() | st.floats(0.01, 1),
    min_p=st.none() | st.floats(1e-4, 1),
)
quickly = settings(max_examples=150, deadline=None, derandomize=True)


@quickly
@given(LOGITS, DECODINGS)
def test_filters_only_remove(logits: list[float], decoding: Decoding) -> None:
    """What stays keeps its proportions, the likeliest stays, and nothing likelier than a kept token is removed."""
    ours = probabilities(logits, decoding)[0]
    whole = probabilities(logits, Decoding(temperature=decoding.temperature))[0]
    kept = ours > 0
    assert kept[int(np.argmax(logits))]
    assert np.allclose(ours[kept], whole[kept] / whole[kept].sum())
    if decoding.truncates and not kept.all():
        assert whole[~kept].max() <= whole[kept].min()


@quickly
@given(LOGITS, DECODINGS, st.integers(1, 90), st.floats(0.01, 1), st.floats(1e-4, 1))
def test_a_stricter_filter_keeps_fewer(
    logits: list[float], decoding: Decoding, top_k: int, top_p: float, min_p: float
) -> None:
    """Each filter on its own."""
    for name, other, stricter in (("top_k", top_k, min), ("top_p", top_p, min), ("min_p", min_p, max)):
        own = getattr(decoding, name) or other
        one, two = (probabilities(logits, Decoding(**{name: value}))[0] > 0 for value in (own, other))
        both = probabilities(logits, Decoding(**{name: stricter(own, other)}))[0] > 0
        assert np.array_equal(both, one & two)


@quickly
@given(LOGITS, DECODINGS, st.randoms(use_true_random=False))
def test_tokens_have_no_names(logits: list[float], decoding: Decoding, random: Any) -> None:
    order = random.sample(range(len(logits)), len(logits))
    ours = probabilities(logits, decoding)[0]
    assert np.allclose(probabilities(np.array(logits)[order], decoding)[0], ours[order], rtol=1e-9, atol=1e-300)


@quickly
@given(LOGITS)
def test_greedy_is_the_limit_of_a_falling_temperature(logits: list[float]) -> None:
    best, *others = sorted(logits, reverse=True)
    gap = best - max(others, default=best - 1)
    if gap > 1e-3:
        cold = probabilities(logits, Decoding(temperature=gap / 50))[0]
        assert np.allclose(cold, probabilities(logits, Decoding(temperature=0))[0], atol=1e-9)


def test_rows_are_independent() -> None:
    """This holds also if a tie is cut in one of them only."""
    logits_BV = torch.randn(6, 50, generator=torch.Generator().manual_seed(0))
    logits_BV[2] = 0
    seen_BT = torch.arange(12).view(6, 2)
    for decoding in TOGETHER:
        alone = [weights(logits_BV[i : i + 1], decoding, seen_BT[i : i + 1])[0] for i in range(6)]
        assert torch.allclose(weights(logits_BV, decoding, seen_BT), torch.stack(alone), rtol=1e-6)


def test_what_is_plain() -> None:
    assert Decoding().plain and Decoding(top_p=1.0, repetition_penalty=1.0).plain
    assert not any(decoding.plain for decoding in [*ALONE, Decoding(temperature=0)] if decoding.top_p != 1)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("temperature", value) for value in (-1.0, 1e-9, math.inf, math.nan)],
        *[("top_k", value) for value in (0, -3)],
        *[(name, value) for name in ("top_p", "min_p") for value in (0.0, -0.1, 1.01, math.nan)],
        *[("repetition_penalty", value) for value in (0.0, -1.0, math.inf, math.nan)],
    ],
)
def test_what_is_out_of_range_is_refused(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{field} .*given {value}"):
        Decoding(**{field: value})
