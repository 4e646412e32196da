"""Closed forms: each against a simulation that shares no code with it, against worked numbers, and at its limits.

`agrees` is the only statistical tolerance: the 99.9 % Monte-Carlo interval of the simulated mean.  `finds` is the
smallest bias that the test detects (999 times in 1,000; half of it, every second time), as a share of the expected
value or in points of a chance (`of=1`): twice the interval's half width must be below it.  Seeds are fixed.
"""

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab import theory

P = np.array([0.5, 0.3, 0.15, 0.05])
ALL = theory.REGIMES
each_regime = pytest.mark.parametrize("regime", ALL)


def agrees(values: np.ndarray, expected: float, *, finds: float, of: float | None = None) -> None:
    half = 3.2905 * float(values.std(ddof=1)) / math.sqrt(values.size)
    least = 2 * half / (of or abs(expected))
    assert least <= finds, f"the simulation finds {least:.4f}, not {finds}"
    assert abs(float(values.mean()) - expected) <= half, f"{values.mean():.5f} +- {half:.5f}, not {expected:.5f}"


def frequencies(
    regime: str, p: np.ndarray, n: int, t: int, *, replicas: int, rng: np.random.Generator, corpus: Any = None
) -> Iterator[np.ndarray]:
    """Yield the fits p_1 .. p_t, each [replicas, K], by drawing.  `corpus`: counts of one human set for all."""
    drawn = rng.multinomial(n, p, size=replicas) if corpus is None else np.tile(corpus, (replicas, 1))
    pool, human = np.zeros_like(drawn), drawn
    for step in range(t):
        pool = drawn if regime == "replace" else human * (step > 0) + drawn if regime == "augment" else pool + drawn
        seen = without_replacement(pool, n, rng=rng) if regime == "accumulate-subsample" else pool
        fit = seen / seen.sum(1, keepdims=True)
        yield fit
        drawn = rng.multinomial(n, fit)


def without_replacement(pool: np.ndarray, n: int, *, rng: np.random.Generator) -> np.ndarray:
    """Draw n times from each row's pool, type by type, and return the counts."""
    taken, left = np.zeros_like(pool), np.full(len(pool), n)
    for i in range(pool.shape[1] - 1):
        taken[:, i] = rng.hypergeometric(pool[:, i], pool[:, i + 1 :].sum(1), left)
        left = left - taken[:, i]
    taken[:, -1] = left
    return taken


