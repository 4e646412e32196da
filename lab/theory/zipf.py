"""Closed forms of what a sample of a Zipf law does not show."""

from __future__ import annotations

import numpy as np
from scipy.special import gamma, zeta

from lab.theory.arguments import Distribution, check, distribution, need


def missing_mass(p: Distribution, n: int) -> float:
    """Return the expected chance of the types that n draws did not show, sum p_i (1 - p_i)^n.

    It is the test error E_test of a learner that looks answers up. Unit: probability. Source: Good 1953.
    """
    check(n, 0)
    return float(np.sum(distribution(p) * (1 - distribution(p)) ** n))


def zipf_missing_mass(b: float, n: int) -> float:
    """Return `missing_mass` of p_i = i^-b / zeta(b), all i >= 1, b > 1, as n grows: c n^-a, a = (b - 1)/b.

    c = Gamma(a) zeta(b)^-(1/b) / b. It is for one round of draws from p itself. Too high by 0.4 % at n = 100, b = 2.
    Unit: probability. Source: Dohmatob et al. 2024 (2402.07043), derived here (c): integral of p exp(-n p), u = n p.
    """
    check(n, 0)
    need(b > 1, f"a Zipf exponent of {b} has no sum over all ranks; it must be > 1")
    return float(gamma(1 - 1 / b) / b * zeta(b) ** (-1 / b) * n ** (1 / b - 1))


def zipf_tail(b: float, rank: int) -> float:
    """Return the mass beyond a rank of p_i = i^-b / zeta(b), which a source cut at that rank misses for good.

    zeta(b, rank + 1) / zeta(b), about rank^-(b-1) / ((b-1) zeta(b)); b > 1. Source: Dohmatob et al. 2024 (2402.07043).
    """
    need(b > 1, f"a Zipf exponent of {b} has no sum over all ranks; it must be > 1")
    return float(zeta(b, rank + 1) / zeta(b))
