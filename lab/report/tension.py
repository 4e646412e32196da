"""Feldman's tension: what a generation loses of the tail against what it has memorised, a point per generation.

Feldman 2020 ("Does Learning Require Memorization?"): a model that is right on rare cases must memorise some of them.
Less memorisation is therefore no gain where the tail goes with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from textwrap import fill
from typing import Any

from lab.config.sweep import arm_label, label
from lab.errors import InputError
from lab.metrics.columns import column
from lab.metrics.stats import Interval, mean_interval
from lab.report.figure import Looks, canvas, looks_of, shown_label
from lab.report.lines import CONTROL, Rows, lines, measured_in

TAIL = "new_survival"
MEMORIES = ("extraction", "suffix_gap", "overlap_13")
"""Columns of memorisation, each above a held-out baseline.  The first that tells generations apart is taken: a small
model writes no suffix of 50 tokens and copies no 13-gram, and then the loss of the suffixes says what it remembers."""
LOST = "tail loss"
LOST_UNIT = "share of the control's rare words"
NOTE = f"{LOST}: 1 - rare words written outside of copied 8-grams, over the control's number; Feldman 2020"
LABEL_WIDTH = 52
"""Characters of a line of a horizontal axis' label."""
SIDE_BY_SIDE = 3
"""Most panels of a row of the figure."""
NARROWEST = 0.002
"""Width of the axis of memorisation, at least: where nothing is memorised, rounding is no spread."""


@dataclass(frozen=True)
class Spot:
    """One generation of one regime and arm, over its seeds."""

    regime: str
    axes: Mapping[str, Any]
    generation: int
    seeds: int
    lost: Interval
    """Share of the rare words that the control of the same seed and generation writes, and that it does not."""
    memorised: Interval
    """The column of memorisation."""


def memory_of(rows: Rows) -> str | None:
    """Return the column of memorisation that is shown; None where none is measured, or no rare words are."""
    if TAIL not in measured_in(rows):
        return None
    found = {name: [row[name] for row in rows if math.isfinite(row.get(name, math.nan))] for name in MEMORIES}
    measured = [name for name, values in found.items() if values]
    telling = (name for name in measured if max(found[name]) - min(found[name]) >= 10.0 ** -column(name).digits)
    return next(telling, measured[0] if measured else None)


def spots(rows: Rows) -> list[Spot]:
    """Return a point per regime, arm and generation that has both numbers; [] where they are not measured."""
    memory = memory_of(rows)
    if memory is None:
        return []
    tails, memories = (lines(rows, [name]) for name in (TAIL, memory))
    found = []
    for tail, memorised in zip(tails, memories, strict=True):
        for t in sorted(tail.values):
            control = tail.reference.get(t, {})
            pairs = [
                (1 - value / control[seed], memorised.values[t][seed])
                for seed, value in sorted(tail.values[t].items())
                if control.get(seed)
            ]
            pairs = [pair for pair in pairs if all(map(math.isfinite, pair))]
            if pairs:
                both = [mean_interval(values) for values in zip(*pairs, strict=True)]
                found.append(Spot(tail.regime, tail.axes, t, len(pairs), *both))
    return found


def intervals(rows: Rows) -> str:
    """Return in words what the points have for intervals; one seed has none."""
    several = any(spot.seeds > 1 for spot in spots(rows))
    return "95 % t intervals" if several else "one seed: no intervals"


def table(rows: Rows) -> tuple[list[str], list[list[str]]]:
    """Return heading and cells: two rows per regime and arm, a column per generation; no cells where unmeasured."""
    by: dict[str, dict[int, Spot]] = {}
    for spot in spots(rows):
        by.setdefault(label(spot.regime, spot.axes), {})[spot.generation] = spot
    generations = sorted({t for each in by.values() for t in each})
    cells = []
    for name, each in by.items():
        chosen = [each.get(t) for t in generations]
        memory = str(memory_of(rows))
        cells.append([name, LOST, *("" if spot is None else _cell(spot.lost, 2) for spot in chosen)])
        digits = column(memory).digits
        cells.append(["", memory, *("" if spot is None else _cell(spot.memorised, digits) for spot in chosen)])
    return ["regime", "", *(f"gen {t}" for t in generations)], cells


def _cell(interval: Interval, digits: int) -> str:
    half, mean = interval.high - interval.mean, round(interval.mean, digits) + 0.0  # no minus before a zero
    return f"{mean:.{digits}f}" + (f" ±{half:.{digits}f}" if math.isfinite(half) else "")


