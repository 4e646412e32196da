"""A run held against exact theory: for each number that has a closed form, whether the lab's own loop reproduces it.

Rows condition on nothing but the source, except that lost_1 .. lost_3 are given counts in the human rows.  Each seed
has test rows of its own, so that an interval over seeds holds their spread too.

It applies to any study whose corpus is a categorical source and whose model counts positions (independent loci) or is
uniform, at temperature 1, or under `replace` at another temperature or with top-p alone.  Nothing is simulated here:
the values measured are those of results.csv, made by the same regimes, sampler, store and records as any study's.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import nctdtrinc, stdtrit

from lab import theory
from lab.config.model import PositionsConfig, UniformConfig
from lab.config.named import RegimeConfig
from lab.config.study import StudyConfig
from lab.config.text import SourceConfig
from lab.loop import Study
from lab.metrics.stats import mean_interval
from lab.report.escape import markdown
from lab.run.folder import to_csv
from lab.store.atomic import write_text
from lab.text.known_source import KnownSource

PARSED: dict[str, Callable[[str], Any]] = {"str": str, "int": int, "float": float}
CONFIDENCE = 0.999
POWER = 0.95
ROUNDING = 1e-6
"""Relative: what float32 losses may be off by where chance plays no part."""
LARGE = 10_000
"""Rows from which a form for infinitely many is held against a run."""
POOLS: dict[str, theory.Pool] = {
    "replace": "replace",
    "accumulate": "accumulate",
    "accumulate_subsample": "accumulate-subsample",
}


@dataclass(frozen=True)
class Case:
    """One regime of one arm at one generation, as theory sees it.  t = resamplings from the source: generation + 1."""

    config: StudyConfig
    law: np.ndarray
    regime: str
    label: str
    options: Mapping[str, Any]
    generation: int

    @property
    def n(self) -> int:
        return self.config.rows(self.config.corpus.tokens)

    @property
    def t(self) -> int:
        """The human control is fitted to the same human rows in every generation."""
        return 1 if self.regime == "human" else self.generation + 1

    @property
    def decoding(self) -> dict[str, Any]:
        return self.config.sample.decoding

    @property
    def independent(self) -> bool:
        """Whether each locus is a population of its own, written from the first token on by one model."""
        config = self.config
        return isinstance(config.model, PositionsConfig) and config.population == 1 and not config.sample.prompt_tokens

    @property
    def drifts(self) -> bool:
        """Fresh fits by counting, exact n, temperature 1, no truncation: where finite samples have closed forms."""
        same_size = self.config.sample_rows == self.n
        return self.independent and not self.decoding and same_size

    @property
    def counted(self) -> bool:
        """Besides, few enough rows for the exact chain of counts."""
        return self.drifts and self.n <= theory.LARGEST_CHAIN

    @property
    def sharpened(self) -> bool:
        """Replace, with one way of sharpening, and so many rows that drift is far below what a row can detect."""
        return self.independent and self.regime == "replace" and self.n >= LARGE


@dataclass(frozen=True)
class Row:
    """One number with a closed form, beside what was measured."""

    arm: str
    generation: int
    column: str
    law: str
    measured: float
    low: float
    high: float
    """The interval of the mean over seeds at CONFIDENCE."""
    exact: float
    detectable: float
    """The smallest bias that this row would flag with probability POWER."""
    seeds: int

    @property
    def agrees(self) -> bool:
        slack = ROUNDING * abs(self.exact)
        return self.low - slack <= self.exact <= self.high + slack

    @property
    def verdict(self) -> str:
        """`too wide` where the exact value is inside the interval, but a number that is all bias might be as well."""
        if not self.agrees:
            return "OFF"
        return "too wide" if self.detectable > abs(self.exact) > 0 else "agrees"


Law = Callable[[Case], tuple[float, str] | None]


def _retained(case: Case) -> tuple[float, str] | None:
    """The expected share of heterozygosity that is left in generation t, and its formula."""
    if not case.drifts:
        return None
    if case.regime == "human":
        return theory.retained("replace", case.n, 1), "1 - 1/n"
    if case.regime in POOLS:
        formula = {
            "replace": "(1 - 1/n)^t",
            "accumulate": "prod (1 - 1/(n k^2))",
            "accumulate_subsample": "(1 - 1/n) prod [1 - (3n-1)/(n k (n k - 1))]",
        }
        return theory.retained(POOLS[case.regime], case.n, case.t), formula[case.regime]
    if (
        case.regime == "mix"
        and case.options.get("fresh")
        and not (case.options.get("older") or case.options.get("repeat_human"))
    ):
        human = round(case.options["human"] * case.n)
        left = 1 - theory.mix_distance_exact(case.law, case.n, human, case.t) / theory.heterozygosity(case.law)
        return left, "1 - D_t/H0, D_t = H0/n + [(1-L)^2 - (1-L)/n] D_(t-1)"
    return None


def _heterozygosity(case: Case) -> tuple[float, str] | None:
    if (left := _retained(case)) is not None:
        return theory.heterozygosity(case.law) * left[0], f"H0 x [{left[1]}]"
    if case.sharpened and set(case.decoding) == {"temperature"}:
        law = theory.temperature_chain(case.law, case.decoding["temperature"], case.t)
        return theory.heterozygosity(law), "of p^(T^-t)"
    return None


def _distance(case: Case) -> tuple[float, str] | None:
    left = _retained(case)
    return None if left is None else (theory.heterozygosity(case.law) * (1 - left[0]), "H0 - E heterozygosity")


def _types(case: Case) -> tuple[float, str] | None:
    if case.counted and case.regime in ("human", "replace"):
        return theory.expected_types(case.law, case.n, case.t + 1), "sum P(X_(t+1) > 0)"
    if case.sharpened and set(case.decoding) == {"top_p"}:
        law = case.law
        for _ in range(case.t):
            law = theory.top_p(law, case.decoding["top_p"])
        return float(np.count_nonzero(law)), "top-p support, t times"
    return None


def _unseen(case: Case) -> tuple[float, str] | None:
    """Accumulating keeps every type that the human rows have, and no sample has others."""
    if not case.counted or case.regime not in ("human", "replace", "accumulate"):
        return None
    t = case.t if case.regime == "replace" else 1
    return float(case.law @ theory.count_law(case.law, case.n, t)[:, 0]), "sum p P(X_t = 0)"


def _first(case: Case) -> tuple[float, str] | None:
    """A martingale, whatever the regime draws from."""
    if _retained(case) is not None:
        return float(case.law[0]), "p_1 (fixation)"
    if case.sharpened and set(case.decoding) == {"temperature"}:
        law = theory.temperature_chain(case.law, case.decoding["temperature"], case.t)
        return float(law[0]), "of p^(T^-t)"
    return None


def _lost(count: int) -> Law:
    def law(case: Case) -> tuple[float, str] | None:
        if not case.counted or case.regime not in ("human", "replace") or count > case.n:
            return None
        return theory.extinction(count, case.n, case.t), f"P(X_(t+1) = 0 given X_1 = {count})"

    return law


def _perplexity(case: Case) -> tuple[float, str] | None:
    if isinstance(case.config.model, UniformConfig):
        return len(case.law) + 1.0, "V = types + BOS"
    return None


LAWS: dict[str, Law] = {
    "heterozygosity": _heterozygosity,
    "distance": _distance,
    "types": _types,
    "unseen": _unseen,
    "lost_1": _lost(1),
    "lost_2": _lost(2),
    "lost_3": _lost(3),
    "share_first": _first,
    "perplexity": _perplexity,
}

FEW = 20.0
"""Below so many expected (locus, type) pairs of a count, a seed's human rows may hold none, and lost_c is NaN there.
Anywhere else NaN is a number that is OFF."""


def compare(study: Study, results: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Every number of the run that has a closed form.  Empty where none applies, or where fewer than 2 seeds have one.

    `results` are the rows of results.csv.
    """
    found = []
    for case, arm, axes in _cases(study):
        mine = [
            row
            for row in results
            if row["regime"] == case.label
            and row["generation"] == case.generation
            and all(row[name] == value for name, value in axes.items())
        ]
        for column, law in LAWS.items():
            values = [row[column] for row in mine if not (math.isnan(row[column]) and _may_lack(case, column))]
            exact = law(case) if len(values) > 1 else None
            if exact is not None:
                found.append(_row(arm, case.generation, column, exact, values))
    return found


