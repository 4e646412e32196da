"""Counting language models: n-grams of order 1 to 5, a unigram for each position, and the uniform model.  numpy only.

They are fitted exactly and at once, so theory can say what a chain of them must do, and they need no GPU and no
patience.  A context never crosses a row: before its first token stands BOS, as often as the order needs.

    order 3, row a b c:   P(a | <bos> <bos>)  P(b | <bos> a)  P(c | a b)

Shapes: N or B = rows, T = positions, V = vocabulary.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.integer[Any]]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Level:
    """Counts of the tokens that follow each context of one length.  C = contexts, E = (context, token) pairs."""

    contexts: Counts
    """[C] sorted; a context is its tokens' digits in base V."""
    starts: Counts
    """[C + 1] where a context's pairs begin."""
    tokens: Counts
    """[E] the tokens that follow, sorted within a context."""
    counts: Counts
    """[E] how often."""

    @classmethod
    def of(cls, contexts: Counts, tokens: Counts, vocab_size: int) -> Level:
        """From one context and one following token for each place in the text."""
        distinct, rank = np.unique(contexts, return_inverse=True)
        pairs, counts = np.unique(rank.reshape(-1) * vocab_size + tokens, return_counts=True)
        starts = np.searchsorted(pairs, np.arange(len(distinct) + 1) * vocab_size)
        return cls(distinct, starts, pairs % vocab_size, counts)

    @cached_property
    def totals(self) -> Counts:
        """[C] how often each context occurs."""
        return np.diff(np.concatenate([[0], np.cumsum(self.counts)])[self.starts])

    @cached_property
    def types(self) -> Counts:
        """[C] how many different tokens follow it."""
        return np.diff(self.starts)

    def find(self, contexts: Counts) -> tuple[Counts, NDArray[np.bool_]]:
        """The rank of each context, and whether it is there at all."""
        rank = np.minimum(np.searchsorted(self.contexts, contexts), len(self.contexts) - 1)
        return rank, self.contexts[rank] == contexts

    def count(self, rank: Counts, tokens: Counts, vocab_size: int) -> Counts:
        """How often each token follows the context of its rank."""
        pairs = np.repeat(np.arange(len(self.contexts)), self.types) * vocab_size + self.tokens
        wanted = rank * vocab_size + tokens
        place = np.minimum(np.searchsorted(pairs, wanted), len(pairs) - 1)
        return np.where(pairs[place] == wanted, self.counts[place], 0)


@dataclass(frozen=True)
class Ngram:
    """P(token | the order - 1 tokens before it).

    Maximum likelihood: counts / total, from the longest context that was seen.  Smoothed: interpolated Witten-Bell
    (Bell, Cleary & Witten 1990), P = (count + types x P_shorter) / (total + types), down to the uniform model, so that
    no token costs infinite loss.
    """

    levels: Sequence[Level]
    """Contexts of 0, 1, .. order - 1 tokens."""
    vocab_size: int
    bos: int
    smoothed: bool

    kind = "lab-ngram"

    @classmethod
    def fit(cls, rows: Ints, *, order: int, vocab_size: int, bos: int, smoothed: bool) -> Ngram:
        """From all rows [N, T], each counted once."""
        if vocab_size ** max(order - 1, 1) >= 2**63:
            raise ValueError(
                f"order {order} with a vocabulary of {vocab_size:,} has too many contexts; lower the order"
            )
        tokens = rows.astype(np.int64)
        contexts = _contexts(tokens, order, vocab_size, bos)
        levels = [Level.of(codes.ravel(), tokens.ravel(), vocab_size) for codes in contexts]
        return cls(levels, vocab_size, bos, smoothed)

    def nats(self, rows: Ints) -> NDArray[np.float32]:
        """Loss of every token of rows [N, T] behind BOS, in nats; infinite where an unsmoothed model never saw it."""
        tokens = rows.astype(np.int64)
        share = np.full(tokens.size, 1.0 / self.vocab_size)
        for level, codes in zip(
            self.levels, _contexts(tokens, len(self.levels), self.vocab_size, self.bos), strict=True
        ):
            rank, seen = level.find(codes.ravel())
            count, total, types = (
                level.count(rank, tokens.ravel(), self.vocab_size),
                level.totals[rank],
                level.types[rank],
            )
            longer = (count + types * share) / (total + types) if self.smoothed else count / total
            share = np.where(seen, longer, share)
        with np.errstate(divide="ignore"):
            return np.asarray(-np.log(share).reshape(rows.shape), dtype=np.float32)

    def weights(self, before: Ints) -> NDArray[np.float32]:
        """P of every next token behind the tokens of each row so far, BOS among them: [B, V]."""
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
        """[V] what a row gets before any context is looked at."""
        level = self.levels[0]
        types = len(level.tokens) if self.smoothed else 0
        share = np.full(self.vocab_size, types / self.vocab_size)
        share[level.tokens] += level.counts
        return np.asarray(share / share.sum(), dtype=np.float32)

    def arrays(self) -> dict[str, Counts]:
        """What `load` needs, by name."""
        names = ("contexts", "starts", "tokens", "counts")
        return {f"{k}.{name}": getattr(level, name) for k, level in enumerate(self.levels) for name in names}

    def save(self, folder: Path) -> None:
        fields = {"order": len(self.levels), "vocab_size": self.vocab_size, "bos": self.bos, "smoothed": self.smoothed}
        _save(folder, {"model_type": self.kind, **fields}, self.arrays())

    @classmethod
    def load(cls, folder: Path) -> Ngram:
        config, arrays = _load(folder)
        names = ("contexts", "starts", "tokens", "counts")
        levels = [Level(*(arrays[f"{k}.{name}"] for name in names)) for k in range(config["order"])]
        return cls(levels, config["vocab_size"], config["bos"], config["smoothed"])


