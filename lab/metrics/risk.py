"""Held-out risk: how surprised is the model by human text?

Every token is scored exactly once, each row after one BOS.  Rows do not overlap:

    row a b c d   given <bos> a b c   score a b c d
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def mean_nats(nats: NDArray[np.floating[Any]]) -> float:
    """Return the mean loss over all tokens, EOS included.

    Unit: nats per token.  Lower = better.  Depends on the tokenizer.  NaN for no tokens.
    Summed in float64.
    """
    return float(np.mean(nats, dtype=np.float64)) if nats.size else math.nan


def perplexity(nats: NDArray[np.floating[Any]]) -> float:
    """Return exp(mean loss per token): the number of equally likely tokens that would be as surprising.

    Lower = better; a uniform model over V tokens has exactly V.  Comparable at one tokenizer only.
    NaN for no tokens; infinite where a token had probability 0.  Source: Jelinek et al. 1977.
    """
    with np.errstate(over="ignore"):
        return float(np.exp(mean_nats(nats)))


def bits_per_byte(
    rows: NDArray[np.integer[Any]], nats: NDArray[np.floating[Any]], token_bytes: Sequence[bytes]
) -> float:
    """Return total nats / (ln 2 x UTF-8 bytes of the tokens themselves).

    Unit: bits per byte of text.  Lower = better.  Comparable across tokenizers.
    EOS adds its nats and no bytes.  NaN for no bytes.  Source: Gao et al. 2020 (the Pile).
    """
    if rows.shape != nats.shape:
        raise ValueError(f"rows {rows.shape} and nats {nats.shape} must have one shape: a loss for each token")
    lengths = np.array([len(text) for text in token_bytes], dtype=np.int64)
    counts = np.bincount(rows.ravel(), minlength=len(lengths))
    if len(counts) > len(lengths):
        raise ValueError(f"token {len(counts) - 1} is not in the vocabulary of {len(lengths):,} entries")
    size = int(counts @ lengths)
    return float(np.sum(nats, dtype=np.float64)) / (math.log(2) * size) if size else math.nan


def disagreement(members: Sequence[NDArray[np.floating[Any]]]) -> float:
    """Return the mean loss of the models minus the loss of the average of their probabilities, over held-out tokens.

    0 for one model or equal ones.  Two models give a token 1/2 and 1/8: mean loss ln 4, loss of the
    average 5/16 is ln 3.2, disagreement ln 1.25.
    Unit: nats per token.  Higher = the models differ more.  NaN where no model gives a token any chance.
    Source: Jensen's inequality, as in ensembles (Krogh & Vedelsby 1995).
    """
    if len(members) == 1:
        return 0.0
    nats = np.stack(members).astype(np.float64)
    average = math.log(len(members)) - np.logaddexp.reduce(-nats, axis=0)
    with np.errstate(invalid="ignore"):
        return float((nats.mean(axis=0) - average).mean())
