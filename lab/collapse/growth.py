"""Curves of losses: does one grow without bound, and at how much human text has another one a given loss?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lab.metrics.stats import FEWEST_DOCUMENTS, Interval

KAPPA = np.round(np.arange(-2.0, 6.0001, 0.01), 2)
"""Exponents that are tried."""
RATES = 500
"""Rates r of the geometric rival that are tried, from 0.01 to the one that has come 80 % of its way at the end."""
DONE = 0.2
"""What the geometric rival may still lack at the last generation: a slower one would imitate a straight line."""


@dataclass(frozen=True)
class Growth:
    """How the curves of some seeds grow.  S = seeds."""

    kappa: NDArray[np.float64]
    """[S] exponent of D_t = b (1 + 2^-kappa + ... + t^-kappa), by least squares."""
    rival: float
    """N ln(SSE of the series / SSE of b (1 - r^t)), N points: below 0 the series fits better."""


def growth(curves: NDArray[np.float64]) -> Growth:
    """Fit both forms to curves [S, T], D_t at t = 1..T of each seed; each seed has its own fit.

    growth([[1, 2, 3]]).kappa -> [0];  growth([[1, 1 + 1/4, 1 + 1/4 + 1/9]]).kappa -> [2]
    """
    points = curves.shape[1]
    t = np.arange(1, points + 1)
    series = np.cumsum(t[None, :] ** -KAPPA[:, None], axis=1)
    rates = np.linspace(0.01, DONE ** (1 / points), RATES)
    geometric = 1 - rates[:, None] ** t[None, :]
    errors, chosen = _fit(curves, series)
    rivals, _ = _fit(curves, geometric)
    least = 1e-12 * float((curves**2).sum())  # an exact fit leaves rounding only
    ratio = max(float(errors.sum()), least) / max(float(rivals.sum()), least)
    return Growth(KAPPA[chosen], float(curves.size * np.log(ratio)))


def kappa_bootstrap(
    totals: NDArray[np.float64], weights: NDArray[np.float64], *, rng: np.random.Generator, resamples: int
) -> Interval:
    """Return kappa of a curve over documents, with the 95 % percentile interval of a bootstrap of whole documents.

    totals: [T, D] the increase of each document's loss at t = 1..T; weights: [D] its tokens.
    Fewer than 5 documents give NaN bounds, as in `cluster_bootstrap`.
    """
    kappa = float(growth((totals.sum(axis=1) / weights.sum())[None]).kappa[0])
    if len(weights) < FEWEST_DOCUMENTS:
        return Interval(kappa, math.nan, math.nan)
    drawn = rng.integers(len(weights), size=(resamples, len(weights)))
    curves = (totals[:, drawn].sum(axis=2) / weights[drawn].sum(axis=1)).T
    low, high = np.quantile(growth(curves).kappa, [0.025, 0.975])
    return Interval(kappa, float(low), float(high))


def equivalent(human: Mapping[float, float], loss: float) -> float:
    """Return the share of the human rows at which a model of human text alone has this loss.

    Losses between the nested sizes are interpolated in the logarithm of the size.  Below the smallest it returns that.
    """
    shares = np.array(sorted(human))
    losses = np.array([human[share] for share in shares.tolist()])
    return float(np.exp(np.interp(-loss, np.maximum.accumulate(-losses), np.log(shares))))


def _fit(curves: NDArray[np.float64], forms: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the least squared error of each curve over forms [F, T] with a free factor, and which form has it."""
    b = curves @ forms.T / (forms**2).sum(axis=1)
    errors = ((curves[:, None, :] - b[..., None] * forms) ** 2).sum(axis=2)
    best = errors.argmin(axis=1)
    return errors[np.arange(len(curves)), best], np.asarray(best)
