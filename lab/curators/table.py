"""The rows on offer, as a curator sees them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lab.errors import InputError


@dataclass(frozen=True)
class CopyOf:
    """A reason to drop a row that names another: the row of the table that it is a copy of."""

    row: int
    reason: str


@dataclass(frozen=True)
class Dropped:
    """What a rule may return in the place of a list of reasons: the reasons, and what it found on the way."""

    reasons: Sequence[str | CopyOf | None]
    """Why each row is dropped; None keeps it."""
    facts: Mapping[str, float | str] = field(default_factory=dict)
    """What was fitted or measured, by name, such as a threshold.  It is written into curation.json."""
    scores: NDArray[np.float64] | None = None
    """The score [N] by which rows were dropped.  It is written beside the decisions."""


@dataclass(frozen=True)
class Drawn:
    """What a resampler returns: rows of the table, in any order, each as often as it is to be trained on."""

    rows: NDArray[np.int64]
    """Row numbers of the table, repeats allowed: int64 [K].  A row that is not among them is dropped."""
    facts: Mapping[str, float | str] = field(default_factory=dict)
    scores: NDArray[np.float64] | None = None
    """The score [N] by which rows were drawn."""


@dataclass(frozen=True)
class Weighted:
    """What a curator returns that drops nothing: how much each row counts in the loss of training."""

    weights: NDArray[np.float64]
    """The weight of each row, at least 0 and not all 0: [N].  The step scales them to a mean of 1."""
    facts: Mapping[str, float] = field(default_factory=dict)
    scores: NDArray[np.float64] | None = None
    """The score [N] by which rows were weighed."""


SCORES = ("nats", "entropy", "variance", "cross")
"""Names of a model's scores of a row: lab/models/moments.py."""
NEEDS = ("trusted", "decoy", "judge", "observer", "candidates")
"""What a curator may ask for: see `needs`."""
LEAST = 8
"""Fewest rows of its own, trusted ones or decoys, to which a curator fits anything."""
F = TypeVar("F", bound=Callable[..., object])


def needs(*what: str, by: Mapping[str, tuple[str, ...]] | None = None) -> Callable[[F], F]:
    """Say what a curator reads beside the rows: any of NEEDS.  The step `curate` makes it, and the table holds it.

    trusted: human rows of the curator's own, which no generation is trained on or measured by (`table.trusted`).
    decoy: rows that the curator has the newest published model write (`table.decoy`), without a pool's labels.
    judge: scores of all rows under a model fitted to other human rows of the curator's own (`table.scores`).  Where the
    curator is given an option `register`, the model is fitted to rows of that domain, and the score is `nats_of` it.
    observer: `judge`, and a second model fitted to half of those rows, for scores of two models.
    candidates: the judge's likely tokens at each place of a row.  Whoever needs them is an editor, sees no table but a
    Row (lab/curators/edits.py), and returns its tokens anew.

    Args:
        what: needed whatever the options are.
        by: value of the option `by` -> what it needs beside, so that no model is trained that no value asks for.
    """
    more = dict(by or {})
    assert {*what, *(need for each in more.values() for need in each)} <= set(NEEDS), (what, by)

    def mark(function: F) -> F:
        vars(function)["needs"] = lambda options: (*what, *more.get(str(options.get("by")), ()))
        return function

    return mark


def nats_of(register: str) -> str:
    """Return the name of the score of a judge that was fitted to one register; of the judge of all where it is ""."""
    return f"nats {register}" if register else "nats"


@dataclass(frozen=True)
class Table:
    """Rows in a random order, without anything that says who wrote them: no origin, domain, row number or loss."""

    tokens: np.ndarray
    """Token ids [N, T].  The array is read-only."""
    lengths: np.ndarray
    """Tokens of text in each row: int64 [N]."""
    spell: Callable[[np.ndarray], list[str]]
    """Returns the text of rows [K, T]."""
    scores: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    """Of a curator that needs the judge: name -> a sum over the tokens of each row, [N] (lab/models/moments.py):
    nats, the row's loss; entropy and variance of the judge's law; with an observer cross, its cross-entropy."""
    trusted: Table | None = None
    """Human rows of the curator's own, with the same scores, for one that needs them."""
    decoy: Table | None = None
    """Machine rows that the curator had written, with the same scores, for one that needs them."""

    def __len__(self) -> int:
        return len(self.tokens)

    def text(self, row: int) -> str:
        """Return the text of one row."""
        return self.spell(self.tokens[row : row + 1])[0]

    def take(self, rows: np.ndarray) -> Table:
        """Return a table of these rows, in this order."""
        tokens, lengths = self.tokens[rows], self.lengths[rows]
        scores = {name: values[rows] for name, values in self.scores.items()}
        for array in (tokens, lengths, *scores.values()):
            array.flags.writeable = False
        return replace(self, tokens=tokens, lengths=lengths, scores=scores)

    def mean(self, score: str) -> NDArray[np.float64]:
        """Return a score per token of each row: float64 [N]; 0 for a row without text."""
        return np.asarray(self.scores[score] / np.maximum(self.lengths, 1))

    @property
    def own(self) -> Table:
        """Return the human rows of the curator's own.  InputError where the curator did not say that it needs them."""
        if self.trusted is None:
            raise InputError('it reads table.own, the trusted rows: put @needs("trusted") above the function')
        return self.trusted

    @property
    def written(self) -> Table:
        """Return the decoys.  InputError where the curator did not say that it needs them."""
        if self.decoy is None:
            raise InputError('it reads table.written, the decoys: put @needs("decoy") above the function')
        return self.decoy


@dataclass(frozen=True)
class Labelled(Table):
    """Rows with who wrote them, for curators that are told (lab.curators.TOLD) and for no other."""

    human: np.ndarray = field(default_factory=lambda: np.empty(0, np.bool_))
    """Whether a human wrote the row: bool [N]."""


def check_switch(name: str, value: object) -> None:
    """Check an option that is on or off.  InputError for anything but true and false."""
    if not isinstance(value, bool):
        raise InputError(f"{name} is {value}: allowed are true and false")
