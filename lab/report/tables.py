"""Tables of results: one line per metric, regime and arm, over generations and seeds, and its cells as text.

lab/report/render.py prints them.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from lab.config.study import StudyConfig
from lab.config.sweep import arms
from lab.errors import InputError, printable
from lab.lookup import suggestion
from lab.metrics.columns import BY_NAME, column, headline
from lab.metrics.letters import UNSPACED_NOTE, UNSPACED_SHARE
from lab.metrics.stats import Interval, paired_interval
from lab.run.folder import axes_of

CONTROL = "human"
SPARKS = "▁▂▃▄▅▆▇█"
MOST_COLUMNS = 7
"""Most generations that a printed table shows.  Of more, it shows the first, the last and some between."""


Titles = Mapping[str, str]
"""Column of a user's own metric -> its title above a table."""
NO_TITLES: Titles = {}
Rows = Sequence[Mapping[str, Any]]
"""The rows of results.csv."""
NO_INTERVAL = Interval(math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Line:
    """One metric of one regime, and of one arm in a sweep, over generations and seeds."""

    metric: str
    regime: str
    axes: Mapping[str, Any]
    """The swept fields and their values."""
    values: dict[int, dict[int, float]]
    """generation -> seed -> value"""
    control: dict[int, dict[int, float]]
    """The values of the human regime in the same arm; empty without one."""

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

    def against_control(self) -> Interval | None:
        """Return the paired difference (or ratio - 1) over seeds between this regime and the human control.

        The difference is taken at the last generation.  None for the control itself and without a control.
        """
        return None if self.regime == CONTROL else self._paired(self.control.get(self.last, {}))

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


def label(regime: str, axes: Mapping[str, Any]) -> str:
    """Return the name of a regime in an arm: "replace, temperature 0.7"."""
    return printable(", ".join(filter(None, (regime, arm_label(axes)))))


def arm_label(axes: Mapping[str, Any]) -> str:
    """Return swept fields as text: "temperature 0.7".  Fields that share a last name keep their full names."""
    short = [name.split(".")[-1] for name in axes]
    names = [name if short.count(end) > 1 else end for name, end in zip(axes, short, strict=True)]
    return printable(", ".join(f"{name} {value}" for name, value in zip(names, axes.values(), strict=True)))


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


def lines(rows: Rows, metrics: Sequence[str]) -> list[Line]:
    """Return one line per metric, regime and arm, in the order of the rows.  InputError for an unknown metric."""
    measured = measured_in(rows)
    for name in metrics:
        if name not in measured:
            hint = suggestion(name, measured) or f"; there are {', '.join(measured)}"
            raise InputError(f'unknown metric "{name}"{hint}')
    swept = axes_of(rows)
    table = []
    for metric in metrics:
        values: dict[tuple[Any, ...], dict[int, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
        for row in rows:
            values[row["regime"], *(row[name] for name in swept)][row["generation"]][row["seed"]] = row[metric]
        for (regime, *arm), by in values.items():
            control = values.get((CONTROL, *arm), {})
            table.append(Line(metric, regime, dict(zip(swept, arm, strict=True)), dict(by), dict(control)))
    return table


def sparkline(values: Sequence[float], low: float, high: float) -> str:
    """Return bars on a scale from `low` to `high`: sparkline([1, 2, 3], 1, 3) == "▁▅█".

    NaN is a space.  Where low == high all bars are low.
    """
    top, span = len(SPARKS) - 1, high - low
    return "".join(
        " " if not math.isfinite(value) else SPARKS[round((value - low) / span * top)] if span else SPARKS[0]
        for value in values
    )


def shown_generations(generations: Collection[int], most: int = MOST_COLUMNS) -> list[int]:
    """Return at most `most` generations, evenly spread, with the first and the last."""
    ts = sorted(generations)
    if len(ts) <= most:
        return ts
    return sorted({ts[round(i * (len(ts) - 1) / (most - 1))] for i in range(most)})


def caption(config: StudyConfig, rows: Rows, unspaced: float = 0.0) -> str:
    """Return what every result must state: corpus, model, decoding, seeds, sizes, kind of interval.

    Args:
        config: the study of the run.
        rows: the rows of results.csv.
        unspaced: share of the held-out words that are single letters of scripts without spaces.
    """
    seeds, row, training = sorted({each["seed"] for each in rows}), config.model.n_positions, config.train
    human, test = (row * config.rows(tokens) for tokens in (config.corpus.tokens, config.metrics.test_tokens))
    name = printable(config.model.title) + (
        f", {config.population} models a generation" if config.population > 1 else ""
    )
    tokens = f"{training.convention}, {training.start_title}" if training else "fitted by counting"
    room, layout = ("up to ", ", each a document's") if config.corpus.layout == "documents" else ("", "")
    curated = f"; curated by {', '.join(each.label for each in config.curators)}" if config.curators else ""
    letters = f"; {unspaced:.0%} of the held-out words are {UNSPACED_NOTE}" if unspaced > UNSPACED_SHARE else ""
    swept = f"swept: {', '.join(axes_of(rows))}; where not swept: " if axes_of(rows) else ""
    return (
        f"{config.name}: {swept}{name}, rows of {row} tokens{layout}; "
        f"{room}{human:,} human tokens a seed from {printable(config.corpus.title)}; {tokens}{curated}; "
        f"{room}{config.sample_rows * row:,} sampled at {config.sample.title}; "
        f"test {test:,} tokens; texts compared at {config.compared_tokens:,}; "
        f"seeds {listed(seeds)} (n = {len(seeds)}), mean ± standard deviation; "
        f"vs human: paired difference over seeds with 95 % t interval{letters}{_unfinished(config, rows)}"
    )


def _unfinished(config: StudyConfig, rows: Rows) -> str:
    """Return the chains that are not complete and how far they came; an empty string if all are."""
    measured = Counter(tuple(str(row[name]) for name in ("regime", *axes_of(rows), "seed")) for row in rows)
    short = []
    for arm in arms(config):
        for regime, seed in itertools.product(arm.config.regimes, arm.config.seeds):
            chain = (regime.label, *map(str, arm.axes.values()), str(seed))
            done, wanted = measured[chain], arm.config.generations
            if done < wanted:
                short.append(f"{' '.join(chain[:-1])} seed {seed} ({done} of {wanted} generations)")
    return f"; INCOMPLETE: {', '.join(short)}" if short else ""


def listed(seeds: Sequence[int]) -> str:
    """Return seeds as text: "0, 1, 5", or "0 to 13" for more than eight consecutive ones."""
    if len(seeds) > 8 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds))


def heading(ts: Sequence[int]) -> list[str]:
    """Return the names of the columns."""
    names = [f"gen {t}" for t in ts]
    return ["regime", *names, "trend", "since gen 0", "last gen vs human"]


def block(group: Sequence[Line], ts: Sequence[int]) -> list[list[str]]:
    """Return the cells of one metric's lines.  Their trends share a scale, so that bars compare between regimes."""
    low, high = scale(group)
    final = max(line.last for line in group)
    return [_cells(line, ts, final, low, high) for line in group]


def scale(group: Sequence[Line]) -> tuple[float, float]:
    """Return the smallest and the largest finite mean of these lines."""
    means = [mean for line in group for mean in map(line.mean, line.values) if math.isfinite(mean)]
    return min(means, default=0.0), max(means, default=0.0)


def title(metric: str, rows: Rows, titles: Titles = NO_TITLES) -> str:
    """Return the title of a metric's block; that of rare_survival names the value of a fresh human text."""
    if metric != "rare_survival":
        return titles.get(metric, column(metric).title)
    marks = [row["rare_survival_human"] for row in rows if math.isfinite(row["rare_survival_human"])]
    return column(metric).title + (f"; an equal-size human resample holds {fmean(marks):.3f}" if marks else "")


def _cells(line: Line, ts: Sequence[int], final: int, low: float, high: float) -> list[str]:
    values = [value_of(line, t) if t in line.values else "" for t in ts]
    trend = sparkline([line.mean(t) for t in sorted(line.values)], low, high)
    upto = "" if line.last == final else f" (gen {line.last})"  # a chain that stopped early says where
    change = _change(line.metric, line.change()) + upto
    return [line.label, *values, trend, change, _interval(line)]


def value_of(line: Line, t: int) -> str:
    """Return mean and standard deviation over seeds: "104.2±1.3"."""
    digits, mean, spread = column(line.metric).digits, line.mean(t), line.spread(t)
    return number(mean, f",.{digits}f") + ("" if math.isnan(spread) else f"±{spread:.{digits}f}")


def number(value: float, form: str) -> str:
    """Return a number as tables print it: number(3.14159, ".2f") == "3.14"; "none" for NaN and "infinite"."""
    if math.isfinite(value):
        return format(value, form)
    return "none" if math.isnan(value) else "infinite"


def absent(rows: Rows, metrics: Sequence[str]) -> list[str]:
    """Return why numbers of these columns do not exist or are infinite: columns of one reason are said together."""
    notes: dict[tuple[str, str], list[str]] = {}
    for metric in metrics:
        values, kind = [row[metric] for row in rows], column(metric)
        for word, test, reason in (("none", math.isnan, kind.missing), ("infinite", math.isinf, kind.infinite)):
            count = sum(map(test, values))
            if count:
                where = "" if count == len(values) else f" in {count} of {len(values)} rows of results.csv"
                notes.setdefault((word + where, reason), []).append(metric)
    return [f"{', '.join(names)}: {what}: {reason}" for (what, reason), names in notes.items()]


def _change(metric: str, change: float) -> str:
    kind = column(metric)
    return "" if math.isnan(change) else number(change, "+.1%" if kind.relative else f"+,.{kind.digits}f")


def _interval(line: Line) -> str:
    metric, interval = line.metric, line.against_control()
    if interval is None:
        return ""
    if math.isnan(interval.mean):
        return "not finite"
    mean = _change(metric, interval.mean)
    if math.isnan(interval.low):
        return f"{mean} ({line.pairs_said()})"
    return f"{mean} [{_change(metric, interval.low)}, {_change(metric, interval.high)}]"


def tidy(rows: Rows, metrics: Sequence[str]) -> list[dict[str, Any]]:
    """Return one row per metric, regime and generation: mean, spread and n over seeds, and the paired difference.

    Numbers that are not finite, such as the spread of one seed, are left out.
    """
    table = []
    for line in lines(rows, metrics):
        for t in sorted(line.values):
            upto = dataclasses.replace(line, values={k: v for k, v in line.values.items() if k <= t})
            interval = upto.against_control() or NO_INTERVAL
            numbers = {
                "mean": line.mean(t),
                "sd": line.spread(t),
                "n": len(line.values[t]),
                "since_gen_0": upto.change(),
                "vs_human": interval.mean,
                "low": interval.low,
                "high": interval.high,
            }
            known = {name: value for name, value in numbers.items() if math.isfinite(value)}
            table.append({"metric": line.metric, "regime": line.regime, **line.axes, "generation": t, **known})
    return table


NUMBERS = ("mean", "sd", "n", "since_gen_0", "vs_human", "low", "high")
