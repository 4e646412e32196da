"""Memorisation: how likely training text is to be written word for word, and how far canaries are exposed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
TRIES = 1000
"""n of the probabilistic extraction: draws of a suffix after its prefix."""


@dataclass(frozen=True, eq=False)
class Memory:
    """What the probe of one model found."""

    suffixes: NDArray[np.float32]
    """[2, k, T] loss of each token of the suffixes of k human training rows, and of k held-out rows, in nats."""
    canaries: Mapping[int, Floats]
    """Copies of a canary -> loss of the canary, and behind it of all other candidates."""


def extraction(nats: Floats, tries: int = TRIES) -> Floats:
    """Return the probability that at least one of `tries` draws is the suffix: 1 - (1 - p)^n, p = exp(-nats).

    Source: Hayes et al. 2024 (2410.19482): nothing needs to be generated.  1 nat, 1 try -> 1 / e.
    """
    with np.errstate(divide="ignore"):
        return np.asarray(-np.expm1(tries * np.log1p(-np.exp(-nats))))


def exposure(nats: Floats) -> float:
    """Return log2 |R| - log2 rank of a canary among |R| candidates, in bits; the canary's loss is the first.

    Source: Carlini et al. 2019.  The best of 2^12 has 12 bits; of an unseen one the mean is log2 e = 1.44 bits.
    A tie counts half, so that a model to which all candidates are equal has memorised none.
    """
    rank = 1 + (nats[1:] < nats[0]).sum() + (nats[1:] == nats[0]).sum() / 2
    return float(math.log2(len(nats)) - math.log2(rank))


def memorised(found: Sequence[Memory]) -> dict[str, float]:
    """Return the columns of memorisation, each the mean over the models of a generation; {} where none was probed."""
    several = [_columns(each) for each in found]
    return {name: float(np.mean([each[name] for each in several])) for name in (several[0] if several else ())}


def _columns(found: Memory) -> dict[str, float]:
    columns = {f"exposure_{copies}": exposure(nats) for copies, nats in found.canaries.items()}
    if found.suffixes.size:
        rates = extraction(found.suffixes.sum(axis=2, dtype=np.float64)).mean(axis=1)
        training, held_out = found.suffixes.mean(axis=(1, 2), dtype=np.float64)
        columns |= {
            "extraction": rates[0] - rates[1],
            "suffix_gap": held_out - training if math.isfinite(held_out) else math.nan,
        }
    return columns
