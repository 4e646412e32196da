"""The nouns of the lab: corpora by origin, lineages, recipes, steps.  Plain frozen data, no I/O.

Shapes everywhere: B = rows, T = positions, V = vocabulary.  Losses are in nats.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import numpy as np

HUMAN = -1
"""Origin of a seed's own human rows; generation t's sample has origin t."""
ARCHIVE = -2
"""Origin of human rows that are kept apart, for regimes that ask for fresh ones."""


LONGEST_MESSAGE = 1200
"""Characters; some ten lines of a terminal."""


def printable(text: str) -> str:
    """With escapes for what a terminal would obey or could not show: printable("a\\x1b[2J") == "a\\\\x1b[2J"."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def one_line(text: str, longest: int) -> str:
    """The text on one line, its middle left out where it is longer."""
    said = printable(" ".join(text.split()))
    half = longest // 2
    return said if len(said) <= longest else f"{said[:half]} ... {said[-half:]}"


class InputError(ValueError):
    """The user's input is wrong.  The message is one line: what was given, what is allowed, what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message, LONGEST_MESSAGE))


class DiskFull(InputError):
    """Not the input's fault, but as much in need of one line: there is no room to go on."""


class Stopped(Exception):
    """The run was asked to stop, and the step in hand has left what it needs to go on."""


@dataclass(frozen=True)
class Attempt:
    """What surrounds a step while it runs.  Nothing here may change what the step makes."""

    report: Callable[[int], None]
    """Told the number of the step's tokens done so far."""
    stopping: Callable[[], bool]
    """Whether the run was asked to stop."""
    scratch: Path
    """A folder for checkpoints, absent until it is made.  An attempt that was cut short leaves it to the next one on
    the same type of machine, with the same code, libraries and inputs; it is removed when the step is committed."""
    checkpoint_seconds: float
    """Time between two checkpoints."""
    note: Callable[[str], None]
    """Told, in a line, what the user should know."""

    def progress(self, tokens: int) -> None:
        """Between two parts of a step that leaves nothing behind when it is cut short.  Stopped when asked to stop."""
        self.report(tokens)
        if self.stopping():
            raise Stopped


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


def canonical(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces, no NaN.  What keys are hashed from."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """sha256 of the canonical JSON of a value, as hex."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


@dataclass(frozen=True)
class Step:
    """A pure function of parameters and inputs, known by its key before anything runs.

    `version` is a number raised by hand for dear steps, or a hash of the modules that a cheap step uses.
    `inputs` maps a role ("model", "human", "sample-3") to the step that makes it.
    """

    name: str
    version: str
    params: Mapping[str, Any]
    inputs: Mapping[str, Step]
    tokens: int = 0
    """Tokens the step has to work through: for progress, not part of the key."""
    work: float = 0.0
    """Floating-point operations, about: for estimates of time, not part of the key."""
    disk: int = 0
    """Bytes it will write, about: for estimates, not part of the key."""
    scratch: int = 0
    """The same of checkpoints, which are there while it runs and gone when it is done.  Not part of the key."""
    label: str = ""
    """For people: "train replace seed 0 gen 3".  Not part of the key."""
    where: Mapping[str, Any] = field(default_factory=dict)
    """Parameters that the key leaves out, because another one says by content what lies there."""
    key: str = field(init=False)

    def __post_init__(self) -> None:
        inputs = {role: step.key for role, step in self.inputs.items()}
        key = digest({"step": self.name, "version": self.version, "params": self.params, "inputs": inputs})
        object.__setattr__(self, "key", key[:40])

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Step) and other.key == self.key
