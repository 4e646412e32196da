"""Comparison of a run with exact theory: does the loop reproduce every number that has a closed form?

The comparison applies to a study whose corpus is a categorical source, and whose model counts positions (independent
loci) or is uniform.  The temperature is 1, or the regime is `replace` with another temperature or with top-p alone.
Nothing is simulated here: the measured values are those of results.csv, and the regimes, sampler, store and records
that made them are those of any study.

The exact values are expectations over human rows drawn from the source.  Only lost_1 to lost_3 condition on counts in
the human rows.  Each seed has its own test rows, so that an interval over seeds includes their spread.
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
from lab.run.folder import to_csv
from lab.store.atomic import write_text
from lab.text.known_source import KnownSource
from lab.theory.binomial import LARGEST_CHAIN

PARSED: dict[str, Callable[[str], Any]] = {"str": str, "int": int, "float": float}
CONFIDENCE = 0.999
POWER = 0.95
ROUNDING = 1e-6
"""Relative error allowed for float32 losses where nothing is random."""
LARGE = 10_000
"""Fewest rows at which a run is compared with a formula for infinitely many rows."""
POOLS: dict[str, theory.Pool] = {
    "replace": "replace",
    "accumulate": "accumulate",
    "accumulate_subsample": "accumulate-subsample",
    "augment": "augment",
}


@dataclass(frozen=True)
class Case:
    """One regime of one arm at one generation, in the terms of the theory."""

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
        """Number of resamplings from the source: generation + 1; 1 for the control, always fitted to human rows."""
        return 1 if self.regime == "human" else self.generation + 1

    @property
    def decoding(self) -> dict[str, Any]:
        """What changes the law that text is drawn from, a watermark included."""
        mark = self.config.sample.watermark
        return self.config.sample.decoding | ({"watermark": mark.settings} if mark else {})

    @property
    def loci(self) -> bool:
        """Whether each locus evolves on its own: counting models write every row from its first token."""
        return isinstance(self.config.model, PositionsConfig) and not self.config.sample.prompt_tokens

    @property
    def independent(self) -> bool:
        """Whether, in addition, one model writes every row."""
        return self.loci and self.config.population == 1

    @property
    def drifts(self) -> bool:
        """Whether finite samples have closed forms: counting, samples of n rows, temperature 1, no truncation."""
        return self.independent and self._plain

    @property
    def shared(self) -> bool:
        """Whether several models share a pool of n rows, and heterozygosity has a closed form."""
        return self.loci and self._plain and self.config.population > 1 and self.regime in ("human", "replace")

    @property
    def _plain(self) -> bool:
        return self.config.sample_rows == self.n and not self.decoding and self.kept is not None

    @property
    def kept(self) -> tuple[float, float] | None:
        """The shares of human and of machine rows that are trained on: all, or what one oracle keeps of a web.

        None where other curators decide.
        """
        curators = self.config.curators
        if not curators or self.regime == "human":
            return 1.0, 1.0
        if self.regime != "web" or [each.name for each in curators] != ["oracle"]:
            return None
        human, machine = (curators[0].options[name] for name in ("human", "machine"))
        return float(human), float(machine)

    @property
    def counted(self) -> bool:
        """Whether, in addition, n is small enough for the exact chain of counts."""
        return self.drifts and self.n <= LARGEST_CHAIN

    @property
    def sharpened(self) -> bool:
        """Whether the regime is replace with so many rows that drift is far below what one comparison can detect."""
        return self.independent and self.regime == "replace" and self.n >= LARGE


@dataclass(frozen=True)
class Row:
    """One number that has a closed form, and its measured value."""

    arm: str
    generation: int
    column: str
    law: str
    measured: float
    low: float
    high: float
    """`low` and `high`: the interval of the mean over seeds at CONFIDENCE."""
    exact: float
    detectable: float
    """The smallest bias that this comparison would flag with probability POWER."""
    seeds: int

    @property
    def agrees(self) -> bool:
        """Whether the exact value lies inside the interval."""
        slack = ROUNDING * abs(self.exact)
        return self.low - slack <= self.exact <= self.high + slack

    @property
    def verdict(self) -> str:
        """`agrees`, `OFF`, or `too wide`: inside the interval, but so would be a number that is nothing but bias."""
        if not self.agrees:
            return "OFF"
        return "too wide" if self.detectable > abs(self.exact) > 0 else "agrees"


Law = Callable[[Case], tuple[float, str] | None]
"""Case -> (exact value, its formula), or None where the case has no closed form."""


def _retained(case: Case) -> tuple[float, str] | None:
    """Return the expected share of heterozygosity left at the case's generation, and its formula."""
    if case.shared:
        share = theory.retained_by_voices(case.config.written, case.t)
        return share, "(1 - sum v (v-1)/s / (n (n-1)))^t"
    if not case.drifts:
        return None
    if case.regime == "human":
        return theory.retained("replace", case.n, 1), "1 - 1/n"
    if case.regime in POOLS:
        formula = {
            "replace": "(1 - 1/n)^t",
            "accumulate": "prod (1 - 1/(n k^2))",
            "accumulate_subsample": "(1 - 1/n) prod [1 - (3n-1)/(n k (n k - 1))]",
            "augment": "(1 - 1/n) [1 - (1 - q^(t-1))/(3n + 1)], q = (1 - 1/n)/4",
        }
        return theory.retained(POOLS[case.regime], case.n, case.t), formula[case.regime]
    if case.regime == "web" and not (case.options.get("older") or case.options.get("repeat_human")):
        if (crawl := _crawl(case)) is None:
            return None
        left = 1 - theory.web_distance(case.law, case.n, *crawl) / theory.heterozygosity(case.law)
        return left, "1 - D_t/H0, D_t = H0/n + [(1-L_t)^2 - (1-L_t)/n] D_(t-1)"
    if (
        case.regime == "mix"
        and case.options.get("fresh")
        and not (case.options.get("older") or case.options.get("repeat_human"))
    ):
        human = round(case.options["human"] * case.n)
        left = 1 - theory.mix_distance_exact(case.law, case.n, human, case.t) / theory.heterozygosity(case.law)
        return left, "1 - D_t/H0, D_t = H0/n + [(1-L)^2 - (1-L)/n] D_(t-1)"
    return None


