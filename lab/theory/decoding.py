"""Closed forms of replace where each generation decodes away from temperature 1 or with top-p."""

from __future__ import annotations

import math

import numpy as np

from lab.theory.arguments import Distribution, Floats, check, distribution, need


def temperature_chain(p: Distribution, temperature: float, t: int) -> Floats:
    """Return p_t proportional to p^(temperature^-t), [K]: every generation samples at this temperature (replace).

    The sample is infinite; at finite n there is drift too. t = 1 is the first synthetic set S_0. Unit: probability.
    Source: derived here: a softmax at temperature T maps p to p^(1/T) / sum; powers compose.
    """
    check(1, t)
    q = distribution(p)
    need(0 < temperature < math.inf, f"temperature is {temperature}; it must be > 0 and finite")
    weights = np.where(q > 0, np.exp(np.log(np.where(q > 0, q, 1) / q.max()) * temperature ** float(-t)), 0)
    return np.asarray(weights / weights.sum())


def top_p(p: Distribution, mass: float) -> Floats:
    """Return p cut to the fewest most likely types whose chances sum to at least `mass`, renormalised, [K].

    Ties go to the lower index. Sums within 1e-12 of the mass reach it (ten 0.1 do not sum to 1 in floats). Applied t
    times, the filter is replace with an infinite sample. Source: Holtzman et al. 2020 (1904.09751).
    """
    q = distribution(p)
    need(0 < mass <= 1, f"top-p keeps a mass above 0 and up to 1; given {mass}")
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
    check(types, t)
    need(0 < mass <= 1, f"top-p keeps a mass above 0 and up to 1; given {mass}")
    for _ in range(t):
        types = math.ceil(types * (mass - 1e-12))
    return types
