"""Editors: curators that change tokens of a corpus before it is trained on.

An editor sees one row at a time, with the tokens that the curators' judge holds likely in it, and a generator that
follows from the row's own tokens.  So it cannot know who wrote the row, nor where it stands, and equal rows are edited
equally.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lab.curators.table import needs
from lab.errors import InputError

CANDIDATES = 8
"""Tokens that an editor is shown at each place, unless it has an option `candidates`."""
MOST_CANDIDATES = 1024


@dataclass(frozen=True)
class Row:
    """A row of text as an editor sees it.  The judge reads the original tokens before each place.  All is read-only."""

    tokens: NDArray[np.int64]
    """The tokens of the row's text: [T]."""
    nats: NDArray[np.float64]
    """The judge's loss of each token: [T]."""
    candidates: NDArray[np.int64]
    """The judge's most likely tokens at each place, the likeliest first: [T, K].  K is less in a small vocabulary."""
    logs: NDArray[np.float64]
    """The logarithms of their probabilities: [T, K]."""


@needs("candidates")
def toedit(
    row: Row, *, rng: np.random.Generator, above: float = 0.99, candidates: int = CANDIDATES, beta: float = 1.5
) -> NDArray[np.int64]:
    """Draw a token anew where the judge is sure of it: P > `above`.  The draw is among so many of its likeliest tokens.

    They are drawn with weights P^(1 / beta), and may be the token itself.  All other tokens stay (ToEdit, Zhu et al.
    2025, who edit human text).  Every corpus of a pool is edited, the human ones too, because an editor is not told
    who wrote what.  Editors come before rules.

    Raises:
        InputError: an option is outside its range.
    """
    numbers = {"above": above, "beta": beta}
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InputError(f"toedit: {name} is {value}; it is a number")
    if not 0 <= above < 1 or not 0 < beta < math.inf:
        raise InputError(f"toedit: above is {above} and beta {beta}; 0 <= above < 1, and beta is above 0")
    if type(candidates) is not int or not 2 <= candidates <= MOST_CANDIDATES:
        raise InputError(
            f"toedit: candidates is {candidates}; it is a whole number from 2 to {MOST_CANDIDATES:,} of tokens"
        )
    edited, sure = row.tokens.copy(), np.flatnonzero(np.exp(-row.nats) > above)
    logs = row.logs[sure]
    upto = np.exp((logs - logs[:, :1]) / beta).cumsum(axis=1)
    drawn = (rng.random(len(sure))[:, None] * upto[:, -1:] >= upto).sum(axis=1)
    edited[sure] = row.candidates[sure, drawn]
    return edited
