"""Chains: one regime of a study against its control, generation by generation, as the definitions read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.metrics.stats import FEWEST_DOCUMENTS, Interval, cluster_bootstrap
from lab.seeds import derive_seed, generator

RESAMPLES = 399
ROUNDING = 1e-12
"""Documents whose changes differ by less than this, in nats per token, have no spread to draw from."""
LEAST_ROWS = 50
"""Rows of the control's text in a mode below which its ratio is noise: 13 rows give 0.24 to 0.5 by chance."""


@dataclass(frozen=True)
class Point:
    """One generation of one chain."""

    columns: Mapping[str, float]
    """The row of results.csv."""
    groups: Sequence[Mapping[str, Any]] = ()
    """Held-out loss and generated rows by group of text: see lab/collapse/numbers.py."""
    written: Sequence[Mapping[str, Any]] = ()
    """Share of the written words by their count in human training text."""
    documents: NDArray[np.float64] | None = None
    """[D, 2] loss in nats and tokens of each test document.  None: the rows differ between seeds."""
    rare_words: int = 0
    """Rare words of human text, of which the column new_survival is a share."""
    losses: Mapping[float, float] = field(default_factory=dict)
    """Share of the generation's rows -> held-out loss of a model trained on them, as often as the generation's own was.
    Nested: 0.125, 0.25, 0.5, 1.  Empty where it is not measured."""
    telephone: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    """Property -> its value in the continuation of each prompt, or None.  Empty where none was continued."""
    untold: str = ""
    """Why no prompt was continued though it was asked for."""


@dataclass(frozen=True)
class Chains:
    """One regime of a study against its control: seed -> generation -> Point."""

    regime: str
    points: Mapping[int, Mapping[int, Point]]
    control: Mapping[int, Mapping[int, Point]]

    @cached_property
    def seeds(self) -> list[int]:
        """The seeds that both have at the last generation."""
        return sorted(s for s in self.points.keys() & self.control.keys() if self.last in self.control[s])

    @cached_property
    def last(self) -> int:
        """The last generation that every seed of the regime has."""
        return min(max(by) for by in self.points.values())

    def gaps(self, t: int) -> list[float]:
        """Return how far the held-out loss of generation t is above the control's, by seed."""
        return [regime.columns["nll"] - control.columns["nll"] for regime, control in self.pairs(t)]

    def over_documents(self, chosen: Sequence[int] | None = None, of: str = "the profile") -> Interval | None:
        """Return the interval over test documents of the loss's increase at the last generation, of the seeds' mean.

        chosen: which documents, by default all.  `of` names them, for draws of their own.  None: see `document_gaps`.
        """
        gaps = self.document_gaps(self.last)
        if gaps is None:
            return None
        totals, tokens = gaps if chosen is None else (each[list(chosen)] for each in gaps)
        each = totals / tokens
        if len(each) >= FEWEST_DOCUMENTS and np.ptp(each) < ROUNDING:
            return Interval(float(each[0]), float(each[0]), float(each[0]))
        rng = generator(derive_seed(0, self.last, f"documents of {of}"))
        return cluster_bootstrap(totals, tokens, rng=rng, resamples=RESAMPLES)

    def document_gaps(self, t: int) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Return the increase of each test document's loss, the seeds' mean, and its tokens: [D] each.

        None where the documents of the seeds differ, or a loss is infinite.
        """
        pairs = self.pairs(t)
        documents = [
            (a.documents, b.documents) for a, b in pairs if a.documents is not None and b.documents is not None
        ]
        if len(documents) < len(pairs) or len({a.shape for a, _ in documents}) != 1 or not np.isfinite(documents).all():
            return None
        return np.mean([a[:, 0] - b[:, 0] for a, b in documents], axis=0), documents[0][0][:, 1]

    def pairs(self, t: int | None = None) -> list[tuple[Point, Point]]:
        """Return regime and control at generation t, by default the last, by seed."""
        t = self.last if t is None else t
        return [(self.points[s][t], self.control[s][t]) for s in self.seeds]


def mode_ratios(chains: Chains) -> dict[str, list[float]]:
    """Return the rows of each mode over the control's, by seed, with half a row added to both.

    Modes are domains, or clusters where the text has none.  Those with few rows in the control's text are left out.
    No logarithms: those of a mode that is gone would spread most, and three seeds could not show that it is.
    """
    pairs = chains.pairs()
    kinds = {each["column"] for a, _ in pairs for each in a.groups}
    kind = "domain" if "domain" in kinds else "cluster"
    counts = [
        [{each["group"]: each["rows"] for each in point.groups if each["column"] == kind} for point in pair]
        for pair in pairs
    ]
    names = dict.fromkeys(name for _, control in counts for name in control)
    kept = [n for n in names if all(n in x and n in c for x, c in counts)]
    kept = [n for n in kept if np.mean([control[n] for _, control in counts]) >= LEAST_ROWS]
    return {n: [(regime[n] + 0.5) / (control[n] + 0.5) for regime, control in counts] for n in kept}
