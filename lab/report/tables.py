"""Tables of results: lines as cells of text, their sparklines, and the caption below.

lab/report/render.py prints them.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from rich.text import Text

from lab.config.study import StudyConfig
from lab.config.sweep import Arm, arms
from lab.errors import plural, printable
from lab.metrics.columns import column
from lab.metrics.stats import Interval
from lab.report.lines import CONTROL, Line, Rows, lines
from lab.run.folder import axes_of

SPARKS = "▁▂▃▄▅▆▇█"
MOST_COLUMNS = 7
"""Most generations that a printed table shows.  Of more, it shows the first, the last and some between."""
MOST_VALUES = 3
"""Most values of a swept field that a caption lists."""
TWO_SEEDS = (
    "intervals of two seeds decide little: they reach 9 standard deviations of the difference to each side, "
    "those of five seeds 1.2"
)
Titles = Mapping[str, str]
"""Column of a user's own metric -> its title above a table."""
NO_TITLES: Titles = {}


class Dim(str):
    """A cell that a terminal prints dim: an interval that holds 0."""


def styled(cell: str, shown: str | None = None) -> Text:
    """Return a cell, or what is shown in its place, such as the cell with spaces, as a terminal prints it."""
    return Text(cell if shown is None else shown, style="dim" if isinstance(cell, Dim) else "")


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


def caption(config: StudyConfig, rows: Rows, notes: Sequence[str] = (), *, against: str | None = CONTROL) -> str:
    """Return what every result must state: corpus, model, decoding, seeds, sizes, kind of interval.

    Of a field that differs between the arms of a sweep, it states every value, or that it is swept.

    Args:
        config: the study of the run.
        rows: the rows of results.csv.
        notes: what the run found in its text (lab/run/folder.py: text_notes).
        against: label of what the lines of the table are compared with; None where it compares none.
    """
    swept, axes = arms(config), ", ".join(axes_of(rows))

    def of_all(value: Callable[[StudyConfig], object]) -> str:
        found = dict.fromkeys(str(value(arm.config)) for arm in swept)
        return " / ".join(found) if len(found) <= MOST_VALUES else f"{len(found)} values (swept)"

    def sizes(rows_of: Callable[[StudyConfig], int]) -> str:
        return of_all(lambda study: f"{rows_of(study) * study.model.n_positions:,}")

    room, layout = ("up to ", ", each a document's") if config.corpus.layout == "documents" else ("", "")
    return (
        f"{config.name}: {f'swept: {axes}; ' if axes else ''}{of_all(_model)}, "
        f"rows of {of_all(lambda study: study.model.n_positions)} tokens{layout}; "
        f"{room}{sizes(lambda study: study.rows(study.corpus.tokens))} human tokens a seed from "
        f"{of_all(lambda study: printable(study.corpus.title))}; {of_all(_training)}; "
        f"{room}{sizes(lambda study: study.sample_rows)} sampled at {of_all(lambda study: study.sample.title)}; "
        f"test {sizes(lambda study: study.rows(study.metrics.test_tokens))} tokens; "
        f"texts compared at {of_all(lambda study: f'{study.compared_tokens:,}')}; "
        f"{'; '.join([_statistics(rows, against), *map(printable, notes)])}{_unfinished(swept, rows)}"
    )


def _model(study: StudyConfig) -> str:
    several = f", {study.population} models a generation" if study.population > 1 else ""
    return printable(study.model.title) + several


def _training(study: StudyConfig) -> str:
    trained = (
        f"{study.train.convention}, {study.train.start_title}{study.train.loss_title}"
        if study.train
        else "fitted by counting"
    )
    return trained + (f"; curated by {', '.join(each.label for each in study.curators)}" if study.curators else "")


def _statistics(rows: Rows, against: str | None) -> str:
    """Return what the numbers of a table are over its seeds, and what its intervals can decide."""
    seeds = sorted({row["seed"] for row in rows})
    if len(seeds) == 1:
        return f"seed {seeds[0]}: one seed has no spread and no interval"
    text = f"seeds {listed(seeds)} (n = {len(seeds)}), mean ± standard deviation"
    others = [] if against is None else lines(rows, list(rows[0])[-1:], against)
    if any(len(x.values[x.last].keys() & x.reference.get(x.last, {})) > 1 for x in others if not x.is_reference):
        text += f"; vs {printable(str(against))}: paired difference over seeds with 95 % t interval"
    return f"{text}; {TWO_SEEDS}" if len(seeds) == 2 else text


