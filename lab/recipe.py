"""The nouns of a regime: corpora on the table, lineages, parts and recipes.  They are frozen data without text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import overload

import numpy as np

HUMAN = -1
"""Corpus and origin of a seed's own human rows.  The sample of generation t has the number t."""
ARCHIVE = -2
"""Corpus and origin of human rows that are kept apart for regimes that ask for fresh ones."""
OF_CORPUS = -(2**31)
"""Origin that is not given: it is then the number of the corpus, as every corpus that the lab makes has one author."""


@dataclass(frozen=True)
class OnTable:
    """A corpus on the table, as a regime sees it: its number, who wrote it and how many rows it has, never its text."""

    corpus: int
    """Number of the corpus: HUMAN, ARCHIVE, or t for the sample of generation t."""
    rows: int
    origin: int = OF_CORPUS
    """Who wrote the rows, for accounting: HUMAN, ARCHIVE, or the generation t.  Default: the number of the corpus."""

    def __post_init__(self) -> None:
        if self.origin == OF_CORPUS:
            object.__setattr__(self, "origin", self.corpus)


@dataclass(frozen=True)
class Lineage:
    """All text that exists before generation t is trained: human rows, then the samples S_0 .. S_{t-1}."""

    human: OnTable
    samples: tuple[OnTable, ...] = ()
    archive: OnTable | None = None
    """Human rows kept apart, which only a regime that takes them from here is trained on.  None: the study keeps
    none."""


class RowNumbers(Sequence[int]):
    """Row numbers as a frozen array.  Numbers below 2^32 take 4 bytes each, because a recipe may hold many millions."""

    __slots__ = ("array",)

    def __init__(self, rows: Sequence[int] | np.ndarray) -> None:
        array = np.array(rows, dtype=np.int64)
        small = not len(array) or (array.min() >= 0 and array.max() < 2**32)
        self.array = array.astype(np.uint32) if small else array
        self.array.flags.writeable = False

    def __len__(self) -> int:
        return len(self.array)

    @overload
    def __getitem__(self, place: int) -> int: ...
    @overload
    def __getitem__(self, place: slice) -> RowNumbers: ...
    def __getitem__(self, place: int | slice) -> int | RowNumbers:
        return RowNumbers(self.array[place]) if isinstance(place, slice) else int(self.array[place])

    def __iter__(self) -> Iterator[int]:
        return iter(self.array.tolist())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RowNumbers) and np.array_equal(self.array, other.array)

    def __hash__(self) -> int:
        return hash(self.array.tobytes())

    def __repr__(self) -> str:
        return f"RowNumbers({self.array})"


@dataclass(frozen=True)
class Part:
    """Rows [start, stop) of one corpus, or only the `chosen` ones among them, repeated `repeat` times."""

    corpus: int
    """Number of the corpus in which the rows lie: HUMAN, ARCHIVE, or t for the sample of generation t."""
    start: int
    stop: int
    repeat: int = 1
    chosen: Sequence[int] | None = None
    """Numbers of single rows, in ascending order without repeats; stored as RowNumbers.  None: all rows of the
    range."""
    origin: int = OF_CORPUS
    """Who wrote the rows, for accounting.  Default: the number of the corpus."""

    def __post_init__(self) -> None:
        assert 0 <= self.start <= self.stop and self.repeat >= 1, self
        if self.chosen is not None:
            rows = self.chosen if isinstance(self.chosen, RowNumbers) else RowNumbers(self.chosen)
            inside = not len(rows) or (self.start <= rows[0] and rows[-1] < self.stop)
            assert inside and bool((rows.array[1:] > rows.array[:-1]).all()), self
            object.__setattr__(self, "chosen", rows)
        if self.origin == OF_CORPUS:
            object.__setattr__(self, "origin", self.corpus)

    @property
    def distinct_rows(self) -> int:
        """Return the number of rows, each counted once."""
        return self.stop - self.start if self.chosen is None else len(self.chosen)

    @property
    def rows(self) -> int:
        """Return the number of rows, counted with repeats."""
        return self.distinct_rows * self.repeat

    @classmethod
    def whole(cls, corpus: OnTable) -> Part:
        """Return all rows of a corpus on the table."""
        return cls(corpus.corpus, 0, corpus.rows, origin=corpus.origin)

    @classmethod
    def some(cls, corpus: int, chosen: Sequence[int] | np.ndarray) -> Part:
        """Return a part of single rows, given by number in any order."""
        rows = RowNumbers(np.sort(chosen))
        return cls(corpus, rows[0], rows[-1] + 1, chosen=rows) if rows else cls(corpus, 0, 0)

    def written_by(self, origin: int) -> Part:
        """Return the same rows with this origin."""
        return self if origin == self.origin else replace(self, origin=origin)

    def numbers(self, places: np.ndarray) -> np.ndarray:
        """Return the numbers in the corpus of the rows at these places of the part, which begin at 0."""
        return np.asarray(places + self.start if self.chosen is None else _array(self)[places])


@dataclass(frozen=True)
class Recipe:
    """The rows that a generation is trained on, as parts of the lineage in order.  A recipe never holds text."""

    parts: tuple[Part, ...]

    @property
    def rows(self) -> int:
        """Return the number of rows, counted with repeats."""
        return sum(part.rows for part in self.parts)

    @property
    def unique_rows(self) -> int:
        """Return the number of different rows of the lineage in the recipe."""
        rows = 0
        for corpus in {part.corpus for part in self.parts}:
            parts = [part for part in self.parts if part.corpus == corpus]
            chosen = [_array(part) for part in parts if part.chosen is not None]
            single = chosen[0] if len(chosen) == 1 else np.unique(np.concatenate(chosen or [np.empty(0, np.uint32)]))
            seen = 0
            for part in sorted((part for part in parts if part.chosen is None), key=lambda part: part.start):
                first = max(part.start, seen)
                if first < part.stop:
                    inside = np.searchsorted(single, [first, part.stop])
                    rows += part.stop - first - int(inside[1] - inside[0])
                    seen = part.stop
            rows += len(single)
        return rows


def _array(part: Part) -> np.ndarray:
    """Return the chosen rows of a part that has some."""
    assert isinstance(part.chosen, RowNumbers)
    return part.chosen.array