def gaussian_fits(
    regime: str, n: int, t: int, *, known_variance: bool, replicas: int, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield means and maximum-likelihood variances of the fits 1 .. t to human draws from N(0, 1), each [replicas]."""
    drawn = rng.standard_normal((replicas, n))
    pool, human = drawn[:, :0], drawn
    for step in range(t):
        kept = {"replace": pool[:, :0], "augment": human[:, : n * (step > 0)]}.get(regime, pool)
        pool = np.hstack([kept, drawn])
        seen = rng.permuted(pool, axis=1)[:, :n] if regime == "accumulate-subsample" else pool
        mean, variance = seen.mean(1), seen.var(1)
        yield mean, variance
        scale = 1.0 if known_variance else np.sqrt(variance)[:, None]
        drawn = mean[:, None] + scale * rng.standard_normal((replicas, n))


# Heterozygosity, variance, chi-square


def test_heterozygosity_by_hand() -> None:
    """1 - (0.25 + 0.09 + 0.0225 + 0.0025) = 0.635."""
    assert theory.heterozygosity(P) == pytest.approx(0.635, abs=1e-15)
    assert theory.heterozygosity([1.0]) == 0
    assert theory.heterozygosity([0.25] * 4) == 0.75


@each_regime
def test_heterozygosity_chi_square_and_distance_are_simulated(regime: Any) -> None:
    """n = 5, t = 1..5.  It finds a bias of 1.5 % in heterozygosity and distance, 2 % in chi-square."""
    fits = frequencies(regime, P, 5, 5, replicas=250_000, rng=np.random.default_rng(1))
    for t, fit in enumerate(fits, 1):
        agrees(1 - (fit**2).sum(1), 0.635 * theory.retained(regime, 5, t), finds=0.015)
        agrees(((fit - P) ** 2).sum(1), 0.635 * (1 - theory.retained(regime, 5, t)), finds=0.015)
        agrees(((fit - P) ** 2 / P).sum(1), theory.expected_chi_square(P, regime, 5, t), finds=0.02)


@pytest.mark.parametrize("written", [(10, 10), (5, 5, 5, 5), (14, 2, 2, 2), (20, 0, 0, 0), (7, 6, 6), (1,) * 8])
def test_populations_are_simulated(written: tuple[int, ...]) -> None:
    """Rows of a pool dealt to M models, which copy rows of their share.  t = 1..3; it finds a bias of 1 %."""
    rng, n, members = np.random.default_rng(9), sum(written), len(written)
    pool = rng.choice(P.size, (30_000, n), p=P)
    for t in (1, 2, 3):
        pool = rng.permuted(pool, axis=1)
        shares = np.array_split(np.arange(n), members)
        drawn = [rng.choice(share, (len(pool), rows)) for share, rows in zip(shares, written, strict=True)]
        pool = np.take_along_axis(pool, np.concatenate(drawn, axis=1), axis=1)
        counts = np.stack([(pool == k).sum(1) for k in range(P.size)], axis=1)
        differ = 1 - (counts * (counts - 1)).sum(1) / (n * (n - 1))
        agrees(differ, 0.635 * theory.retained_by_voices(written, t), finds=0.03)


def test_populations_by_hand() -> None:
    """1 - (n - M)/(n (n - 1)) of equal voices, 1 - M (n HHI - 1)/(n (n - 1)) of others; 1 - HHI M/n for many rows."""
    for members in (1, 2, 4, 5, 10, 20):
        equal = theory.retained_by_voices([20 // members] * members, 1)
        assert equal == pytest.approx(1 - (20 - members) / (20 * 19))
    assert theory.retained_by_voices([20], 3) == pytest.approx(theory.retained("replace", 20, 3))
    assert theory.retained_by_voices([1] * 20, 7) == 1, "each row is copied once"
    hhi = 0.52
    assert theory.retained_by_voices([14, 2, 2, 2], 1) == pytest.approx(1 - 4 * (20 * hhi - 1) / (20 * 19))
    many = theory.retained_by_voices([14_000, 2_000, 2_000, 2_000], 1)
    assert 1 - many == pytest.approx(hhi * 4 / 20_000, rel=1e-3)
    for wrong in ([1], [3, -1], [1, 0, 0]):
        with pytest.raises(ValueError, match="wanted: 2 rows"):
            theory.retained_by_voices(wrong, 1)


@each_regime
def test_gaussian_variance_is_simulated(regime: Any) -> None:
    """Maximum-likelihood mean and variance, n = 5, t = 1..4.  It finds a bias of 2.5 %: dividing by n - 1 is 25 %."""
    fits = gaussian_fits(regime, 5, 4, known_variance=False, replicas=300_000, rng=np.random.default_rng(2))
    for t, (_, variance) in enumerate(fits, 1):
        agrees(variance, theory.retained(regime, 5, t), finds=0.025)


def test_retained_by_hand() -> None:
    """n = 2: replace 1/2, 1/4; accumulate 1/2 x 7/8; subsample 1/2 x 7/12; augment 1/2 x 7/8, then 1/2 x 55/64.

    55/64: D_3 = (1/2 (1 - 1/8) + 1/8)/4 = 9/64 of what the human draws left.
    7/12: of the 6 pairs in the pool of 4, the old one differs with G, the new one and the 4 crossed ones, which may be
    copies, with G/2: (1 + 5/2)/6.
    """
    assert [theory.retained("replace", 2, t) for t in (1, 2)] == [0.5, 0.25]
    assert theory.retained("accumulate", 2, 2) == 0.5 * 7 / 8
    assert theory.retained("accumulate-subsample", 2, 2) == pytest.approx(0.5 * 7 / 12, abs=1e-15)
    augmented = [theory.retained("augment", 2, t) for t in (1, 2, 3, math.inf)]
    assert augmented == pytest.approx([1 / 2, 1 / 2 * 7 / 8, 1 / 2 * 55 / 64, 1 / 2 * 6 / 7], abs=1e-15)


@each_regime
def test_retained_at_its_limits(regime: Any) -> None:
    """t = 0: all.  t = 1: one fit on n draws.  One draw: nothing.  Many draws: all.  t = inf: the product's limit."""
    assert theory.retained(regime, 7, 0) == 1
    assert theory.retained(regime, 7, 1) == pytest.approx(6 / 7, abs=1e-15)
    assert theory.retained(regime, 1, 3) == 0 == pytest.approx(theory.retained(regime, 1, math.inf), abs=1e-15)
    assert theory.retained(regime, 10**9, 50) == pytest.approx(1, abs=1e-7)
    late = {"accumulate": 5 / 25, "accumulate-subsample": 14 / 25}.get(regime, 0) / 10**6  # beyond t, in k^-2
    limit = theory.retained(regime, 5, math.inf)
    assert theory.retained(regime, 5, 10**6) * (1 - late) == pytest.approx(limit, abs=1e-9)
    assert theory.expected_chi_square([1.0], regime, 7, 3) == 0
    assert theory.expected_chi_square([0.5, 0.5, 0.0], regime, 7, 1) == pytest.approx(1 / 7, abs=1e-15)


def test_accumulate_quoted_numbers() -> None:
    """H0 = 0.7042 and n = 50: 0.6901 0.6867 0.6851, each with its own human set; 0.7042 0.7007 0.6991 given one."""
    fresh = [0.7042 * theory.retained("accumulate", 50, t) for t in (1, 2, 3)]
    assert [round(h, 4) for h in fresh] == [0.6901, 0.6867, 0.6851]
    assert [round(h * 50 / 49, 4) for h in fresh] == [0.7042, 0.7007, 0.6991]


@each_regime
def test_one_corpus_for_all_replicas_is_simulated(regime: Any) -> None:
    """5 draws with counts 3, 1, 1, t = 1..4.  It finds a bias of 1.1 %; without n/(n-1) it is 20 %."""
    counts = [3, 1, 1]
    h0 = theory.given_corpus(counts)
    assert h0 == pytest.approx(1 - (3 * 2) / (5 * 4), abs=1e-15)  # distinct pairs that differ: 14 of 20
    rng = np.random.default_rng(3)
    fits = list(frequencies(regime, P, 5, 4, replicas=250_000, rng=rng, corpus=counts))
    assert 1 - (fits[0][0] ** 2).sum() == pytest.approx(h0 * theory.retained(regime, 5, 1), abs=1e-15)
    for t, fit in enumerate(fits[1:], 2):
        agrees(1 - (fit**2).sum(1), h0 * theory.retained(regime, 5, t), finds=0.011)


# Mix


def mixed(share: float, *, exact: bool, t: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield |p_t - P|^2 of 200,000 chains at n = 10, t = 1, 2, ..., by drawing human and synthetic tokens apart."""
    fit, human = np.tile(P, (200_000, 1)), np.full(200_000, 10)
    for _ in range(t):
        fit = (rng.multinomial(human, P) + rng.multinomial(10 - human, fit)) / 10
        yield ((fit - P) ** 2).sum(1)
        human = np.full(human.size, round(share * 10)) if exact else rng.binomial(10, share, size=human.size)


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_mix_is_simulated(share: float) -> None:
    """n = 10.  It finds 1.5 %; at 0.5 the two counts of human draws are 2 % apart at t = 2, 3 % at the end."""
    rng = np.random.default_rng(4)
    random = [theory.mix_distance(P, 10, share, t) for t in range(1, 5)]
    exact = [theory.mix_distance_exact(P, 10, round(10 * share), t) for t in range(1, 5)]
    for values, expected in zip(mixed(share, exact=False, t=4, rng=rng), random, strict=True):
        agrees(values, expected, finds=0.015)
    for values, expected in zip(mixed(share, exact=True, t=4, rng=rng), exact, strict=True):
        agrees(values, expected, finds=0.015)


@pytest.mark.slow
def test_mix_fixed_points() -> None:
    """Share 0.5, n = 10, H0 = 0.635: r = 0.25 x 0.9 = 0.225 and 0.25 - 0.05 = 0.2.

    After 9 fits r^9 < 2e-6.  It finds a bias of 1.5 %.
    """
    random, exact = theory.mix_distance(P, 10, 0.5, math.inf), theory.mix_distance_exact(P, 10, 5, math.inf)
    assert random == pytest.approx(0.0635 / 0.775, abs=1e-15)
    assert exact == pytest.approx(0.0635 / 0.8, abs=1e-15)
    *_, last = mixed(0.5, exact=False, t=9, rng=np.random.default_rng(5))
    agrees(last, random, finds=0.015)
    *_, last = mixed(0.5, exact=True, t=9, rng=np.random.default_rng(6))
    agrees(last, exact, finds=0.015)


def test_mix_at_its_limits() -> None:
    """No human draws: replace.  Only human draws: H0/n for ever.  t = 0: none.  Large n: none.  One type: none."""
    for t in (0, 1, 4, math.inf):
        replaced = 0.635 * (1 - theory.retained("replace", 10, t))
        assert theory.mix_distance(P, 10, 0.0, t) == pytest.approx(replaced, abs=1e-15)
        assert theory.mix_distance_exact(P, 10, 0, t) == pytest.approx(replaced, abs=1e-15)
        alone = 0.0635 if t else 0
        assert theory.mix_distance(P, 10, 1.0, t) == theory.mix_distance_exact(P, 10, 10, t) == pytest.approx(alone)
        assert theory.mix_distance([1.0], 10, 0.5, t) == 0 == theory.mix_distance_exact([1.0], 10, 5, t)
        assert theory.mix_distance(P, 10**9, 0.5, t) < 1e-8


def test_a_web_with_a_schedule_is_simulated() -> None:
    """Fit 1 on 8 human draws, then crawls of 10 with 8, 5, 5 human ones.  It finds a bias of 1.5 %."""
    rng, human = np.random.default_rng(8), [8, 5, 5]
    fit = rng.multinomial(8, P, size=200_000) / 8
    for t, count in enumerate([None, *human]):
        if count is not None:
            fit = (rng.multinomial(count, P, size=len(fit)) + rng.multinomial(10 - count, fit)) / 10
        agrees(((fit - P) ** 2).sum(1), theory.web_distance(P, 8, 10, human[:t]), finds=0.015)
    for t in range(1, 5):  # a crawl of the size of the human text with one share for ever is mix
        constant = theory.web_distance(P, 10, 10, [4] * (t - 1))
        assert constant == pytest.approx(theory.mix_distance_exact(P, 10, 4, t), abs=1e-15)


def test_best_real_weight() -> None:
    """k = 1: 0.618; k = 2: 1/2; k = 6: 1/3 (6/9 + 1/3 = 1).  No synthetic text: 1."""
    assert theory.best_real_weight(1) == pytest.approx((math.sqrt(5) - 1) / 2, abs=1e-15)
    assert theory.best_real_weight(2) == 0.5
    assert theory.best_real_weight(6) == pytest.approx(1 / 3, abs=1e-15)
    assert theory.best_real_weight(1e-9) == pytest.approx(1, abs=1e-8)


def test_best_real_weight_is_the_minimum_and_its_variance() -> None:
    """k = 2, n = 3.  At the limit n Var = w = 0.5; it finds 2.5 %.  At w +- 0.15 it is higher by 4 % and 9 %."""
    rng = np.random.default_rng(7)
    n, k, replicas = 3, 2, 150_000
    noise = rng.standard_normal((12, 2, replicas))

    def late(weight: float) -> np.ndarray:
        mean = np.zeros(replicas)
        for human, synthetic in noise:
            fresh, echoed = human / math.sqrt(n), mean + synthetic / math.sqrt(k * n)
            mean = weight * fresh + (1 - weight) * echoed
        return n * mean**2

    agrees(late(theory.best_real_weight(k)), 0.5, finds=0.025)
    best = late(0.5).mean()
    assert best < late(0.65).mean() and best < late(0.35).mean()


# Support


def test_count_law_is_simulated() -> None:
    """All 7 x 3 cells at n = 6, t = 3, by drawing all types together.  It finds a bias of 0.8 points."""
    p = np.array([0.6, 0.3, 0.1])
    law = theory.count_law(p, 6, 3)
    *_, fit = frequencies("replace", p, 6, 3, replicas=200_000, rng=np.random.default_rng(8))
    counts = np.rint(6 * fit)
    assert law.sum(1) == pytest.approx(np.ones(3), abs=1e-12)
    assert law @ np.arange(7) == pytest.approx(6 * p, abs=1e-12)
    for i, c in np.ndindex(3, 7):
        agrees(counts[:, i] == c, law[i, c], finds=0.008, of=1)


def test_expected_types_by_hand() -> None:
    """Two even types, two draws: both with chance 1/2, so 1.5; and again 1/2, so 1.25.  One draw: one type."""
    assert theory.expected_types([0.5, 0.5], 2, 1) == 1.5
    assert theory.expected_types([0.5, 0.5], 2, 2) == pytest.approx(1.25, abs=1e-12)
    assert theory.expected_types(P, 1, 1) == pytest.approx(1, abs=1e-15)
    assert theory.expected_types([0.5, 0.5, 0.0], 9, 0) == 2
    assert theory.expected_types([1.0], 9, 3) == theory.expected_types([1.0], 9, 1) == 1
    assert theory.expected_types(P, 10**9, 1) == pytest.approx(4, abs=1e-12)
    assert theory.expected_types(P, 9, 200) == pytest.approx(1, abs=1e-8)


@pytest.mark.parametrize("regime", ["replace", "accumulate"])
def test_expected_types_are_simulated(regime: str) -> None:
    """n = 12, t = 1..4.  It finds a bias of 0.6 %.  Under accumulate, t = 1's number for ever."""
    fits = frequencies(regime, P, 12, 4, replicas=100_000, rng=np.random.default_rng(9))
    for t, fit in enumerate(fits, 1):
        agrees((fit > 0).sum(1), theory.expected_types(P, 12, t if regime == "replace" else 1), finds=0.006)


def test_extinction_by_hand() -> None:
    """A hapax of n is missed by n draws with (1 - 1/n)^n; the corpus itself has it; a type that is all stays."""
    assert theory.extinction(1, 20, 1) == pytest.approx(0.95**20, abs=1e-12)
    assert theory.extinction(3, 20, 0) == 0 == theory.extinction(20, 20, 5)
    assert theory.extinction(0, 20, 0) == 1 == theory.extinction(0, 20, 4)


def test_extinction_is_simulated() -> None:
    """n = 20, counts 1, 2 and 3, t = 1..5.  It finds a bias of 0.8 points; the limit's formula is up to 3.9 off."""
    for count in (1, 2, 3):
        rng, alive = np.random.default_rng(count), np.full(200_000, count)
        for t in range(1, 6):
            alive = rng.binomial(20, alive / 20)
            agrees(alive == 0, theory.extinction(count, 20, t), finds=0.008, of=1)


def test_extinction_limit() -> None:
    """The hapax series, its powers, and the exact chain near it by what the docstring of `extinction_limit` says."""
    assert [round(theory.extinction_limit(1, t), 3) for t in range(6)] == [0, 0.368, 0.531, 0.626, 0.688, 0.732]
    assert theory.extinction_limit(3, 2) == pytest.approx(math.exp(3 * (math.exp(-1) - 1)), abs=1e-15)
    assert theory.extinction_limit(1, 100_000) == pytest.approx(1, abs=1e-4)
    for n, scale in ((100, 1), (1000, 0.1)):
        off = [theory.extinction_limit(c, t) - theory.extinction(c, n, t) for c in (1, 3) for t in (1, 5)]
        assert off == pytest.approx([0.0018 * scale, 0.0029 * scale, 0.0022 * scale, 0.0075 * scale], rel=0.03)


# Fixation


@pytest.mark.slow
def test_fixation_is_simulated() -> None:
    """n = 4 until one type is left: which, and after how many resamplings.  It finds 0.8 points; 2 % of the time."""
    *_, fit = frequencies("replace", P, 4, 70, replicas=200_000, rng=np.random.default_rng(10))
    assert (fit.max(1) == 1).all()
    for i, chance in enumerate(theory.fixation_probability(P)):
        agrees(fit[:, i] == 1, chance, finds=0.008, of=1)
    rng, alive, times = np.random.default_rng(11), np.full(100_000, 0.3), np.zeros(100_000)
    for t in range(1, 400):
        alive = rng.binomial(10, alive) / 10
        times += np.where((times == 0) & ((alive == 0) | (alive == 1)), t, 0)
    assert times.all()
    agrees(times, theory.time_to_one_survivor(0.3, 10), finds=0.02)


def test_time_to_one_survivor_by_hand() -> None:
    """n = 1: the human draw.  n = 2 from 1/2: T = 1 + T/2 = 2; from 0.1: 1 + 0.18 x 2.  None where one type is all."""
    assert theory.time_to_one_survivor(0.4, 1) == 1
    assert theory.time_to_one_survivor(0.5, 2) == pytest.approx(2, abs=1e-12)
    assert theory.time_to_one_survivor(0.1, 2) == pytest.approx(1.36, abs=1e-12)
    for certain in (0.0, 1.0):
        assert theory.time_to_one_survivor(certain, 5) == 0 == theory.time_to_one_survivor_diffusion(certain, 5)


def test_diffusion_time_is_as_far_off_as_it_says() -> None:
    """13.86 for 12.59 at n = 10, 69.31 for 67.52 at n = 50, p = 1/2."""
    assert theory.time_to_one_survivor_diffusion(0.5, 10) == pytest.approx(20 * math.log(2), abs=1e-12)

    def off(p: float, n: int) -> float:
        return round(100 * (theory.time_to_one_survivor_diffusion(p, n) / theory.time_to_one_survivor(p, n) - 1), 1)

    assert [off(0.5, n) for n in (10, 50, 200)] == [10.1, 2.7, 0.8]
    assert [off(0.1, n) for n in (10, 50, 200)] == [13.0, 4.3, 1.4]
    assert off(0.02, 10) == -6.9


# Entropy and risk


def test_entropy_and_risk_are_simulated() -> None:
    """n = 8, t = 1..4.  It finds a bias of 1.5 % in entropy and in KL(p_t || p), 0.5 % in the smoothed risk."""
    human = float(-(P * np.log(P)).sum())
    fits = frequencies("replace", P, 8, 4, replicas=100_000, rng=np.random.default_rng(12))
    for t, fit in enumerate(fits, 1):
        logs = np.log(np.where(fit > 0, fit, 1))
        entropy = theory.expected_entropy(P, 8, t)
        agrees(-(fit * logs).sum(1), entropy, finds=0.015)
        agrees((fit * (logs - np.log(P))).sum(1), human - entropy, finds=0.015)
        smoothed = (8 * fit + 0.5) / (8 + 0.5 * 4)
        agrees(-(P * np.log(smoothed)).sum(1), theory.expected_risk(P, 8, t, 0.5), finds=0.005)
        assert (fit == 0).any()  # so that the unsmoothed risk of some chain is infinite
        assert theory.expected_risk(P, 8, t, 0) == math.inf


def test_entropy_and_risk_by_hand() -> None:
    """Two even types.  n = 1: entropy 0, and smoothed by 1 always (2/3, 1/3).  n = 2: half of the time log 2."""
    even = [0.5, 0.5]
    assert theory.expected_entropy(even, 1, 1) == 0
    assert theory.expected_entropy(even, 2, 1) == pytest.approx(0.5 * math.log(2), abs=1e-12)
    assert theory.expected_entropy(P, 5, 0) == pytest.approx(-sum(x * math.log(x) for x in P), abs=1e-12)
    assert theory.expected_entropy(P, 5, 100) == pytest.approx(0, abs=1e-8)
    assert theory.expected_risk(even, 1, 3, 1.0) == pytest.approx(-(math.log(2 / 3) + math.log(1 / 3)) / 2, abs=1e-12)
    assert theory.expected_risk([1.0], 5, 3, 0) == 0
    assert theory.expected_risk([1.0, 0.0], 5, 3, 0) == 0
    assert theory.expected_risk(P, 5, 1, 1e9) == pytest.approx(math.log(4), abs=1e-6)


def test_half_the_chi_square_is_the_lost_entropy() -> None:
    """To leading order: n = 2,000, t = 1, 3: apart by less than 1 %."""
    for t in (1, 3):
        lost = theory.expected_entropy(P, 2_000, 0) - theory.expected_entropy(P, 2_000, t)
        assert theory.expected_chi_square(P, "replace", 2_000, t) / 2 == pytest.approx(lost, rel=0.01)


# Decoding


def test_temperature_by_hand() -> None:
    """(0.8, 0.2) at 1/2: squares 0.64 and 0.04, so 16/17; again 4th powers, 256/257.  At 2 and t = 1: roots, 2 to 1."""
    p = [0.8, 0.2]
    assert theory.temperature_chain(p, 0.5, 1) == pytest.approx([16 / 17, 1 / 17], abs=1e-15)
    assert theory.temperature_chain(p, 0.5, 2) == pytest.approx([256 / 257, 1 / 257], abs=1e-15)
    assert theory.temperature_chain(p, 2, 1) == pytest.approx([2 / 3, 1 / 3], abs=1e-15)
    assert theory.temperature_chain(p, 0.3, 0) == pytest.approx(p) == theory.temperature_chain(p, 1.0, 9)
    assert theory.temperature_chain([0.4, 0.4, 0.2, 0], 0.5, 9) == pytest.approx([0.5, 0.5, 0, 0], abs=1e-15)
    assert theory.temperature_chain([0.7, 0.3, 0], 2, 60) == pytest.approx([0.5, 0.5, 0], abs=1e-15)
    assert theory.temperature_chain([1.0], 0.5, 5) == 1


def test_temperature_is_simulated() -> None:
    """Softmax of log p / T, drawn by the Gumbel trick, t = 1, and t = 2 from the law of t = 1.  It finds 0.8 points."""
    rng, temperature, p = np.random.default_rng(13), 0.7, P
    for t in (1, 2):
        noise = rng.gumbel(size=(200_000, 4))
        drawn = (np.log(p) / temperature + noise).argmax(1)
        p = theory.temperature_chain(P, temperature, t)
        for i in range(4):
            agrees(drawn == i, p[i], finds=0.008, of=1)


def test_top_p_by_hand() -> None:
    """0.5 + 0.3 reach 0.8 but not 0.81.  Ties: the lower index.  Ten tenths reach 1, two thirds of three reach 2/3."""
    assert theory.top_p(P, 0.8) == pytest.approx([0.625, 0.375, 0, 0], abs=1e-15)
    assert theory.top_p(P, 0.81) == pytest.approx([0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0], abs=1e-15)
    assert theory.top_p(P[::-1], 0.8) == pytest.approx([0, 0, 0.375, 0.625], abs=1e-15)
    assert theory.top_p(P, 1e-6) == pytest.approx([1, 0, 0, 0])
    assert theory.top_p(P, 1) == pytest.approx(P)
    assert theory.top_p([0.25] * 4, 0.5) == pytest.approx([0.5, 0.5, 0, 0])
    assert np.count_nonzero(theory.top_p([0.1] * 10, 1)) == 10
    assert np.count_nonzero(theory.top_p([1 / 3] * 3, 2 / 3)) == 2
    assert theory.top_p([1.0], 0.3) == 1


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=12), st.integers(1, 100))
def test_top_p_keeps_the_fewest_that_suffice(weights: list[int], percent: int) -> None:
    """In exact fractions: take the heaviest until the mass is reached."""
    taken, total = 0, 0
    for weight in sorted(weights, reverse=True):
        if Fraction(total, sum(weights)) < Fraction(percent, 100):
            taken, total = taken + 1, total + weight
    kept = theory.top_p(np.array(weights) / sum(weights), percent / 100)
    assert np.count_nonzero(kept) == taken
    assert kept.sum() == pytest.approx(1, abs=1e-12)
    assert min(w for w, k in zip(weights, kept, strict=True) if k) >= sorted(weights, reverse=True)[taken - 1]


