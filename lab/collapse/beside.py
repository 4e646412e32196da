"""What is said beside definitions 1 and 5, without a verdict: when a level is passed, and where a scaling law ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lab.collapse.chains import Chains

LEVELS = (0.25, 0.5)
"""Shares of the way to a unigram at which definition 1 names a generation."""
SLOWEST, FASTEST = 0.02, 3.0
"""Exponents of a scaling law that are tried."""


@dataclass(frozen=True)
class ScalingLaw:
    """The curve E + A n^-alpha of the loss over the size n of the data."""

    floor: float
    """E, the loss that no amount of this data goes below, nats per token."""
    factor: float
    """A, nats per token at n = 1."""
    exponent: float


def first_beyond(chains: Chains, level: float) -> int | None:
    """Return the first generation whose loss, the seeds' mean, has gone this share of the way to a unigram's."""
    for t in sorted(set.intersection(*(set(chains.points[s]) & set(chains.control[s]) for s in chains.seeds))):
        pairs = chains.pairs(t)
        ways = [control.columns["unigram_nll"] - control.columns["nll"] for _, control in pairs]
        if t and np.mean([gap / way for gap, way in zip(chains.gaps(t), ways, strict=True)]) >= level:
            return t
    return None


def passed(chains: Chains) -> str:
    """Return which levels were passed when, such as "25 % at generation 2, 50 % at generation 5"; empty for none."""
    found = ((level, first_beyond(chains, level)) for level in LEVELS)
    return ", ".join(f"{level:.0%} first at generation {t}" for level, t in found if t is not None)


def scaling_law(losses: Mapping[float, float]) -> ScalingLaw | None:
    """Fit E + A n^-alpha to size -> loss by least squares.  None for fewer than 4 sizes, or where no such curve falls.

    E and A follow from alpha, which is searched for.  Source: Hestness et al. 2017, Kaplan et al. 2020.
    """
    from scipy.optimize import minimize_scalar  # takes a quarter of a second to import

    if len(losses) < 4 or not np.isfinite(list(losses.values())).all():
        return None
    size, loss = np.array(sorted(losses.items())).T

    def fitted(exponent: float) -> tuple[np.ndarray, float]:
        form = np.column_stack([np.ones(len(size)), size**-exponent])
        found = np.linalg.lstsq(form, loss)[0]
        return found, float(((form @ found - loss) ** 2).sum())

    best = minimize_scalar(
        lambda x: fitted(float(np.exp(x)))[1],
        bounds=(np.log(SLOWEST), np.log(FASTEST)),
        method="bounded",
        options={"xatol": 1e-10},
    )
    exponent = float(np.exp(best.x))
    floor, factor = fitted(exponent)[0]
    inside = 1.05 * SLOWEST < exponent < FASTEST / 1.05
    # A cross-entropy is never below 0: losses that fall like -ln n would be given such a floor.
    return ScalingLaw(float(floor), float(factor), exponent) if inside and factor > 0 and floor >= 0 else None


def floors(chain: Sequence[Mapping[float, float]], human: Sequence[Mapping[float, float]]) -> str:
    """Return the floors of the fitted scaling laws in words, of the seeds' mean losses; empty where none fits."""
    found = [
        scaling_law({n: float(np.mean([each[n] for each in seeds])) for n in seeds[0]}) for seeds in (chain, human)
    ]
    if found[0] is None or found[1] is None:
        return "no power law with a floor fits both"
    return f"power laws end at {found[0].floor:.2f} nats, of human text at {found[1].floor:.2f}"
