"""The nouns of a regime: corpora on the table, lineages, parts and recipes.  Frozen data, no text, no disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

HUMAN = -1
"""Origin of a seed's own human rows; generation t's sample has origin t."""
ARCHIVE = -2
"""Origin of human rows that are kept apart, for regimes that ask for fresh ones."""


@dataclass(frozen=True)
class Source:
    """A corpus on the table, as a regime sees it: who wrote it and how many rows it has.  Never its text."""

    origin: int
    rows: int


@dataclass(frozen=True)
class Lineage:
    """All text that exists when generation t is about to be trained: human rows, then samples S_0 .. S_{t-1}."""

    human: Source
    samples: tuple[Source, ...] = ()
    archive: Source | None = None
    """Human rows that no regime has trained on unless it took them from here.  None: the study keeps none."""


class RowNumbers(Sequence[int]):
    """Numbers of rows as a frozen array, 4 bytes each below 2^32: a recipe may hold many millions."""

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
    """Rows [start, stop) of one corpus, or only those `chosen` among them, `repeat` times over."""

    origin: int
    start: int
    stop: int
    repeat: int = 1
    chosen: Sequence[int] | None = None
    """Rows by number, rising, none twice; kept as RowNumbers.  None: all of the range."""

    def __post_init__(self) -> None:
        assert 0 <= self.start <= self.stop and self.repeat >= 1, self
        if self.chosen is not None:
            rows = self.chosen if isinstance(self.chosen, RowNumbers) else RowNumbers(self.chosen)
            inside = not len(rows) or (self.start <= rows[0] and rows[-1] < self.stop)
            assert inside and bool((rows.array[1:] > rows.array[:-1]).all()), self
            object.__setattr__(self, "chosen", rows)

    @property
    def distinct_rows(self) -> int:
        return self.stop - self.start if self.chosen is None else len(self.chosen)

    @property
    def rows(self) -> int:
        return self.distinct_rows * self.repeat

    @classmethod
    def whole(cls, source: Source) -> Part:
        return cls(source.origin, 0, source.rows)

    @classmethod
    def some(cls, origin: int, chosen: Sequence[int] | np.ndarray) -> Part:
        """Single rows by number, in any order."""
        rows = RowNumbers(np.sort(chosen))
        return cls(origin, rows[0], rows[-1] + 1, chosen=rows) if rows else cls(origin, 0, 0)

    def numbers(self, places: np.ndarray) -> np.ndarray:
        """The numbers, in their corpus, of the rows at these places of the part, from 0 on."""
        return np.asarray(places + self.start if self.chosen is None else _array(self)[places])


@dataclass(frozen=True)
class Recipe:
    """What a generation is trained on: ranges of rows of the lineage, in order.  A recipe never holds text."""

    parts: tuple[Part, ...]

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.parts)

    @property
    def unique_rows(self) -> int:
        """Rows of the lineage that it holds at least once."""
        rows = 0
        for origin in {part.origin for part in self.parts}:
            mine = [part for part in self.parts if part.origin == origin]
            chosen = [_array(part) for part in mine if part.chosen is not None]
            single = chosen[0] if len(chosen) == 1 else np.unique(np.concatenate(chosen or [np.empty(0, np.uint32)]))
            seen = 0
            for part in sorted((part for part in mine if part.chosen is None), key=lambda part: part.start):
                first = max(part.start, seen)
                if first < part.stop:
                    inside = np.searchsorted(single, [first, part.stop])
                    rows += part.stop - first - int(inside[1] - inside[0])
                    seen = part.stop
            rows += len(single)
        return rows


def _array(part: Part) -> np.ndarray:
    """The chosen rows of a part that has them."""
    assert isinstance(part.chosen, RowNumbers)
    return part.chosen.array
