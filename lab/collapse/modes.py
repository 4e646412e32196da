"""Modes of human text, and how much of a generated text belongs to each: naive Bayes on tokens.

Modes are the domains of the human text.  Where it has none, they are clusters of its rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.metrics.evidence import Tokens

SMOOTHING = 0.5
"""Added to every count: Krichevsky & Trofimov 1981."""
CLUSTERS = 6
"""Modes of a text without domains."""
ROUNDS = 30
"""Most rounds of the clustering.  It ends earlier when no row changes."""
AT_ONCE = 2**25
"""Numbers that scores adds up at one time, 256 MB: a column of labels may have thousands of values."""


@dataclass(frozen=True)
class NaiveBayes:
    """A multinomial naive Bayes classifier of rows by their tokens.  M = modes, V = vocabulary.

    log P(m | row) = log prior[m] + sum over tokens of log P(token | m) + constant.
    Source: McCallum & Nigam 1998.
    """

    prior: NDArray[np.float64]
    """[M] log of the share of rows."""
    token: NDArray[np.float64]
    """[V, M] log of P(token | mode), from counts + 1/2; 0 for `skip`."""

    @classmethod
    def fit(cls, rows: Tokens, mode: NDArray[np.integer[Any]], modes: int, vocab_size: int, skip: int) -> NaiveBayes:
        """Fit to rows [N, T] of known modes [N].  The token `skip`, EOS, says nothing."""
        counts = np.full((modes, vocab_size), SMOOTHING)
        for m in range(modes):
            counts[m] += np.bincount(rows[mode == m].ravel(), minlength=vocab_size)
        counts[:, skip] = 0
        with np.errstate(divide="ignore"):  # log 0 of `skip`, replaced below
            token = np.log(counts / counts.sum(axis=1, keepdims=True))
        token[:, skip] = 0
        prior = np.log((np.bincount(mode, minlength=modes) + SMOOTHING) / (len(rows) + modes * SMOOTHING))
        return cls(prior, np.ascontiguousarray(token.T))

    def scores(self, rows: Tokens) -> NDArray[np.float64]:
        """Return the joint log probability of each row and mode, [N, M]."""
        size = max(1, AT_ONCE // (rows.shape[1] * len(self.prior)))
        blocks = (rows[start : start + size] for start in range(0, len(rows), size))
        return np.concatenate([self.token[block].sum(axis=1) for block in blocks]) + self.prior

    def classify(self, rows: Tokens) -> NDArray[np.int64]:
        """Return the likeliest mode of each row, [N]; of a tie the first."""
        return np.asarray(self.scores(rows).argmax(axis=1))


def cluster(rows: Tokens, vocab_size: int, skip: int, *, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return a mode for each row [N], found without labels: hard EM of a mixture of multinomials.

    It begins with rows of chance, and takes the clustering after ROUNDS rounds or when no row changes.
    """
    modes = min(CLUSTERS, len(rows))
    first = rng.choice(len(rows), modes, replace=False)
    mode = NaiveBayes.fit(rows[first], np.arange(modes), modes, vocab_size, skip).classify(rows)
    for _ in range(ROUNDS):
        again = NaiveBayes.fit(rows, mode, modes, vocab_size, skip).classify(rows)
        if (again == mode).all():
            break
        mode = again
    return mode


def fit_temperature(scores: NDArray[np.float64], mode: NDArray[np.integer[Any]]) -> float:
    """Return the temperature at which softmax(scores / temperature) gives held-out labels the least mean loss.

    Naive Bayes counts dependent tokens as independent evidence, so its posteriors are far too sure.
    Source: Guo et al. 2017.
    """
    from scipy.optimize import minimize_scalar  # takes a quarter of a second to import
    from scipy.special import logsumexp

    def loss(log_temperature: float) -> float:
        scaled = scores / np.exp(log_temperature)
        return float((logsumexp(scaled, axis=1) - scaled[np.arange(len(mode)), mode]).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-2.0, 7.0), method="bounded").x))


def entanglement(scores: NDArray[np.float64], temperature: float) -> float:
    """Return the mean entropy of the posterior over modes, in nats: 0 where each row is of one mode, ln M at most."""
    from scipy.special import softmax  # takes a quarter of a second to import

    posterior = softmax(scores / temperature, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(posterior > 0, posterior * np.log(posterior), 0.0)
    return float(-terms.sum(axis=1).mean())


def indices(labels: Sequence[str], names: Sequence[str]) -> NDArray[np.int64]:
    """Return the index in `names` of each label; -1 for one that is not there."""
    at = {name: index for index, name in enumerate(names)}
    return np.fromiter((at.get(label, -1) for label in labels), np.int64, len(labels))