def test_top_p_on_uniform_types() -> None:
    """The quoted series; where it stops; and the filter itself, applied again and again."""
    assert [theory.top_p_uniform_support(1000, 0.9, t) for t in range(6)] == [1000, 900, 810, 729, 657, 592]
    assert theory.top_p_uniform_support(1000, 0.9, 500) == 9
    assert theory.top_p_uniform_support(1, 0.5, 3) == 1
    assert theory.top_p_uniform_support(100, 0.07, 1) == 7  # 7.000000000000001 in floats
    assert theory.top_p_uniform_support(1000, 1.0, 9) == 1000
    for mass in (0.3, 0.9, 0.95):
        p = np.full(1000, 1 / 1000)
        for t in range(1, 12):
            p = theory.top_p(p, mass)
            assert np.count_nonzero(p) == theory.top_p_uniform_support(1000, mass, t)


# Means and regression


@each_regime
def test_mean_variance_is_simulated(regime: Any) -> None:
    """n = 2, t = 1..4.  It finds a bias of 2.5 %; the limit of large n is 5 % off at t = 2 (1.75 for 1.667)."""
    fits = gaussian_fits(regime, 2, 4, known_variance=True, replicas=200_000, rng=np.random.default_rng(14))
    for t, (mean, _) in enumerate(fits, 1):
        agrees(2 * mean**2, theory.mean_variance(regime, 2, t), finds=0.025)