def _unfinished(swept: Sequence[Arm], rows: Rows) -> str:
    """Return the chains that are not complete and how far they came; an empty string if all are."""
    measured = Counter(tuple(str(row[name]) for name in ("regime", *axes_of(rows), "seed")) for row in rows)
    short = []
    for arm in swept:
        for regime, seed in itertools.product(arm.config.regimes, arm.config.seeds):
            chain = (regime.label, *map(str, arm.axes.values()), str(seed))
            done, wanted = measured[chain], arm.config.generations
            if done < wanted:
                short.append(f"{' '.join(chain[:-1])} seed {seed} ({done} of {plural(wanted, 'generation')})")
    return f"; INCOMPLETE: {', '.join(short)}" if short else ""


def listed(seeds: Sequence[int]) -> str:
    """Return seeds as text: "0, 1, 5", or "0 to 13" for more than eight consecutive ones."""
    if len(seeds) > 8 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds))


def heading(ts: Sequence[int], against: str = CONTROL) -> list[str]:
    """Return the names of the columns."""
    names = [f"gen {t}" for t in ts]
    return ["regime", *names, "trend", "since gen 0", f"last gen vs {printable(against)}"]


def block(group: Sequence[Line], ts: Sequence[int]) -> list[list[str]]:
    """Return the cells of one metric's lines.  Their trends share a scale, so that bars compare between regimes."""
    low, high = scale(group)
    final = max(line.last for line in group)
    return [_cells(line, ts, final, low, high) for line in group]


def scale(group: Sequence[Line]) -> tuple[float, float]:
    """Return the ends of the scale that the sparklines of these lines share.

    It holds all their means.  Where noise is nearly as large as the differences, the scale is wider: one step of a bar
    is at least `noise(group)`, so that no noise looks like a trend.  Equal means are then at the fourth bar, not at the
    edge between two.
    """
    means = [mean for line in group for mean in map(line.mean, line.values) if math.isfinite(mean)]
    low, high = min(means, default=0.0), max(means, default=0.0)
    steps = len(SPARKS) - 1
    missing = max(0.0, steps * noise(group) - (high - low))
    return low - missing * 3 / steps, high + missing * (steps - 3) / steps


def noise(group: Sequence[Line]) -> float:
    """Return how much a metric moves where nothing happens: the mean standard deviation over seeds of the control.

    Without a control it is that of generation 0, where every regime has trained on human text.  With one seed it is
    the standard deviation of the control over its generations.  0 where nothing is known.
    """
    controls = [line for line in group if line.regime == CONTROL]
    spreads = [line.spread(t) for line in controls for t in line.values]
    spreads = spreads or [line.spread(0) for line in group if 0 in line.values]
    known = [spread for spread in spreads if math.isfinite(spread)]
    if not known:
        over_time = [list(map(line.mean, line.values)) for line in controls]
        known = [stdev(means) for means in over_time if len(means) > 1 and all(map(math.isfinite, means))]
    return fmean(known) if known else 0.0


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
    return [line.label, *values, trend, change, compared(line)]


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


def compared(line: Line) -> str:
    """Return the difference to the reference with its interval: "+4.3% [+1.2%, +7.4%]"; dim where it decides nothing.

    It is empty for the reference and without one.
    """
    interval = line.against_reference()
    return "" if interval is None else difference_of(line.metric, interval, line.pairs_said())


def difference_of(metric: str, interval: Interval, pairs: str) -> str:
    """Return a difference and its interval as a cell; `pairs` says what it rests on where it has no bounds."""
    if math.isnan(interval.mean):
        return "not finite"
    mean = _change(metric, interval.mean)
    if math.isnan(interval.low):
        return f"{mean} ({pairs})"
    text = f"{mean} [{_change(metric, interval.low)}, {_change(metric, interval.high)}]"
    return Dim(text) if interval.holds_zero else text


def tidy(rows: Rows, metrics: Sequence[str], against: str = CONTROL) -> list[dict[str, Any]]:
    """Return one row per metric, regime and generation: mean, spread and n over seeds, and the paired difference.

    `unit` is that of mean and sd; `change_unit` that of since_gen_0, difference, low and high.  Numbers that are not
    finite, such as the spread of one seed, are left out.
    """
    table = []
    for line in lines(rows, metrics, against):
        kind = column(line.metric)
        for t in sorted(line.values):
            upto = dataclasses.replace(line, values={k: v for k, v in line.values.items() if k <= t})
            interval = upto.against_reference()
            numbers = {"mean": line.mean(t), "sd": line.spread(t), "n": len(line.values[t])}
            changes = {"since_gen_0": upto.change()} | (vars(interval) if interval else {})
            changes = {"difference" if name == "mean" else name: value for name, value in changes.items()}
            known = {name: value for name, value in (numbers | changes).items() if math.isfinite(value)}
            units = {"unit": kind.unit, "change_unit": kind.change_unit} | ({"against": against} if interval else {})
            table.append({"metric": line.metric, "regime": line.regime, **line.axes, "generation": t, **known, **units})
    return table


NUMBERS = ("mean", "sd", "n", "unit", "since_gen_0", "against", "difference", "low", "high", "change_unit")
