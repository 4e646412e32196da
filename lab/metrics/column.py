"""A row of the table of columns, which is lab/metrics/columns.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from lab.metrics.evidence import Evidence


@dataclass(frozen=True)
class Short:
    """How the headline table of `lab run` shows a column, where every character counts."""

    heading: str
    digits: int
    percent: bool = False
    """Whether the value is a share that is shown in per cent, and its change in percentage points."""
    meaning: str = ""
    """Explanation for the legend, where the heading does not say enough."""


@dataclass(frozen=True)
class Column:
    """A measured column of results.csv."""

    name: str
    title: str
    """What it is, with the unit, as tables print it."""
    unit: str
    group: Callable[[Evidence], Mapping[str, float]] | None
    """The function that computes it, and the other columns of its group.  None for a user's own metric."""
    definition: str
    """One sentence."""
    source: str = ""
    """The paper that it is taken from."""
    kinds: tuple[str, ...] = ("text", "source")
    """The kinds of corpus that have it."""
    digits: int = 3
    """Decimals that tables show."""
    better: Literal["lower", "higher", "neither"] = "neither"
    relative: bool = False
    """Whether tables show changes in per cent instead of in the column's unit."""
    headline: tuple[str, ...] = ()
    """The kinds of corpus of which `lab run` and `lab show` print it unasked."""
    panel: str = ""
    """Title of its panel in the figure of a kind of which it is a headline.  Two columns share one as changes."""
    short: Short | None = None
    """How the headline table shows it, for a kind of which it is a headline.  None: not there."""
    missing: str = "it cannot be computed from these rows"
    """Why it may have no number, as a clause."""
    infinite: str = "it lies beyond all bounds"
    """Why it may be infinite, as a clause."""

    @property
    def whole(self) -> bool:
        """Whether it counts tokens, so that its numbers have no decimals."""
        return self.unit == "tokens"

    @property
    def change_unit(self) -> str:
        """The unit of changes and differences: "ratio - 1" where tables show them in per cent."""
        return "ratio - 1" if self.relative else self.unit
