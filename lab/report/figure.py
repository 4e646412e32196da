"""Figure of a run: four panels over the generations.  A colour is a regime, a mark an arm, a line style a metric."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from statistics import fmean
from typing import Any

from lab.config.sweep import arm_label
from lab.errors import InputError
from lab.metrics.columns import panels
from lab.report.lines import CONTROL, Line, Rows, kind_of, lines, measured_in

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Colours of regimes.  The first is the control's, also where a run has none."""
MARKS = "os^Dv*Pp<X>hd"
"""Marks of arms: filled ones, then the same hollow."""
STYLES = ("-", ":")
MOST_IN_PANEL = 5
"""Most entries of a legend that leave room for the lines of a panel."""
FORMATS = (".png", ".svg", ".pdf")


def figure(rows: Rows, heading: str, path: Path, *, log: bool = False) -> None:
    """Draw four panels over the generations: a thin line per seed, a bold line for their mean.

    Args:
        rows: the rows of results.csv.
        heading: the line above the panels.
        path: a name that ends in .png, .svg or .pdf.
        log: whether the axis of perplexity is logarithmic.

    Raises:
        InputError: another suffix, or `log` of a run without a panel of perplexity.
    """
    drawn = panels(kind_of(rows))
    if log and ["perplexity"] not in drawn.values():
        raise InputError("--log is for the panel of perplexity, and the figure of a known source has none")
    with canvas(path, heading, 2, 2, (9, 6.4)) as (drawing, axes):
        looks = looks_of(rows)
        for axis, (label, metrics) in zip(axes, drawn.items(), strict=True):
            _panel(axis, rows, metrics, looks)
            logarithmic = log and metrics == ["perplexity"]
            if logarithmic:
                _logarithmic(axis)
            axis.set_title(f"{label}{' (logarithmic)' if logarithmic else ''}", loc="left", fontsize=9.5)
            axis.set_xlabel("generation")
            axis.xaxis.get_major_locator().set_params(integer=True)
            if "nll_rare" in metrics:
                _legend_of_styles(axis)
            if "rare_survival" in metrics:
                _mark_resample(axis, rows)
        _legend(drawing, axes[0], looks)


@contextmanager
def canvas(
    path: Path, heading: str, down: int, across: int, size: tuple[float, float], *, shared: bool = False
) -> Iterator[tuple[Any, list[Any]]]:
    """Yield a figure and its axes to draw on, then write it to `path` with a line above the panels.

    Args:
        path: a name that ends in .png, .svg or .pdf.
        heading: the line above the panels.
        down: rows of panels.
        across: columns of panels.
        size: width and height, inches.
        shared: whether all panels have the same axes.

    Raises:
        InputError: another suffix.
    """
    if path.suffix not in FORMATS:
        raise InputError(f"figure {path}: the name must end in .png, .svg or .pdf")
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    look: dict[Any, Any] = {"svg.hashsalt": "lab", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    # Names are plain text, not formulas.  A letter that the font lacks is drawn as a box, without a warning.
    with plt.rc_context({**look, "text.parse_math": False, "text.usetex": False}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        drawing, axes = plt.subplots(
            down, across, figsize=size, layout="constrained", squeeze=False, sharex=shared, sharey=shared
        )
        try:
            yield drawing, list(axes.flat)
            drawing.suptitle(heading, fontsize=10, x=0.01, ha="left")
            drawing.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
        finally:
            plt.close(drawing)


@dataclass(frozen=True)
class Looks:
    """How lines look: the colour of each regime, and the mark of each arm."""

    colours: dict[str, Any]
    marks: dict[str, dict[str, Any]]


def looks_of(rows: Rows) -> Looks:
    """Give each regime a colour of its own, and each arm a mark; of more than 26 arms, marks repeat."""
    from matplotlib import colormaps

    found = lines(rows, measured_in(rows)[:1])
    regimes = list(dict.fromkeys(line.regime for line in found))
    swept = dict.fromkeys(arm_label(line.axes) for line in found)
    named = list(dict.fromkeys([CONTROL, *regimes]))
    more = colormaps["turbo"]
    colours = COLOURS if len(named) <= len(COLOURS) else [more(i / len(named)) for i in range(len(named))]
    of_each = dict(zip(named, colours, strict=False))
    shapes = [{"marker": mark, "fillstyle": fill} for fill in ("full", "none") for mark in MARKS]
    return Looks({name: of_each[name] for name in regimes}, dict(zip(swept, cycle(shapes), strict=False)))


def _panel(axis: Any, rows: Rows, metrics: Sequence[str], looks: Looks) -> None:
    """Draw one metric as it is, or two metrics as changes since generation 0."""
    size = 3 if len(looks.marks) == 1 else 5
    for style, metric in zip(STYLES, metrics, strict=False):
        for line in lines(rows, [metric]):
            colour, mark = looks.colours[line.regime], looks.marks[arm_label(line.axes)]
            curves = _curves(line, since_start=len(metrics) > 1)
            for points in curves.values():
                axis.plot(*_xy(points), color=colour, alpha=0.3, linewidth=0.8, linestyle=style)
            mean = {
                t: fmean(c[t] for c in curves.values() if t in c)
                for t in sorted({t for c in curves.values() for t in c})
            }
            axis.plot(*_xy(mean), color=colour, linestyle=style, linewidth=1.8, markersize=size, **mark)


def _legend(drawing: Any, axis: Any, looks: Looks) -> None:
    """Name the colours, and the marks where there are several: in the first panel, or below where there are many."""
    handles = [axis.plot([], [], color=colour, label=shown_label(name))[0] for name, colour in looks.colours.items()]
    if len(looks.marks) > 1:
        gray = {"color": "#333333", "linestyle": ""}
        handles += [axis.plot([], [], label=shown_label(name), **gray, **mark)[0] for name, mark in looks.marks.items()]
    if len(handles) <= MOST_IN_PANEL:
        axis.legend(handles=handles, frameon=False)
    else:
        drawing.legend(handles=handles, frameon=False, fontsize=8, loc="outside lower center", ncols=4)


def _logarithmic(axis: Any) -> None:
    """Make the vertical axis logarithmic, with plain numbers."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axis.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())


def shown_label(label: str) -> str:
    """Return the label with a space before a first underscore: matplotlib hides such labels from legends."""
    return f" {label}" if label.startswith("_") else label


def _curves(line: Line, *, since_start: bool) -> dict[int, dict[int, float]]:
    """Return seed -> generation -> value.  A seed without generation 0 has no change since then."""
    start = line.values.get(0, {})
    curves: dict[int, dict[int, float]] = {}
    for t in sorted(line.values):
        for seed, value in line.values[t].items():
            base = start.get(seed, math.nan) if since_start else 0.0
            if math.isfinite(value - base):
                curves.setdefault(seed, {})[t] = value - base
    return curves


def _xy(points: dict[int, float]) -> tuple[list[int], list[float]]:
    return list(points), list(points.values())


def _legend_of_styles(axis: Any) -> None:
    handles = [axis.plot([], [], color="#333333", linestyle=style)[0] for style in STYLES]
    axis.legend(handles, ["rare words (solid)", "common words (dotted)"], frameon=False, fontsize=8)


def _mark_resample(axis: Any, rows: Rows) -> None:
    marks = [row["rare_survival_human"] for row in rows if math.isfinite(row["rare_survival_human"])]
    if marks:
        axis.axhline(fmean(marks), color="#777777", linewidth=1, linestyle="--")
        axis.annotate("an equal-size human resample", (0, fmean(marks)), color="#777777", fontsize=8, va="bottom")
