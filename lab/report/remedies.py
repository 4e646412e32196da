"""Remedies as people read them: what each saves, what each costs, and the figure of loss, purity and both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lab.collapse.verdicts import COLLAPSED, MISSING, NOT
from lab.config.profile import ProfileConfig
from lab.config.study import StudyConfig
from lab.config.sweep import arm_label
from lab.definitions import Finding
from lab.errors import InputError, printable
from lab.metrics.stats import Interval
from lab.report.figure import COLOURS, MARKS, canvas
from lab.run.remedies import RANDOM, Remedy, baselines

SAVED = (2, 4, 6, 7)
"""Definitions that say what a remedy saves: increase of the loss, variance, modes, tails."""
SAVES_HEADING = ["remedy", "loss above human", "against none", "against random", *map(str, SAVED)]
COSTS_HEADING = ["remedy", "kept", "human", "tpr", "fpr", "passes", "human rows", "copied", "seconds"]
NOTES = (
    "loss above human: held-out loss above the human control's, nats per token, paired by seed [95 % t interval]; "
    "against none and random: that of the same pool untouched, and cut to a random share; below 0 helps; of many "
    "intervals some leave out 0 by chance",
    "numbers 2, 4, 6, 7: the definitions of collapse (lab profile --definitions): YES collapsed, no not collapsed, "
    "? undecided, - not measured, with the value",
    "kept: share of the rows on offer; human: human share of what is trained on, by repeats and weights; tpr, fpr: "
    "machine and human rows dropped; passes: times that a row is read; human rows: different ones in all recipes after "
    "generation 0; copied: share of the last sample's 8-grams that stand in human rows of all its recipes, less that "
    "of held-out rows; seconds: of a worker, a generation, in steps of the curators",
)


def thresholds_of(config: StudyConfig) -> ProfileConfig:
    """Return the section of thresholds of a study, or their defaults."""
    return config.profile or ProfileConfig()


def basis(found: Sequence[Remedy]) -> str:
    """Say which seeds and generation the numbers are of."""
    seeds = sorted({seed for each in found for seed in each.chains.seeds})
    generations = sorted({each.chains.last for each in found})
    when = f"generation {', '.join(map(str, generations))}"
    alone = "" if len(seeds) > 1 else "; one seed has no interval"
    return f"{when}, seeds {', '.join(map(str, seeds))} (n = {len(seeds)}){alone}"


def name(remedy: Remedy) -> str:
    """Return the name of a remedy in tables: its arm, and its regime where the arm does not tell."""
    arm = arm_label(remedy.arm.axes).removeprefix("arm ")
    regime = printable(remedy.regime.partition(",")[0])
    return arm if arm and remedy.alone and not remedy.bare else ", ".join(filter(None, (regime, arm)))


def tables(found: Sequence[Remedy], asked: ProfileConfig) -> list[tuple[str, list[str], list[list[str]]]]:
    """Return title, heading and cells of what remedies save, what they cost, and whom their curators drop."""
    every = [
        ("What each remedy saves", SAVES_HEADING, saves(found, asked)),
        ("What it costs", COSTS_HEADING, costs(found)),
        ("Human rows that its curators drop, by domain, over all generations", *registers(found)),
    ]
    return [each for each in every if each[2]]


def saves(found: Sequence[Remedy], asked: ProfileConfig) -> list[list[str]]:
    """Return a row per remedy: its loss, what it is against no remedy and against chance, and four verdicts."""
    cells = []
    for each in found:
        beside = baselines(found, each)
        by = {finding.definition.number: finding for finding in each.findings(asked)}
        against = [_cell(each.against(beside[kind])) if kind in beside else "" for kind in ("none", RANDOM)]
        cells.append([name(each), _cell(each.above), *against, *(_mark(by[number]) for number in SAVED)])
    return cells


def costs(found: Sequence[Remedy]) -> list[list[str]]:
    """Return a row per remedy: what it drops, what it needs, and what is memorised under it."""
    cells = []
    for each in found:
        shares = [_number(each.mean(column).mean, 2) for column in ("kept", "human_curated", "tpr", "fpr", "passes")]
        if each.bare or not each.arm.config.curators:
            shares = ["", _number(each.mean("human_share").mean, 2), "", "", shares[-1]]
        rest = [_number(each.human_rows, 0), _number(each.copied, 4), _number(each.seconds, 1)]
        cells.append([name(each), *shares, *rest])
    return cells


def registers(found: Sequence[Remedy]) -> tuple[list[str], list[list[str]]]:
    """Return heading and cells: the share of the human rows on offer that each arm's curators drop, by domain."""
    curated = [each for each in found if each.dropped]
    domains = sorted({domain for each in curated for domain in each.dropped})
    cells = []
    for each in curated:
        counts = [each.dropped.get(domain, (0, 0)) for domain in domains]
        shares = ["" if not offered else f"{lost / offered:.2f}" for offered, lost in counts]
        every = sum(lost for _, lost in counts) / sum(offered for offered, _ in counts)
        cells.append([name(each), *shares, f"{every:.2f}"])
    return ["remedy", *map(printable, domains), "all"], cells