def _may_lack(case: Case, column: str) -> bool:
    """Whether chance may leave a seed without a type of the count that lost_<count> speaks of."""
    name, _, count = column.partition("_")
    if name != "lost" or not case.counted or int(count) > case.n:
        return name == "lost"
    return float(case.config.model.n_positions * theory.count_law(case.law, case.n, 1)[:, int(count)].sum()) < FEW


def _cases(study: Study) -> list[tuple[Case, str, dict[str, Any]]]:
    found = {}
    for generation in study.generations:
        config = generation.arm.config
        if isinstance(config.corpus, SourceConfig) and config.corpus.process == "categorical":
            regime = next(regime for regime in config.regimes if regime.label == generation.regime)
            law = KnownSource.of(config.corpus).first
            name = ", ".join([generation.regime, *map(str, generation.arm.axes.values())])
            case = Case(config, law, _as_pool(regime), regime.label, regime.options, generation.t)
            found[name, generation.t] = (case, name, generation.arm.axes)
    return list(found.values())


def _as_pool(regime: RegimeConfig) -> str:
    """The newest sample alone is what replace trains on."""
    return "replace" if regime.name == "last_k" and regime.options["k"] == 1 else regime.name


def _row(arm: str, generation: int, column: str, exact: tuple[float, str], values: Sequence[float]) -> Row:
    """Values of one column over seeds, which are independent: each draws its own human rows."""
    value, law = exact
    finite = all(map(math.isfinite, values))
    interval = mean_interval(values if finite else [math.nan] * len(values), CONFIDENCE)
    degrees = len(values) - 1
    quantile = stdtrit(degrees, (1 + CONFIDENCE) / 2)
    # With this bias, in standard errors, t (noncentral: the spread is an estimate too) passes the quantile.
    bias = nctdtrinc(degrees, 1 - POWER, quantile)
    detectable = (interval.high - interval.mean) * float(bias / quantile)
    return Row(arm, generation, column, law, interval.mean, interval.low, interval.high, value, detectable, len(values))


