"""What remedies bring in a run: every arm against the plain human control, at the last generation, from the store.

A remedy is whatever an arm of a sweep does to a pool, or to training, that the arm without it does not.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow.parquet as pq

from lab.collapse.chains import Chains, Point
from lab.config.profile import ProfileConfig
from lab.config.study import StudyConfig
from lab.config.sweep import Arm
from lab.definitions import Finding, findings
from lab.errors import InputError
from lab.loop import CONTROL, Generation, Study
from lab.metrics.stats import Interval, mean_interval, paired_interval
from lab.models.feed import load_recipe
from lab.recipe import ARCHIVE, HUMAN
from lab.run import timings
from lab.run.folder import RunFolder
from lab.run.profile import points
from lab.run.records import read_curation, read_record
from lab.steps.curation.curate import CURATE, DECISIONS
from lab.steps.pool import POOL
from lab.store.store import Store

RANDOM = "random"


@dataclass(frozen=True)
class Remedy:
    """One regime in one arm, against the human control without any remedy that has the same decoding."""

    arm: Arm
    regime: str
    chains: Chains
    curation: Mapping[int, Mapping[int, Mapping[str, float]]]
    """Seed -> generation -> what curators did (lab/metrics/columns_curation.py); NaN where nothing is curated."""
    human_rows: float
    """Different human rows in the recipes of generations 1 to the last, a mean over seeds."""
    seconds: float
    """Seconds of workers, for a generation and seed, in steps that only curators need; NaN where no log says."""
    dropped: Mapping[str, tuple[int, int]]
    """Domain -> human rows on offer and human rows dropped, over all seeds and generations; {} where nothing is."""

    @property
    def bare(self) -> bool:
        """Whether nothing is curated, marked or weighted."""
        return is_bare(self.arm.config)

    @cached_property
    def above(self) -> Interval:
        """Held-out loss above the control's, nats per token, paired by seed."""
        return paired_interval(self.chains.gaps(self.chains.last))

    def findings(self, asked: ProfileConfig) -> list[Finding]:
        """Return what the eight definitions say of this arm, under the thresholds of a study."""
        return findings(self.chains, asked.thresholds)

    def against(self, other: Remedy) -> Interval:
        """Return how far the held-out loss lies above another arm's: below 0 the remedy helps."""
        mine, theirs = self.by_seed, other.by_seed
        seeds = sorted(mine.keys() & theirs.keys())
        return paired_interval([mine[seed] - theirs[seed] for seed in seeds])

    @property
    def by_seed(self) -> dict[int, float]:
        """The held-out loss above the control's, by seed."""
        return dict(zip(self.chains.seeds, self.chains.gaps(self.chains.last), strict=True))

    def mean(self, name: str, t: int | None = None) -> Interval:
        """Return the mean over seeds of a column of a generation, by default the last; NaN where a seed has none."""
        t = self.chains.last if t is None else t
        values = [_value(self.chains.points[s][t], self.curation[s][t], name) for s in self.chains.seeds]
        return mean_interval(values) if np.isfinite(values).all() else Interval(math.nan, math.nan, math.nan)


def _value(point: Point, curation: Mapping[str, float], name: str) -> float:
    return float(curation[name] if name in curation else point.columns[name])


def is_bare(study: StudyConfig) -> bool:
    """Return whether a study curates, marks and weights nothing."""
    learned = study.train and (study.train.truncate is not None or study.train.token_weights is not None)
    return not (study.curators or study.sample.watermark or learned)


def remedies(study: Study, folder: RunFolder) -> list[Remedy]:
    """Return every regime of every arm that is measured, but the controls, in the order of the study.

    Raises:
        InputError: no arm without a remedy has the regime human, or nothing beside it is measured yet.
    """
    seconds = {entry["key"]: entry["seconds"] for entry in timings.read(folder.path) if "key" in entry}
    found = list(_remedies(study, folder.store, seconds))
    if not found:
        raise InputError(
            f"{folder.path} has no measured arm beside a human control: remedies are compared with the regime human of "
            "an arm without curators, watermark and weights, such as {arm: none, regimes: [human, replace]}"
        )
    return found


