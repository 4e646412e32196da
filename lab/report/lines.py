"""Lines: one metric of one regime and arm over generations and seeds, beside what it is compared with."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from lab.config.sweep import NAME, arm_label, label
from lab.errors import InputError
from lab.lookup import suggestion
from lab.metrics.columns import BY_NAME, column, headline
from lab.metrics.stats import Interval, paired_interval
from lab.run.folder import axes_of

CONTROL = "human"
Rows = Sequence[Mapping[str, Any]]
"""The rows of results.csv."""
NO_INTERVAL = Interval(math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Line:
    """One metric of one regime, and of one arm in a sweep, over generations and seeds, beside its reference."""

    metric: str
    regime: str
    axes: Mapping[str, Any]
    """The swept fields and their values."""
    values: dict[int, dict[int, float]]
    """generation -> seed -> value"""
    reference: dict[int, dict[int, float]]
    """The values of the line that it is compared with, by default human in the same arm; empty without one."""
    is_reference: bool = False
    """Whether it is the reference itself."""

    @property
    def label(self) -> str:
        """Name in tables and legends: "replace, temperature 0.7"."""
        return label(self.regime, self.axes)

    @property
    def last(self) -> int:
        """The last generation that was measured."""
        return max(self.values)

    def mean(self, t: int) -> float:
        """Return the mean over seeds at generation t."""
        return fmean(self.values[t].values())

    def spread(self, t: int) -> float:
        """Return the standard deviation over seeds at generation t; NaN for one seed."""
        values = list(self.values[t].values())
        return stdev(values) if len(values) > 1 and all(map(math.isfinite, values)) else math.nan

    def change(self) -> float:
        """Return the change of the mean from generation 0 to the last, over seeds that have both; NaN without any."""
        pairs = self._pairs(self.values.get(0, {}))
        return self._difference(*map(fmean, zip(*pairs, strict=True))) if pairs else math.nan

    def since_start(self) -> Interval | None:
        """Return the paired difference (or ratio - 1) over seeds between the last generation and generation 0."""
        return self._paired(self.values.get(0, {}))

    def against_reference(self) -> Interval | None:
        """Return the paired difference (or ratio - 1) over seeds to the reference, at the last generation.

        None for the reference itself and without one.
        """
        return None if self.is_reference else self._paired(self.reference.get(self.last, {}))

    def pairs_said(self) -> str:
        """Return how many seeds an interval without bounds rests on: "one seed", or "1 of 2 seeds" of a short chain."""
        seeds = len({seed for by_seed in self.values.values() for seed in by_seed})
        return "one seed" if seeds == 1 else f"1 of {seeds} seeds"

    def _paired(self, other: Mapping[int, float]) -> Interval | None:
        """Return the interval of the differences to `other`; NaN for numbers that are not finite."""
        pairs = self._pairs(other)
        if not all(math.isfinite(number) for pair in pairs for number in pair):
            return NO_INTERVAL
        return paired_interval([self._difference(*pair) for pair in pairs]) if pairs else None

    def _pairs(self, other: Mapping[int, float]) -> list[tuple[float, float]]:
        """Return the last generation's values, each with the value of `other` at the same seed."""
        return [(value, other[seed]) for seed, value in sorted(self.values[self.last].items()) if seed in other]

    def _difference(self, value: float, other: float) -> float:
        return value / other - 1 if column(self.metric).relative else value - other


def kind_of(rows: Rows) -> str:
    """Return the kind of corpus that the rows come from: text or source."""
    return "source" if rows and "source_nll" in rows[0] else "text"


def measured_in(rows: Rows) -> list[str]:
    """Return the measured columns of a table: those after `generation`."""
    columns = list(rows[0]) if rows else ["generation"]
    return columns[columns.index("generation") + 1 :]


def headline_of(rows: Rows, kind: str) -> list[str]:
    """Return the columns that are shown unless others are asked for: a few, and the user's own metrics."""
    return [*headline(kind), *(name for name in measured_in(rows) if name not in BY_NAME)]


def lines(rows: Rows, metrics: Sequence[str], against: str = CONTROL) -> list[Line]:
    """Return one line per metric, regime and arm, in the order of the rows.

    `against` is the label of what each line is compared with: a regime (in the line's arm), an arm (under the line's
    regime), or both.  InputError for an unknown metric or label.
    """
    measured = measured_in(rows)
    for name in metrics:
        if name not in measured:
            hint = suggestion(name, measured) or f"; there are {', '.join(measured)}"
            raise InputError(f'unknown metric "{name}"{hint}')
    swept, reference = axes_of(rows), _reference(rows, against)
    table = []
    for metric in metrics:
        values: dict[tuple[Any, ...], dict[int, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
        for row in rows:
            values[row["regime"], *(row[name] for name in swept)][row["generation"]][row["seed"]] = row[metric]
        for (regime, *arm), by in values.items():
            other = (reference[0] or regime, *(reference[1] or arm))
            axes = dict(zip(swept, arm, strict=True))
            table.append(Line(metric, regime, axes, dict(by), dict(values.get(other, {})), other == (regime, *arm)))
    return table


def _reference(rows: Rows, against: str) -> tuple[str | None, tuple[Any, ...] | None]:
    """Return the regime and the arm that a label names.  None: those of each line."""
    swept = axes_of(rows)
    regimes = dict.fromkeys(str(row["regime"]) for row in rows)
    if against in regimes or against == CONTROL:
        return against, None
    named: dict[str, tuple[str | None, tuple[Any, ...] | None]] = {}
    arms: list[str] = []
    for arm in dict.fromkeys(tuple(row[name] for name in swept) for row in rows) if swept else ():
        axes = dict(zip(swept, arm, strict=True))
        arms.append(arm_label(axes))
        for spelled in spellings(axes):
            named[spelled] = (None, arm)
            named |= {plain(f"{regime}, {spelled}"): (regime, arm) for regime in regimes}
    if plain(against) in named:
        return named[plain(against)]
    raise InputError(
        f'there is no regime{" or arm" if arms else ""} "{against}" in this run'
        + (suggestion(against, [*regimes, *arms]) or f"; it has {', '.join([*regimes, *arms][:20])}")
    )


def spellings(axes: Mapping[str, Any]) -> set[str]:
    """Return the plain labels of an arm: with short names, with full names, and of a named arm its name alone."""
    full = ", ".join(f"{name} {value}" for name, value in axes.items())
    return set(map(plain, (arm_label(axes), full, *(str(value) for name, value in axes.items() if name == NAME))))


def plain(label: str) -> str:
    """Return a label as it is looked up: plain("temperature=1") == plain("temperature 1.0")."""
    parts = (part.strip() for part in label.replace("=", " ").split(","))
    return re.sub(r"\d+(\.\d+)?", lambda number: repr(float(number[0])), ", ".join(parts))
