"""The arguments of closed forms: distributions, sizes and regimes, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Distribution = Sequence[float] | Floats
Pool = Literal["replace", "accumulate", "accumulate-subsample", "augment"]
REGIMES: tuple[Pool, ...] = ("replace", "accumulate", "accumulate-subsample", "augment")
"""accumulate-subsample: a fit sees n draws of all so far, without replacement. augment: human draws, newest sample."""


def distribution(p: Distribution) -> Floats:
    q = np.array(p, dtype=np.float64)
    good = q.ndim == 1 and q.size > 0 and bool((q >= 0).all()) and abs(float(q.sum()) - 1) <= 1e-9
    need(good, f"probabilities are a list of numbers >= 0 with sum 1; given shape {q.shape} with sum {q.sum()}")
    return q


def check(n: int, t: float, first: int = 0, regime: str = "replace", allowed: Sequence[str] = REGIMES) -> None:
    whole = t == math.inf or t == int(t)
    need(n >= 1 and t >= first and whole, f"wanted: a size >= 1 and a whole t >= {first}; given {n} and {t}")
    need_whole(n)
    need(regime in allowed, f'no closed form here for regime "{regime}"; allowed: {", ".join(allowed)}')


def need(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def need_whole(*counts: float) -> None:
    """Raise ValueError if a count of draws is no whole number."""
    wrong = [f"{count}" for count in counts if count % 1]
    need(not wrong, f"draws are counted in whole numbers; given {', '.join(wrong)}")


def affine(start: float, ratio: float, t: float) -> float:
    """Return D_t of D_t = start + ratio D_{t-1}, D_0 = 0, for 0 <= ratio < 1."""
    return float(start * (1 - ratio**t) / (1 - ratio))
