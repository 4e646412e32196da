"""The collapse profile as people read it: a grid of definitions and regimes, findings in words, whose text is lost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lab.collapse.chains import LEAST_ROWS, Chains
from lab.collapse.verdicts import COLLAPSED, FAMILY, MISSING, NOT, UNDECIDED
from lab.config.model import PretrainedConfig
from lab.config.study import StudyConfig
from lab.config.sweep import arm_label, label
from lab.definitions import DEFINITIONS, Definition, Finding
from lab.metrics.columns import column
from lab.metrics.stats import FEWEST_DOCUMENTS, Interval, paired_interval
from lab.report.tables import Dim
from lab.run.folder import to_csv
from lab.run.profile import Profile
from lab.store.atomic import write_text

MARKS = {COLLAPSED: "YES", NOT: "no", UNDECIDED: "?", MISSING: "-"}
LEGEND = "YES collapsed, no not collapsed, ? undecided, - not measured; values are against the human control"
PAGE = "lab/collapse/README.md"
LEAST_TOKENS = 1000
"""Held-out tokens of a group below which its loss says little."""
INTERVAL = "95 % interval"
HEADING = ["definition", "value", INTERVAL, "over documents", "holds if", "verdict"]
BESIDE_HEADING = ["beside the definition", "regime", "control", f"difference [{INTERVAL}]"]
WRITTEN_HEADING = ["human copies of the word", "regime", "control", "human text"]
BESIDE = {
    1: ("perplexity", "bits_per_byte"),
    4: ("writer_nll", "distinct_2", "self_bleu", "compression", "entropy"),
    6: ("mode_entropy", "largest_mode", "effective_modes", "effective_models"),
    7: ("rare_survival", "nll_rare", "nll_common", "overlap_8", "overlap_13"),
    8: ("unknown_words", "kl_to_judge", "judge_nll", "above_human", "below_human"),
}
"""Number of a definition -> columns that are shown beside its estimator."""
WIDE = 100.0
"""Upper bound of a ratio, and width of an interval of losses, from which it says nothing."""
HARM_HEADING = ["group", "loss", INTERVAL, "over documents", "text", f"{INTERVAL} of the ratio"]


def of_seeds(heading: Sequence[str], seeds: int) -> list[str]:
    """Return the heading of a table of so many seeds; of one seed it says that there is no interval over seeds."""
    return [cell.replace(INTERVAL, "one seed: no interval") if seeds == 1 else cell for cell in heading]


def name(profile: Profile) -> str:
    """Return the name of a profile's regime and arm in tables."""
    return label(profile.regime, profile.axes)


def by_arm(profiles: Sequence[Profile]) -> dict[str, list[Profile]]:
    """Return the profiles of each arm of a sweep, by its name; of a study without a sweep all, by an empty one."""
    arms: dict[str, list[Profile]] = {}
    for profile in profiles:
        arms.setdefault(arm_label(profile.axes), []).append(profile)
    return arms


def grid(profiles: Sequence[Profile]) -> tuple[list[str], list[list[str]]]:
    """Return heading and cells of the grid: a row per definition, a column per regime (of several arms, with the arm).

    Three regimes of one arm fit 80 columns.
    """
    cells = [
        [_numbered(definition), *(_mark(each.findings[row]) for each in profiles)]
        for row, definition in enumerate(DEFINITIONS)
    ]
    names = [profile.regime for profile in profiles] if len(by_arm(profiles)) == 1 else map(name, profiles)
    return ["definition", *names], cells


def _numbered(definition: Any) -> str:
    return f"{definition.name} ({definition.number})"


def _mark(finding: Finding) -> str:
    mark = MARKS[finding.verdict]
    text = mark if math.isnan(finding.value.mean) else f"{mark} {finding.value.mean:+.2f}"
    return Dim(text) if finding.verdict in (UNDECIDED, MISSING) else text


def summary(profile: Profile) -> str:
    """Return the line of a regime: "replace: collapsed by 2, 7, 8; not by 1, 4; undecided 3, 6; not measured 5"."""
    said = {COLLAPSED: "collapsed by", NOT: "not by", UNDECIDED: "undecided", MISSING: "not measured"}
    parts = []
    for verdict, words in said.items():
        numbers = [str(f.definition.number) for f in profile.findings if f.verdict == verdict]
        if numbers:
            parts.append(f"{words} {', '.join(numbers)}")
    return f"{name(profile)}: {'; '.join(parts)}"


def cells(profile: Profile) -> list[list[str]]:
    """Return a row per definition: value with unit, intervals, threshold, verdict."""
    return [
        [
            _numbered(finding.definition),
            "" if math.isnan(finding.value.mean) else f"{finding.value.mean:+.3f} {finding.definition.unit}",
            bounds(finding.value),
            over_documents(finding.documents),
            _condition(finding),
            finding.verdict,
        ]
        for finding in profile.findings
    ]