def test_mean_variance_by_hand() -> None:
    """accumulate 1, 1.25, 1.3611 -> pi^2/6; augment 1, 1.25, 1.3125 -> 4/3.

    Subsample 1, 1.75 -> pi^2/2 - 2 for large n, 1.667 at n = 2.

    n = 2, t = 2: 1 + 1/4 for the pool, and v_2/2, with v_2 = (1 + 1 + 4 (1 + 1/2)/2)/6 = 5/6.
    """
    assert [theory.mean_variance("replace", 9, t) for t in range(4)] == [0, 1, 2, 3]
    assert theory.mean_variance("accumulate", 9, 3) == pytest.approx(1 + 1 / 4 + 1 / 9, abs=1e-15)
    assert [theory.mean_variance("augment", 9, t) for t in (0, 1, 2, 3)] == [0, 1, 1.25, 1.3125]
    assert theory.mean_variance("augment", 9, 100) == pytest.approx(4 / 3, abs=1e-15)
    assert theory.mean_variance("accumulate", 9, 10**6) == pytest.approx(math.pi**2 / 6, abs=2e-6)
    assert theory.mean_variance("accumulate-subsample", 2, 2) == pytest.approx(1 + 1 / 4 + 5 / 12, abs=1e-15)
    assert theory.mean_variance("accumulate-subsample", 9, 0) == 0
    large = [1 + sum((2 - 1 / (k - 1)) / k**2 for k in range(2, t + 1)) + 1 - 1 / t for t in (1, 2, 7)]
    assert [theory.mean_variance("accumulate-subsample", 10**9, t) for t in (1, 2, 7)] == pytest.approx(large, abs=1e-7)
    late = theory.mean_variance("accumulate-subsample", 10**9, 100_000)
    assert late == pytest.approx(math.pi**2 / 2 - 2, abs=1e-4)


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("regime", ["replace", "accumulate"])
def test_least_squares_is_simulated(regime: Any, fresh: bool) -> None:
    """T = 12, d = 3, t = 1..3.  It finds a bias of 2.5 %; at t = 2 one X is 4.2 % above fresh X (1.25 for 1.20)."""
    rng = np.random.default_rng(15)
    x = rng.standard_normal((120_000, 12, 3))
    gram, moment, weights = np.zeros((120_000, 3, 3)), np.zeros((120_000, 3)), np.zeros((120_000, 3))
    for t in range(1, 4):
        if fresh and t > 1:
            x = rng.standard_normal(x.shape)
        y = (x @ weights[..., None])[..., 0] + rng.standard_normal(x.shape[:2])
        keep = float(regime == "accumulate")
        gram, moment = keep * gram + x.transpose(0, 2, 1) @ x, keep * moment + (y[:, None] @ x)[:, 0]
        weights = np.linalg.solve(gram, moment[..., None])[..., 0]
        agrees((weights**2).sum(1), theory.least_squares_excess(regime, 12, 3, t, fresh), finds=0.025)


