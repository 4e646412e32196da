"""Verdicts: what an interval says about a threshold, one-sided p values, Holm's correction, and power."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy.special import stdtr, stdtrit

from lab.metrics.stats import Interval

COLLAPSED, NOT, UNDECIDED, MISSING = "collapsed", "not collapsed", "undecided", "not measured"
FAMILY = 0.05
"""Probability of a false "collapsed" among the definitions of one regime (Holm 1979)."""
Side = Literal["above", "below"]
"""On which side of its threshold a definition holds."""


def verdict_of(interval: Interval, threshold: float, near: float, side: Side) -> str:
    """Return what an interval says: collapsed wholly beyond the threshold, not collapsed wholly short of `near`."""
    sign = 1 if side == "above" else -1
    low, high = sorted((sign * interval.low, sign * interval.high))
    if math.isnan(low):
        return UNDECIDED
    if low > sign * threshold:
        return COLLAPSED
    return NOT if high < sign * near else UNDECIDED


def one_sided_p(values: Sequence[float], threshold: float, side: Side) -> float:
    """Return the one-sided p value of a t test of the mean against a threshold."""
    x, sign = np.asarray(values, np.float64), 1 if side == "above" else -1
    if len(x) < 2:
        return math.nan
    shift, spread = sign * (float(x.mean()) - threshold), float(x.std(ddof=1))
    if not spread:
        return 0.0 if shift > 0 else 1.0
    return float(stdtr(len(x) - 1, -shift / spread * math.sqrt(len(x))))


def holm(p: Sequence[float]) -> list[bool]:
    """Return which hypotheses Holm's step-down procedure rejects at the family-wise error FAMILY (Holm 1979)."""
    order = sorted(range(len(p)), key=p.__getitem__)
    rejected = [False] * len(p)
    for rank, index in enumerate(order):
        if p[index] > FAMILY / (len(p) - rank):
            break
        rejected[index] = True
    return rejected


def power(by_seed: Sequence[float]) -> float:
    """Return the smallest effect that is found 8 times in 10: (t_0.975 + t_0.8) sd / sqrt(seeds)."""
    n = len(by_seed)
    return float(stdtrit(n - 1, 0.975) + stdtrit(n - 1, 0.8)) * float(np.std(by_seed, ddof=1)) / math.sqrt(n)
