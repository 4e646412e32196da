"""Variety: how is a text spread over its types?  Functions of how often each type occurs, whatever their order."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lab.metrics.diversity import Integers, Rows, documents, first_tokens


def token_entropy(rows: Rows, *, eos: int | None, tokens: int) -> float:
    """Return the entropy of the unigrams in the first `tokens` tokens of rows: -sum p ln p with p = count / tokens.

    "a a b b" has ln 2; exp(entropy) = 2 is the number of equally frequent types as varied.  EOS is not counted
    (eos=None: no token ends a document).  This plug-in estimate is too low, by about (types - 1) / (2 tokens) (Miller
    1955), so it rises with the length of the text: compare texts at one budget only.  Depends on the tokenizer.

    Unit: nats, 0 to ln(types).  Higher = more varied; neither is better in itself: compare with human text.
    NaN for a budget that holds no token but EOS.  ValueError for fewer tokens than the budget.  Source: Shannon 1948.
    """
    flat, _, _ = documents(*first_tokens(rows, tokens), eos=eos)
    if not len(flat):
        return math.nan
    _, counts = np.unique(flat, return_counts=True)
    return float(counts / len(flat) @ np.log(len(flat) / counts))


def zipf_exponent(counts: Sequence[int] | Integers) -> float:
    """Return the maximum likelihood exponent s of Zipf's law for ranks, over the V types that occur at all:

        p(r) = r^-s / sum over k = 1..V of k^-s,   rank r = 1 for the commonest type

    counts: how often each type occurs, in any order; zeros are types that do not occur.  Counts 6, 3, 2 have s = 1.
    At the maximum, the model's mean of ln r equals the text's.  This is the rank-frequency form that is usual for text;
    the distribution of the counts themselves is another power law, with the exponent 1 + 1 / s.  Not least squares on
    a log-log plot, which lets the rarest types decide.  Word counts are meant: BPE tokens have no Zipf tail.
    Ranks are those in the sample, and V the types in it, so s depends on the length of the text: compare texts at one
    budget only.

    Unit: none; about 1 for human words.  Higher = a steeper law: the common types have more of the text and the tail
    less; neither is better in itself: compare with human text.  NaN for fewer than 2 types; 0 for equal counts.
    ValueError for negative counts.  Sources: Zipf 1949; maximum likelihood: Goldstein et al. 2004, Clauset et al. 2009.
    """
    from scipy.optimize import brentq  # takes a quarter of a second to import

    falling = np.sort(np.asarray(counts, dtype=np.int64))[::-1]
    if len(falling) and falling[-1] < 0:
        raise ValueError(f"a count is {falling[-1]}; a type occurs 0 times or more")
    falling = falling[falling > 0]
    if len(falling) < 2:
        return math.nan
    log_rank = np.log(np.arange(1, len(falling) + 1))
    target = float(falling @ log_rank) / float(falling.sum())

    def surplus(s: float) -> float:
        """Return the model's mean log rank minus the text's.  It falls with s, from 0 or more at s = 0 to below 0."""
        weights = np.exp(-s * log_rank)
        return float(weights @ log_rank / weights.sum()) - target

    if surplus(0) <= 0:
        return 0.0
    high = 1.0
    while surplus(high) > 0:
        high *= 2
    return float(brentq(surplus, 0, high, xtol=1e-12, rtol=1e-12))
