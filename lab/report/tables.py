"""The results as people read them: regimes over generations, as a table, Markdown, LaTeX, CSV or JSON."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from rich.console import Group, JustifyMethod
from rich.table import Table
from rich.text import Text

from lab.config.study import StudyConfig
from lab.config.sweep import arms
from lab.errors import InputError, printable
from lab.lookup import suggestion
from lab.metrics.columns import BY_NAME, column, headline
from lab.metrics.stats import Interval, paired_interval
from lab.report.escape import latex, markdown
from lab.run.folder import axes_of, to_csv

CONTROL = "human"
SPARKS = "▁▂▃▄▅▆▇█"
MOST_COLUMNS = 7
"""Generations that a printed table shows; of more, the first, the last and some between."""


Rows = Sequence[Mapping[str, Any]]
Titles = Mapping[str, str]
"""Column of a user's own metric -> what it is called above its table."""
NO_TITLES: Titles = {}


@dataclass(frozen=True)
class Line:
    """One metric of one regime, in one arm of a sweep if there is one, over the generations, by seed."""

    metric: str
    regime: str
    axes: Mapping[str, Any]
    """The swept fields and their values."""
    values: dict[int, dict[int, float]]
    """generation -> seed -> value"""
    control: dict[int, dict[int, float]]

    @property
    def label(self) -> str:
        """As tables and legends name it: "replace, temperature 0.7"; fields of one last name keep their whole names."""
        short = [name.split(".")[-1] for name in self.axes]
        names = [name if short.count(end) > 1 else end for name, end in zip(self.axes, short, strict=True)]
        return printable(
            ", ".join([self.regime, *(f"{k} {v}" for k, v in zip(names, self.axes.values(), strict=True))])
        )

    @property
    def last(self) -> int:
        return max(self.values)

    def mean(self, t: int) -> float:
        return fmean(self.values[t].values())

    def spread(self, t: int) -> float:
        """Standard deviation over seeds; NaN for one seed."""
        values = list(self.values[t].values())
        return stdev(values) if len(values) > 1 and all(map(math.isfinite, values)) else math.nan

    def change(self) -> float:
        """Of the mean, from generation 0 to the last, over the seeds that have both; NaN where none has."""
        pairs = self._pairs(self.values.get(0, {}))
        return self._difference(*map(fmean, zip(*pairs, strict=True))) if pairs else math.nan

    def against_control(self) -> Interval | None:
        """At the last generation, by seed: the paired difference (or ratio - 1) to the human control."""
        pairs = [] if self.regime == CONTROL else self._pairs(self.control.get(self.last, {}))
        return paired_interval([self._difference(*pair) for pair in pairs]) if pairs else None

    def _pairs(self, other: Mapping[int, float]) -> list[tuple[float, float]]:
        """The last generation's values beside others of the same seeds."""
        return [(value, other[seed]) for seed, value in sorted(self.values[self.last].items()) if seed in other]

    def _difference(self, value: float, other: float) -> float:
        return value / other - 1 if column(self.metric).relative else value - other


def measured_in(rows: Rows) -> list[str]:
    """Return the measured columns of a table: those after `generation`."""
    columns = list(rows[0]) if rows else ["generation"]
    return columns[columns.index("generation") + 1 :]


def headline_of(rows: Rows, kind: str) -> list[str]:
    """Return the columns that are shown of a table where nothing is asked for: a few, and the user's own metrics."""
    return [*headline(kind), *(name for name in measured_in(rows) if name not in BY_NAME)]