def test_least_squares_by_hand() -> None:
    """T = 30, d = 9: 9/20; at t = 2 twice that, 1.25 times, or 1 + 20/(2 x 50) = 1.20 times: any T = 3(d + 1)."""
    first = 9 / 20
    assert theory.least_squares_excess("replace", 30, 9, 2, True) == pytest.approx(2 * first, abs=1e-15)
    assert theory.least_squares_excess("accumulate", 30, 9, 2, False) == pytest.approx(1.25 * first, abs=1e-15)
    assert theory.least_squares_excess("accumulate", 30, 9, 2, True) == pytest.approx(1.2 * first, abs=1e-15)
    assert theory.least_squares_excess("accumulate", 10**7, 1, 2, True) * 10**7 == pytest.approx(1.25, abs=1e-5)
    assert theory.least_squares_excess("accumulate", 30, 9, 1, True) == pytest.approx(first, abs=1e-15)
    assert theory.least_squares_excess("accumulate", 30, 9, 0, False) == 0


# Tails


def test_missing_mass() -> None:
    """By hand: one draw of two even types misses 1/2, of one type none.  Simulated at n = 6: it finds 2 %."""
    assert theory.missing_mass([0.5, 0.5], 1) == 0.5
    assert theory.missing_mass([1.0], 1) == 0
    counts = np.random.default_rng(16).multinomial(6, P, size=100_000)
    agrees((counts == 0) @ P, theory.missing_mass(P, 6), finds=0.02)