@dataclass(frozen=True)
class Positions:
    """A categorical of its own for each position: T independent loci, by maximum likelihood.  counts: [T, V]."""

    counts: Counts

    kind = "lab-positions"

    @property
    def vocab_size(self) -> int:
        return int(self.counts.shape[1])

    @classmethod
    def fit(cls, rows: Ints, *, vocab_size: int) -> Positions:
        places = np.arange(rows.shape[1]) * vocab_size + rows.astype(np.int64)
        counts = np.bincount(places.ravel(), minlength=rows.shape[1] * vocab_size)
        return cls(counts.reshape(rows.shape[1], vocab_size))

    def nats(self, rows: Ints) -> NDArray[np.float32]:
        """Loss of every token in nats; infinite where its position has not seen it."""
        count = self.counts[np.arange(rows.shape[1]), rows.astype(np.int64)]
        with np.errstate(divide="ignore"):
            return np.asarray(-np.log(count / self.counts.sum(axis=1)), dtype=np.float32)

    def weights(self, before: Ints) -> NDArray[np.float32]:
        """P of every token at the next position of each row: [B, V].  `before` holds BOS and the tokens so far."""
        position = before.shape[1] - 1
        share = self.counts[position] / self.counts[position].sum()
        return np.broadcast_to(share.astype(np.float32), (len(before), self.vocab_size))

    def save(self, folder: Path) -> None:
        _save(folder, {"model_type": self.kind}, {"counts": self.counts})

    @classmethod
    def load(cls, folder: Path) -> Positions:
        return cls(_load(folder)[1]["counts"])


@dataclass(frozen=True)
class Uniform:
    """Every token is equally likely, whatever stands before it: perplexity is exactly V."""

    vocab_size: int

    kind = "lab-uniform"

    def nats(self, rows: Ints) -> NDArray[np.float32]:
        return np.full(rows.shape, math.log(self.vocab_size), dtype=np.float32)

    def weights(self, before: Ints) -> NDArray[np.float32]:
        return np.full((len(before), self.vocab_size), 1.0 / self.vocab_size, dtype=np.float32)

    def save(self, folder: Path) -> None:
        _save(folder, {"model_type": self.kind, "vocab_size": self.vocab_size}, {})

    @classmethod
    def load(cls, folder: Path) -> Uniform:
        return cls(_load(folder)[0]["vocab_size"])


CountingModel = Ngram | Positions | Uniform
KINDS: dict[str, type[Ngram] | type[Positions] | type[Uniform]] = {
    kind.kind: kind for kind in (Ngram, Positions, Uniform)
}


def fit(model: Mapping[str, Any], rows: Ints, *, vocab_size: int, bos: int, eos: int) -> CountingModel:
    """The model that a study's `model` fields describe, fitted to all rows."""
    match model["kind"]:
        case "ngram":
            smoothed = model["smoothing"] == "interpolated"
            return Ngram.fit(rows, order=model["order"], vocab_size=vocab_size, bos=bos, smoothed=smoothed)
        case "positions":
            return Positions.fit(rows, vocab_size=vocab_size)
    return Uniform(vocab_size)


def _contexts(tokens: Counts, order: int, vocab_size: int, bos: int) -> list[Counts]:
    """For each length 0 .. order - 1 the code of the context before every token of rows: [N, T]."""
    rows, positions = tokens.shape
    padded = np.concatenate([np.full((rows, order - 1), bos, dtype=np.int64), tokens], axis=1)
    codes = [np.zeros_like(tokens)]
    for length in range(1, order):
        oldest = padded[:, order - 1 - length : order - 1 - length + positions]
        codes.append(oldest * vocab_size ** (length - 1) + codes[-1])
    return codes


def _code(before: Counts, length: int, vocab_size: int) -> Counts:
    """The code of the last `length` tokens of each row."""
    code = np.zeros(len(before), dtype=np.int64)
    for place in range(1, length + 1):
        code += before[:, -place] * vocab_size ** (place - 1)
    return code


def _save(folder: Path, config: dict[str, Any], arrays: dict[str, Counts]) -> None:
    from safetensors.numpy import save_file

    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / "counts.safetensors")


def _load(folder: Path) -> tuple[dict[str, Any], dict[str, Counts]]:
    from safetensors.numpy import load_file

    return json.loads((folder / "config.json").read_text(encoding="utf-8")), load_file(folder / "counts.safetensors")
