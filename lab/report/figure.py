"""Figure of a run: four panels over the generations."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from statistics import fmean
from typing import Any

from lab.errors import InputError
from lab.metrics.columns import panels
from lab.report.tables import Line, Rows, kind_of, lines

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
STYLES = ("-", ":")
FORMATS = (".png", ".svg", ".pdf")


def figure(rows: Rows, heading: str, path: Path) -> None:
    """Draw four panels over the generations: a thin line per seed, a bold line for their mean.

    `path` ends in .png, .svg or .pdf; InputError for another suffix.
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
        drawing, axes = plt.subplots(2, 2, figsize=(9, 6.4), layout="constrained")
        for axis, (label, metrics) in zip(axes.flat, panels(kind_of(rows)).items(), strict=True):
            _panel(axis, rows, metrics)
            axis.set_title(label, loc="left", fontsize=9.5)
            axis.set_xlabel("generation")
            axis.xaxis.get_major_locator().set_params(integer=True)
            if "nll_rare" in metrics:
                _legend_of_styles(axis)
            if "rare_survival" in metrics:
                _mark_resample(axis, rows)
        axes.flat[0].legend(frameon=False)
        drawing.suptitle(heading, fontsize=10, x=0.01, ha="left")
        drawing.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
        plt.close(drawing)


def _panel(axis: Any, rows: Rows, metrics: Sequence[str]) -> None:
    """Draw one metric as it is, or two metrics as changes since generation 0."""
    for style, metric in zip(STYLES, metrics, strict=False):
        for colour, line in zip(cycle(COLOURS), lines(rows, [metric]), strict=False):
            curves = _curves(line, since_start=len(metrics) > 1)
            for points in curves.values():
                axis.plot(*_xy(points), color=colour, alpha=0.3, linewidth=0.8, linestyle=style)
            mean = {
                t: fmean(c[t] for c in curves.values() if t in c)
                for t in sorted({t for c in curves.values() for t in c})
            }
            look = {"color": colour, "linestyle": style, "linewidth": 2, "marker": "o", "markersize": 3}
            axis.plot(*_xy(mean), label=_shown(line.label), **look)


def _shown(label: str) -> str:
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
