"""The end of a run on one screen: a headline table of the last generation, and its reading in words.

`lab show` has the full tables.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from rich.text import Text

from lab.config.sweep import arm_label
from lab.metrics.column import Short
from lab.metrics.columns import column as named
from lab.metrics.columns import shortlist
from lab.metrics.stats import Interval
from lab.report.lines import CONTROL, Line, Rows, kind_of, lines
from lab.report.tables import Dim, absent, number, scale, shown_generations, sparkline, styled

MOST_BARS = 8
"""Most bars of a sparkline; with more generations, some in the middle are skipped."""
LARGE = 1e6
"""Numbers from here on are written as 1.2e+06."""


@dataclass(frozen=True)
class Layout:
    """What fits into a width."""

    bars: str
    """Metrics with a sparkline: all, first or none."""
    changes: str
    """How a change is shown: interval, star (the interval excludes 0) or none."""
    labels: str = "beside"
    """Where labels stand: beside the numbers, on a line above them, or arm: only the swept fields above."""


LAYOUTS = (
    Layout("all", "interval"),
    Layout("first", "interval"),
    Layout("none", "interval"),
    Layout("all", "star"),
    Layout("first", "star"),
    Layout("none", "star"),
    Layout("first", "star", "arm"),
    Layout("none", "star", "arm"),
    Layout("first", "star", "above"),
    Layout("none", "star", "above"),
    Layout("none", "none", "above"),
)
"""From the widest to the narrowest."""


@dataclass(frozen=True)
class Headline:
    """The headline table, ready to print."""

    title: str
    heading: str
    body: list[Text]
    """One line per regime and arm; more in a terminal that is too narrow for the labels.  Undecided changes are dim."""
    legend: str

    @property
    def width(self) -> int:
        """Characters of the widest line of the table."""
        return max(len(self.heading), *map(len, self.body))


def headline(rows: Rows, width: int) -> Headline:
    """Return the headline table in the fullest layout that fits into `width` characters.  It needs at least one row."""
    columns = shortlist(kind_of(rows))
    groups = [lines(rows, [metric]) for metric in columns]
    for layout in LAYOUTS:
        head, *body = _table(groups, list(columns.values()), layout)
        found = Headline(_title(rows, groups, layout), head.plain, body, _legend(rows, columns, groups[0], layout))
        if found.width <= width:
            break
    return found


def _title(rows: Rows, groups: Sequence[Sequence[Line]], layout: Layout) -> str:
    """Return the title.  It names changes and intervals only where a line of the table has one."""
    final, seeds = max(line.last for line in groups[0]), len({row["seed"] for row in rows})
    mean = f"Generation {final}, mean of {seeds} seeds" if seeds > 1 else f"Generation {final}, one seed"
    changes = [change for group in groups for line in group if (change := _change(line, group))]
    if layout.changes == "none" or not changes:
        return mean
    reference = "vs human" if _controlled(groups[0]) else "since generation 0"
    mark = " [95 % interval]" if layout.changes == "interval" else " (* 95 % interval excludes 0)"
    return f"{mean}; change {reference}{mark if any(math.isfinite(change.low) for change in changes) else ''}"


def _legend(rows: Rows, columns: dict[str, Short], group: Sequence[Line], layout: Layout) -> str:
    notes = [f"{column.heading}: {column.meaning}" for column in columns.values() if column.meaning]
    last = max(line.last for line in group)
    if layout.bars != "none" and last:
        notes.append(f"bars: generations 0 to {last}, a step >= the spread")
    if len({row["seed"] for row in rows}) == 2:
        notes.append("two seeds decide little")
    return "; ".join([*notes, *absent(rows, list(columns))])


def _controlled(group: Sequence[Line]) -> bool:
    return any(line.reference for line in group)


def _change(line: Line, group: Sequence[Line]) -> Interval | None:
    """Return the change of a line; None where there is nothing to compare it with, or a number is not finite."""
    change = line.against_reference() if _controlled(group) else line.since_start()
    return change if change and math.isfinite(change.mean) else None


def _table(groups: Sequence[Sequence[Line]], columns: Sequence[Short], layout: Layout) -> list[Text]:
    """Return heading and lines, aligned."""
    cells, heads = [], []
    for index, (group, column) in enumerate(zip(groups, columns, strict=True)):
        bars = layout.bars == "all" or (layout.bars == "first" and index == 0)
        texts = _aligned([_parts(line, group, column, layout, bars) for line in group])
        wide = max(len(column.heading), *map(len, texts))
        heads.append(column.heading.ljust(wide))
        for text in texts:
            text.pad_right(wide - len(text))
        cells.append(texts)
    numbers = [Text("  ").join(row) for row in zip(*cells, strict=True)]
    table = _labelled(groups[0], Text("  ".join(heads)), numbers, layout.labels)
    for text in table:
        text.rstrip()
    return table


def _labelled(group: Sequence[Line], heading: Text, numbers: Sequence[Text], where: str) -> list[Text]:
    """Return heading and lines with the labels of `group`."""
    final = max(line.last for line in group)
    stops = ["" if line.last == final else f" (gen {line.last})" for line in group]  # a chain that stopped early
    labels = [(line.regime if where == "arm" else line.label) + stop for line, stop in zip(group, stops, strict=True)]
    if where == "above":
        pairs = zip(labels, numbers, strict=True)
        return [
            Text.assemble("  ", heading),
            *(text for label, row in pairs for text in (Text(label), Text.assemble("  ", row))),
        ]
    indent = "  " if where == "arm" else ""
    wide = len(indent) + max(len("regime"), *map(len, labels))
    table, arm = [Text.assemble("regime".ljust(wide), "  ", heading)], ""
    for line, label, row in zip(group, labels, numbers, strict=True):
        if where == "arm" and arm_label(line.axes) != arm:
            arm = arm_label(line.axes)
            table.append(Text(arm))
        table.append(Text.assemble((indent + label).ljust(wide), "  ", row))
    return table


def _aligned(parts: Sequence[Sequence[str]]) -> list[Text]:
    """Join the parts of each row, padded to the width of their column: numbers right, intervals left."""
    widths = [max(map(len, column)) for column in zip(*parts, strict=True)]
    sides = (str.rjust, str.rjust, str.rjust, str.ljust)
    rows = (
        [styled(part, side(part, w)) for side, part, w in zip(sides, row, widths, strict=True) if w] for row in parts
    )
    return [Text(" ").join(row) for row in rows]


def _parts(line: Line, group: Sequence[Line], column: Short, layout: Layout, bars: bool) -> tuple[str, str, str, str]:
    """Return value, sparkline, change and interval (or star) of one line; what the layout leaves out is empty."""
    value = _number(line.mean(line.last) * (100 if column.percent else 1), column.digits) + (
        "%" if column.percent and math.isfinite(line.mean(line.last)) else ""
    )
    ts = shown_generations(line.values, MOST_BARS)
    trend = sparkline([line.mean(t) for t in ts], *scale(group)) if bars else ""
    change = _change(line, group)
    if layout.changes == "none" or change is None:
        return value, trend, "", ""
    digits, factor, unit = _unit(line.metric, change)
    size = f"{change.mean * factor:+,.{digits}f}{unit}"
    if math.isnan(change.low):
        return value, trend, size, ""
    bounds = f"[{change.low * factor:,.{digits}f}, {change.high * factor:,.{digits}f}]"
    if change.holds_zero:
        return value, trend, Dim(size), Dim(bounds if layout.changes == "interval" else "")
    return value, trend, size, bounds if layout.changes == "interval" else "*"


def _unit(metric: str, change: Interval) -> tuple[int, float, str]:
    """Return digits, factor and unit of a change.  Percentages have one decimal if all are below 9.95 %, else none."""
    column = named(metric)
    assert column.short is not None, metric
    if not column.relative:
        return column.short.digits, 100.0 if column.short.percent else 1.0, ""
    sizes = [abs(x) for x in (change.mean, change.low, change.high) if math.isfinite(x)]
    return (1 if max(sizes) < 0.0995 else 0), 100.0, "%"


def _number(value: float, digits: int) -> str:
    return number(value, ".1e" if abs(value) >= LARGE else f",.{digits}f")


SUBJECTS = {"perplexity": "held-out perplexity", "excess_nll": "the loss above the source's own"}
LEADS = {"text": "perplexity", "source": "excess_nll"}
"""The column that the reading compares."""


def reading(rows: Rows) -> str:
    """Return one or two sentences: the regime (or arm) with the largest change of the leading column, and the smallest.

    Where these are chosen from more than two, another sentence says what the choice does to them.  With several seeds a
    difference is claimed only where its 95 % interval excludes 0.  With one seed it is given and marked as having no
    interval.
    """
    group = lines(rows, [LEADS[kind_of(rows)]])
    if max(line.last for line in group) == 0:
        return "Only generation 0 is measured: there every regime has trained on human text, so nothing differs yet."
    group = [line for line in group if line.last > 0]  # a chain that stopped at generation 0 shows nothing yet
    others = [line for line in group if line.regime != CONTROL] or group
    ranked = sorted(others, key=_damage)
    chosen = [ranked[-1], ranked[0]] if len(ranked) > 1 else ranked
    sentences: list[str] = []
    for line, rank in zip(chosen, ("worst", "mildest"), strict=False):
        among = f" ({rank} of {len(others)})" if len(others) > 2 else ""
        sentences.append(f"Under {line.label}{among}, {_difference(line)}{_rest(rows, line, first=not sentences)}.")
    if len(others) > 2:
        sentences.append(_choice(chosen, len(others)))
    return " ".join(sentences)


def _choice(chosen: Sequence[Line], among: int) -> str:
    """Return the sentence on what it means that these lines are the extremes of so many."""
    intervals = [interval for line in chosen if (interval := _compared(line)[0])]
    known = any(math.isfinite(interval.low) for interval in intervals)
    still = ", and the intervals do not allow for that choice" if known else ""
    return f"As the ends of {among}, these two are likely to look more extreme than they are{still}."


def _damage(line: Line) -> float:
    """Return what the reading ranks by: the change, or the value without one.  A NaN counts as infinite."""
    interval = _compared(line)[0]
    size = interval.mean if interval else line.mean(line.last)
    return size if math.isfinite(size) else math.inf


def _compared(line: Line) -> tuple[Interval | None, str]:
    """Return the change of a line, and the words for what it is compared with."""
    if line.regime != CONTROL and line.reference:
        return line.against_reference(), "the control's"
    return line.since_start(), "that of generation 0"


def _difference(line: Line) -> str:
    """Return the words for the change in the leading column."""
    after = f"after {line.last} generation{'s' if line.last != 1 else ''}"
    subject, value = SUBJECTS[line.metric], line.mean(line.last)
    if math.isinf(value):
        return f"{subject} is infinite {after}: the model gives no chance at all to some held-out token"
    interval, reference = _compared(line)
    if interval is None or not math.isfinite(interval.mean) or math.isnan(value):
        return f"{subject} is {value:,.{named(line.metric).digits}f} {after}, with no number to compare it with"
    unit = " %" if named(line.metric).relative else " nats per token"
    size = f"{_size(line, interval, abs(interval.mean))}{unit}"
    side = "above" if interval.mean >= 0 else "below"
    if math.isnan(interval.low):
        return f"{subject} is {size} {side} {reference} {after} ({line.pairs_said()}: no interval)"
    low, high = (_size(line, interval, bound) for bound in (interval.low, interval.high))
    bounds = f"[95 % interval {low} to {high}{unit if named(line.metric).relative else ''}]"
    if interval.holds_zero:
        return f"{subject} cannot be told apart from {reference} {after}: {size} {side} {bounds}"
    return f"{subject} is {size} {side} {reference} {after} {bounds}"


def _size(line: Line, interval: Interval, number: float) -> str:
    digits, factor, _ = _unit(line.metric, interval)
    return f"{number * factor:,.{digits}f}"


def _rest(rows: Rows, line: Line, *, first: bool) -> str:
    """Return the words for rare words (or, on a known source, for diversity) in the same regime and generation."""
    column = "rare_survival" if kind_of(rows) == "text" else "heterozygosity"
    value = _mean(rows, line, line.regime, column)
    if not math.isfinite(value):
        return ""
    if column == "heterozygosity":
        return f"; two generated rows differ at a locus with chance {value:.3f}"
    marks = {
        "under the control": math.nan if line.regime == CONTROL else _mean(rows, line, CONTROL, column),
        "in as much fresh human text": _mean(rows, line, line.regime, "rare_survival_human") if first else math.nan,
    }
    known = ", ".join(f"{_share(1 - kept)} {where}" for where, kept in marks.items() if math.isfinite(kept))
    return f"; {_share(1 - value)} of the rare words are no longer written{f' ({known})' if known else ''}"


def _mean(rows: Rows, line: Line, regime: str, column: str) -> float:
    """Return the mean of a column over a regime's seeds, in the arm and last generation of a line; NaN without rows."""
    place = {**line.axes, "regime": regime, "generation": line.last}
    values = [row[column] for row in rows if all(row[name] == value for name, value in place.items())]
    return fmean(values) if values else math.nan


def _share(share: float) -> str:
    """Return a share in words: "88 %", "3.6 %"; 0 and 100 only where it is exactly that."""
    digits = 0 if 0.0995 <= share < 0.995 or share in (0, 1) else 1
    inside = min(max(share, 0.001), 0.999) if 0 < share < 1 else share
    return f"{100 * inside:.{digits}f} %"