def _crawl(case: Case) -> tuple[int, list[int]] | None:
    """Return the rows of a crawl, and how many of them are human in each generation from 1 to the case's.

    An oracle keeps whole numbers of both.  None where the rows that it keeps differ between generations.
    """
    assert case.kept is not None
    size = round(case.options.get("size", 1) * case.n)
    shares = [case.options["machine"] * min(1, t / case.options.get("ramp", 1)) for t in range(1, case.t)]
    machine = [round(share * size) for share in shares]
    human = [round(case.kept[0] * (size - each)) for each in machine]
    rows = {mine + round(case.kept[1] * each) for mine, each in zip(human, machine, strict=True)} or {size}
    return None if len(rows) > 1 else (rows.pop(), human)


def _heterozygosity(case: Case) -> tuple[float, str] | None:
    """Return the expected chance that two generated rows differ at a locus."""
    if (left := _retained(case)) is not None:
        return theory.heterozygosity(case.law) * left[0], f"H0 x [{left[1]}]"
    if case.sharpened and set(case.decoding) == {"temperature"}:
        law = theory.temperature_chain(case.law, case.decoding["temperature"], case.t)
        return theory.heterozygosity(law), "of p^(T^-t)"
    return None


def _distance(case: Case) -> tuple[float, str] | None:
    """Return the expected squared distance from the source's law."""
    left = _retained(case)
    return None if left is None else (theory.heterozygosity(case.law) * (1 - left[0]), "H0 - E heterozygosity")


def _types(case: Case) -> tuple[float, str] | None:
    """Return the expected number of distinct types at a locus."""
    if case.counted and case.regime in ("human", "replace"):
        return theory.expected_types(case.law, case.n, case.t + 1), "sum P(X_(t+1) > 0)"
    if case.sharpened and set(case.decoding) == {"top_p"}:
        law = case.law
        for _ in range(case.t):
            law = theory.top_p(law, case.decoding["top_p"])
        return float(np.count_nonzero(law)), "top-p support, t times"
    return None


def _unseen(case: Case) -> tuple[float, str] | None:
    """Return the expected share of held-out tokens without a chance.

    Under accumulate and augment every type of the human rows stays in the pool, and no sample adds others.
    """
    if not case.counted or case.regime not in ("human", "replace", "accumulate", "augment"):
        return None
    t = case.t if case.regime == "replace" else 1
    return float(case.law @ theory.count_law(case.law, case.n, t)[:, 0]), "sum p P(X_t = 0)"


