"""Exactly solvable chains: what a counting model, a mean or a regression must do under each regime, in closed form.

A chain: p_0 = p is the human distribution, p_t the t-th maximum-likelihood fit. Fit 1 sees n human draws. Fit t >= 2
sees what the regime makes of the human draws and of the samples 1..t-1. Sample k is n independent draws from p_k at
temperature 1, untruncated. So t counts resamplings: the lab's generation g is t = g + 1, and t = 0 is p itself.

These conditions hold for every function, unless its docstring lifts them: each fit starts fresh and is exact
(frequencies, no smoothing, variances divided by n); n is the exact size of each set; draws are independent (no EOS, no
context). E is over everything, the human draws included: each replica draws its human set anew. `given_corpus` is for
one human corpus kept for all replicas. Logarithms are natural. Impossible arguments raise ValueError.
Cheap replicas: n rows whose T positions have a categorical each are T chains. One unigram for all follows other laws.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr, gamma, rgamma, zeta

from lab.resampling import binomial, mean_times, transitions

Floats = NDArray[np.floating[Any]]
Distribution = Sequence[float] | Floats
Pool = Literal["replace", "accumulate", "accumulate-subsample", "augment"]
REGIMES: tuple[Pool, ...] = ("replace", "accumulate", "accumulate-subsample", "augment")
"""accumulate-subsample: a fit sees n draws of all so far, without replacement. augment: human draws, newest sample."""


def heterozygosity(p: Distribution) -> float:
    """Return 1 - sum p_i^2, the chance that two draws differ (heterozygosity).

    It is 0 for one category and 1 - 1/K for K equally likely ones. Unit: none. Source: Gini 1912, Simpson 1949.
    """
    return 1 - float(np.sum(_distribution(p) ** 2))


def retained(regime: Pool, n: int, t: float) -> float:
    """Return r_t, the expected share of heterozygosity (or of a Gaussian's variance) left after t resamplings.

        replace                (1 - 1/n)^t
        accumulate             prod_{k=1..t} (1 - 1/(n k^2))                                  -> sin(x)/x, x = pi/sqrt n
        accumulate-subsample   (1 - 1/n) prod_{k=2..t} [1 - (3n - 1)/(n k (n k - 1))]         -> a ratio of Gammas
        augment                (1 - 1/n) [1 - (1 - q^(t-1))/(3n + 1)], q = (1 - 1/n)/4        -> (1 - 1/n) 3n/(3n + 1)

    For categories, E(1 - sum p_t^2) = H0 r_t and E|p_t - p|^2 = H0 (1 - r_t). For a Gaussian with maximum-likelihood
    mean and variance, E var_t = s^2 r_t. t = math.inf: the limit. Source: Wright 1931 (replace), derived here (others)
    for categories. H is the total variance of one-hot vectors, and a Gaussian's variance obeys the same recursions:
    accumulate: p_t = p_{t-1} + (x - p_{t-1})/t, x: frequencies of n draws. So E|p_t|^2 grows by H_{t-1}/(n t^2).
    accumulate-subsample: let G_k be the chance that two distinct draws of the k n pooled ones differ. Then G_1 = H0 and
      H_k = (1-1/n) G_k, because two draws of a subsample are two of the pool. A new draw copies a uniform old one: so
      new-old pairs differ with chance (1 - 1/(k n)) G_k, new-new pairs with (1-1/n) G_k, old-old pairs with G_k. With
      K = k+1, their mean over all K n (K n - 1)/2 pairs is G_k [1 - ((n-1)/2 + n) / (K n (K n - 1)/2)].
    augment: p_t = (p_1 + x)/2. So D_t = E|p_t - p_1|^2 = (H_{t-1}/n + D_{t-1})/4, and H_t = H_1 - D_t as E p_t = p_1.
    """
    _check(n, t, regime=regime)
    if regime == "replace":
        return float((1 - 1 / n) ** t)
    if t == math.inf and regime == "accumulate":
        return float(np.sinc(1 / math.sqrt(n)))
    first = (1 - 1 / n) ** min(t, 1)
    if regime == "augment":
        return float(first * (1 - _affine(1 / (4 * n), (1 - 1 / n) / 4, max(t - 1, 0))))
    if t == math.inf:
        a, b = ((1 + sign * math.sqrt(12 * n - 3)) / (2 * n) for sign in (1, -1))  # roots of n k (n k - 1) = 3n - 1
        return float(first * gamma(2 - 1 / n) * rgamma(2 - a) * rgamma(2 - b))
    k = np.arange(2.0, t + 1)
    lost = 1 / (n * k**2) if regime == "accumulate" else (3 * n - 1) / (n * k * (n * k - 1))
    return float(first * np.prod(1 - lost))


def retained_by_voices(written: Sequence[int], t: float) -> float:
    """Return the share of heterozygosity left after t resamplings by M models that share one pool of n rows (replace).

        [1 - sum_m v_m (v_m - 1)/s_m / (n (n - 1))]^t,  n = sum v_m,  s_m = n/M, rounded up for the first n mod M models

    Model m is fitted to s_m rows of the pool that no other sees, and writes v_m rows of the next pool. Equal voices:
    1 - (n - M)/(n (n - 1)). With HHI = sum (v_m/n)^2: 1 - M (n HHI - 1)/(n (n - 1)), for large n 1 - HHI M/n; that
    holds at any n where chance says who writes each row. Heterozygosity: the chance that two rows of the pool differ.
    Unit: none. Source: derived here: two rows of model m copy one and the same row with chance 1/s_m, others never do.
    """
    n, members = sum(written), len(written)
    _check(n, t)
    _need(n >= max(2, members) and min(written) >= 0, f"wanted: 2 rows, and as many as models; given {written!r}")
    alike = sum(v * (v - 1) / (n // members + (m < n % members)) for m, v in enumerate(written))
    return float((1 - alike / (n * (n - 1))) ** t)


def expected_chi_square(p: Distribution, regime: Pool, n: int, t: float) -> float:
    """Return E sum_i (p_ti - p_i)^2 / p_i = (K - 1)(1 - r_t), the expected chi-square distance to p.

    K is the number of types with p_i > 0. The distance is finite where `expected_risk` is not. For n p_i >> t, half of
    it is the leading term of the KL divergence between p and p_t, in nats. Unit: none. Source: derived here: type i
    against the rest is a chain of two types, so E (p_ti - p_i)^2 = p_i (1 - p_i)(1 - r_t).
    """
    return (np.count_nonzero(_distribution(p)) - 1) * (1 - retained(regime, n, t))


def given_corpus(counts: Sequence[int]) -> float:
    """Return H0', which replaces H0 where one human corpus with these counts serves every replica.

        H0' = (1 - sum h_i^2) n/(n - 1),  h = counts / n          then  E(1 - sum p_t^2 | h) = H0' r_t  for t >= 1

    This holds in all four regimes if every sample has the corpus size n too; n >= 2. Unit: none. Source: derived here:
    fit 1 is h itself, and only the first factor of r_t, 1 - 1/n, was the human draw's. E H0' = H0.
    """
    n = sum(counts)
    _need(n >= 2 and min(counts) >= 0, f"counts of a corpus of at least 2 draws, none negative; given {counts!r}")
    return heterozygosity(np.array(counts) / n) * n / (n - 1)


def mix_distance(p: Distribution, n: int, share: float, t: float) -> float:
    """Return E|p_t - p|^2 where each of the n draws is human with chance `share`, else from p_{t-1}.

        D_t = H0/n + r D_{t-1},  r = (1 - share)^2 (1 - 1/n);  D_0 = 0;  fixed point (t = math.inf) (H0/n)/(1 - r)

    The number of human draws is binomial. With exactly share x n of them, `mix_distance_exact` holds and is smaller.
    Human draws are fresh draws from p. If they come with replacement from one corpus h, from fit 1 on, h replaces p.
    Unit: squared probability. Source: derived here: given p_{t-1}, draws are independent from m, m = p + (1-share)
    (p_{t-1}-p). So E|p_t - p|^2 = (1-|m|^2)/n + |m-p|^2, and E|m|^2 = |p|^2 + (1-share)^2 D_{t-1} as E p_{t-1} = p.
    """
    _check(n, t)
    _need(0 <= share <= 1, f"the human share is {share}; it lies between 0 and 1")
    return _affine(heterozygosity(p) / n, (1 - share) ** 2 * (1 - 1 / n), t)


def mix_distance_exact(p: Distribution, n: int, human: int, t: float) -> float:
    """Return E|p_t - p|^2 where exactly `human` of the n draws of each fit are fresh, the others from p_{t-1}.

        D_t = H0/n + r D_{t-1},  r = (1-L)^2 - (1-L)/n,  L = human/n;  D_1 = H0/n;  fixed point (H0/n)/(1 - r)

    Fit 1 is all human. Replayed human rows (the same rows again) follow another law. Unit: squared probability. Source:
    derived here: p_t - p = L (a - p) + (1-L)(b - p), with frequencies a of L n human draws and b of (1-L) n draws from
    p_{t-1}, independent given it: L^2 H0/(L n) + (1-L)^2 [H_{t-1}/((1-L) n) + D_{t-1}], and E H_{t-1} = H0 - D_{t-1}.
    """
    _check(n, t)
    _need(0 <= human <= n, f"{human} human draws of {n}: allowed are 0 to {n}")
    rest = 1 - human / n
    return _affine(heterozygosity(p) / n, rest**2 - rest / n, t)


def best_real_weight(k: float) -> float:
    """Return the weight w of fresh human text that minimises the limiting variance of a mean.

    The chain: m_t = w (mean of n fresh human draws) + (1-w) (mean of k n draws around m_{t-1}); the variance s^2 of a
    draw is known, n is any. w solves k w^2 + w - 1 = 0. k = 1 gives 0.618, the golden ratio. The minimum of n Var/s^2
    equals w. It is below 1, so synthetic text helps. Unit: none. Source: He, Xu & Cheng 2025 (2502.18049). Derivation:
    n Var/s^2 = [w^2 + (1-w)^2/k] / (w (2-w)); the numerator of its derivative is 2 (w^2 - (1-w)/k).
    """
    _need(k > 0, f"k = {k} synthetic draws for each human one; it must be > 0")
    return 2 / (1 + math.sqrt(1 + 4 * k))


def count_law(p: Distribution, n: int, t: int) -> Floats:
    """Return P(X_ti = c), [K, n + 1], the chance that the t-th set of n draws holds type i c times (replace).

    Types are Markov chains: X_1 ~ Binomial(n, p_i), X_{t+1} ~ Binomial(n, X_t/n), n <= 2,000. Source: Wright 1931.
    """
    _check(n, t, first=1)
    law = binomial(n, _distribution(p))
    for step in [transitions(n)] * (t - 1) if t > 1 else []:
        law = law @ step
    return law


def expected_types(p: Distribution, n: int, t: int) -> float:
    """Return the expected number of distinct types with p_ti > 0 under replace, sum_i P(X_ti > 0).

    t = 0 gives all types of p. t = 1 gives sum_i [1 - (1 - p_i)^n] for any n. So does every t >= 1 under accumulate and
    augment, which lose no type of the human draws. t >= 2 uses `count_law` and falls to 1. Source: Wright 1931.
    """
    _check(n, t)
    q = _distribution(p)
    if t < 2:
        return float((1 - (1 - q) ** n).sum() if t else np.count_nonzero(q))
    return float((1 - count_law(q, n, t)[:, 0]).sum())


def extinction(count: int, n: int, t: int) -> float:
    """Return the chance that a type with `count` of the corpus' n draws is absent from synthetic set t (replace).

    Exact: the chain starts at the count. The corpus is given: t = 1 is the synthetic set S_0. Source: Wright 1931.
    """
    _check(n, t)
    _need(0 <= count <= n, f"a count of {count} in {n} draws: allowed are 0 to {n}")
    return float(count_law([count / n, 1 - count / n], n, t)[0, 0]) if t else float(count == 0)


def extinction_limit(count: int, t: int) -> float:
    """Return the limit of `extinction` as n grows: q_t^count with q_0 = 0, q_t = exp(q_{t-1} - 1).

    A hapax (count 1) gives 0.368, 0.531, 0.626, 0.688, 0.732. At n = 100 the limit is too high by 0.0018 (t = 1) and
    0.0029 (t = 5) for a hapax, by 0.0022 and 0.0075 for a count of 3; at n = 1000 by a tenth of that.
    Unit: probability. Source: Fisher 1922: a Galton-Watson tree with Poisson(1) children.
    """
    _check(1, t)
    q = 0.0
    for _ in range(t):
        q = math.exp(q - 1)
    return q**count


def fixation_probability(p: Distribution) -> Floats:
    """Return P(type i is the last one left under replace) = p_i, [K].

    p_t is a bounded martingale that ends at a corner, for any n. Accumulating ends at no corner. Source: Wright 1931.
    """
    return _distribution(p)


def time_to_one_survivor(p: float, n: int) -> float:
    """Return the exact mean number of resamplings until one of two types is gone, under replace.

    The types have chances p and 1 - p; where one is 0 the result is 0. The human draw is resampling 1. The time solves
    T(x) = 1 + sum_c Binomial(c; n, x) T(c/n), T(0) = T(1) = 0, for n <= 2,000. Source: Wright 1931.
    """
    _check(n, 0)
    q = _distribution([p, 1 - p])
    return 1 + float(binomial(n, q[:1])[0] @ mean_times(n)) if q.all() else 0.0


def time_to_one_survivor_diffusion(p: float, n: int) -> float:
    """Return 2 n H(p), H in nats, the diffusion limit of `time_to_one_survivor`.

    For p = 1/2 it is too long by 10.1 % at n = 10, 2.7 % at n = 50, 0.8 % at n = 200; for p = 0.1 by 13.0, 4.3, 1.4 %.
    Where n p < 1/2, about, it may be too short (6.9 % at n = 10, p = 0.02). Source: Kimura & Ohta 1969, Ewens 2004.
    """
    _check(n, 0)
    return 2 * n * float(entr(_distribution([p, 1 - p])).sum())


def expected_entropy(p: Distribution, n: int, t: int) -> float:
    """Return E of -sum p_ti log p_ti in nats under replace, exactly; t = 0 is the entropy of p.

    It goes to 0 as t grows. E KL(p_t || p) is H(p) minus it, as E p_t = p. Unit: nats. Source: derived here.
    """
    _check(n, t)
    q = np.arange(n + 1) / n
    return float((count_law(p, n, t) @ entr(q)).sum()) if t else float(entr(_distribution(p)).sum())


def expected_risk(p: Distribution, n: int, t: int, smoothing: float) -> float:
    """Return E of -sum_i p_i log q_ti in nats, q_ti = (X_ti + a)/(n + a K), under replace; t >= 1.

    The smoothing a serves for scoring only: the chain itself samples the unsmoothed fit. K = len(p). a = 0 gives
    math.inf, in every regime, unless p is one type: any other type may be lost, and then costs log 0. Finite instead:
    a > 0, `expected_entropy`, `expected_chi_square`, `missing_mass`. Lower = better. Source: derived here.
    """
    _check(n, t, first=1)
    q = _distribution(p)
    _need(smoothing >= 0, f"smoothing is {smoothing}; it must be >= 0")
    if smoothing == 0:
        return math.inf if np.count_nonzero(q) > 1 else 0.0
    log_fit = np.log((np.arange(n + 1) + smoothing) / (n + smoothing * q.size))
    return float(-q @ (count_law(q, n, t) @ log_fit))


def temperature_chain(p: Distribution, temperature: float, t: int) -> Floats:
    """Return p_t proportional to p^(temperature^-t), [K]: every generation samples at this temperature (replace).

    The sample is infinite; at finite n there is drift too. t = 1 is the first synthetic set S_0. Unit: probability.
    Source: derived here: a softmax at temperature T maps p to p^(1/T) / sum; powers compose.
    """
    _check(1, t)
    q = _distribution(p)
    _need(0 < temperature < math.inf, f"temperature is {temperature}; it must be > 0 and finite")
    weights = np.where(q > 0, np.exp(np.log(np.where(q > 0, q, 1) / q.max()) * temperature ** float(-t)), 0)
    return np.asarray(weights / weights.sum())


def top_p(p: Distribution, mass: float) -> Floats:
    """Return p cut to the fewest most likely types whose chances sum to at least `mass`, renormalised, [K].

    Ties go to the lower index. Sums within 1e-12 of the mass reach it (ten 0.1 do not sum to 1 in floats). Applied t
    times, the filter is replace with an infinite sample. Source: Holtzman et al. 2020 (1904.09751).
    """
    q = _distribution(p)
    _need(0 < mass <= 1, f"top-p keeps a mass above 0 and up to 1; given {mass}")
    order = np.argsort(-q, kind="stable")
    keep = order[: 1 + int(np.searchsorted(np.cumsum(q[order]), mass - 1e-12))]
    kept = np.zeros_like(q)
    kept[keep] = q[keep] / q[keep].sum()
    return kept


def top_p_uniform_support(types: int, mass: float, t: int) -> int:
    """Return how many of K equally likely types t rounds of top-p keep: K -> ceil(mass K), t times (replace).

    The sample is infinite: 1000 types at mass 0.9 become 1000 900 810 729 657 592 ... 9. t = 1 is the first synthetic
    set S_0. Unit: types. Source: derived here from the filter of Holtzman et al. 2020.
    """
    _check(types, t)
    _need(0 < mass <= 1, f"top-p keeps a mass above 0 and up to 1; given {mass}")
    for _ in range(t):
        types = math.ceil(types * (mass - 1e-12))
    return types


def mean_variance(regime: Pool, n: int, t: int) -> float:
    """Return n Var(m_t)/s^2, where m_t is the t-th estimate of a mean and each draw has known variance s^2.

        replace                t
        accumulate             sum_{k=1..t} 1/k^2 -> pi^2/6
        accumulate-subsample   1 + sum_{k=2..t} [1 + v_{k-1} (1 - 1/(k-1))]/k^2 + v_t (1 - 1/t)
        augment                (4 - 4^(1-t))/3 -> 4/3

    v_k is the expected variance in the pool of k n draws over s^2, and moves slowly from 1 to n/(n - 1). With v = 1 the
    third line is the limit of large n, which goes to pi^2/2 - 2. Unit: none; 0 at t = 0. Source: Kazdan et al. 2024
    (2410.16713), derived here (the last two): m_{k+1} moves the pool's mean by (d + e)/(k+1). d is the error of the
    subsample's mean, n Var d = v_k (1 - 1/k) s^2 (without replacement). e is the error of the sample's mean,
    n Var e = s^2. The fit adds a last d. Among pairs of k n old and n new draws, half the squared difference over s^2
    is v_k for old-old, 1 for new-new, (1 + v_k [1 + (1 - 2/k)/n])/2 for new-old pairs. augment: m_t = (m_1 + x_mean)/2.
    """
    _check(n, t, regime=regime)
    closed = {"replace": t, "accumulate": np.sum(1 / np.arange(1, t + 1) ** 2), "augment": (4 - 4.0 ** (1 - t)) / 3}
    if regime in closed or t == 0:
        return float(closed.get(regime, 0))
    total, v = 1.0, 1.0
    for k in range(1, t):
        total += (1 + v * (1 - 1 / k)) / (k + 1) ** 2
        old, pool = k * n, (k + 1) * n
        cross = old * n * (1 + v * (1 + (1 - 2 / k) / n))
        v = (old * (old - 1) * v + n * (n - 1) + cross) / (pool * (pool - 1))
    return total + v * (1 - 1 / t)


def least_squares_excess(regime: Pool, rows: int, features: int, t: int, fresh: bool) -> float:
    """Return E|w_t - w|^2 / s^2: the test risk of least squares on N(0, I) features above the noise s^2.

        replace                   t d/(T - d - 1), whether or not X is drawn anew
        accumulate, one X         sum_{i=1..t} 1/i^2 x d/(T - d - 1)
        accumulate, fresh X each  sum_{i=1..t} d/(i (i T - d - 1))

    Each set has T rows and d features, T > d + 1 (else the risk is infinite: an error). Set k has labels
    X w_{k-1} + noise of known s^2. `fresh`: whether each set has features of its own. The mean is over X too, and the
    same for N(0, C) features. Source: Gerstgrasser et al. 2024 (2404.01413), derived here (the third line):
    w_t - w_{t-1} = A_t^-1 X_t' e_t, A_t = sum_{i<=t} X_i'X_i. So E|w_t - w_{t-1}|^2 = s^2 E tr A_t^-1 X_t'X_t A_t^-1 =
    s^2 E tr A_t^-1 / t, as the t sets are exchangeable. A_t is Wishart with t T degrees of freedom.
    """
    _check(rows, t, regime=regime, allowed=REGIMES[:2])
    _need(1 <= features < rows - 1, f"{features} features want {features + 2} rows for a finite risk; given {rows}")
    i, scale = np.arange(1, t + 1), features / (rows - features - 1)
    if regime == "replace":
        return t * scale
    return float(np.sum(features / (i * (i * rows - features - 1)) if fresh else scale / i**2))


def missing_mass(p: Distribution, n: int) -> float:
    """Return the expected chance of the types that n draws did not show, sum p_i (1 - p_i)^n.

    It is the test error E_test of a learner that looks answers up. Unit: probability. Source: Good 1953.
    """
    _check(n, 0)
    return float(np.sum(_distribution(p) * (1 - _distribution(p)) ** n))


def zipf_missing_mass(b: float, n: int) -> float:
    """Return `missing_mass` of p_i = i^-b / zeta(b), all i >= 1, b > 1, as n grows: c n^-a, a = (b - 1)/b.

    c = Gamma(a) zeta(b)^-(1/b) / b. It is for one round of draws from p itself. Too high by 0.4 % at n = 100, b = 2.
    Unit: probability. Source: Dohmatob et al. 2024 (2402.07043), derived here (c): integral of p exp(-n p), u = n p.
    """
    _check(n, 0)
    _need(b > 1, f"a Zipf exponent of {b} has no sum over all ranks; it must be > 1")
    return float(gamma(1 - 1 / b) / b * zeta(b) ** (-1 / b) * n ** (1 / b - 1))


def zipf_tail(b: float, rank: int) -> float:
    """Return the mass beyond a rank of p_i = i^-b / zeta(b), which a source cut at that rank misses for good.

    zeta(b, rank + 1) / zeta(b), about rank^-(b-1) / ((b-1) zeta(b)); b > 1. Source: Dohmatob et al. 2024 (2402.07043).
    """
    _need(b > 1, f"a Zipf exponent of {b} has no sum over all ranks; it must be > 1")
    return float(zeta(b, rank + 1) / zeta(b))


def _distribution(p: Distribution) -> Floats:
    q = np.array(p, dtype=np.float64)
    good = q.ndim == 1 and q.size > 0 and bool((q >= 0).all()) and abs(float(q.sum()) - 1) <= 1e-9
    _need(good, f"probabilities are a list of numbers >= 0 with sum 1; given shape {q.shape} with sum {q.sum()}")
    return q


def _check(n: int, t: float, first: int = 0, regime: str = "replace", allowed: Sequence[str] = REGIMES) -> None:
    whole = t == math.inf or t == int(t)
    _need(n >= 1 and t >= first and whole, f"wanted: a size >= 1 and a whole t >= {first}; given {n} and {t}")
    _need(regime in allowed, f'no closed form here for regime "{regime}"; allowed: {", ".join(allowed)}')


def _need(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _affine(start: float, ratio: float, t: float) -> float:
    """Return D_t of D_t = start + ratio D_{t-1}, D_0 = 0, for 0 <= ratio < 1."""
    return float(start * (1 - ratio**t) / (1 - ratio))