def lines(rows: Rows, metrics: Sequence[str]) -> list[Line]:
    """One line for each metric, regime and arm, in order.  InputError for a metric that is not in the table.

    The control of a line is the human regime of the same arm.
    """
    measured = measured_in(rows)
    for name in metrics:
        if name not in measured:
            hint = suggestion(name, measured) or f"; there are {', '.join(measured)}"
            raise InputError(f'unknown metric "{name}"{hint}')
    swept = axes_of(rows)
    found = []
    for metric in metrics:
        values: dict[tuple[Any, ...], dict[int, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
        for row in rows:
            values[row["regime"], *(row[name] for name in swept)][row["generation"]][row["seed"]] = row[metric]
        for (regime, *arm), by in values.items():
            control = values.get((CONTROL, *arm), {})
            found.append(Line(metric, regime, dict(zip(swept, arm, strict=True)), dict(by), dict(control)))
    return found


def sparkline(values: Sequence[float], low: float, high: float) -> str:
    """sparkline([1, 2, 3], 1, 3) == "▁▅█": bars from `low` to `high`; no span is low bars, NaN a space."""
    top, span = len(SPARKS) - 1, high - low
    return "".join(
        " " if not math.isfinite(value) else SPARKS[round((value - low) / span * top)] if span else SPARKS[0]
        for value in values
    )


def shown_generations(generations: Collection[int], most: int = MOST_COLUMNS) -> list[int]:
    """All of a few, else `most` of them, evenly spread, with the first and the last."""
    ts = sorted(generations)
    if len(ts) <= most:
        return ts
    return sorted({ts[round(i * (len(ts) - 1) / (most - 1))] for i in range(most)})


def caption(config: StudyConfig, rows: Rows) -> str:
    """What every result must say: corpus, model, decoding, seeds, sizes."""
    seeds = sorted({row["seed"] for row in rows})
    model, training = config.model, config.train
    name = printable(model.title) + (f", {config.population} models a generation" if config.population > 1 else "")
    tokens = f"{training.convention}, {training.start_title}" if training else "fitted by counting"
    room, layout = ("up to ", ", each a document's") if config.corpus.layout == "documents" else ("", "")
    swept = f"swept: {', '.join(axes_of(rows))}; where not swept: " if axes_of(rows) else ""
    return (
        f"{config.name}: {swept}{name}, rows of {model.n_positions} tokens{layout}; "
        f"{room}{config.corpus.tokens:,} human tokens a seed from {printable(config.corpus.title)}; {tokens}; "
        f"{room}{config.sample_rows * model.n_positions:,} sampled at {config.sample.title}; "
        f"test {config.metrics.test_tokens:,} tokens; texts compared at {config.metrics.tokens:,}; "
        f"seeds {listed(seeds)} (n = {len(seeds)}), mean ± standard deviation; "
        f"vs human: paired difference over seeds with 95 % t interval{_unfinished(config, rows)}"
    )


def _unfinished(config: StudyConfig, rows: Rows) -> str:
    """Chains that failed or were not run to their end, and how far they came; nothing where all are complete."""
    measured = Counter(tuple(str(row[name]) for name in ("regime", *axes_of(rows), "seed")) for row in rows)
    short = []
    for arm in arms(config):
        for regime, seed in itertools.product(arm.config.regimes, arm.config.seeds):
            chain = (regime.label, *map(str, arm.axes.values()), str(seed))
            found, wanted = measured[chain], arm.config.generations
            if found < wanted:
                short.append(f"{' '.join(chain[:-1])} seed {seed} ({found} of {wanted} generations)")
    return f"; INCOMPLETE: {', '.join(short)}" if short else ""


def listed(seeds: Sequence[int]) -> str:
    """listed([0, 1, 5]) == "0, 1, 5"; of more than eight in a row only the ends: "0 to 13"."""
    if len(seeds) > 8 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds))


def heading(ts: Sequence[int]) -> list[str]:
    names = [f"gen {t}" for t in ts]
    return ["regime", *names, "trend", "since gen 0", "last gen vs human"]


def block(group: Sequence[Line], ts: Sequence[int]) -> list[list[str]]:
    """The cells of one metric's lines.  Their trends share one scale, so that bars compare between regimes."""
    means = [mean for line in group for mean in map(line.mean, line.values) if math.isfinite(mean)]
    final = max(line.last for line in group)
    return [_cells(line, ts, final, min(means, default=0.0), max(means, default=0.0)) for line in group]


def title(metric: str, rows: Rows, titles: Titles = NO_TITLES) -> str:
    """With the mark that survival must be read against."""
    if metric != "rare_survival":
        return titles.get(metric, column(metric).title)
    mark = fmean(row["rare_survival_human"] for row in rows)
    return f"{column(metric).title}; an equal-size human resample holds {mark:.3f}"


def _cells(line: Line, ts: Sequence[int], final: int, low: float, high: float) -> list[str]:
    values = [value_of(line, t) if t in line.values else "" for t in ts]
    trend = sparkline([line.mean(t) for t in sorted(line.values)], low, high)
    upto = "" if line.last == final else f" (gen {line.last})"  # a chain that stopped early says where
    change = _change(line.metric, line.change()) + upto
    return [line.label, *values, trend, change, _interval(line.metric, line.against_control())]


def value_of(line: Line, t: int) -> str:
    """Mean and standard deviation over seeds: 104.2±1.3."""
    digits, spread = column(line.metric).digits, line.spread(t)
    return f"{line.mean(t):,.{digits}f}" + ("" if math.isnan(spread) else f"±{spread:.{digits}f}")


def _change(metric: str, change: float) -> str:
    shown = column(metric)
    return f"{change:+.1%}" if shown.relative else f"{change:+,.{shown.digits}f}"


def _interval(metric: str, interval: Interval | None) -> str:
    if interval is None:
        return ""
    mean = _change(metric, interval.mean)
    if math.isnan(interval.low):
        return f"{mean} (one seed)"
    return f"{mean} [{_change(metric, interval.low)}, {_change(metric, interval.high)}]"