def last(rows: Sequence[Row]) -> list[Row]:
    """The rows of each arm's last generation: what is printed."""
    end = {row.arm: max(other.generation for other in rows if other.arm == row.arm) for row in rows}
    return [row for row in rows if row.generation == end[row.arm]]


def write(path: Path, rows: Sequence[Row]) -> None:
    """The comparison as exact.csv, all generations; nothing where theory says nothing."""
    if rows:
        names = [field.name for field in fields(Row)]
        write_text(path, to_csv([asdict(row) for row in rows], names))


def read(path: Path) -> list[Row]:
    """What `write` wrote."""
    with path.open(encoding="utf-8", newline="") as file:
        return [Row(**{f.name: PARSED[str(f.type)](row[f.name]) for f in fields(Row)}) for row in csv.DictReader(file)]


HEADING = ("arm", "gen", "column", "measured", "99.9 % interval", "exact", "detects", "verdict", "exact is")


def cells(row: Row) -> list[str]:
    """As tables print it.  detects: the smallest bias that the row would flag 19 times in 20."""
    digits = 6 if row.detectable < ROUNDING else 4
    low, high, exact, measured = (f"{x:.{digits}f}" for x in (row.low, row.high, row.exact, row.measured))
    bias = "any" if row.detectable < ROUNDING else f"{row.detectable:.4f}"
    return [row.arm, str(row.generation), row.column, measured, f"[{low}, {high}]", exact, bias, row.verdict, row.law]


def summary(rows: Sequence[Row]) -> str:
    """One line: how many agree, and what the intervals are."""
    off = [row for row in rows if not row.agrees]
    shown, seeds = len(last(rows)), sorted({row.seeds for row in rows})
    wide = sum(row.verdict == "too wide" for row in rows)
    sound = sum(row.verdict == "agrees" for row in rows)
    untold = f", {wide} more have intervals too wide to tell" if wide else ""
    named = "".join(f"; OFF: {row.arm} gen {row.generation} {row.column}" for row in off[:5])
    return (
        f"exact theory: {sound} of {len(rows)} numbers over all generations agree{untold} ({shown} of the last "
        f"generations above); t intervals over {', '.join(map(str, seeds))} seeds, each of which draws its own human "
        f"rows; by chance 1 number in 1,000 would be off{named}"
    )


def as_markdown(rows: Sequence[Row]) -> str:
    rule = "|" + " --- |" * len(HEADING)
    return (
        "\n".join(
            ["| " + " | ".join(HEADING) + " |", rule, *(f"| {' | '.join(map(markdown, cells(row)))} |" for row in rows)]
        )
        + "\n"
    )