def test_zipf_missing_mass_is_as_far_off_as_it_says() -> None:
    """b = 2, summed over 10^6 ranks and the mass beyond: 3.75e-3 too high at n = 100, 3.75e-4 at 1,000.  b = 1.5: slope
    -1/3, b = 2: -1/2."""
    ranks = np.arange(1, 10**6 + 1)
    p = ranks**-2.0 * 6 / math.pi**2
    for n in (100, 1000):
        summed = float((p * (1 - p) ** n).sum()) + 6 / math.pi**2 / (10**6 + 0.5)
        off = theory.zipf_missing_mass(2, n) / summed - 1
        assert off == pytest.approx(0.375 / n, rel=0.02)
    for b, slope in ((1.5, -1 / 3), (2.0, -1 / 2)):
        assert theory.zipf_missing_mass(b, 8000) / theory.zipf_missing_mass(b, 1000) == pytest.approx(8**slope)


def test_zipf_tail() -> None:
    """b = 2: beyond rank 0 all, beyond 1 the rest of 6/pi^2; b = 3 falls as rank^-2 / (2 zeta(3))."""
    assert theory.zipf_tail(2, 0) == pytest.approx(1, abs=1e-15)
    assert theory.zipf_tail(2, 1) == pytest.approx(1 - 6 / math.pi**2, abs=1e-15)
    zeta3 = 1.2020569031595942
    assert theory.zipf_tail(3, 10_000) * 10_000**2 * 2 * zeta3 == pytest.approx(1, rel=2e-4)


