"""Known distributions in the place of human text: what they draw, and the exact loss of what is drawn.

Shapes: N = rows, T = positions, K = types.  Losses are in nats.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr

from lab.config.text import SourceConfig
from lab.seeds import derive_seed, generator

Floats = NDArray[np.float64]
SAVED = "source.npz"


@dataclass(frozen=True)
class Source:
    """The first token's law, and each next token's law given the one before.  Tokens are 0 .. K - 1."""

    first: Floats
    """[K]"""
    then: Floats
    """[K, K], a row for each token before; all rows are `first` where tokens are independent."""

    @classmethod
    def of(cls, config: SourceConfig) -> Source:
        """The law that a study names: a function of its fields alone, the same for every seed."""
        law = np.arange(1, config.types + 1, dtype=np.float64) ** -config.zipf
        law /= law.sum()
        if config.process == "categorical":
            return cls(law, np.broadcast_to(law, (config.types, config.types)))
        orders = [generator(derive_seed(0, token, "source")).permutation(config.types) for token in range(config.types)]
        then = law[np.argsort(orders, axis=1)]
        return cls(_stationary(then), then)

    def save(self, folder: Path) -> None:
        np.savez(folder / SAVED, first=self.first, then=self.then)

    @classmethod
    def load(cls, folder: Path) -> Source:
        with np.load(folder / SAVED) as saved:
            return cls(saved["first"], saved["then"])

    @property
    def types(self) -> int:
        return len(self.first)

    def rows(self, purpose: str, rows: int, positions: int, *, seed: int) -> NDArray[np.int64]:
        """A study's rows [N, T] for one purpose: human, resample, archive, test, validation."""
        return self.draw(rows, positions, generator(derive_seed(seed, 0, f"{purpose} rows")))

    def draw(self, rows: int, positions: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Independent rows [N, T]."""
        uniforms = rng.random((positions, rows))
        tokens = np.empty((positions, rows), dtype=np.int64)
        tokens[0] = np.searchsorted(_cumulative(self.first), uniforms[0], side="right")
        sums = _cumulative(self.then)
        for t in range(1, positions):
            tokens[t] = (sums[tokens[t - 1]] <= uniforms[t, :, None]).sum(axis=1)
        return tokens.T.copy()

    def nats(self, rows: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
        """The exact loss of every token of rows [N, T]: what no model can beat on average."""
        tokens = rows.astype(np.int64)
        with np.errstate(divide="ignore"):
            head, tail = -np.log(self.first[tokens[:, :1]]), -np.log(self.then[tokens[:, :-1], tokens[:, 1:]])
        return np.concatenate([head, tail], axis=1).astype(np.float32)

    def entropy(self, positions: int) -> float:
        """Expected loss of the source itself on its own rows, nats per token."""
        rate = float(self.first @ entr(self.then).sum(axis=1))
        return (float(entr(self.first).sum()) + (positions - 1) * rate) / positions


def is_source(folder: Path) -> bool:
    """Whether a folder that stands for a tokenizer is a source's: made of tokens, without words and bytes."""
    return (folder / SAVED).exists()


def _cumulative(law: Floats) -> Floats:
    """Cumulative sums along the last axis that end at exactly 1, so that no uniform number passes them."""
    sums = np.cumsum(law, axis=-1)
    return np.asarray(sums / sums[..., -1:])


def _stationary(then: Floats) -> Floats:
    """The law that the chain keeps: solves q = q @ then, sum q = 1."""
    types = len(then)
    equations = np.vstack([then.T - np.eye(types), np.ones(types)])
    law = np.linalg.lstsq(equations, np.append(np.zeros(types), 1.0), rcond=None)[0]
    law = np.maximum(law, 0)
    return np.asarray(law / law.sum())
