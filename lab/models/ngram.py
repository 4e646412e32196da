"""N-gram models of order 1 to 5, by maximum likelihood or with interpolated Witten-Bell smoothing.  numpy only.

They are fitted exactly and at once, so theory can say what a chain of them must do, and they need no GPU.  A context
never crosses a row: BOS stands before the row's first token, as often as the order needs.

    order 3, row a b c:   P(a | <bos> <bos>)  P(b | <bos> a)  P(c | a b)
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.integer[Any]]
Counts = NDArray[np.int64]
Amounts = NDArray[np.int64] | NDArray[np.float64]
"""Counts, or sums of the weights of rows."""
FIELDS = ("contexts", "starts", "tokens", "counts")
"""The arrays of a Level, as they are named in its file."""


@dataclass(frozen=True)
class Level:
    """Counts of the tokens that follow each context of one length.

    Shapes: C = contexts, E = (context, token) pairs.
    """

    contexts: Counts
    """[C] sorted codes: a context's tokens are the digits of its code in base V."""
    starts: Counts
    """[C + 1] index of each context's first pair."""
    tokens: Counts
    """[E] the token of each pair, sorted within a context."""
    counts: Amounts
    """[E] how often each pair occurs."""

    @classmethod
    def of(cls, contexts: Counts, tokens: Counts, vocab_size: int, weights: NDArray[np.float64] | None = None) -> Level:
        """Count the pairs of a context and the token after it, one pair for each position of the text.

        `weights`: how much each of these positions counts; None: all count 1.
        """
        distinct, rank = np.unique(contexts, return_inverse=True)
        codes = rank.reshape(-1) * vocab_size + tokens
        counts: Amounts
        if weights is None:
            pairs, counts = np.unique(codes, return_counts=True)
        else:
            pairs, which = np.unique(codes, return_inverse=True)
            counts = np.bincount(which.reshape(-1), weights)
        starts = np.searchsorted(pairs, np.arange(len(distinct) + 1) * vocab_size)
        return cls(distinct, starts, pairs % vocab_size, counts)

    @cached_property
    def totals(self) -> Amounts:
        """Return how often each context occurs: [C]."""
        return np.diff(np.concatenate([[0], np.cumsum(self.counts)])[self.starts])

    @cached_property
    def types(self) -> Counts:
        """Return how many different tokens follow each context: [C]."""
        return np.diff(self.starts)

    def find(self, contexts: Counts) -> tuple[Counts, NDArray[np.bool_]]:
        """Return the index of each context in `self.contexts`, and whether the context was seen at all."""
        rank = np.minimum(np.searchsorted(self.contexts, contexts), len(self.contexts) - 1)
        return rank, self.contexts[rank] == contexts

    def count(self, rank: Counts, tokens: Counts, vocab_size: int) -> Amounts:
        """Return how often each token follows the context with its rank (index)."""
        pairs = np.repeat(np.arange(len(self.contexts)), self.types) * vocab_size + self.tokens
        wanted = rank * vocab_size + tokens
        index = np.minimum(np.searchsorted(pairs, wanted), len(pairs) - 1)
        return np.where(pairs[index] == wanted, self.counts[index], 0)