def _first(case: Case) -> tuple[float, str] | None:
    """Return the expected share of the commonest type.  Without sharpening it is a martingale under every regime."""
    if _retained(case) is not None:
        return float(case.law[0]), "p_1 (fixation)"
    if case.sharpened and set(case.decoding) == {"temperature"}:
        law = theory.temperature_chain(case.law, case.decoding["temperature"], case.t)
        return float(law[0]), "of p^(T^-t)"
    return None


def _lost(count: int) -> Law:
    """Return the law of lost_<count>: types with `count` human copies at a locus that the sample has lost."""

    def law(case: Case) -> tuple[float, str] | None:
        if not case.counted or case.regime not in ("human", "replace") or count > case.n:
            return None
        return theory.extinction(count, case.n, case.t), f"P(X_(t+1) = 0 given X_1 = {count})"

    return law


def _perplexity(case: Case) -> tuple[float, str] | None:
    """Return the perplexity of a uniform model."""
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
"""Fewest expected (locus, type) pairs with a given human count for which lost_<count> must be a number.

With fewer, the human rows of a seed may have no such pair, and lost_<count> is NaN there.  Any other NaN is OFF.
"""


def compare(study: Study, results: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Compare every number in the rows of results.csv that has a closed form.

    Returns:
        One row per arm, generation and column.  None where no law applies or fewer than 2 seeds have a value.
    """
    rows = []
    for case, arm, axes in _cases(study):
        measured = [
            row
            for row in results
            if row["regime"] == case.label
            and row["generation"] == case.generation
            and all(row[name] == value for name, value in axes.items())
        ]
        for column, law in LAWS.items():
            values = [row[column] for row in measured if not (math.isnan(row[column]) and _may_lack(case, column))]
            exact = law(case) if len(values) > 1 else None
            if exact is not None:
                rows.append(_row(arm, case.generation, column, exact, values))
    return rows


def _may_lack(case: Case, column: str) -> bool:
    """Return whether the human rows of a seed may by chance have no type with the count of lost_<count>."""
    name, _, count = column.partition("_")
    if name != "lost" or not case.counted or int(count) > case.n:
        return name == "lost"
    return float(case.config.model.n_positions * theory.count_law(case.law, case.n, 1)[:, int(count)].sum()) < FEW


def _cases(study: Study) -> list[tuple[Case, str, dict[str, Any]]]:
    """Return each (case, name of its arm, swept fields); seeds share one."""
    cases = {}
    for generation in study.generations:
        config = generation.arm.config
        if isinstance(config.corpus, SourceConfig) and config.corpus.process == "categorical":
            regime = next(regime for regime in config.regimes if regime.label == generation.regime)
            law = KnownSource.of(config.corpus).first
            name = ", ".join([generation.regime, *map(str, generation.arm.axes.values())])
            case = Case(config, law, _as_pool(regime), regime.label, regime.options, generation.t)
            cases[name, generation.t] = (case, name, generation.arm.axes)
    return list(cases.values())


def _as_pool(regime: RegimeConfig) -> str:
    """Return the regime's name in the theory: last_k with k = 1 trains on the newest sample alone, like replace."""
    return "replace" if regime.name == "last_k" and regime.options["k"] == 1 else regime.name


def _row(arm: str, generation: int, column: str, exact: tuple[float, str], values: Sequence[float]) -> Row:
    """Return the comparison of one column.  Seeds are independent: each draws its own human rows."""
    value, law = exact
    finite = all(map(math.isfinite, values))
    interval = mean_interval(values if finite else [math.nan] * len(values), CONFIDENCE)
    degrees = len(values) - 1
    quantile = stdtrit(degrees, (1 + CONFIDENCE) / 2)
    # With this bias, in standard errors, t passes the quantile.  t is noncentral because the spread is estimated too.
    bias = nctdtrinc(degrees, 1 - POWER, quantile)
    detectable = (interval.high - interval.mean) * float(bias / quantile)
    return Row(arm, generation, column, law, interval.mean, interval.low, interval.high, value, detectable, len(values))


def write(path: Path, rows: Sequence[Row]) -> None:
    """Write the comparison of all generations to exact.csv.  Without rows, write nothing."""
    if rows:
        names = [field.name for field in fields(Row)]
        write_text(path, to_csv([asdict(row) for row in rows], names))


def read(path: Path) -> list[Row]:
    """Read what `write` wrote."""
    with path.open(encoding="utf-8", newline="") as file:
        return [Row(**{f.name: PARSED[str(f.type)](row[f.name]) for f in fields(Row)}) for row in csv.DictReader(file)]