def tidy(rows: Rows) -> list[dict[str, Any]]:
    """Return two rows per point for files: the tail loss and the column of memorisation, by `measure`.  No verdicts."""
    found = []
    memory = str(memory_of(rows))
    for spot in spots(rows):
        kinds = [(LOST, spot.lost, LOST_UNIT, "Feldman 2020")]
        kinds.append((memory, spot.memorised, column(memory).unit, column(memory).source))
        for name, interval, unit, source in kinds:
            numbers = {"value": interval.mean, "low": interval.low, "high": interval.high}
            found.append(
                {
                    "regime": spot.regime,
                    **spot.axes,
                    "measure": name,
                    **{key: value for key, value in numbers.items() if math.isfinite(value)},
                    "unit": unit,
                    "generation": spot.generation,
                    "seeds": spot.seeds,
                    "source": source,
                }
            )
    return found


def figure(rows: Rows, heading: str, path: Path) -> None:
    """Draw a panel per arm: a disc per regime and generation with the generation in it, and thin bars for intervals.

    Raises:
        InputError: another suffix than .png, .svg or .pdf, or nothing to draw.
    """
    found = spots(rows)
    if not found:
        raise InputError("no generation has both numbers of this figure; lab profile RUN measures what is missing")
    arms = list(dict.fromkeys(arm_label(spot.axes) for spot in found))
    across = min(SIDE_BY_SIDE, len(arms))
    down = math.ceil(len(arms) / across)
    size = (max(6.0, 4.5 * across), 4.0 * down + 0.5)
    looks = looks_of(rows)
    with canvas(path, heading, down, across, size, shared=True) as (drawing, axes):
        for axis, arm in zip(axes, arms, strict=False):
            _panel(axis, [spot for spot in found if arm_label(spot.axes) == arm], looks)
            axis.set_title(arm, loc="left", fontsize=9.5)
        _label(axes, len(arms), across, rows)
        handles = [axes[0].plot([], [], "o", color=c, label=shown_label(r))[0] for r, c in looks.colours.items()]
        drawing.legend(handles=handles, frameon=False, loc="outside lower center", ncols=4)


def _panel(axis: Any, found: Sequence[Spot], looks: Looks) -> None:
    """Draw the chains of one arm.  The control lies at 0 by definition, under the others."""
    for regime in sorted({spot.regime for spot in found}, key=lambda name: (name != CONTROL, name)):
        colour = looks.colours[regime]
        chain = [spot for spot in found if spot.regime == regime]
        for a, b in pairwise(chain):
            ends = [[spot.memorised.mean for spot in (a, b)], [spot.lost.mean for spot in (a, b)]]
            axis.plot(*ends, color=colour, linewidth=0.8, alpha=0.5, zorder=1)
        for spot in chain:
            x, y = spot.memorised.mean, spot.lost.mean
            bars = {"xerr": _bar(spot.memorised), "yerr": _bar(spot.lost)}
            axis.errorbar(x, y, **bars, color=colour, linewidth=0.7, alpha=0.6, zorder=2)
            axis.plot(x, y, "o", color=colour, markersize=8.5, markeredgecolor="white", markeredgewidth=0.8, zorder=3)
            text = {"color": "white", "fontsize": 6, "ha": "center", "va": "center"}
            axis.annotate(str(spot.generation), (x, y), zorder=4, **text)


def _bar(interval: Interval) -> list[list[float]] | None:
    """Return the lengths of a bar for matplotlib; None for one seed, which has no interval."""
    half = interval.high - interval.mean
    return [[half], [half]] if math.isfinite(half) else None


def _label(axes: Sequence[Any], panels: int, across: int, rows: Rows) -> None:
    """Name the axes at the left and below, and hide panels without an arm."""
    memory = str(memory_of(rows))
    for place, axis in enumerate(axes):
        axis.set_visible(place < panels)
        axis.xaxis.get_major_locator().set_params(nbins=5)
        axis.tick_params(labelbottom=place + across >= panels, labelleft=place % across == 0)
        if place % across == 0:
            axis.set_ylabel(f"{LOST}, {LOST_UNIT}")
        if place + across >= panels:
            axis.set_xlabel(fill(f"{memory}: {column(memory).title}", LABEL_WIDTH))
    low, high = axes[0].get_xlim()
    if high - low < NARROWEST:
        axes[0].set_xlim((low + high - NARROWEST) / 2, (low + high + NARROWEST) / 2)
