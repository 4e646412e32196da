"""Two runs beside each other: every regime and arm that both have, paired over seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from lab.config.files import difference
from lab.config.study import StudyConfig
from lab.config.sweep import get, label, scalar
from lab.errors import InputError, printable
from lab.metrics.columns import column
from lab.metrics.stats import Interval, paired_interval, welch_interval
from lab.report.lines import NO_INTERVAL, Line, Rows, headline_of, lines, measured_in
from lab.report.tables import difference_of, listed, value_of

SAME_TEXT = ("corpus.", "tokenizer.", "metrics.test_tokens", "model.n_positions", "model.pretrained")
"""Fields that decide which tokens the models are scored on."""
WHOLE = ("name", "note", "published", "seeds", "regimes", "generations", "sweep", "keep_models")
NO_PART: Any = {**dict.fromkeys(WHOLE, True), "compute": {"checkpoint_seconds"}}
"""Fields that say nothing about how one chain differs from another."""


@dataclass(frozen=True)
class MeasuredRun:
    """A run with its results."""

    name: str
    """The name that tables print."""
    config: StudyConfig
    rows: Rows

    @property
    def arms(self) -> list[str]:
        """The regimes and arms that it has."""
        return [line.label for line in lines(self.rows, measured_in(self.rows)[:1])]


def compare_runs(
    first: MeasuredRun, second: MeasuredRun, metrics: Sequence[str] = ()
) -> list[tuple[str, list[str], list[list[str]]]]:
    """Return title, heading and cells per metric: the second run against the first, at the last common generation.

    A regime and arm of one run meets that of the other whose swept fields have the same values, in the sweep or in the
    study.  Without `metrics`, these are the headline columns of both runs.

    Raises:
        InputError: a run lacks one of the metrics, or there is no regime and arm that both have.
    """
    usual = [name for name in headline_of(first.rows, first.config.corpus.kind) if name in measured_in(second.rows)]
    a, b = first.name, second.name
    tables = []
    for metric in metrics or usual:
        cells: list[list[str]] = []
        for line, other in product(lines(first.rows, [metric]), lines(second.rows, [metric])):
            if line.regime == other.regime and (axes := _common_axes(line, first, other, second)) is not None:
                cells += _cells(line, other, label(line.regime, axes))
        tables.append((column(metric).title, ["regime", "gen", a, b, f"{b} vs {a}", "over seeds"], cells))
    if not any(cells for _, _, cells in tables):
        has = "; ".join(f"{run.name} has {', '.join(run.arms[:8])}" for run in (first, second))
        raise InputError(f"no regime and arm of {a} has a generation in common with {b}: {has}")
    return tables


def _common_axes(line: Line, first: MeasuredRun, other: Line, second: MeasuredRun) -> Mapping[str, Any] | None:
    """Return the swept fields of both runs with their common values; None where a value differs."""
    fields = [run.config.model_dump(mode="json") for run in (first, second)]
    axes = {}
    for name in dict.fromkeys([*line.axes, *other.axes]):
        a, b = (each.axes.get(name, scalar(get(f, name))) for each, f in zip((line, other), fields, strict=True))
        if a != b:
            return None
        axes[name] = a
    return axes


def _cells(line: Line, other: Line, name: str) -> list[list[str]]:
    """Return the row of two lines, in a list; an empty list where they have no generation in common."""
    common = line.values.keys() & other.values.keys()
    if not common:
        return []
    t = max(common)
    interval, seeds = _difference(line.metric, line.values[t], other.values[t])
    values = [value_of(line, t), value_of(other, t)]
    return [[name, str(t), *values, difference_of(line.metric, interval, "one seed"), seeds]]


def _difference(metric: str, a: Mapping[int, float], b: Mapping[int, float]) -> tuple[Interval, str]:
    """Return b - a (or b / a - 1) with its interval, and over which seeds it is.

    Without a common seed it is Welch's interval of independent means, of a ratio through logarithms.
    """
    if not all(map(math.isfinite, [*a.values(), *b.values()])):
        return NO_INTERVAL, "not finite"
    relative, seeds = column(metric).relative, sorted(a.keys() & b.keys())
    if seeds:
        pairs = [b[s] / a[s] - 1 if relative else b[s] - a[s] for s in seeds]
        return paired_interval(pairs), f"{listed(seeds)} (paired)"
    x, y = (np.array(list(side.values())) for side in (a, b))
    if not relative:
        return welch_interval(y, x), "unpaired"
    logs = welch_interval(np.log(y), np.log(x))
    return Interval(*(float(np.expm1(bound)) for bound in (logs.mean, logs.low, logs.high))), "unpaired"


def differences(first: MeasuredRun, second: MeasuredRun) -> list[str]:
    """Return sentences on what the studies of two runs differ in, and what that means for the comparison."""
    a, b = (run.config.model_dump(mode="json", exclude=NO_PART) for run in (first, second))
    found = difference(a, b)
    swept = ", but what is swept" if first.config.sweep or second.config.sweep else ""
    said = [f"{first.name} -> {second.name}: {printable('; '.join(found)) or f'no field differs{swept}'}"]
    if any(line.startswith(SAME_TEXT) for line in found):
        said.append(
            "the two may be scored on different tokens: of losses and perplexities compare the changes within a run"
        )
    return said
