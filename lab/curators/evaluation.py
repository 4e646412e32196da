"""How well scores tell machine rows from human ones: ROC, area, threshold, and the share found with its interval.

A high score stands for the machine.  Where a score is turned round, its area under the ROC lies below 0.5.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

Floats = NDArray[np.float64]
FPR = 0.01
"""The share of human rows that may be taken for the machine's where detectors are compared."""
LENGTHS = (32, 64, 128, 256, 512, 1024)
"""Upper bounds of the groups of rows by their tokens of text."""


def threshold(human: Floats, fpr: float) -> float:
    """Return the score above which at most a share `fpr` of human rows lies: a row is dropped if it scores higher."""
    return float(np.quantile(human, 1 - fpr, method="inverted_cdf"))


def roc(human: Floats, machine: Floats) -> tuple[Floats, Floats]:
    """Return the shares of human and of machine rows that score at least as much as each score: FPR and TPR, rising."""
    cuts = np.unique(np.concatenate([human, machine]))[::-1]
    above = [1 - np.searchsorted(np.sort(scores), cuts, side="left") / len(scores) for scores in (human, machine)]
    return np.append(0.0, above[0]), np.append(0.0, above[1])


def auc(human: Floats, machine: Floats) -> float:
    """Return the chance that a machine row scores above a human one, ties as a half."""
    return float(np.trapezoid(*roc(human, machine)[::-1]))


def interval(found: int, of: int, level: float = 0.95) -> tuple[float, float]:
    """Return the exact interval of a share (Clopper & Pearson 1934).

    It holds every share under which so few and so many successes are not rarer than (1 - level) / 2.
    0 of 10: (0, 0.308), because 0.692 ** 10 = 0.025.
    """
    tail = (1 - level) / 2
    low = float(betaincinv(found, of - found + 1, tail)) if found else 0.0
    high = float(betaincinv(found + 1, of - found, 1 - tail)) if found < of else 1.0
    return low, high


def compared(human: Floats, machine: Floats) -> dict[str, Any]:
    """Return how well a score tells machine rows from human ones; None where one of the two is missing.

    auc: the area under the ROC.  tpr: the share of machine rows above the threshold that lets 1 % of these human rows
    through, with its interval of 95 % as tpr_low and tpr_high.
    """
    rows = {"human": len(human), "machine": len(machine)}
    if not len(human) or not len(machine):
        return {**rows, **dict.fromkeys(("auc", "tpr", "tpr_low", "tpr_high"))}
    found = int((machine > threshold(human, FPR)).sum())
    low, high = interval(found, len(machine))
    return {**rows, "auc": auc(human, machine), "tpr": found / len(machine), "tpr_low": low, "tpr_high": high}


def evaluated(scores: Floats, human: NDArray[np.bool_], origins: NDArray[Any], lengths: NDArray[Any]) -> dict[str, Any]:
    """Return how well the score of a curator tells machine rows from human ones, all in all and in parts.

    Args:
        scores: [N]; rows with NaN, which the curator did not see, do not count.
        human: whether a human wrote the row, [N].
        origins: the generation that wrote each machine row, [N].  Each generation is compared with all human rows.
        lengths: tokens of text of each row, [N].  Groups end at LENGTHS; groups without rows are left out.
    """
    seen = ~np.isnan(scores)

    def of(machine: NDArray[np.bool_], beside: NDArray[np.bool_]) -> dict[str, Any]:
        return compared(scores[seen & human & beside], scores[seen & ~human & machine])

    everything = np.ones(len(scores), np.bool_)
    group = np.searchsorted(LENGTHS, lengths)
    names = [*(f"at most {most}" for most in LENGTHS), f"more than {LENGTHS[-1]}"]
    return {
        **of(everything, everything),
        "generations": {str(t): of(origins == t, everything) for t in np.unique(origins[seen & ~human])},
        "lengths": {names[g]: of(group == g, group == g) for g in np.unique(group[seen])},
    }
