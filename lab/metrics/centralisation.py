"""Centralisation: what becomes of text where a few models, or one voice among many, write what all learn from?

These are metrics that a study names in `metrics.extra`, such as `lab.metrics.centralisation:homogenisation`.  The key
of `record` does not hear this file, and the key of each metric does.

A rare word is one that the human text holds one to three times.  It is lost by a model that does not write it in its
part of the first `metrics.tokens` tokens of the sample, and it is lost by all if no model does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.config.voices import writers
from lab.metrics.evidence import Evidence
from lab.metrics.tails import RARE

FEWEST = 100
"""Fewest items that independent models are expected to lose together.  With fewer the ratio is read too high."""


@dataclass(frozen=True, eq=False)
class Voiced(Evidence):
    """The evidence of a population whose models write unequal parts of the sample."""

    written: Sequence[int] = ()
    """Rows of the sample by each model.  `writers(written)` says who wrote which row."""

    @classmethod
    def of(cls, evidence: Evidence, written: Sequence[int]) -> Voiced:
        """Return evidence with the rows that each model wrote."""
        return cls(**{each.name: getattr(evidence, each.name) for each in fields(evidence)}, written=written)


def written_by(evidence: Evidence) -> NDArray[np.int64]:
    """Return the model that wrote each row of the sample, [N]."""
    if isinstance(evidence, Voiced):
        return writers(evidence.written)
    return np.arange(len(evidence.sample)) % len(evidence.member_nats)


def in_turn(evidence: Voiced) -> Voiced:
    """Return evidence whose sample has equally many rows of each model, in turn: all that the quietest one wrote."""
    members, least = len(evidence.written), min(evidence.written)
    rows = [np.flatnonzero(written_by(evidence) == m)[:least] for m in range(members)]
    return replace(evidence, sample=evidence.sample[np.stack(rows, axis=1).ravel()], written=[least] * members)


def homogenisation(evidence: Evidence) -> dict[str, float]:
    """Rare words lost by all models, over those that independent models would lose together (1 = independent).

    mean_i prod_m F_mi / prod_m mean_i F_mi, with F_mi = 1 where model m has lost rare word i.  Models that lose the
    same share f of words, and the same ones, give f^-(M-1).  One model gives 1.  It exceeds 1 already where all models
    find the same words hard, so compare it with a population that learned from human text.
    `expected_lost_by_all` is the number of words that independent models would lose together.  Where it is below 100
    the ratio is NaN, because it then lies too high.
    Source: Bommasani et al. 2022 (2211.13972).
    """
    lost = _lost(evidence)
    ratio, expected = (math.nan, math.nan) if lost is None else outcome_homogenisation(lost)
    return {"homogenisation": ratio, "expected_lost_by_all": expected}


def systemic_loss(evidence: Evidence) -> dict[str, float]:
    """Rare words that no model writes, over those that the mean model does not write.

    1 = the others replace nothing that one model has lost.  0 = each word is kept by some model.
    NaN where there are no rare words or none is lost.  Source: Bommasani et al. 2022 (2211.13972).
    """
    lost = _lost(evidence)
    return {"systemic_loss": math.nan if lost is None else share_lost_by_all(lost)}


def concentration(evidence: Evidence) -> dict[str, float]:
    """Concentration of the voices: the sum of the squared shares of the models in the sample (HHI).

    1/M = equal parts, 1 = one model writes everything.  Source: Herfindahl 1950, as in antitrust.
    """
    shares = np.bincount(written_by(evidence)) / len(evidence.sample)
    return {"concentration": float(shares @ shares)}


def outcome_homogenisation(lost: NDArray[np.bool_]) -> tuple[float, float]:
    """Return the ratio of `homogenisation` for failures [M, I], and the items expected to fail for all models."""
    expected = float(np.prod(lost.mean(axis=1))) * lost.shape[1]
    together = float(lost.all(axis=0).sum())
    return (together / expected if expected >= FEWEST else math.nan), expected


def share_lost_by_all(lost: NDArray[np.bool_]) -> float:
    """Return the items [M, I] that fail for all models, over those that fail for the mean model."""
    mean = float(lost.sum(axis=1).mean())
    return float(lost.all(axis=0).sum()) / mean if mean else math.nan


def _lost(evidence: Evidence) -> NDArray[np.bool_] | None:
    """Return which rare words each model has lost, [M, I]; None where texts have no words or are too short."""
    if evidence.law is not None or evidence.compared_words is None:
        return None
    sample, human, _ = evidence.compared_words
    counts: NDArray[Any] = np.bincount(human.word, minlength=len(human.types))
    rare = np.flatnonzero((counts >= RARE.start) & (counts < RARE.stop))
    number = {human.types[word]: index for index, word in enumerate(rare.tolist())}
    if not number:
        return None
    index = np.array([number.get(word, -1) for word in sample.types], np.int64)[sample.word]
    lost = np.ones((len(evidence.member_nats), len(rare)), np.bool_)
    lost[written_by(evidence)[sample.row[index >= 0]], index[index >= 0]] = False
    return lost
