"""Closed forms of the counts of types under replace: how many are left, which die out, and what that costs."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import entr

from lab.theory.arguments import Distribution, Floats, check, distribution, need, need_whole
from lab.theory.binomial import binomial, mean_times, transitions


def count_law(p: Distribution, n: int, t: int) -> Floats:
    """Return P(X_ti = c), [K, n + 1], the chance that the t-th set of n draws holds type i c times (replace).

    Types are Markov chains: X_1 ~ Binomial(n, p_i), X_{t+1} ~ Binomial(n, X_t/n), n <= 2,000. Source: Wright 1931.
    """
    check(n, t, first=1)
    law = binomial(n, distribution(p))
    for step in [transitions(n)] * (t - 1) if t > 1 else []:
        law = law @ step
    return law


def expected_types(p: Distribution, n: int, t: int) -> float:
    """Return the expected number of distinct types with p_ti > 0 under replace, sum_i P(X_ti > 0).

    t = 0 gives all types of p. t = 1 gives sum_i [1 - (1 - p_i)^n] for any n. So does every t >= 1 under accumulate and
    augment, which lose no type of the human draws. t >= 2 uses `count_law` and falls to 1. Source: Wright 1931.
    """
    check(n, t)
    q = distribution(p)
    if t < 2:
        return float((1 - (1 - q) ** n).sum() if t else np.count_nonzero(q))
    return float((1 - count_law(q, n, t)[:, 0]).sum())


def extinction(count: int, n: int, t: int) -> float:
    """Return the chance that a type with `count` of the corpus' n draws is absent from synthetic set t (replace).

    Exact: the chain starts at the count. The corpus is given: t = 1 is the synthetic set S_0. Source: Wright 1931.
    """
    check(n, t)
    need_whole(count)
    need(0 <= count <= n, f"a count of {count} in {n} draws: allowed are 0 to {n}")
    return float(count_law([count / n, 1 - count / n], n, t)[0, 0]) if t else float(count == 0)


def extinction_limit(count: int, t: int) -> float:
    """Return the limit of `extinction` as n grows: q_t^count with q_0 = 0, q_t = exp(q_{t-1} - 1).

    A hapax (count 1) gives 0.368, 0.531, 0.626, 0.688, 0.732. At n = 100 the limit is too high by 0.0018 (t = 1) and
    0.0029 (t = 5) for a hapax, by 0.0022 and 0.0075 for a count of 3; at n = 1000 by a tenth of that.
    Unit: probability. Source: Fisher 1922: a Galton-Watson tree with Poisson(1) children.
    """
    check(1, t)
    q = 0.0
    for _ in range(t):
        q = math.exp(q - 1)
    return q**count


def fixation_probability(p: Distribution) -> Floats:
    """Return P(type i is the last one left under replace) = p_i, [K].

    p_t is a bounded martingale that ends at a corner, for any n. Accumulating ends at no corner. Source: Wright 1931.
    """
    return distribution(p)


def time_to_one_survivor(p: float, n: int) -> float:
    """Return the exact mean number of resamplings until one of two types is gone, under replace.

    The types have chances p and 1 - p; where one is 0 the result is 0. The human draw is resampling 1. The time solves
    T(x) = 1 + sum_c Binomial(c; n, x) T(c/n), T(0) = T(1) = 0, for n <= 2,000. Source: Wright 1931.
    """
    check(n, 0)
    q = distribution([p, 1 - p])
    return 1 + float(binomial(n, q[:1])[0] @ mean_times(n)) if q.all() else 0.0


def time_to_one_survivor_diffusion(p: float, n: int) -> float:
    """Return 2 n H(p), H in nats, the diffusion limit of `time_to_one_survivor`.

    For p = 1/2 it is too long by 10.1 % at n = 10, 2.7 % at n = 50, 0.8 % at n = 200; for p = 0.1 by 13.0, 4.3, 1.4 %.
    Where n p < 1/2, about, it may be too short (6.9 % at n = 10, p = 0.02). Source: Kimura & Ohta 1969, Ewens 2004.
    """
    check(n, 0)
    return 2 * n * float(entr(distribution([p, 1 - p])).sum())


def expected_entropy(p: Distribution, n: int, t: int) -> float:
    """Return E of -sum p_ti log p_ti in nats under replace, exactly; t = 0 is the entropy of p.

    It goes to 0 as t grows. E KL(p_t || p) is H(p) minus it, as E p_t = p. Unit: nats. Source: derived here.
    """
    check(n, t)
    q = np.arange(n + 1) / n
    return float((count_law(p, n, t) @ entr(q)).sum()) if t else float(entr(distribution(p)).sum())


def expected_risk(p: Distribution, n: int, t: int, smoothing: float) -> float:
    """Return E of -sum_i p_i log q_ti in nats, q_ti = (X_ti + a)/(n + a K), under replace; t >= 1.

    The smoothing a serves for scoring only: the chain itself samples the unsmoothed fit. K = len(p). a = 0 gives
    math.inf, in every regime, unless p is one type: any other type may be lost, and then costs log 0. Finite instead:
    a > 0, `expected_entropy`, `expected_chi_square`, `missing_mass`. Lower = better. Source: derived here.
    """
    check(n, t, first=1)
    q = distribution(p)
    need(smoothing >= 0, f"smoothing is {smoothing}; it must be >= 0")
    if smoothing == 0:
        return math.inf if np.count_nonzero(q) > 1 else 0.0
    log_fit = np.log((np.arange(n + 1) + smoothing) / (n + smoothing * q.size))
    return float(-q @ (count_law(q, n, t) @ log_fit))
