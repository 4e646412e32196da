"""Closed forms of the error of an estimated mean and of least squares under each regime."""

from __future__ import annotations

import numpy as np

from lab.theory.arguments import REGIMES, Pool, check, need


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
    check(n, t, regime=regime)
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
    check(rows, t, regime=regime, allowed=REGIMES[:2])
    need(1 <= features < rows - 1, f"{features} features want {features + 2} rows for a finite risk; given {rows}")
    i, scale = np.arange(1, t + 1), features / (rows - features - 1)
    if regime == "replace":
        return t * scale
    return float(np.sum(features / (i * (i * rows - features - 1)) if fresh else scale / i**2))
