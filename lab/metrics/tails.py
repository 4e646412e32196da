"""The tails: does the model still know, and still write, what is rare in human text?

Losses are binned by how often a token or a word occurs in the chain's *human training rows*.  A small BPE vocabulary
has no rare tokens, but every text has rare words, and a word's loss does not depend on the tokenizer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress, repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.metrics.words import TOKENS_AT_ONCE, Words, word_nats

RARE = range(1, 4)
"""Training counts of a rare word: 1, 2, 3."""
MOST_DOMAINS = 20
"""Most domains whose loss is listed."""
OTHERS = "(others)"


@dataclass(frozen=True)
class TokenBin:
    """Held-out tokens whose token type has a training count in one bin."""

    label: str
    """The training counts: "0", "1", "2-3", "4-7", ..."""
    tokens: int
    types: int
    nats_per_token: float


@dataclass(frozen=True)
class WordBin:
    """Held-out words whose word type has a training count in one bin, and the tokens that spell them."""

    label: str
    tokens: int
    words: int
    types: int
    nats_per_token: float
    nats_per_word: float


@dataclass(frozen=True)
class DomainBin:
    """Held-out tokens of one domain."""

    label: str
    """The domain; OTHERS for all that have too little text to be listed."""
    tokens: int
    nats_per_token: float


def frequency_bins(counts: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """Return the bin of each count: 0 -> 0, 1 -> 1, 2-3 -> 2, 4-7 -> 3, 8-15 -> 4: its length in binary."""
    bins: NDArray[np.int64] = np.frexp(counts)[1].astype(np.int64)
    return bins


def bin_label(index: int) -> str:
    """Return the label of a bin: the counts in it.  [bin_label(b) for b in range(4)] -> ["0", "1", "2-3", "4-7"]"""
    return str(index) if index < 2 else f"{2 ** (index - 1)}-{2**index - 1}"


def loss_by_token_bin(
    test_rows: NDArray[np.integer[Any]],
    nats: NDArray[np.floating[Any]],
    train_rows: NDArray[np.integer[Any]] | Iterable[NDArray[np.integer[Any]]],
    vocab_size: int,
) -> list[TokenBin]:
    """Return the mean loss of held-out tokens by the count of their type in the human training rows, EOS included.

    The training rows may come in blocks.
    Unit: nats per token.  Lower = better.  Bins with no held-out token are left out, so no text gives [].
    """
    if test_rows.shape != nats.shape:
        raise ValueError(f"rows {test_rows.shape} and nats {nats.shape} must have one shape: a loss for each token")
    type_bins = frequency_bins(_type_counts(train_rows, vocab_size))
    flat = test_rows.ravel()
    bins = type_bins[flat]
    tokens, total = np.bincount(bins), np.bincount(bins, weights=nats.ravel())
    types = np.bincount(type_bins[np.bincount(flat, minlength=vocab_size) > 0])
    return [TokenBin(bin_label(b), int(tokens[b]), int(types[b]), float(total[b] / tokens[b])) for b in _filled(tokens)]


def loss_by_word_bin(
    test_words: Words, nats: NDArray[np.floating[Any]], train_counts: Mapping[str, int]
) -> list[WordBin]:
    """Return the mean loss of held-out words by the count of their type in the human training rows.

    Units: nats per word (the sum over its tokens; tokenizer-independent) and nats per token inside words.
    Lower = better.  Bins with no held-out word are left out, so no text gives [].
    """
    type_bins = frequency_bins(_training_counts(test_words, train_counts))
    bins = type_bins[test_words.word]
    words, total = np.bincount(bins), np.bincount(bins, weights=word_nats(test_words, nats))
    tokens = np.bincount(bins, weights=test_words.lengths)
    types = np.bincount(type_bins)
    return [
        WordBin(
            bin_label(b),
            int(tokens[b]),
            int(words[b]),
            int(types[b]),
            float(total[b] / tokens[b]),
            float(total[b] / words[b]),
        )
        for b in _filled(words)
    ]


def loss_by_domain(
    domain: NDArray[np.integer[Any]], nats: NDArray[np.floating[Any]], names: Sequence[str]
) -> list[DomainBin]:
    """Return the mean loss of held-out tokens by the domain of their document, in the order of the names.

    `domain` has the index in `names` of each token.  Beyond MOST_DOMAINS, the domains with the least text come together
    as OTHERS.  Unit: nats per token.  Lower = better.  Domains with no held-out token are left out.
    """
    tokens = np.bincount(domain, minlength=len(names))
    total = np.bincount(domain, weights=nats, minlength=len(names))
    listed = np.argsort(-tokens, kind="stable")[:MOST_DOMAINS]
    rest = np.setdiff1d(np.arange(len(names)), listed)
    groups = [(names[d], [d]) for d in sorted(listed, key=lambda d: names[d])] + [(OTHERS, list(rest))]
    return [
        DomainBin(name, int(tokens[part].sum()), float(total[part].sum() / tokens[part].sum()))
        for name, part in groups
        if tokens[part].sum()
    ]


def rare_losses(
    test_words: Words, nats: NDArray[np.floating[Any]], train_counts: Mapping[str, int]
) -> dict[str, float]:
    """Return the mean loss inside rare, common and unseen held-out words.

    nll_rare: words of training count 1-3.  nll_unseen: of count 0.  nll_common: the words most frequent in training
    (ties by the word itself), as many types as it takes to make up half of the held-out words.
    Unit: nats per token.  Lower = better: a model that forgets the tail has a *higher* nll_rare.
    NaN where no held-out word is of the kind.
    """
    counts = _training_counts(test_words, train_counts)
    total = np.bincount(test_words.word, weights=word_nats(test_words, nats), minlength=len(counts))
    tokens = np.bincount(test_words.word, weights=test_words.lengths, minlength=len(counts))
    kinds = {
        "nll_rare": (counts >= RARE.start) & (counts < RARE.stop),
        "nll_common": _common(test_words, counts),
        "nll_unseen": counts == 0,
    }
    return {
        name: float(total[kind].sum() / tokens[kind].sum()) if kind.any() else math.nan for name, kind in kinds.items()
    }


def rare_survival(human_words: Words, other_words: Words) -> float:
    """Return the share of the human word types of count 1-3 that another text of as many tokens holds.

    Unit: share, 0 to 1.  Higher = better.  Sampling alone loses rare words: a resample of n words keeps a word of count
    1 with probability 1 - 1/e.  So compare with this function of human text and an equal-size human resample, not with
    1.
    NaN where the human text has no word of count 1-3.  ValueError for unequal token budgets.
    """
    if human_words.tokens != other_words.tokens:
        raise ValueError(
            f"{human_words.tokens:,} human tokens against {other_words.tokens:,}: survival grows with the size of a "
            f"text; cut both to {min(human_words.tokens, other_words.tokens):,} tokens"
        )
    counts = np.bincount(human_words.word, minlength=len(human_words.types))
    rare = set(compress(human_words.types, ((counts >= RARE.start) & (counts < RARE.stop)).tolist()))
    return len(rare.intersection(other_words.types)) / len(rare) if rare else math.nan


def _type_counts(
    rows: NDArray[np.integer[Any]] | Iterable[NDArray[np.integer[Any]]], vocab_size: int
) -> NDArray[np.int64]:
    """Count how often each token type occurs, some tokens at a time: bincount makes a copy of 8 bytes per token."""
    counts = np.zeros(vocab_size, dtype=np.int64)
    for block in [rows] if isinstance(rows, np.ndarray) else rows:
        flat = block.reshape(-1)
        for start in range(0, len(flat), TOKENS_AT_ONCE):
            counts += np.bincount(flat[start : start + TOKENS_AT_ONCE], minlength=vocab_size)
    return counts


def _training_counts(words: Words, train_counts: Mapping[str, int]) -> NDArray[np.int64]:
    """Return the training count of each type of word."""
    return np.fromiter(map(train_counts.get, words.types, repeat(0)), np.int64, len(words.types))


def _common(words: Words, counts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which types, by falling training count, are needed to make up half of the words."""
    order = np.argsort(-counts, kind="stable")  # types are sorted, so a stable sort breaks ties by the word
    covered = np.cumsum(np.bincount(words.word, minlength=len(counts))[order])
    needed = int(np.searchsorted(covered, len(words.word) / 2)) + 1
    common = np.zeros(len(counts), dtype=np.bool_)
    common[order[:needed]] = True
    return common


def _filled(counts: NDArray[np.int64]) -> list[int]:
    return [int(b) for b in np.flatnonzero(counts)]
