"""Comparisons: a run beside published numbers, and the values of one swept field across a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lab.config.study import Published, PublishedNumbers, StudyConfig
from lab.config.sweep import arms, get, scalar
from lab.errors import InputError, printable
from lab.lookup import suggestion
from lab.metrics.stats import mean_interval
from lab.report.tables import METRICS, Line, lines, value_of
from lab.run.folder import axes_of

Rows = Sequence[Mapping[str, Any]]
HEADING = ("arm", "metric", "gen", "published", "x gen 0", "measured", "x gen 0", "95 % interval")


def beside(published: Published, config: StudyConfig, rows: Rows) -> list[list[str]]:
    """Return one line per published number, with what this run measured in the same arm and generation.

    Levels differ with corpus and model.  What compares is the change since generation 0, as a ratio of perplexities:
    for losses, the exponential of their difference.  Arms and generations that the run does not have are marked.
    """
    table = []
    for numbers in published.numbers:
        line = _match(numbers, config, rows)
        for t, value in sorted(numbers.values.items()):
            first = numbers.values.get(0)
            change = _ratio(numbers.metric, value, first) if first is not None and t else math.nan
            table.append([_name(numbers), numbers.metric, str(t), f"{value:g}", _times(change), *_measured(line, t)])
    return table


def _name(numbers: PublishedNumbers) -> str:
    return printable(
        ", ".join([numbers.regime, *(f"{name.split('.')[-1]} {value}" for name, value in numbers.axes.items())])
    )


def _match(numbers: PublishedNumbers, config: StudyConfig, rows: Rows) -> Line | None:
    """Return the line of that regime in the arm whose fields, swept or not, are the published ones."""
    for line in lines(rows, [numbers.metric]):
        for arm in arms(config):
            fields = arm.config.model_dump(mode="json")
            has = (arm.axes.get(name, scalar(get(fields, name))) == scalar(v) for name, v in numbers.axes.items())
            if line.regime == numbers.regime and arm.axes == line.axes and all(has):
                return line
    return None


def _measured(line: Line | None, t: int) -> list[str]:
    """Return value, change since generation 0, and interval, as cells."""
    if line is None:
        return ["not in this run", "", ""]
    if t not in line.values:
        return [f"no generation {t}", "", ""]
    start = line.values.get(0, {})
    ratios = [_ratio(line.metric, value, start[seed]) for seed, value in line.values[t].items() if seed in start]
    if not t or not ratios:
        return [value_of(line, t), "", ""]
    interval = mean_interval(ratios)
    bounds = "(one seed)" if math.isnan(interval.low) else f"[{_times(interval.low)}, {_times(interval.high)}]"
    return [value_of(line, t), _times(interval.mean), bounds]


def _ratio(metric: str, value: float, first: float) -> float:
    return value / first if metric == "perplexity" else math.exp(min(value - first, 700.0))


def _times(ratio: float) -> str:
    return "" if math.isnan(ratio) else f"{ratio:,.2f}" if ratio < 1000 else f"{ratio:.1e}"


def pivot(rows: Rows, metric: str, by: str) -> tuple[list[str], list[list[str]]]:
    """Return heading and cells of a table with a column per value of one swept field.

    There is one line per regime and combination of the other swept fields.  Each cell is the mean over seeds at the
    arm's last generation, with its standard deviation.

    Args:
        rows: The rows of results.csv.
        metric: Name of a column.
        by: Name of the swept field.

    Raises:
        InputError: The run does not sweep this field.
    """
    axes = axes_of(rows)
    if by not in axes:
        swept = f"; it sweeps {', '.join(axes)}" if axes else "; nothing is swept in this run"
        raise InputError(f'no swept field "{by}" in this run{suggestion(by, axes) or swept}')
    cells: dict[str, dict[str, str]] = {}
    for line in lines(rows, [metric]):
        others = (f"{name.split('.')[-1]} {value}" for name, value in line.axes.items() if name != by)
        cells.setdefault(printable(", ".join([line.regime, *others])), {})[str(line.axes[by])] = value_of(
            line, line.last
        )
    columns = list(dict.fromkeys(str(row[by]) for row in rows))
    last = {line.last for line in lines(rows, [metric])}
    when = f"generation {last.pop()}" if len(last) == 1 else "at each arm's last generation"
    heading = [f"{METRICS[metric].title}, {when}", *(f"{by.split('.')[-1]} {value}" for value in columns)]
    return heading, [[name, *(row.get(column, "") for column in columns)] for name, row in cells.items()]
