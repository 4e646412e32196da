"""Diversity: how much of a text repeats itself?  Counted in n-grams, in n-grams that texts share, and in bytes."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.metrics.texts import head

Rows = NDArray[np.integer[Any]] | Sequence[Sequence[int]]
"""Token ids [N, T], or ragged: one sequence per row."""
Integers = NDArray[np.integer[Any]]


def distinct_n(rows: Rows, *, n: int, eos: int | None, tokens: int) -> float:
    """Return distinct n-grams / n-grams in the first `tokens` tokens of rows, in order.

    "a b a b" has the bigrams ab, ba, ab: distinct-2 = 2/3.  Li et al. (2016), who named the measure, divide by
    tokens (2/4); here, as is now common, by n-grams.
    No n-gram crosses a row end or a document end, and EOS is part of none (eos=None: no token ends a document).
    The ratio falls with the length of the text: compare texts at one budget only.

    Unit: share, 0 to 1.  Higher = more diverse; neither is better in itself: compare with human text.
    NaN for a budget that holds no n-gram.  ValueError for fewer tokens than the budget.
    """
    if n < 1:
        raise ValueError(f"n is {n}; an n-gram has at least 1 token")
    flat, _, segment = documents(*first_tokens(rows, tokens), eos=eos)
    grams = ngram_codes(flat, segment, n=n)
    if not len(grams):
        return math.nan
    grams.sort()
    return (1 + int(np.count_nonzero(grams[1:] != grams[:-1]))) / len(grams)


def within_and_between(
    sample: Integers, *, models: int, prompt: int, budget: int, eos: int, end: int | None
) -> dict[str, float]:
    """Return the distinct-2 within and between the models of a generation, at equal tokens: an M-th of the budget.

    distinct_2_within: of one model's own text, the mean over models.  distinct_2_between: of a text to which each
    model gives an equal part.  Row i was written by model i modulo their number.  `end` ends the text of a row, see
    lab/metrics/texts.py; `eos` ends a document inside it.

    Unit: share, 0 to 1.  NaN where a model has written too little.
    """
    own = [head(sample[m::models], prompt, budget // models, end) for m in range(models)]
    together = head(sample, prompt, budget // models, end)
    distinct = [
        math.nan if text is None else distinct_n(text, n=2, eos=eos, tokens=text.size) for text in (*own, together)
    ]
    return {"distinct_2_within": float(np.mean(distinct[:-1])), "distinct_2_between": distinct[-1]}


def self_bleu(rows: Rows, *, texts: int, eos: int | None) -> float:
    """Return self-BLEU-4: the mean over the first `texts` rows of the BLEU of one row against all the others.

        BLEU = min(1, exp(1 - closest length / length)) x (p_1 p_2 p_3 p_4)^(1/4)
        p_n  = sum over n-grams of min(its count in the row, its highest count in one other row) / n-grams of the row

    "a b c d e" against "a b c d" alone: p = 4/5, 3/4, 2/3, 1/2.  This is sentence BLEU as sacrebleu has it with its
    default smoothing "exp" and no effective order: the k-th p_n of a row that is 0 becomes 1 / (2^k x n-grams); a row
    that shares no token with another, or has no 4-gram, scores 0.  Of two closest lengths the shorter one counts.
    No n-gram crosses a document end, and EOS is part of none and of no length (eos=None: no token ends a document).
    It rises with the number of texts and with their length: compare equally many rows of one length only.  A few
    hundred are enough.  The cost grows with the tokens, not with their square, because only the two highest counts of
    an n-gram matter.

    Unit: share, 0 to 1 (sacrebleu's scale is 100 times that).  Higher = texts more alike = less diverse; neither is
    better in itself: compare with human text.  NaN for fewer than 2 texts.  ValueError for fewer rows than `texts`.
    Sources: Zhu et al. 2018 (Texygen), Papineni et al. 2002, Chen & Cherry 2014 (smoothing 3), Post 2018 (sacrebleu).
    """
    if texts < 0 or len(rows) < texts:
        raise ValueError(f"self-BLEU over {texts:,} texts, but there are {len(rows):,} rows; lower it or give more")
    if texts < 2:
        return math.nan
    flat, row, segment = documents(*_flatten(rows[:texts]), eos=eos)
    total, matched = np.zeros((4, texts)), np.zeros((4, texts))
    for n in range(1, 5):
        inside = _inside(segment, n)
        owner = row[: len(inside)][inside]
        total[n - 1] = np.bincount(owner, minlength=texts)
        matched[n - 1] = _matches(ngram_codes(flat, segment, n=n), owner, texts)
    halvings = np.cumsum(matched == 0, axis=0)
    precision = np.where(matched > 0, matched, 0.5**halvings) / np.maximum(total, 1)
    length = np.bincount(row, minlength=texts)
    brevity = np.exp(np.minimum(0, 1 - _closest(length) / np.maximum(length, 1)))
    scored = (total[3] > 0) & matched.any(axis=0)
    return float(np.mean(np.where(scored, brevity * np.exp(np.log(precision).mean(axis=0)), 0)))


def compression_ratio(text: bytes) -> float:
    """Return bytes of a text / bytes of the same text compressed by zlib at level 9 (DEFLATE, 32 KiB window).

    Repetition of any length within a window counts, which n-grams do not see.  The ratio depends on the order of the
    documents.  256 different bytes are stored as they are after 11 bytes of frame: 256 / 267.
    A thousand "a" take 17 bytes: 58.8.
    Short texts pay for the frame and an empty window: compare texts of one budget only.
    zlib's successors (zlib-ng) compress a little differently: compare numbers of one machine image only.

    Unit: a ratio, from just below 1 to 1032.  Higher = more repetitive = less diverse; neither is better in itself:
    compare with human text.  NaN for no bytes.
    Source: Shaib et al. 2024 (2403.00553), who use gzip: the same compression after 12 more bytes.
    """
    return len(text) / len(zlib.compress(text, 9)) if text else math.nan


def ngram_codes(flat: Integers, segment: Integers, *, n: int) -> NDArray[np.int64]:
    """Return one number per n-gram that lies within one segment: equal numbers for equal n-grams, and only for those.

    flat: [M] token ids >= 0.  segment: [M], the same number throughout a document, documents one after another.
    ngram_codes([5, 6, 5, 6], [0, 0, 0, 0], n=2) has length 3, and its first and last entries are equal.
    """
    count = len(flat) - n + 1
    if count <= 0:
        return np.empty(0, dtype=np.int64)
    base = int(flat.max()) + 1
    whole = _inside(segment, n)
    codes: NDArray[np.int64] = flat[:count][whole].astype(np.int64)
    size = base
    for k in range(1, n):
        if size * base >= 2**63:  # the next digit would overflow: replace codes by their ranks, which is exact too
            distinct, codes = np.unique(codes, return_inverse=True)
            size = len(distinct)
        codes *= base
        codes += flat[k : k + count][whole]
        size *= base
    return codes


def first_tokens(rows: Rows, tokens: int) -> tuple[Integers, NDArray[np.int64]]:
    """Return the first `tokens` tokens of rows, in order, and the row of each.  ValueError where there are fewer."""
    flat, row = _flatten(rows)
    if tokens < 0 or len(flat) < tokens:
        raise ValueError(f"a budget of {tokens:,} tokens, but the rows hold {len(flat):,}; lower it or give more rows")
    return flat[:tokens], row[:tokens]


def documents(
    flat: Integers, row: NDArray[np.int64], *, eos: int | None
) -> tuple[Integers, NDArray[np.int64], NDArray[np.int64]]:
    """Return the tokens that are not EOS, the row of each, and the segment of each: one number per document."""
    if eos is None:
        return flat, row, row
    ends = flat == eos
    # Both terms only grow, so the sum stays the same exactly inside one document of one row.
    return flat[~ends], row[~ends], (row + np.cumsum(ends))[~ends]


def _flatten(rows: Rows) -> tuple[Integers, NDArray[np.int64]]:
    """Return the tokens of all rows in order, and the row of each."""
    if isinstance(rows, np.ndarray):
        return rows.ravel(), np.repeat(np.arange(len(rows)), rows.shape[1])
    lengths = [len(row) for row in rows]
    flat = np.concatenate([np.asarray(row, dtype=np.int64) for row in rows]) if rows else np.empty(0, dtype=np.int64)
    return flat, np.repeat(np.arange(len(lengths)), lengths)


def _inside(segment: Integers, n: int) -> NDArray[np.bool_]:
    """Return whether an n-gram lies within one segment, for each position where one can begin."""
    inside: NDArray[np.bool_] = segment[n - 1 :] == segment[: max(len(segment) - n + 1, 0)]
    return inside


def _matches(codes: NDArray[np.int64], owner: NDArray[np.int64], texts: int) -> NDArray[np.int64]:
    """Return how many n-grams of each text the others match, at most as many as one of the others has.  [texts]"""
    if not len(codes):
        return np.zeros(texts, dtype=np.int64)
    _, gram = np.unique(codes, return_inverse=True)
    pair, count = np.unique(gram * texts + owner, return_counts=True)
    order = np.lexsort((count, pair // texts))
    gram, text, count = pair[order] // texts, pair[order] % texts, count[order]
    # Counts of one n-gram now rise: all but the last are matched in full, and the last as far as the one before it.
    change = gram[1:] != gram[:-1]
    first, last = np.append(True, change), np.append(change, True)
    before = np.where(first, 0, np.append(0, count[:-1]))
    return np.bincount(text, weights=np.where(last, before, count), minlength=texts).astype(np.int64)


def _closest(length: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return for each of at least 2 lengths the closest other one, in a tie the shorter."""
    order = np.argsort(length)
    rising = length[order]
    below, above = np.append(-np.inf, rising[:-1]), np.append(rising[1:], np.inf)
    closest = np.empty(len(length))
    closest[order] = np.where(rising - below <= above - rising, below, above)
    return closest
