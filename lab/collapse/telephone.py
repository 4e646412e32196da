"""The telephone view: properties of texts that every generation continues, and where the chain draws them to."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lab.metrics.evidence import Tokens
from lab.metrics.tails import RARE
from lab.metrics.words import find_words

LEAST = 3
"""Fewest prompts of a regression."""


def properties(
    rows: Tokens, token_bytes: Sequence[bytes], eos: int, training: Mapping[str, int]
) -> dict[str, NDArray[np.float64]]:
    """Return mean word length, share of rare words and words per sentence of each row, [N]; NaN without words."""
    words = find_words(rows, token_bytes, eos)
    counts = np.bincount(words.row, minlength=len(rows))
    of_types = {
        "word_length": np.array([len(word) for word in words.types], np.float64),
        "rare_words": np.array([training.get(word, 0) in RARE for word in words.types], np.float64),
    }
    sentences = [_sentences(row, token_bytes, eos) for row in rows.tolist()]
    with np.errstate(invalid="ignore"):
        means = {
            name: np.bincount(words.row, values[words.word], minlength=len(rows)) / counts
            for name, values in of_types.items()
        }
        return means | {"sentence_length": np.where(counts > 0, counts / np.maximum(1, sentences), np.nan)}


def _sentences(row: Sequence[int], token_bytes: Sequence[bytes], eos: int) -> int:
    """Return the sentences of a row: stretches with a letter or digit that full stops, ! or ? end, or the row itself.

    Abbreviations count as ends, in all texts alike.
    """
    text = b"".join(b". " if token == eos else token_bytes[token] for token in row).decode(errors="replace")
    return sum(any(map(str.isalnum, piece)) for piece in re.split("[.!?]+", text))


@dataclass(frozen=True)
class Attractor:
    """The regression x_T = a + b x_0 over prompts.  NaN where there are too few, or all begin alike."""

    slope: float
    """b.  1: every text keeps what it began with; 0: all end alike."""
    position: float
    """a / (1 - b), where texts are drawn to; NaN where |b| is at least 1 and nothing attracts."""

    @property
    def strength(self) -> float:
        """1 - |b|."""
        return 1 - abs(self.slope)


def attractor(first: Sequence[float | None], last: Sequence[float | None]) -> Attractor:
    """Fit x_T = a + b x_0 by least squares over prompts; those without one of the two values are left out.

    Of x_t = c + phi x_{t-1} without noise: b = phi^T, position c / (1 - phi).
    """
    x, y = (np.array(values, np.float64) for values in (first, last))  # None becomes NaN
    whole = np.isfinite(x) & np.isfinite(y)
    x, y = x[whole], y[whole]
    if len(x) < LEAST or np.ptp(x) == 0:
        return Attractor(np.nan, np.nan)
    slope = float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())
    position = float((y.mean() - slope * x.mean()) / (1 - slope)) if abs(slope) < 1 else np.nan
    return Attractor(slope, position)