def rich_table(rows: Rows, metrics: Sequence[str], width: int, titles: Titles = NO_TITLES) -> Group:
    """A block for each metric, their columns aligned; what does not fit into `width` characters is left out."""
    found = _by_metric(lines(rows, metrics))
    head, body, widths = next(
        (layout for layout in _layouts(rows, found) if sum(layout[2]) + 2 * (len(layout[2]) - 1) <= width),
        _layout(rows, found, 2, OPTIONAL),
    )
    blocks: list[Text | Table] = []
    for metric, group in body.items():
        table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
        for name, wide in zip(head, widths, strict=True):
            side: JustifyMethod = "left" if name in ("regime", "trend") else "right"
            table.add_column(name, justify=side, min_width=wide, no_wrap=True)
        for row in group:
            table.add_row(*row)
        blocks += [Text(title(metric, rows, titles), style="bold"), table, Text()]
    return Group(*blocks)


OPTIONAL = ("trend", "since gen 0", "last gen vs human")
"""Columns that a narrow terminal goes without, the first first; `lab show --format md` has them all."""
Layout = tuple[list[str], dict[str, list[list[str]]], list[int]]


def _layouts(rows: Rows, found: Sequence[tuple[str, list[Line]]]) -> Iterator[Layout]:
    """From the fullest to the barest: fewer generations down to three, then fewer columns."""
    for dropped in range(len(OPTIONAL) + 1):
        for most in range(MOST_COLUMNS, 2, -1):
            yield _layout(rows, found, most, OPTIONAL[:dropped])


def _layout(rows: Rows, found: Sequence[tuple[str, list[Line]]], most: int, without: Sequence[str]) -> Layout:
    """Heading, cells by metric, and the width of each column."""
    ts = shown_generations({row["generation"] for row in rows}, most)
    keep = [i for i, name in enumerate(heading(ts)) if name not in without]
    head = [heading(ts)[i] for i in keep]
    body = {metric: [[row[i] for i in keep] for row in block(group, ts)] for metric, group in found}
    everything = [head, *(row for group in body.values() for row in group)]
    return head, body, [max(map(len, column)) for column in zip(*everything, strict=True)]


def _by_metric(found: Sequence[Line]) -> list[tuple[str, list[Line]]]:
    return [
        (metric, [line for line in found if line.metric == metric]) for metric in dict.fromkeys(x.metric for x in found)
    ]


def as_markdown(rows: Rows, metrics: Sequence[str], titles: Titles = NO_TITLES) -> str:
    ts = shown_generations({row["generation"] for row in rows})
    head = heading(ts)
    blocks = []
    for metric, group in _by_metric(lines(rows, metrics)):
        body = ["| " + " | ".join(map(markdown, row)) + " |" for row in block(group, ts)]
        rule = "|" + "|".join([" --- "] + [" ---: "] * (len(head) - 1)) + "|"
        blocks.append(
            "\n".join([f"**{title(metric, rows, titles)}**", "", "| " + " | ".join(head) + " |", rule, *body])
        )
    return "\n\n".join(blocks) + "\n"


def as_latex(rows: Rows, metrics: Sequence[str], titles: Titles = NO_TITLES) -> str:
    """A tabular for booktabs, without the sparklines."""
    ts = shown_generations({row["generation"] for row in rows})
    keep = [i for i, name in enumerate(heading(ts)) if name != "trend"]
    out = [r"\begin{tabular}{l" + "r" * (len(keep) - 1) + "}", r"\toprule"]
    out.append(" & ".join(latex(heading(ts)[i]) for i in keep) + r" \\")
    for metric, group in _by_metric(lines(rows, metrics)):
        out += [r"\midrule", rf"\multicolumn{{{len(keep)}}}{{l}}{{{latex(title(metric, rows, titles))}}} \\"]
        out += [" & ".join(latex(row[i]) for i in keep) + r" \\" for row in block(group, ts)]
    return "\n".join([*out, r"\bottomrule", r"\end{tabular}"]) + "\n"


def tidy(rows: Rows, metrics: Sequence[str]) -> list[dict[str, Any]]:
    """One row for each metric, regime and generation: mean, spread and n over seeds, and the paired difference.

    A number that is not known (the spread of one seed, say) is left out.
    """
    out = []
    for line in lines(rows, metrics):
        for t in sorted(line.values):
            upto = dataclasses.replace(line, values={k: v for k, v in line.values.items() if k <= t})
            interval = upto.against_control() or Interval(math.nan, math.nan, math.nan)
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
            out.append({"metric": line.metric, "regime": line.regime, **line.axes, "generation": t, **known})
    return out


NUMBERS = ("mean", "sd", "n", "since_gen_0", "vs_human", "low", "high")


def formatted(rows: Rows, metrics: Sequence[str], kind: str, titles: Titles = NO_TITLES) -> str:
    match kind:
        case "md":
            return as_markdown(rows, metrics, titles)
        case "latex":
            return as_latex(rows, metrics, titles)
        case "csv":
            return to_csv(tidy(rows, metrics), ("metric", "regime", *axes_of(rows), "generation", *NUMBERS))
        case "json":
            return json.dumps(tidy(rows, metrics), indent=1) + "\n"
    raise InputError(f'unknown format "{kind}"; allowed: md, csv, json, latex')
