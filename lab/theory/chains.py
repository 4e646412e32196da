"""Closed forms of diversity and distance under each regime, for categories and for a Gaussian's variance."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import gamma, rgamma

from lab.theory.arguments import Distribution, Pool, affine, check, distribution, need, need_whole


def heterozygosity(p: Distribution) -> float:
    """Return 1 - sum p_i^2, the chance that two draws differ (heterozygosity).

    It is 0 for one category and 1 - 1/K for K equally likely ones. Unit: none. Source: Gini 1912, Simpson 1949.
    """
    return 1 - float(np.sum(distribution(p) ** 2))


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
    check(n, t, regime=regime)
    if regime == "replace":
        return float((1 - 1 / n) ** t)
    if t == math.inf and regime == "accumulate":
        return float(np.sinc(1 / math.sqrt(n)))
    first = (1 - 1 / n) ** min(t, 1)
    if regime == "augment":
        return float(first * (1 - affine(1 / (4 * n), (1 - 1 / n) / 4, max(t - 1, 0))))
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
    check(n, t)
    need(n >= max(2, members) and min(written) >= 0, f"wanted: 2 rows, and as many as models; given {written!r}")
    alike = sum(v * (v - 1) / (n // members + (m < n % members)) for m, v in enumerate(written))
    return float((1 - alike / (n * (n - 1))) ** t)


def expected_chi_square(p: Distribution, regime: Pool, n: int, t: float) -> float:
    """Return E sum_i (p_ti - p_i)^2 / p_i = (K - 1)(1 - r_t), the expected chi-square distance to p.

    K is the number of types with p_i > 0. The distance is finite where `expected_risk` is not. For n p_i >> t, half of
    it is the leading term of the KL divergence between p and p_t, in nats. Unit: none. Source: derived here: type i
    against the rest is a chain of two types, so E (p_ti - p_i)^2 = p_i (1 - p_i)(1 - r_t).
    """
    return (np.count_nonzero(distribution(p)) - 1) * (1 - retained(regime, n, t))


def given_corpus(counts: Sequence[int]) -> float:
    """Return H0', which replaces H0 where one human corpus with these counts serves every replica.

        H0' = (1 - sum h_i^2) n/(n - 1),  h = counts / n          then  E(1 - sum p_t^2 | h) = H0' r_t  for t >= 1

    This holds in all four regimes if every sample has the corpus size n too; n >= 2. Unit: none. Source: derived here:
    fit 1 is h itself, and only the first factor of r_t, 1 - 1/n, was the human draw's. E H0' = H0.
    """
    n = sum(counts)
    need(n >= 2 and min(counts) >= 0, f"counts of a corpus of at least 2 draws, none negative; given {counts!r}")
    return heterozygosity(np.array(counts) / n) * n / (n - 1)


def mix_distance(p: Distribution, n: int, share: float, t: float) -> float:
    """Return E|p_t - p|^2 where each of the n draws is human with chance `share`, else from p_{t-1}.

        D_t = H0/n + r D_{t-1},  r = (1 - share)^2 (1 - 1/n);  D_0 = 0;  fixed point (t = math.inf) (H0/n)/(1 - r)

    The number of human draws is binomial. With exactly share x n of them, `mix_distance_exact` holds and is smaller.
    Human draws are fresh draws from p. If they come with replacement from one corpus h, from fit 1 on, h replaces p.
    Unit: squared probability. Source: derived here: given p_{t-1}, draws are independent from m, m = p + (1-share)
    (p_{t-1}-p). So E|p_t - p|^2 = (1-|m|^2)/n + |m-p|^2, and E|m|^2 = |p|^2 + (1-share)^2 D_{t-1} as E p_{t-1} = p.
    """
    check(n, t)
    need(0 <= share <= 1, f"the human share is {share}; it lies between 0 and 1")
    return affine(heterozygosity(p) / n, (1 - share) ** 2 * (1 - 1 / n), t)


def mix_distance_exact(p: Distribution, n: int, human: int, t: float) -> float:
    """Return E|p_t - p|^2 where exactly `human` of the n draws of each fit are fresh, the others from p_{t-1}.

        D_t = H0/n + r D_{t-1},  r = (1-L)^2 - (1-L)/n,  L = human/n;  D_1 = H0/n;  fixed point (H0/n)/(1 - r)

    Fit 1 is all human. Replayed human rows (the same rows again) follow another law. Unit: squared probability. Source:
    derived here: p_t - p = L (a - p) + (1-L)(b - p), with frequencies a of L n human draws and b of (1-L) n draws from
    p_{t-1}, independent given it: L^2 H0/(L n) + (1-L)^2 [H_{t-1}/((1-L) n) + D_{t-1}], and E H_{t-1} = H0 - D_{t-1}.
    """
    check(n, t)
    need_whole(human)
    need(0 <= human <= n, f"{human} human draws of {n}: allowed are 0 to {n}")
    rest = 1 - human / n
    return affine(heterozygosity(p) / n, rest**2 - rest / n, t)


def web_distance(p: Distribution, first: int, n: int, human: Sequence[int]) -> float:
    """Return E|p_t - p|^2, t = 1 + len(human): fit 1 sees `first` human draws, fit k of the others n draws of a crawl.

        D_1 = H0/first;  D_k = H0/n + [(1-L_k)^2 - (1-L_k)/n] D_{k-1},  L_k = human[k-2]/n

    human[k-2] of the n draws are fresh human ones, the others come from p_{k-1}. A curator that keeps exactly a share
    phi of a crawl's human rows and psi of its generated ones makes n = phi n_h + psi n_m rows with phi n_h human ones.
    Unit: squared probability. Source: derived here, as `mix_distance_exact`, with a share for each generation.
    """
    check(n, len(human))
    check(first, 1)
    need_whole(*human)
    need(all(0 <= each <= n for each in human), f"{list(human)} human draws of {n} each: allowed are 0 to {n}")
    distance = heterozygosity(p) / first
    for each in human:
        rest = 1 - each / n
        distance = heterozygosity(p) / n + (rest**2 - rest / n) * distance
    return distance


def best_real_weight(k: float) -> float:
    """Return the weight w of fresh human text that minimises the limiting variance of a mean.

    The chain: m_t = w (mean of n fresh human draws) + (1-w) (mean of k n draws around m_{t-1}); the variance s^2 of a
    draw is known, n is any. w solves k w^2 + w - 1 = 0. k = 1 gives 0.618, the golden ratio. The minimum of n Var/s^2
    equals w. It is below 1, so synthetic text helps. Unit: none. Source: He, Xu & Cheng 2025 (2502.18049). Derivation:
    n Var/s^2 = [w^2 + (1-w)^2/k] / (w (2-w)); the numerator of its derivative is 2 (w^2 - (1-w)/k).
    """
    need(k > 0, f"k = {k} synthetic draws for each human one; it must be > 0")
    return 2 / (1 + math.sqrt(1 + 4 * k))
