"""The counting models: n-grams (lab/models/ngram.py), a unigram for each position, and the uniform model.  numpy only.

They are fitted exactly and at once, so theory can say what a chain of them must do, and they need no GPU.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.models.ngram import Amounts, Ints, Ngram, read_counts, write_counts


@dataclass(frozen=True)
class Positions:
    """An own distribution for each position: T independent loci, by maximum likelihood."""

    counts: Amounts
    """[T, V] how often each position holds each token."""

    kind = "lab-positions"

    @property
    def vocab_size(self) -> int:
        return int(self.counts.shape[1])

    @classmethod
    def fit(cls, rows: Ints, *, vocab_size: int, weights: NDArray[np.float64] | None = None) -> Positions:
        """Count all rows [N, T], each once, or as often as its weight [N] says."""
        pairs = np.arange(rows.shape[1]) * vocab_size + rows.astype(np.int64)
        each = None if weights is None else np.repeat(weights, rows.shape[1])
        counts = np.bincount(pairs.ravel(), each, minlength=rows.shape[1] * vocab_size)
        return cls(counts.reshape(rows.shape[1], vocab_size))

    def nats(self, rows: Ints) -> NDArray[np.float32]:
        """Return the loss of every token in nats; it is infinite if the position never held the token."""
        count = self.counts[np.arange(rows.shape[1]), rows.astype(np.int64)]
        with np.errstate(divide="ignore"):
            return np.asarray(-np.log(count / self.counts.sum(axis=1)), dtype=np.float32)

    def weights(self, before: Ints) -> NDArray[np.float32]:
        """Return P of every token at the next position of each row: [B, V].  `before` is BOS and the tokens so far."""
        position = before.shape[1] - 1
        share = self.counts[position] / self.counts[position].sum()
        return np.broadcast_to(share.astype(np.float32), (len(before), self.vocab_size))

    def save(self, folder: Path) -> None:
        write_counts(folder, {"model_type": self.kind}, {"counts": self.counts})

    @classmethod
    def load(cls, folder: Path) -> Positions:
        return cls(read_counts(folder)[1]["counts"])


@dataclass(frozen=True)
class Uniform:
    """A model in which every token is equally likely, whatever stands before it: perplexity is exactly V."""

    vocab_size: int

    kind = "lab-uniform"

    def nats(self, rows: Ints) -> NDArray[np.float32]:
        return np.full(rows.shape, math.log(self.vocab_size), dtype=np.float32)

    def weights(self, before: Ints) -> NDArray[np.float32]:
        return np.full((len(before), self.vocab_size), 1.0 / self.vocab_size, dtype=np.float32)

    def save(self, folder: Path) -> None:
        write_counts(folder, {"model_type": self.kind, "vocab_size": self.vocab_size}, {})

    @classmethod
    def load(cls, folder: Path) -> Uniform:
        return cls(read_counts(folder)[0]["vocab_size"])


CountingModel = Ngram | Positions | Uniform
KINDS: dict[str, type[Ngram] | type[Positions] | type[Uniform]] = {
    kind.kind: kind for kind in (Ngram, Positions, Uniform)
}
"""model_type in config.json -> the class that reads it."""


def fit(
    model: Mapping[str, Any],
    rows: Ints,
    *,
    vocab_size: int,
    bos: int,
    eos: int,
    weights: NDArray[np.float64] | None = None,
) -> CountingModel:
    """Return the model that a study's `model` fields describe, fitted to all rows.

    `weights`: how often each row counts, one of weight 0 not at all; None: once.
    """
    if weights is not None:
        rows, weights = rows[weights > 0], weights[weights > 0]
    match model["kind"]:
        case "ngram":
            smoothed = model["smoothing"] == "interpolated"
            shape = {"order": model["order"], "vocab_size": vocab_size, "bos": bos}
            return Ngram.fit(rows, **shape, smoothed=smoothed, weights=weights)
        case "positions":
            return Positions.fit(rows, vocab_size=vocab_size, weights=weights)
    return Uniform(vocab_size)
