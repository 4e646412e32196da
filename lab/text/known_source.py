"""A known distribution in place of human text: its draws, and the exact loss of every token drawn.

Shapes: N = rows, T = positions, K = types. Losses are in nats.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.config.text import SourceConfig
from lab.seeds import derive_seed, generator

Floats = NDArray[np.float64]
SAVED = "source.npz"


@dataclass(frozen=True)
class KnownSource:
    """A Markov chain over tokens 0 .. K - 1, or independent tokens, whose probabilities are known exactly."""

    first: Floats
    """Probabilities of the first token, [K]."""
    then: Floats
    """Probabilities of the next token, [K, K], one row per previous token. Independent tokens: every row is `first`."""

    @classmethod
    def of(cls, config: SourceConfig) -> KnownSource:
        """Build the distribution that a study names. It depends on the study's fields alone, not on a seed."""
        law = np.arange(1, config.types + 1, dtype=np.float64) ** -config.zipf
        law /= law.sum()
        if config.process == "categorical":
            return cls(law, np.broadcast_to(law, (config.types, config.types)))
        orders = [generator(derive_seed(0, token, "source")).permutation(config.types) for token in range(config.types)]
        then = law[np.argsort(orders, axis=1)]
        return cls(_stationary(then), then)

    def save(self, folder: Path) -> None:
        """Write the probabilities into an artifact folder."""
        np.savez(folder / SAVED, first=self.first, then=self.then)

    @classmethod
    def load(cls, folder: Path) -> KnownSource:
        """Read what `save` wrote."""
        with np.load(folder / SAVED) as saved:
            return cls(saved["first"], saved["then"])

    @property
    def types(self) -> int:
        """Number of types K."""
        return len(self.first)

    def rows(self, purpose: str, rows: int, positions: int, *, seed: int) -> NDArray[np.int64]:
        """Draw a study's rows [N, T] for one purpose: human, resample, archive, test or validation."""
        return self.draw(rows, positions, generator(derive_seed(seed, 0, f"{purpose} rows")))

    def draw(self, rows: int, positions: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw independent rows [N, T] by inverting cumulative probabilities."""
        uniforms = rng.random((positions, rows))
        tokens = np.empty((positions, rows), dtype=np.int64)
        tokens[0] = np.searchsorted(_cumulative(self.first), uniforms[0], side="right")
        sums = _cumulative(self.then)
        for t in range(1, positions):
            tokens[t] = (sums[tokens[t - 1]] <= uniforms[t, :, None]).sum(axis=1)
        return tokens.T.copy()

    def nats(self, rows: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
        """Return the exact loss of each token of rows [N, T], which no model can beat on average."""
        tokens = rows.astype(np.int64)
        with np.errstate(divide="ignore"):
            head, tail = -np.log(self.first[tokens[:, :1]]), -np.log(self.then[tokens[:, :-1], tokens[:, 1:]])
        return np.concatenate([head, tail], axis=1).astype(np.float32)

    def entropy(self, positions: int) -> float:
        """Return the expected loss of the source on its own rows, in nats per token."""
        from scipy.special import entr  # takes a quarter of a second to import

        rate = float(self.first @ entr(self.then).sum(axis=1))
        return (float(entr(self.first).sum()) + (positions - 1) * rate) / positions


def is_known_source(folder: Path) -> bool:
    """Return whether a tokenizer artifact is a known source: it has tokens, but no words and no bytes."""
    return (folder / SAVED).exists()


def _cumulative(law: Floats) -> Floats:
    """Return cumulative sums along the last axis that end at exactly 1, so that no uniform number exceeds them."""
    sums = np.cumsum(law, axis=-1)
    return np.asarray(sums / sums[..., -1:])


def _stationary(then: Floats) -> Floats:
    """Return the stationary distribution q of the chain: q = q @ then, and sum q = 1."""
    types = len(then)
    equations = np.vstack([then.T - np.eye(types), np.ones(types)])
    law = np.linalg.lstsq(equations, np.append(np.zeros(types), 1.0), rcond=None)[0]
    law = np.maximum(law, 0)
    return np.asarray(law / law.sum())