def bounds(interval: Interval, form: str = "+.3f") -> str:
    """Return the bounds of an interval: "[+0.757, +0.784]"; an empty string without bounds."""
    return "" if math.isnan(interval.low) else f"[{interval.low:{form}}, {interval.high:{form}}]"


def over_documents(interval: Interval | None) -> str:
    """Return the bounds of an interval over test documents; in words where there are too few documents for one."""
    if interval is None:
        return ""
    if math.isnan(interval.low):
        return f"fewer than {FEWEST_DOCUMENTS}"
    return bounds(interval) if interval.high - interval.low < WIDE else "too wide to tell"


def _condition(finding: Finding) -> str:
    sign = ">" if finding.definition.side == "above" else "<"
    near = f", not if < {finding.near:.3g}" if finding.near != finding.threshold else ""
    return f"{sign} {finding.threshold:.3g}{near}"


def sentences(profile: Profile) -> list[str]:
    """Return each finding in words, with its number, papers that use the definition, and the page of its formulas."""
    return [
        f"{each.definition.number}. {each.words} ({each.definition.source}; {page(each.definition)})"
        for each in profile.findings
    ]


def beside(profile: Profile) -> list[list[str]]:
    """Return a row per column that is shown beside a definition: regime, control, paired difference.  No verdicts."""
    rows = []
    pairs = profile.chains.pairs()
    for number, names in BESIDE.items():
        for metric in names:
            values = np.array([[point.columns[metric] for point in pair] for pair in pairs])
            if values.size and np.isfinite(values).all():
                digits = max(3, column(metric).digits)
                means = [f"{mean:,.{digits}f}" for mean in values.mean(axis=0)]
                difference = paired_interval(values[:, 0] - values[:, 1])
                change = f"{difference.mean:+,.{digits}f} {bounds(difference, f'+,.{digits}f')}".strip()
                rows.append([f"{metric} ({number})", *means, Dim(change) if difference.holds_zero else change])
    return rows


def written(profile: Profile) -> list[list[str]]:
    """Return a row per bin of human training counts: the share of the written words of regime, control, human text."""
    pairs = profile.chains.pairs()
    bins = dict.fromkeys(each["bin"] for pair in pairs for point in pair for each in point.written)
    rows = []
    for name in bins:
        found = [
            [next((each[side] for each in point.written if each["bin"] == name), 0.0) for point, side in sides]
            for sides in ([(a, "sample"), (b, "sample"), (b, "human")] for a, b in pairs)
        ]
        rows.append([name, *(f"{mean:.4f}" for mean in np.mean(found, axis=0))])
    return rows


def power_line(profile: Profile) -> str:
    """Return which effects this many seeds can find."""
    found = [f"{f.definition.number}: {f.power:.2g}" for f in profile.findings if math.isfinite(f.power)]
    if not found:
        return ""
    seeds = len(profile.chains.seeds)
    return f"smallest effects that {seeds} seeds find 8 times in 10, in the unit of the value: {', '.join(found)}"


def statement(profiles: Sequence[Profile]) -> str:
    """Return what every verdict rests on."""
    seeds = sorted({seed for each in profiles for seed in each.chains.seeds})
    last = sorted({each.chains.last for each in profiles})
    spread = "one seed has no interval and no verdict" if len(seeds) == 1 else "paired t intervals of 95 %"
    return (
        f"generation {', '.join(map(str, last))} against the control of the same seed; seeds {_listed(seeds)} "
        f"(n = {len(seeds)}), {spread}; a loss must also hold over test documents (bootstrap); "
        f"Holm's correction at {FAMILY:.0%} over the definitions of a regime (the p value of 6 is of all its modes "
        f"together), none over regimes; what each definition is: lab profile --definitions, and {PAGE}"
    )


def judge_note(config: StudyConfig) -> str:
    """Return what the judge shares with the generations that it reads; empty where it starts from random weights."""
    if not (config.profile and config.profile.judge and config.train and config.train.start != "scratch"):
        return ""
    if config.train.base is None and not isinstance(config.model, PretrainedConfig):
        return ""
    return (
        "the judge of definition 8 starts from a base model, as the generations do: what that knows, both know, and "
        "its losses say less against them than those of an independent judge"
    )


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds)) or "none in common with the control"


def definitions() -> list[str]:
    """Return the eight definitions in words: estimator, unit, threshold and its reason, papers."""
    return [
        f"{each.number}. {each.name}: {each.estimator} ({each.unit}); threshold profile.thresholds.{each.threshold}: "
        f"{each.why}. {each.source}; {page(each)}"
        for each in DEFINITIONS
    ]


