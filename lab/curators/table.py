"""The rows on offer, as a curator sees them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lab.errors import InputError


@dataclass(frozen=True)
class CopyOf:
    """A reason to drop a row that names another: the row of the table that it is a copy of."""

    row: int
    reason: str


@dataclass(frozen=True)
class Table:
    """Rows in a random order, without anything that says who wrote them: no origin, domain, row number or loss."""

    tokens: np.ndarray
    """Token ids [N, T].  The array is read-only."""
    lengths: np.ndarray
    """Tokens of text in each row: int64 [N]."""
    spell: Callable[[np.ndarray], list[str]]
    """Returns the text of rows [K, T]."""

    def __len__(self) -> int:
        return len(self.tokens)

    def text(self, row: int) -> str:
        """Return the text of one row."""
        return self.spell(self.tokens[row : row + 1])[0]

    def take(self, rows: np.ndarray) -> Table:
        """Return a table of these rows, in this order."""
        tokens, lengths = self.tokens[rows], self.lengths[rows]
        tokens.flags.writeable = lengths.flags.writeable = False
        return Table(tokens, lengths, self.spell)


@dataclass(frozen=True)
class Labelled(Table):
    """Rows with who wrote them, for curators that are told (lab.curators.TOLD) and for no other."""

    human: np.ndarray
    """Whether a human wrote the row: bool [N]."""


def check_switch(name: str, value: object) -> None:
    """Check an option that is on or off.  InputError for anything but true and false."""
    if not isinstance(value, bool):
        raise InputError(f"{name} is {value}: allowed are true and false")
