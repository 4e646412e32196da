"""Comparisons: a run beside published numbers, and the values of one swept field across a table."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lab.config.study import Direction, Published, PublishedNumbers, Side, StudyConfig
from lab.config.sweep import arms, get, label, scalar
from lab.errors import InputError, printable
from lab.lookup import suggestion
from lab.metrics.columns import column
from lab.metrics.stats import Interval, mean_interval, paired_interval
from lab.report.lines import CONTROL, NO_INTERVAL, Line, Rows, lines
from lab.report.tables import compared, number, value_of
from lab.run.folder import axes_of

HEADING = ("arm", "metric", "gen", "published", "ratio to gen 0", "measured", "ratio to gen 0", "95 % interval")
MOST_NAMED = 6
"""Most regimes and arms that a message names."""
RATIO = "ratio to gen 0: perplexity divided by that of generation 0; of a loss in nats, the exponential of its change"


def beside(published: Published, config: StudyConfig, rows: Rows) -> list[list[str]]:
    """Return one line per published number, with what this run measured in the same arm and generation.

    Levels differ with corpus and model.  What compares is the change since generation 0, as a ratio of perplexities:
    for losses, the exponential of their difference.  Arms and generations that the run does not have are marked.
    """
    table = []
    for numbers in published.numbers:
        arm, line = label(numbers.regime, numbers.axes), _match(numbers, numbers.metric, config, rows)
        for t, value in sorted(numbers.values.items()):
            first = numbers.values.get(0)
            change = _ratio(numbers.metric, value, first) if first is not None and t else math.nan
            table.append([arm, numbers.metric, str(t), f"{value:g}", _times(change), *_measured(line, t)])
    return table


def check_reported(published: Published, config: StudyConfig, rows: Rows, name: str) -> None:
    """Raise InputError if a run has no regime and arm that a paper reports.  `name`: the study with the paper."""
    metrics = [each.metric for each in published.numbers] + [each.metric for each in published.directions]
    sides: list[PublishedNumbers | Side] = [*published.numbers]
    sides += [side for each in published.directions for side in (each.higher, each.lower)]
    if any(_match(side, metric, config, rows) for metric in dict.fromkeys(metrics) for side in sides):
        return
    reported = dict.fromkeys(label(side.regime, side.axes) for side in sides)
    has = dict.fromkeys(line.label for line in lines(rows, list(rows[0])[-1:]))
    shown = (
        "; ".join(list(each)[:MOST_NAMED]) + ("; ..." if len(each) > MOST_NAMED else "") for each in (reported, has)
    )
    raise InputError(
        "this run has no regime and arm that {} reports: it reports {}; the run has {}".format(name, *shown)
    )


def _match(numbers: PublishedNumbers | Side, metric: str, config: StudyConfig, rows: Rows) -> Line | None:
    """Return the line of that regime in the arm whose fields, swept or not, are the published ones."""
    for line in lines(rows, [metric]):
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
    if len(ratios) == 1:
        return [value_of(line, t), _times(interval.mean), f"({line.pairs_said()})"]
    finite = math.isfinite(interval.low)
    return [
        value_of(line, t),
        _times(interval.mean),
        f"[{_times(interval.low)}, {_times(interval.high)}]" if finite else "not finite",
    ]


def _ratio(metric: str, value: float, first: float) -> float:
    return value / first if metric == "perplexity" else math.exp(min(value - first, 700.0))


def _times(ratio: float) -> str:
    return "" if math.isnan(ratio) else number(ratio, ",.2f" if ratio < 1000 else ".1e")


def pivot(rows: Rows, metric: str, by: str, against: str = CONTROL) -> tuple[str, list[str], list[list[str]]]:
    """Return title, heading and cells of a table with a column per value of one swept field.

    There is one line per regime and combination of the other swept fields.  Each cell is the mean over seeds at the
    arm's last generation, with its standard deviation.  A line below has the differences to the reference.

    Raises:
        InputError: The run does not sweep the field `by`.
    """
    axes = axes_of(rows)
    if by not in axes:
        swept = f"; it sweeps {', '.join(axes)}" if axes else "; nothing is swept in this run"
        raise InputError(f'no swept field "{by}" in this run{suggestion(by, axes) or swept}')
    groups: dict[str, dict[str, Line]] = {}
    last: set[int] = set()
    for line in lines(rows, [metric], against):
        others = {name: value for name, value in line.axes.items() if name != by}
        groups.setdefault(label(line.regime, others), {})[str(line.axes[by])] = line
        last.add(line.last)
    columns = list(dict.fromkeys(str(row[by]) for row in rows))
    when = f"generation {last.pop()}" if len(last) == 1 else "at each arm's last generation"
    heading = ["regime", *(f"{by.split('.')[-1]} {value}" for value in columns)]
    table = []
    for name, group in groups.items():
        found = [group.get(value) for value in columns]
        table.append([name, *(value_of(line, line.last) if line else "" for line in found)])
        differences = [compared(line) if line else "" for line in found]
        if any(differences):
            table.append([f"  vs {printable(against)}", *differences])
    return f"{column(metric).title}, {when}", heading, table


DIRECTION_HEADING = (
    *("the paper's claim", "higher", "lower", "metric", "gen"),
    *("higher - lower", "95 % interval", "n", "verdict"),
)
AGREES, DISAGREES = "direction agrees", "direction disagrees"


@dataclass(frozen=True)
class Finding:
    """What a run says about one published direction."""

    generation: int | None
    """The generation at which the sides were compared; None where there was none."""
    difference: Interval
    """The higher side minus the lower one, paired over seeds, with a 95 % t interval; NaN where nothing is compared."""
    seeds: int
    """Seeds that both sides have."""
    verdict: str
    """direction agrees, direction disagrees, "undecided (why)", or what the run lacks."""


def directions(published: Published, config: StudyConfig, rows: Rows) -> list[list[str]]:
    """Return the cells under DIRECTION_HEADING: one row per published direction, held against this run."""
    table = []
    for direction in published.directions:
        finding = check_direction(direction, config, rows)
        mean, low, high = finding.difference.mean, finding.difference.low, finding.difference.high
        table.append(
            [
                printable(direction.claim),
                *(side_label(side, direction) for side in (direction.higher, direction.lower)),
                direction.metric,
                "" if finding.generation is None else str(finding.generation),
                "" if math.isnan(mean) else f"{mean:+.3f}",
                "" if math.isnan(low) else f"[{low:+.3f}, {high:+.3f}]",
                str(finding.seeds or ""),
                finding.verdict,
            ]
        )
    return table


def side_label(side: Side, direction: Direction) -> str:
    """Return the name of a side, with what is subtracted from it: "replace, population 4, above its generation 0"."""
    above = {None: "", "human": ", above human", "start": ", above its generation 0"}[direction.above]
    return label(side.regime, side.axes) + above


def check_direction(direction: Direction, config: StudyConfig, rows: Rows) -> Finding:
    """Hold a published direction against the results of a run.  `config` has the fields that the run does not sweep."""
    found = [_match(side, direction.metric, config, rows) for side in (direction.higher, direction.lower)]
    sides = [line for line in found if line is not None]
    if len(sides) < 2:
        return Finding(None, NO_INTERVAL, 0, "not in this run")
    t = min(line.last for line in sides) if direction.generation is None else direction.generation
    a, b = (_above(line, t, direction.above) for line in sides)
    differences = [a[seed] - b[seed] for seed in sorted(a.keys() & b.keys())]
    if not differences:
        return Finding(t, NO_INTERVAL, 0, f"no generation {t} of both")
    interval = paired_interval(differences)
    return Finding(t, interval, len(differences), verdict(interval, direction.least, len(differences)))


def _above(line: Line, t: int, above: str | None) -> dict[int, float]:
    """Return a line's values at generation t by seed, less those of the control or of its own generation 0."""
    values = line.values.get(t, {})
    if above is None:
        return values
    under = line.reference.get(t, {}) if above == "human" else line.values.get(0, {})
    return {seed: values[seed] - under[seed] for seed in values.keys() & under.keys()}


def verdict(difference: Interval, least: float, seeds: int) -> str:
    """Judge an interval whose published sign is positive.

    The direction agrees where all of it lies above `least`, and disagrees where all of it lies below 0.  One seed gives
    no interval, and decides nothing.
    """
    if seeds < 2:
        return "undecided (one seed)"
    if math.isnan(difference.low):
        return "undecided (no finite difference)"
    if difference.low > least:
        return AGREES
    if difference.high < 0:
        return DISAGREES
    return "undecided (interval holds 0)" if difference.holds_zero else f"undecided (not beyond {least:g})"