def page(definition: Definition) -> str:
    """Return page and section of the formulas of a definition: "lab/collapse/README.md#2-increase-of-risk"."""
    return f"{PAGE}#{definition.number}-{definition.name.replace(' ', '-')}"


def harm(profile: Profile) -> dict[str, tuple[list[list[str]], list[str]]]:
    """Return, by column of labels, what became of each group of text, sorted by the text it lost, and the small groups.

    The change of the held-out loss is in nats per token.  The text is the share of generated rows that a classifier
    gives to the group, as a ratio to the control's.
    """
    tables: dict[str, list[tuple[float, list[str]]]] = {}
    small: dict[str, list[str]] = {}
    pairs = profile.chains.pairs()
    groups = dict.fromkeys((each["column"], each["group"]) for point, _ in pairs for each in point.groups)
    for kind, group in groups:
        found = [[_of(point.groups, kind, group) for point in pair] for pair in pairs]
        rows, whole = tables.setdefault(kind, []), all(side is not None for pair in found for side in pair)
        if whole and (harmed := _harmed(kind, group, found, profile.chains)):
            rows.append(harmed)
        else:  # a group that the human rows of one seed lack is small, too
            small.setdefault(kind, []).append(group)
    return {
        kind: ([row for _, row in sorted(rows, key=lambda each: each[0])], small.get(kind, []))
        for kind, rows in tables.items()
    }


def _of(groups: Sequence[Mapping[str, Any]], kind: str, group: str) -> Mapping[str, Any] | None:
    return next((each for each in groups if each["column"] == kind and each["group"] == group), None)


def _harmed(kind: str, group: str, found: Sequence[Sequence[Any]], chains: Chains) -> tuple[float, list[str]] | None:
    """Return what a group is sorted by, and its cells; None where neither its loss nor its text can be told."""
    little = "too little text"
    losses = [a["nll"] - b["nll"] for a, b in found if a["nll"] is not None and b["nll"] is not None]
    enough = len(losses) == len(found) and min(a["test_tokens"] for a, _ in found) >= LEAST_TOKENS
    loss = paired_interval(losses) if enough else None
    documents = chains.over_documents(found[0][0]["documents"], f"{kind} {group}") if enough else None
    logs = [math.log((a["rows"] + 0.5) / (b["rows"] + 0.5)) for a, b in found]
    text = paired_interval(logs) if np.mean([b["rows"] for _, b in found]) >= LEAST_ROWS else None
    ratio = Interval(*(math.exp(x) for x in (text.mean, text.low, text.high))) if text else None
    if loss is None and ratio is None:
        return None
    row = [
        group,
        f"{loss.mean:+.3f}" if loss else little,
        bounds(loss) if loss else "",
        over_documents(documents),
        f"x {ratio.mean:.2f}" if ratio else little,
        _told(ratio),
    ]
    return (ratio.mean if ratio else math.inf, row)


def _told(ratio: Interval | None) -> str:
    """Return the interval of a ratio; words where it tells nothing, and nothing where one seed gives none."""
    if ratio is None or math.isnan(ratio.high):
        return ""
    return bounds(ratio, ".2f") if ratio.high < WIDE else "too wide to tell"


def tidy(profiles: Sequence[Profile]) -> list[dict[str, Any]]:
    """Return a row per regime and definition for files: numbers as numbers, those that do not exist left out."""
    rows = []
    for profile in profiles:
        for finding in profile.findings:
            documents = finding.documents or Interval(math.nan, math.nan, math.nan)
            numbers = {
                "value": finding.value.mean,
                "low": finding.value.low,
                "high": finding.value.high,
                "documents_low": documents.low,
                "documents_high": documents.high,
                "threshold": finding.threshold,
                "near": finding.near,
                "p": finding.p,
                "detects": finding.power,
            }
            rows.append(
                {
                    "regime": profile.regime,
                    **profile.axes,
                    "number": finding.definition.number,
                    "definition": finding.definition.name,
                    "verdict": finding.verdict,
                    **{key: value for key, value in numbers.items() if math.isfinite(value)},
                    "unit": finding.definition.unit,
                    "generation": profile.chains.last,
                    "seeds": len(profile.chains.seeds),
                    "words": finding.words,
                    "source": finding.definition.source,
                    "page": page(finding.definition),
                }
            )
    return rows


def save(profiles: Sequence[Profile], path: Path) -> None:
    """Write a row per regime and definition as CSV."""
    write_text(path, as_csv(tidy(profiles)))


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return tidy rows as CSV."""
    return to_csv(rows, list(dict.fromkeys(name for row in rows for name in row)))