def sentences(found: Sequence[Remedy]) -> list[str]:
    """Say which remedies help against the same pool untouched, which cannot be told from it, and which harm.

    One seed says nothing about that.
    """
    groups: dict[str, list[str]] = {"lower the loss": [], "cannot be told from doing nothing": [], "raise the loss": []}
    for each in found:
        none = baselines(found, each).get("none")
        if none is None or len(each.chains.seeds) == 1:
            continue
        change = each.against(none)
        kind = "cannot be told from doing nothing"
        if not change.holds_zero:
            kind = "lower the loss" if change.mean < 0 else "raise the loss"
        gap = none.above.mean if none.chains.last == each.chains.last else math.nan
        saved = -change.mean / gap if gap > 0 else math.nan
        groups[kind].append(name(each) + ("" if math.isnan(saved) else f" ({100 * saved:+.0f} %)"))
    against = "Against the same pool untouched (in brackets: the part of its increase that is saved), these"
    return [f"{against} {words}: {', '.join(names)}." for words, names in groups.items() if names]


def _mark(finding: Finding) -> str:
    """Return verdict and value; without test documents, which a profile brings, a loss has no verdict."""
    if finding.definition.number == 2 and finding.documents is None:
        return f"- {finding.value.mean:+.2f}"
    mark = {COLLAPSED: "YES", NOT: "no", MISSING: "-"}.get(finding.verdict, "?")
    return mark if math.isnan(finding.value.mean) else f"{mark} {finding.value.mean:+.2f}"


def _cell(interval: Interval) -> str:
    if math.isnan(interval.mean):
        return ""
    bounds = "" if math.isnan(interval.low) else f" [{interval.low:+.3f}, {interval.high:+.3f}]"
    return f"{interval.mean:+.3f}{bounds}"


def _number(value: float, digits: int) -> str:
    return "" if math.isnan(value) else f"{value:,.{digits}f}"


def tidy(found: Sequence[Remedy], asked: ProfileConfig) -> list[dict[str, Any]]:
    """Return a row per remedy for files: numbers with bounds, verdicts by definition."""
    rows = []
    for each in found:
        row: dict[str, Any] = {"remedy": name(each), "regime": each.regime, **each.arm.axes}
        row |= {"seeds": len(each.chains.seeds), "generation": each.chains.last}
        beside = baselines(found, each)
        measured = {"above_human": each.above, **{f"against_{k}": each.against(v) for k, v in beside.items()}}
        for kind, interval in measured.items():
            row |= {kind: interval.mean, f"{kind}_low": interval.low, f"{kind}_high": interval.high}
        for finding in each.findings(asked):
            if finding.definition.number in SAVED:
                row |= {f"definition_{finding.definition.number}": finding.verdict}
        for column in ("human_pool", "human_curated", "kept", "tpr", "fpr", "passes"):
            row[column] = each.mean(column).mean
        row |= {"human_rows": each.human_rows, "copied": each.copied, "seconds": each.seconds}
        rows.append({k: v for k, v in row.items() if not (isinstance(v, float) and math.isnan(v))})
    return rows


def figure(found: Sequence[Remedy], heading: str, path: Path) -> None:
    """Draw three panels: loss above the control by generation, human share of the rows fed, and loss against share.

    In the third, a point off the line of the oracles loses something else than purity: variety, or the tail.

    Raises:
        InputError: another suffix than .png, .svg or .pdf, or nothing to draw.
    """
    if not found:
        raise InputError("no arm is measured beside a human control")
    with canvas(path, heading, 1, 3, (14, max(4.6, 0.17 * len(found)))) as (drawing, axes):
        for place, each in enumerate(found):
            look: dict[str, Any] = {"color": COLOURS[place % len(COLOURS)], "markersize": 4, "linewidth": 1.0}
            look |= {"marker": MARKS[place // len(COLOURS) % len(MARKS)], "linestyle": ":" if each.bare else "-"}
            times = range(each.chains.last + 1)
            gaps = [sum(each.chains.gaps(t)) / len(each.chains.seeds) for t in times]
            shares = [each.mean("human_share", t).mean for t in times]
            axes[0].plot(times, gaps, label=name(each), **look)
            axes[1].plot(times, shares, **look)
            axes[2].plot(shares[1:], gaps[1:], **{**look, "linewidth": 0.6, "alpha": 0.8})
        _oracle_line(axes[2], found)
        for axis, title, below in zip(
            axes,
            ("held-out loss above human, nats per token", "human share of the rows fed", "loss against purity"),
            ("generation", "generation", "human share of the rows fed"),
            strict=True,
        ):
            axis.set_title(title, loc="left", fontsize=9.5)
            axis.set_xlabel(below)
        for axis in axes[:2]:
            axis.xaxis.get_major_locator().set_params(integer=True)
        drawing.legend(*axes[0].get_legend_handles_labels(), frameon=False, loc="outside right center", fontsize=7.5)


def _oracle_line(axis: Any, found: Sequence[Remedy]) -> None:
    """Join the last points of the oracles of a regime and decoding, and of the pool untouched, by human share."""
    oracles = [each for each in found if any(c.name == "oracle" for c in each.arm.config.curators)]
    lines: dict[int, list[Remedy]] = {}
    for each in oracles:
        if (none := baselines(found, each).get("none")) is not None:
            lines.setdefault(id(none), [none]).append(each)
    for joined in lines.values():
        ends = sorted((each.mean("human_share").mean, each.above.mean) for each in joined)
        axis.plot(*zip(*ends, strict=True), color="0.5", linestyle="--", linewidth=1.2, zorder=0)
        axis.annotate("oracles", ends[-1], fontsize=7.5, color="0.4")