@dataclass(frozen=True)
class Ngram:
    """P(token | the order - 1 tokens before it).

    Maximum likelihood: P = count / total, from the longest context that was seen.

    Smoothed: interpolated Witten-Bell (Bell, Cleary & Witten 1990).  P = (count + types x P_shorter) / (total + types),
    where P_shorter is P after the context that is one token shorter.  The shortest one is the uniform model, so no
    token costs infinite loss.
    """

    levels: Sequence[Level]
    """Counts for contexts of 0, 1, .. order - 1 tokens."""
    vocab_size: int
    bos: int
    smoothed: bool

    kind = "lab-ngram"

    @classmethod
    def fit(
        cls,
        rows: Ints,
        *,
        order: int,
        vocab_size: int,
        bos: int,
        smoothed: bool,
        weights: NDArray[np.float64] | None = None,
    ) -> Ngram:
        """Count all rows [N, T], each once, or as often as its weight [N], above 0, says."""
        if vocab_size ** max(order - 1, 1) >= 2**63:
            raise ValueError(
                f"order {order} with a vocabulary of {vocab_size:,} has too many contexts; lower the order"
            )
        tokens = rows.astype(np.int64)
        contexts = _contexts(tokens, order, vocab_size, bos)
        each = None if weights is None else np.repeat(weights, rows.shape[1])
        levels = [Level.of(codes.ravel(), tokens.ravel(), vocab_size, each) for codes in contexts]
        return cls(levels, vocab_size, bos, smoothed)

    def nats(self, rows: Ints) -> NDArray[np.float32]:
        """Return the loss of every token of rows [N, T] after BOS, in nats; infinite where an unsmoothed P is 0."""
        tokens = rows.astype(np.int64)
        share = np.full(tokens.size, 1.0 / self.vocab_size)
        contexts = _contexts(tokens, len(self.levels), self.vocab_size, self.bos)
        for level, codes in zip(self.levels, contexts, strict=True):
            rank, seen = level.find(codes.ravel())
            count = level.count(rank, tokens.ravel(), self.vocab_size)
            total, types = level.totals[rank], level.types[rank]
            longer = (count + types * share) / (total + types) if self.smoothed else count / total
            share = np.where(seen, longer, share)
        with np.errstate(divide="ignore"):
            return np.asarray(-np.log(share).reshape(rows.shape), dtype=np.float32)

    def weights(self, before: Ints) -> NDArray[np.float32]:
        """Return P of every next token after the tokens of each row so far, BOS among them: [B, V]."""
        before = np.pad(before, ((0, 0), (len(self.levels) - 1, 0)), constant_values=self.bos)
        share = np.tile(self._unigram, (len(before), 1))
        for length, level in enumerate(self.levels[1:], start=1):
            rank, seen = level.find(_code(before.astype(np.int64), length, self.vocab_size))
            rows, rank = np.flatnonzero(seen), rank[seen]
            types = level.types[rank]
            total = level.totals[rank] + (types if self.smoothed else 0)
            shorter = (types / total if self.smoothed else np.zeros(len(rows))).astype(np.float32)
            share[rows] *= shorter[:, None]
            entries = np.repeat(level.starts[rank] - np.cumsum(types) + types, types) + np.arange(types.sum())
            share[np.repeat(rows, types), level.tokens[entries]] += level.counts[entries] / np.repeat(total, types)
        return share

    @cached_property
    def _unigram(self) -> NDArray[np.float32]:
        """P of every token without any context: [V]."""
        level = self.levels[0]
        types = len(level.tokens) if self.smoothed else 0
        share = np.full(self.vocab_size, types / self.vocab_size)
        share[level.tokens] += level.counts
        return np.asarray(share / share.sum(), dtype=np.float32)

    def arrays(self) -> dict[str, Amounts]:
        """Return the arrays that `load` needs, by name."""
        return {f"{k}.{name}": getattr(level, name) for k, level in enumerate(self.levels) for name in FIELDS}

    def save(self, folder: Path) -> None:
        fields = {"order": len(self.levels), "vocab_size": self.vocab_size, "bos": self.bos, "smoothed": self.smoothed}
        write_counts(folder, {"model_type": self.kind, **fields}, self.arrays())

    @classmethod
    def load(cls, folder: Path) -> Ngram:
        config, arrays = read_counts(folder)
        levels = [Level(*(arrays[f"{k}.{name}"] for name in FIELDS)) for k in range(config["order"])]
        return cls(levels, config["vocab_size"], config["bos"], config["smoothed"])


def _contexts(tokens: Counts, order: int, vocab_size: int, bos: int) -> list[Counts]:
    """Return, for each length 0 .. order - 1, the codes of the contexts before all tokens of rows: [N, T]."""
    rows, positions = tokens.shape
    padded = np.concatenate([np.full((rows, order - 1), bos, dtype=np.int64), tokens], axis=1)
    codes = [np.zeros_like(tokens)]
    for length in range(1, order):
        oldest = padded[:, order - 1 - length : order - 1 - length + positions]
        codes.append(oldest * vocab_size ** (length - 1) + codes[-1])
    return codes


def _code(before: Counts, length: int, vocab_size: int) -> Counts:
    """Return the code of the last `length` tokens of each row."""
    code = np.zeros(len(before), dtype=np.int64)
    for back in range(1, length + 1):
        code += before[:, -back] * vocab_size ** (back - 1)
    return code


def write_counts(folder: Path, config: Mapping[str, Any], arrays: Mapping[str, Amounts]) -> None:
    """Write config.json and counts.safetensors, the files of a counting model, into an existing folder."""
    from safetensors.numpy import save_file

    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / "counts.safetensors")


def read_counts(folder: Path) -> tuple[dict[str, Any], dict[str, Counts]]:
    """Return the config and the arrays that `write_counts` was given."""
    from safetensors.numpy import load_file

    return json.loads((folder / "config.json").read_text(encoding="utf-8")), load_file(folder / "counts.safetensors")