def _remedies(study: Study, store: Store, seconds: Mapping[str, float]) -> Iterator[Remedy]:
    arms = {each.arm.label: each.arm for each in study.generations}
    of: dict[tuple[str, str], list[Generation]] = {}
    for each in study.generations:
        of.setdefault((each.arm.label, each.regime), []).append(each)
    controls = [label for label, regime in of if regime == CONTROL and is_bare(arms[label].config)]
    for (label, regime), generations in of.items():
        arm = arms[label]
        like = [each for each in controls if arms[each].config.sample.decoding == arm.config.sample.decoding]
        own = points(generations, regime, store)
        if regime == CONTROL or not like or not own:
            continue
        chains = Chains(regime, own, points(of[like[0], CONTROL], CONTROL, store))
        if chains.seeds and chains.last:
            done = [each for each in generations if each.t <= chains.last and each.seed in chains.seeds]
            curation = {seed: {e.t: _curation(store, e) for e in done if e.seed == seed} for seed in chains.seeds}
            later = [each for each in done if each.t]
            rows = float(np.mean([_human_rows(store, later, seed) for seed in chains.seeds]))
            yield Remedy(arm, regime, chains, curation, rows, _seconds(later, seconds), _dropped(store, later))


def _curation(store: Store, generation: Generation) -> dict[str, float]:
    record = read_record(store, generation)
    assert record is not None  # `points` has found it
    return read_curation(store, generation, record["columns"])


def _human_rows(store: Store, generations: Sequence[Generation], seed: int) -> int:
    """Return how many different human rows the recipes of a seed name."""
    rows: dict[int, set[int]] = {HUMAN: set(), ARCHIVE: set()}
    for generation in generations:
        step = generation.recipe
        if generation.seed == seed and store.manifest(step.name, step.key) is not None:
            for part in load_recipe(store.folder(step.name, step.key)).parts:
                if part.origin in rows:
                    rows[part.origin].update(part.numbers(np.arange(part.distinct_rows)).tolist())
    return sum(map(len, rows.values()))


def _seconds(generations: Sequence[Generation], seconds: Mapping[str, float]) -> float:
    """Return the mean seconds that curators add to a generation: their models, decoys, scores, edits and decisions."""
    curated = [each for each in generations if each.recipe.name == CURATE.name]
    own = {step for each in curated for step in (*each.curation, each.recipe) if step.name != POOL.name}
    return sum(seconds.get(step.key, 0.0) for step in own) / len(generations) if seconds else math.nan


def _dropped(store: Store, generations: Sequence[Generation]) -> dict[str, tuple[int, int]]:
    """Return domain -> human rows on offer to curators, and human rows that they dropped."""
    offered: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    for step in (each.recipe for each in generations if each.recipe.name == CURATE.name):
        if store.manifest(step.name, step.key) is None:
            continue
        found = pq.read_table(store.folder(step.name, step.key) / DECISIONS, columns=["origin", "row", "times"])
        origin, row, times = (column.to_numpy() for column in found.columns)
        for role, number in (("human", HUMAN), ("archive", ARCHIVE)):
            mine = origin == number
            if role in step.inputs and mine.any():
                rows = store.folder(step.inputs[role].name, step.inputs[role].key) / "rows.parquet"
                if "domain" not in pq.read_schema(rows).names:  # a known source has none
                    continue
                domains = np.array(pq.read_table(rows, columns=["domain"])["domain"].to_pylist(), object)
                offered.update(map(str, domains[row[mine]]))
                lost.update(map(str, domains[row[mine & (times == 0)]]))
    return {domain: (count, lost[domain]) for domain, count in sorted(offered.items())}


def baselines(found: Sequence[Remedy], of: Remedy) -> dict[str, Remedy]:
    """Return what a remedy is read against: "none", the same pool untouched, and "random", as many rows at random.

    An arm that changes the decoding alone is read against the first arm that changes nothing.
    """
    if of.bare:
        first = next(each for each in found if each.bare and each.regime == of.regime)
        return {} if first is of else {"none": first}
    decoding = of.arm.config.sample.decoding
    alike = (each for each in found if each.regime == of.regime and each.arm.config.sample.decoding == decoding)
    beside = [each for each in alike if each is not of]
    none = next((each for each in beside if each.bare), None)
    drawn = next((each for each in beside if [c.name for c in each.arm.config.curators] == [RANDOM]), None)
    return {name: each for name, each in (("none", none), (RANDOM, drawn)) if each is not None}