# Errors


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: theory.heterozygosity([0.5, 0.6]), "sum 1"),
        (lambda: theory.heterozygosity([1.5, -0.5]), ">= 0"),
        (lambda: theory.heterozygosity([]), "list of numbers"),
        (lambda: theory.retained("last-k", 5, 2), "allowed: replace, accumulate, accumulate-subsample"),
        (lambda: theory.retained("replace", 0, 2), "size >= 1"),
        (lambda: theory.retained("replace", 5, -1), "whole t >= 0"),
        (lambda: theory.retained("replace", 5, 1.5), "whole t"),
        (lambda: theory.given_corpus([1]), "at least 2 draws"),
        (lambda: theory.mix_distance(P, 5, 1.2, 1), "between 0 and 1"),
        (lambda: theory.mix_distance_exact(P, 5, 6, 1), "allowed are 0 to 5"),
        (lambda: theory.web_distance(P, 5, 5, [6]), "allowed are 0 to 5"),
        (lambda: theory.web_distance(P, 0, 5, [3]), "a size >= 1"),
        (lambda: theory.web_distance(P, 5, 5, [3, 2.5]), "whole numbers; given 2.5"),
        (lambda: theory.web_distance(P, 5.5, 10, [3]), "whole numbers; given 5.5"),
        (lambda: theory.web_distance(P, 5, 10.2, [3]), "whole numbers; given 10.2"),
        (lambda: theory.mix_distance_exact(P, 5, 2.5, 1), "whole numbers; given 2.5"),
        (lambda: theory.retained("replace", 5.5, 2), "whole numbers; given 5.5"),
        (lambda: theory.extinction(1.5, 5, 1), "whole numbers; given 1.5"),
        (lambda: theory.best_real_weight(0), "> 0"),
        (lambda: theory.count_law(P, 5, 0), "t >= 1"),
        (lambda: theory.count_law(P, 5_000, 1), "at most 2,000"),
        (lambda: theory.extinction(6, 5, 1), "allowed are 0 to 5"),
        (lambda: theory.expected_risk(P, 5, 1, -1), "smoothing is -1"),
        (lambda: theory.temperature_chain(P, 0, 1), "temperature is 0"),
        (lambda: theory.top_p(P, 0), "above 0"),
        (lambda: theory.top_p_uniform_support(9, 1.1, 1), "up to 1"),
        (lambda: theory.mean_variance("mix", 5, 2), "allowed"),
        (lambda: theory.least_squares_excess("accumulate-subsample", 9, 2, 1, True), "allowed: replace, accumulate"),
        (lambda: theory.least_squares_excess("replace", 5, 4, 1, True), "want 6 rows"),
        (lambda: theory.zipf_missing_mass(1, 5), "> 1"),
        (lambda: theory.zipf_tail(1, 5), "> 1"),
    ],
)
def test_what_cannot_be_computed_is_an_error(call: Callable[[], Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()
